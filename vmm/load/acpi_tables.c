// SPDX-License-Identifier: MIT
// Guest ACPI (ACPI specification "ACPI Software Programming Model"). Most tables come compiled from
// io/acpi; here they get their addresses and checksums. MADT and the SSDT depend on the number of
// processors and are made here: the SSDT is one AML scope with a Device of fixed length for each of
// them. Local APIC ids are the vCPUs' indices.
#include "vmm/load/acpi_tables.h"
#include "io/acpi/platform.h"
#include "io/hpet.h"
#include "io/lapic.h"
#include "mm/heap.h"
#include "vmm/layout.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "vmm/lib/string.h"

assert_static(ACPI_ECAM_BASE == LAYOUT_ECAM && ACPI_ECAM_SIZE == LAYOUT_ECAM_SIZE);
assert_static(ACPI_PCI_BASE == LAYOUT_PCI_MEMORY && ACPI_PCI_SIZE == LAYOUT_PCI_MEMORY_SIZE);
assert_static(ACPI_PCI_BASE + (ACPI_PCI_SIZE - 1) == ACPI_PCI_LAST);

#define OEM_ID           "PLINTH"
#define OEM_TABLE_ID     "PLINTHPC"
#define CREATOR_ID       "PLTH"
#define TABLE_ALIGN      16
#define FACS_ALIGN       64
#define RSDP_REVISION    2
#define RSDT_REVISION    1
#define XSDT_REVISION    1
#define MADT_REVISION    4
#define SSDT_REVISION    2
#define HPET_REVISION    1
#define MADT_PCAT_COMPAT 1 // there is a pair of 8259s too
#define IOAPIC_ID        0
#define PIT_GSI          2 // the PIT's pin on the IOAPIC

struct acpi_header {
    char signature[4];
    u32 length;
    u8 revision, checksum;
    char oem_id[6], oem_table_id[8];
    u32 oem_revision;
    char creator_id[4];
    u32 creator_revision;
} PACKED;

struct acpi_rsdp {
    char signature[8];
    u8 checksum; // of the first ACPI_RSDP_V1_SIZE bytes
    char oem_id[6];
    u8 revision;
    u32 rsdt;
    u32 length;
    u64 xsdt;
    u8 extended_checksum;
    u8 reserved[3];
} PACKED;

struct acpi_rsdt {
    struct acpi_header header;
    u32 tables[ACPI_TABLES_MAX];
} PACKED;

struct acpi_xsdt {
    struct acpi_header header;
    u64 tables[ACPI_TABLES_MAX];
} PACKED;

// The FADT's fields that hold addresses of other tables.
struct acpi_fadt {
    struct acpi_header header;
    u32 facs, dsdt;
    u8 fixed[88];
    u64 x_facs, x_dsdt;
    u8 blocks[128];
} PACKED;
assert_static(offsetof(struct acpi_fadt, x_facs) == 132 && sizeof(struct acpi_fadt) == 276);

enum madt_type { MADT_LAPIC, MADT_IOAPIC, MADT_OVERRIDE, MADT_LAPIC_NMI = 4 };

struct madt_lapic {
    u8 type, length, uid, apic_id;
    u32 flags;
} PACKED;
#define MADT_LAPIC_ENABLED 1

struct madt_ioapic {
    u8 type, length, id, reserved;
    u32 address, gsi_base;
} PACKED;

struct madt_override {
    u8 type, length, bus, irq;
    u32 gsi;
    u16 flags;
} PACKED;
#define MADT_FLAGS_BUS        0x0 // as the bus has it: for ISA edge, active high
#define MADT_FLAGS_LEVEL_HIGH 0xd
#define MADT_OVERRIDES        2

struct madt_lapic_nmi {
    u8 type, length, uid;
    u16 flags;
    u8 lint;
} PACKED;
#define MADT_ALL_PROCESSORS 0xff
#define MADT_NMI_LINT       1

struct acpi_madt {
    struct acpi_header header;
    u32 lapic_address, flags;
    struct madt_ioapic ioapic;
    struct madt_override overrides[MADT_OVERRIDES];
    struct madt_lapic_nmi nmi;
    struct madt_lapic lapics[APIC_BUS_MAX];
} PACKED;

