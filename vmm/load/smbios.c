// SPDX-License-Identifier: MIT
// Each structure is its fixed part, then its strings, which it refers to by number, then a zero.
// Which structures there are is what the specification's "Required structures and data" asks for
// and makes sense in a VM. Version 2.8: the first with a memory device of any size.
#include "vmm/load/smbios.h"
#include "vmm/layout.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/string.h"

#define VERSION_MAJOR 2
#define VERSION_MINOR 8
#define VERSION_BCD   0x28
#define MAKER         "Plinth"

enum smbios_type {
    TYPE_BIOS = 0,
    TYPE_SYSTEM = 1,
    TYPE_CHASSIS = 3,
    TYPE_PROCESSOR = 4,
    TYPE_MEMORY_ARRAY = 16,
    TYPE_MEMORY_DEVICE = 17,
    TYPE_MEMORY_MAPPED = 19,
    TYPE_BOOT = 32,
    TYPE_END = 127,
};

struct header {
    u8 type, length;
    u16 handle;
} PACKED;

struct entry_point {
    char anchor[4];
    u8 checksum, length, major, minor;
    u16 largest;
    u8 revision, formatted[5];
    char middle_anchor[5]; // with a checksum of its own from here on
    u8 middle_checksum;
    u16 tables_size;
    u32 tables;
    u16 count;
    u8 version;
} PACKED;
assert_static(sizeof(struct entry_point) == SMBIOS_ANCHOR_SIZE);

// Strings are numbered from 1; 0 is none.
struct bios {
    struct header header;
    u8 vendor, version;
    u16 segment;
    u8 date, rom_size;
    u64 characteristics;
    u8 extension[2], release[2], controller[2];
} PACKED;
#define BIOS_CHARACTERISTICS_NONE BIT(3) // not supported: there are none to tell
#define BIOS_IN_VM                BIT(4) // of the second extension byte
#define BIOS_RELEASE_NONE         0xff

struct system {
    struct header header;
    u8 maker, product, version, serial, uuid[16], wake_up, sku, family;
} PACKED;
#define WAKE_UP_POWER_SWITCH 6

struct chassis {
    struct header header;
    u8 maker, type, version, serial, asset, boot_state, power_state, thermal_state, security;
    u32 oem;
    u8 height, cords, contained, contained_size, sku;
} PACKED;
#define CHASSIS_OTHER 1
#define STATE_SAFE    3
#define SECURITY_NONE 3

struct processor {
    struct header header;
    u8 socket, type, family, maker;
    u64 id;
    u8 version, voltage;
    u16 external_clock, max_speed, speed;
    u8 status, upgrade;
    u16 caches[3];
    u8 serial, asset, part, cores, enabled, threads;
    u16 characteristics, family2;
} PACKED;
#define PROCESSOR_CENTRAL        3
#define PROCESSOR_FAMILY_OTHER   1
#define PROCESSOR_ENABLED        0x41 // and the socket populated
#define PROCESSOR_UPGRADE_OTHER  1
#define PROCESSOR_CACHE_NONE     0xffff
#define PROCESSOR_CORES_MAX      0xff
#define PROCESSOR_64BIT_MANYCORE 0x0c

struct memory_array {
    struct header header;
    u8 location, use, correction;
    u32 capacity;
    u16 error_handle, devices;
    u64 extended_capacity;
} PACKED;
#define ARRAY_OTHER           1
#define ARRAY_SYSTEM_MEMORY   3
#define ARRAY_NO_CORRECTION   3
#define ARRAY_EXTENDED        0x80000000u // the capacity is in the other field, in bytes
#define MEMORY_NO_ERRORS_TOLD 0xfffe

struct memory_device {
    struct header header;
    u16 array, error_handle, total_width, data_width, size;
    u8 form, set, locator, bank, type;
    u16 detail, speed;
    u8 maker, serial, asset, part, attributes;
    u32 extended_size;
    u16 configured_speed, minimum_voltage, maximum_voltage, voltage;
} PACKED;
#define WIDTH_UNKNOWN 0xffff
#define SIZE_EXTENDED 0x7fff // the size is in the other field, in MiB
#define FORM_DIMM     9
#define MEMORY_RAM    7
#define DETAIL_OTHER  BIT(1)