// IA-PC HPET Specification 1.0a, "The ACPI 2.0 HPET Description Table".
struct acpi_hpet {
    struct acpi_header header;
    u32 block_id;
    u8 space, bit_width, bit_offset, access_size; // of the address: 0 is memory
    u64 address;
    u8 number;
    u16 ticks_min; // of a period, so that none is missed
    u8 page_protection;
} PACKED;
assert_static(sizeof(struct acpi_hpet) == 56);

// AML (ACPI specification "ACPI Machine Language (AML) Specification"): Device (Cxxx) { Name (_HID,
// "ACPI0007") Name (_UID, n) }.
#define AML_SCOPE      0x10
#define AML_EXT        0x5b
#define AML_DEVICE     0x82
#define AML_NAME       0x08
#define AML_STRING     0x0d
#define AML_BYTE       0x0a
#define AML_LENGTH_TWO 0x40 // a length of two bytes: four bits here, eight in the next
#define CPU_HID        "ACPI0007"

struct aml_cpu {
    u8 ext, device, length;
    char name[4];
    u8 hid_name;
    char hid[4];
    u8 hid_string;
    char hid_text[sizeof(CPU_HID)];
    u8 uid_name;
    char uid[4];
    u8 uid_byte, uid_value;
} PACKED;
#define AML_CPU_LENGTH (sizeof(struct aml_cpu) - offsetof(struct aml_cpu, length))
assert_static(AML_CPU_LENGTH < 64); // the length has one byte

struct acpi_ssdt {
    struct acpi_header header;
    u8 scope, length[2];
    char scope_name[5];
    struct aml_cpu cpus[APIC_BUS_MAX];
} PACKED;
assert_static(sizeof(struct acpi_ssdt) < 4096); // the scope's length has two bytes

assert_static(sizeof(struct acpi_rsdp) == ACPI_RSDP_SIZE &&
              offsetof(struct acpi_rsdp, rsdt) == ACPI_RSDP_RSDT &&
              offsetof(struct acpi_rsdp, xsdt) == ACPI_RSDP_XSDT &&
              offsetof(struct acpi_rsdp, extended_checksum) == ACPI_RSDP_CHECKSUM_ALL);
assert_static(ACPI_TABLES_SIZE <= LAYOUT_BIOS_SIZE - 2 * FACS_ALIGN);

#define TABLE(name) extern const u8 acpi_##name[], acpi_##name##_end[]
TABLE(dsdt);
TABLE(facp);
TABLE(facs);
TABLE(mcfg);
#undef TABLE

struct builder {
    struct acpi_tables *out;
    gpa_t base;
    struct acpi_xsdt xsdt;
    unsigned count; // tables in it
};

static u8 checksum(const void *bytes, u64 size)
{
    u8 sum = 0;
    for (u64 i = 0; i < size; i++)
        sum = (u8)(sum + ((const u8 *)bytes)[i]);
    return (u8)-sum;
}

// The offset that it got. All of it fits: the number of processors was checked.
static u32 place(struct builder *b, const void *bytes, u64 size, u64 align)
{
    struct acpi_tables *t = b->out;
    u32 at = (u32)ALIGN_UP(t->size, align);
    assert(at + size <= sizeof(t->bytes));
    memcpy(t->bytes + at, bytes, size);
    t->size = at + (u32)size;
    return at;
}

static u32 place_table(struct builder *b, struct acpi_header *table)
{
    table->checksum = 0;
    table->checksum = checksum(table, table->length);
    return place(b, table, table->length, TABLE_ALIGN);
}

static void list(struct builder *b, u32 at)
{
    assert(b->count < ACPI_TABLES_MAX);
    b->xsdt.tables[b->count++] = b->base + at;
}

static void link(struct builder *b, u32 at, size_t size)
{
    struct acpi_tables *t = b->out;
    assert(t->link_count < ACPI_LINKS_MAX);
    t->links[t->link_count++] = (struct acpi_link){at, (u8)size};
}