struct memory_mapped {
    struct header header;
    u32 start, end;
    u16 array;
    u8 width;
    u64 extended_start, extended_end;
} PACKED;
#define MAPPED_EXTENDED 0xffffffffu // the addresses are in the other fields, in bytes

struct boot {
    struct header header;
    u8 reserved[6], status;
} PACKED;

struct end {
    struct header header;
} PACKED;

// --- building ---

static void put(struct smbios *s, const void *bytes, u64 size)
{
    assert(size <= SMBIOS_TABLES_SIZE - s->size);
    memcpy(s->tables + s->size, bytes, size);
    s->size += (u32)size;
}

// The strings end with a null one. Returns the handle.
static u16 add(struct smbios *s, enum smbios_type type, void *structure, u8 length,
               const char *const *strings)
{
    u32 start = s->size;
    u16 handle = s->next_handle++;
    *(struct header *)structure = (struct header){(u8)type, length, handle};
    put(s, structure, length);
    if (!*strings)
        put(s, "", 1);
    for (; *strings; strings++)
        put(s, *strings, strlen(*strings) + 1);
    put(s, "", 1);
    s->count++;
    s->largest = (u16)MAX(s->largest, s->size - start);
    return handle;
}

#define STRINGS(...) ((const char *const[]){__VA_ARGS__, NULL})
static const char *const no_strings[] = {NULL};
#define ADD(s, type, structure, strings) add(s, type, &(structure), (u8)sizeof(structure), strings)

// FNV-1a, the 64-bit one.
#define FNV_OFFSET 0xcbf29ce484222325ull
#define FNV_PRIME  0x100000001b3ull

static u64 hash(u64 seed, const char *text)
{
    for (; *text; text++)
        seed = (seed ^ (u8)*text) * FNV_PRIME;
    return seed;
}

// Of the kind that everybody makes as he likes (RFC 9562, "UUID Version 8").
#define UUID_VERSION_BYTE 7 // SMBIOS has the first three fields little-endian
#define UUID_VERSION      0x80
#define UUID_VARIANT_BYTE 8
#define UUID_VARIANT      0x80
#define UUID_VARIANT_MASK 0x3f
#define NIBBLE_MASK       0x0f

static void uuid_make(u8 uuid[16], const char *name)
{
    u64 halves[2];
    halves[0] = hash(FNV_OFFSET, name);
    halves[1] = hash(hash(halves[0], MAKER), name);
    memcpy(uuid, halves, sizeof(halves));
    uuid[UUID_VERSION_BYTE] = (u8)((uuid[UUID_VERSION_BYTE] & NIBBLE_MASK) | UUID_VERSION);
    uuid[UUID_VARIANT_BYTE] = (u8)((uuid[UUID_VARIANT_BYTE] & UUID_VARIANT_MASK) | UUID_VARIANT);
}

static void add_machine(struct smbios *s, const struct smbios_machine *m)
{
    struct bios bios = {
        .vendor = 1,
        .version = 2,
        .date = 3,
        .characteristics = BIOS_CHARACTERISTICS_NONE,
        .extension = {0, BIOS_IN_VM},
        .release = {1, 0},
        .controller = {BIOS_RELEASE_NONE, BIOS_RELEASE_NONE},
    };
    struct system system = {
        .maker = 1, .product = 2, .version = 3, .serial = 4, .wake_up = WAKE_UP_POWER_SWITCH};
    struct chassis chassis = {
        .maker = 1,
        .type = CHASSIS_OTHER,
        .boot_state = STATE_SAFE,
        .power_state = STATE_SAFE,
        .thermal_state = STATE_SAFE,
        .security = SECURITY_NONE,
    };
    uuid_make(system.uuid, m->name);
    if (m->bios)
        ADD(s, TYPE_BIOS, bios, STRINGS(MAKER, "1.0", "01/01/2024"));
    ADD(s, TYPE_SYSTEM, system, STRINGS(MAKER, "Plinth PC", "1.0", m->name));
    ADD(s, TYPE_CHASSIS, chassis, STRINGS(MAKER));
}

static void add_processor(struct smbios *s, unsigned cpus)
{
    u8 cores = (u8)MIN(cpus, PROCESSOR_CORES_MAX);
    struct processor processor = {
        .socket = 1,
        .type = PROCESSOR_CENTRAL,
        .family = PROCESSOR_FAMILY_OTHER,
        .maker = 2,
        .status = PROCESSOR_ENABLED,
        .upgrade = PROCESSOR_UPGRADE_OTHER,
        .caches = {PROCESSOR_CACHE_NONE, PROCESSOR_CACHE_NONE, PROCESSOR_CACHE_NONE},
        .cores = cores,
        .enabled = cores,
        .threads = cores,
        .characteristics = PROCESSOR_64BIT_MANYCORE,
        .family2 = PROCESSOR_FAMILY_OTHER,
    };
    ADD(s, TYPE_PROCESSOR, processor, STRINGS("CPU 0", MAKER));
}

static void add_range(struct smbios *s, u16 array, u64 base, u64 size)
{
    struct memory_mapped mapped = {.array = array, .width = 1};
    u64 end = (base + size) / KIB - 1;
    if (!size)
        return;
    if (end < MAPPED_EXTENDED) {
        mapped.start = (u32)(base / KIB);
        mapped.end = (u32)end;
    } else {
        mapped.start = mapped.end = MAPPED_EXTENDED;
        mapped.extended_start = base;
        mapped.extended_end = base + size - 1;
    }
    ADD(s, TYPE_MEMORY_MAPPED, mapped, no_strings);
}

static void add_memory(struct smbios *s, const struct smbios_machine *m)
{
    u64 kib = m->memory / KIB, mib = m->memory / MIB;
    struct memory_array array = {
        .location = ARRAY_OTHER,
        .use = ARRAY_SYSTEM_MEMORY,
        .correction = ARRAY_NO_CORRECTION,
        .capacity = kib < ARRAY_EXTENDED ? (u32)kib : ARRAY_EXTENDED,
        .error_handle = MEMORY_NO_ERRORS_TOLD,
        .devices = 1,
        .extended_capacity = kib < ARRAY_EXTENDED ? 0 : m->memory,
    };
    struct memory_device device = {
        .array = ADD(s, TYPE_MEMORY_ARRAY, array, no_strings),
        .error_handle = MEMORY_NO_ERRORS_TOLD,
        .total_width = WIDTH_UNKNOWN,
        .data_width = WIDTH_UNKNOWN,
        .size = mib < SIZE_EXTENDED ? (u16)mib : SIZE_EXTENDED,
        .form = FORM_DIMM,
        .locator = 1,
        .type = MEMORY_RAM,
        .detail = DETAIL_OTHER,
        .extended_size = mib < SIZE_EXTENDED ? 0 : (u32)mib,
    };
    ADD(s, TYPE_MEMORY_DEVICE, device, STRINGS("DIMM 0"));
    add_range(s, device.array, 0, layout_below_4g(m->memory));
    add_range(s, device.array, LAYOUT_ABOVE_4G, layout_above_4g(m->memory));
}

static u8 checksum(const void *bytes, u64 size)
{
    u8 sum = 0;
    for (u64 i = 0; i < size; i++)
        sum = (u8)(sum + ((const u8 *)bytes)[i]);
    return (u8)-sum;
}

static void anchor_make(struct smbios *s, u32 address)
{
    struct entry_point e = {
        .anchor = {'_', 'S', 'M', '_'},
        .length = sizeof(e),
        .major = VERSION_MAJOR,
        .minor = VERSION_MINOR,
        .largest = s->largest,
        .middle_anchor = {'_', 'D', 'M', 'I', '_'},
        .tables_size = (u16)s->size,
        .tables = address,
        .count = s->count,
        .version = VERSION_BCD,
    };
    e.middle_checksum =
        checksum(e.middle_anchor, sizeof(e) - offsetof(struct entry_point, middle_anchor));
    e.checksum = checksum(&e, sizeof(e));
    memcpy(s->anchor, &e, sizeof(e));
}

void smbios_make(struct smbios *s, const struct smbios_machine *m, u32 address)
{
    struct boot boot = {0};
    struct end end = {0};
    *s = (struct smbios){0};
    add_machine(s, m);
    add_processor(s, m->cpus);
    add_memory(s, m);
    ADD(s, TYPE_BOOT, boot, no_strings);
    ADD(s, TYPE_END, end, no_strings);
    anchor_make(s, address);
}