static struct acpi_header table_header(const char signature[4], u8 revision, size_t length)
{
    struct acpi_header header = {
        .length = (u32)length, .revision = revision, .oem_revision = 1, .creator_revision = 1};
    memcpy(header.signature, signature, sizeof(header.signature));
    memcpy(header.oem_id, OEM_ID, sizeof(header.oem_id));
    memcpy(header.oem_table_id, OEM_TABLE_ID, sizeof(header.oem_table_id));
    memcpy(header.creator_id, CREATOR_ID, sizeof(header.creator_id));
    return header;
}

static void build_fadt(struct builder *b)
{
    u32 facs = place(b, acpi_facs, (u64)(acpi_facs_end - acpi_facs), FACS_ALIGN);
    u32 dsdt = place(b, acpi_dsdt, (u64)(acpi_dsdt_end - acpi_dsdt), TABLE_ALIGN);
    struct acpi_fadt fadt;
    memcpy(&fadt, acpi_facp, sizeof(fadt));
    fadt.facs = (u32)b->base + facs;
    fadt.dsdt = (u32)b->base + dsdt;
    fadt.x_facs = 0; // below 4 GiB one of the two says it
    fadt.x_dsdt = b->base + dsdt;
    u32 at = b->out->fadt = place_table(b, &fadt.header);
    list(b, at);
#define FADT_LINK(field) link(b, at + offsetof(struct acpi_fadt, field), sizeof(fadt.field))
    FADT_LINK(facs);
    FADT_LINK(dsdt);
    FADT_LINK(x_dsdt);
#undef FADT_LINK
}

static void build_mcfg(struct builder *b)
{
    list(b, place(b, acpi_mcfg, (u64)(acpi_mcfg_end - acpi_mcfg), TABLE_ALIGN));
}

static void build_madt(struct builder *b, unsigned cpus)
{
    size_t length = offsetof(struct acpi_madt, lapics) + cpus * sizeof(struct madt_lapic);
    struct acpi_madt madt = {
        .header = table_header("APIC", MADT_REVISION, length),
        .lapic_address = LAYOUT_LAPIC,
        .flags = MADT_PCAT_COMPAT,
        .ioapic = {.type = MADT_IOAPIC,
                   .length = sizeof(struct madt_ioapic),
                   .id = IOAPIC_ID,
                   .address = LAYOUT_IOAPIC},
        .overrides = {{.type = MADT_OVERRIDE,
                       .length = sizeof(struct madt_override),
                       .irq = 0,
                       .gsi = PIT_GSI,
                       .flags = MADT_FLAGS_BUS},
                      {.type = MADT_OVERRIDE,
                       .length = sizeof(struct madt_override),
                       .irq = ACPI_SCI_IRQ,
                       .gsi = ACPI_SCI_IRQ,
                       .flags = MADT_FLAGS_LEVEL_HIGH}},
        .nmi = {.type = MADT_LAPIC_NMI,
                .length = sizeof(struct madt_lapic_nmi),
                .uid = MADT_ALL_PROCESSORS,
                .lint = MADT_NMI_LINT},
    };
    for (unsigned i = 0; i < cpus; i++)
        madt.lapics[i] = (struct madt_lapic){.type = MADT_LAPIC,
                                             .length = sizeof(struct madt_lapic),
                                             .uid = (u8)i,
                                             .apic_id = (u8)i,
                                             .flags = MADT_LAPIC_ENABLED};
    list(b, place_table(b, &madt.header));
}

static void build_hpet(struct builder *b)
{
    struct acpi_hpet hpet = {
        .header = table_header("HPET", HPET_REVISION, sizeof(hpet)),
        .block_id = HPET_BLOCK_ID,
        .address = LAYOUT_HPET,
        .ticks_min = HPET_TICKS_MIN,
    };
    list(b, place_table(b, &hpet.header));
}

static struct aml_cpu aml_cpu(unsigned index)
{
    struct aml_cpu cpu = {
        .ext = AML_EXT,
        .device = AML_DEVICE,
        .length = AML_CPU_LENGTH,
        .hid_name = AML_NAME,
        .hid_string = AML_STRING,
        .hid_text = CPU_HID,
        .uid_name = AML_NAME,
        .uid_byte = AML_BYTE,
        .uid_value = (u8)index,
    };
    char name[sizeof(cpu.name) + 1];
    format_text(name, sizeof(name), "C%03X", index);
    memcpy(cpu.name, name, sizeof(cpu.name));
    memcpy(cpu.hid, "_HID", sizeof(cpu.hid));
    memcpy(cpu.uid, "_UID", sizeof(cpu.uid));
    return cpu;
}

static void build_ssdt(struct builder *b, unsigned cpus)
{
    size_t length = offsetof(struct acpi_ssdt, cpus) + cpus * sizeof(struct aml_cpu);
    size_t scope = length - offsetof(struct acpi_ssdt, length);
    struct acpi_ssdt ssdt = {
        .header = table_header("SSDT", SSDT_REVISION, length),
        .scope = AML_SCOPE,
        .length = {(u8)(AML_LENGTH_TWO | (scope & 15)), (u8)(scope >> 4)},
    };
    memcpy(ssdt.scope_name, "\\_SB_", sizeof(ssdt.scope_name));
    for (unsigned i = 0; i < cpus; i++)
        ssdt.cpus[i] = aml_cpu(i);
    list(b, place_table(b, &ssdt.header));
}

static void build_xsdt(struct builder *b)
{
    size_t length = offsetof(struct acpi_xsdt, tables) + b->count * sizeof(u64);
    b->xsdt.header = table_header("XSDT", XSDT_REVISION, length);
    u32 at = b->out->xsdt = place_table(b, &b->xsdt.header);
    for (unsigned i = 0; i < b->count; i++)
        link(b, at + (u32)offsetof(struct acpi_xsdt, tables[i]), sizeof(u64));
}

// The same list for who knows ACPI 1.0 only, such as kvm-unit-tests and GRUB's "halt".
static void build_rsdt(struct builder *b)
{
    size_t length = offsetof(struct acpi_rsdt, tables) + b->count * sizeof(u32);
    struct acpi_rsdt rsdt = {.header = table_header("RSDT", RSDT_REVISION, length)};
    for (unsigned i = 0; i < b->count; i++)
        rsdt.tables[i] = (u32)b->xsdt.tables[i];
    u32 at = b->out->rsdt = place_table(b, &rsdt.header);
    for (unsigned i = 0; i < b->count; i++)
        link(b, at + (u32)offsetof(struct acpi_rsdt, tables[i]), sizeof(u32));
}

static void build_rsdp(struct builder *b)
{
    struct acpi_rsdp rsdp = {
        .revision = RSDP_REVISION,
        .rsdt = (u32)b->base + b->out->rsdt,
        .length = sizeof(rsdp),
        .xsdt = b->base + b->out->xsdt,
    };
    memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
    memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
    rsdp.checksum = checksum(&rsdp, ACPI_RSDP_V1_SIZE);
    rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
    memcpy(b->out->rsdp, &rsdp, sizeof(rsdp));
}

int acpi_tables_make(struct acpi_tables *t, unsigned cpus, bool hpet, gpa_t base)
{
    if (cpus > APIC_BUS_MAX)
        return ERR_RANGE;
    struct builder b = {.out = t, .base = base};
    t->size = 0;
    t->link_count = 0;
    build_fadt(&b);
    build_madt(&b, cpus);
    build_mcfg(&b);
    build_ssdt(&b, cpus);
    if (hpet)
        build_hpet(&b);
    build_xsdt(&b);
    build_rsdt(&b);
    build_rsdp(&b);
    return OK;
}

int acpi_tables_build(struct guest_memory *gm, unsigned cpus, bool hpet, gpa_t *rsdp)
{
    const gpa_t base = ALIGN_UP(LAYOUT_RSDP + ACPI_RSDP_SIZE, FACS_ALIGN);
    struct acpi_tables *t = heap_alloc(sizeof(*t));
    if (!t)
        return ERR_NO_MEMORY;
    int error = acpi_tables_make(t, cpus, hpet, base);
    if (error == OK)
        error = guest_memory_write(gm, LAYOUT_RSDP, t->rsdp, sizeof(t->rsdp));
    if (error == OK)
        error = guest_memory_write(gm, base, t->bytes, t->size);
    heap_free(t);
    *rsdp = LAYOUT_RSDP;
    return error;
}
