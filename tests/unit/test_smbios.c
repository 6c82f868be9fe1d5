// SPDX-License-Identifier: MIT
#include "tests/unit/test.h"
#include "vmm/load/smbios.c"

#define ADDRESS 0xf0020u

static struct smbios s;

static void make(const char *name, u64 memory, unsigned cpus, bool bios)
{
    const struct smbios_machine m = {name, memory, cpus, bios};
    smbios_make(&s, &m, ADDRESS);
}

// The structure after this one; null at the end of the tables.
static const struct header *next(const struct header *h)
{
    const u8 *p = (const u8 *)h + h->length, *end = s.tables + s.size;
    while (p + 1 < end && (p[0] || p[1]))
        p++;
    return p + 2 < end ? (const struct header *)(p + 2) : NULL;
}

static const void *find(enum smbios_type type, unsigned number)
{
    for (const struct header *h = (const void *)s.tables; h; h = next(h))
        if (h->type == type && number-- == 0)
            return h;
    return NULL;
}

static const char *string(const void *structure, unsigned number)
{
    const struct header *h = structure;
    const char *p = (const char *)h + h->length;
    while (--number)
        p += strlen(p) + 1;
    return p;
}

TEST(the_entry_point_describes_the_tables)
{
    make("one", 64 * MIB, 2, true);
    const struct entry_point *e = (const void *)s.anchor;
    unsigned count = 0, largest = 0;
    for (const struct header *h = (const void *)s.tables, *then; h; h = then, count++) {
        then = next(h);
        const u8 *end = then ? (const u8 *)then : s.tables + s.size;
        largest = MAX(largest, (unsigned)(end - (const u8 *)h));
        CHECK_EQ(h->handle, count);
    }
    CHECK_EQ(checksum(e, sizeof(*e)), 0);
    CHECK_EQ(checksum(e->middle_anchor, 15), 0);
    CHECK_EQ(memcmp(e, "_SM_", 4), 0);
    CHECK_EQ(e->tables, ADDRESS);
    CHECK_EQ(e->tables_size, s.size);
    CHECK_EQ(e->count, count);
    CHECK_EQ(e->largest, largest);
    CHECK_EQ(count, 9);
    const struct header *end = find(TYPE_END, 0);
    CHECK_EQ((const u8 *)end + sizeof(*end) + 2 - s.tables, s.size);
}

TEST(each_structure_has_the_type_of_the_standard)
{
    static const u8 types[] = {0, 1, 3, 4, 16, 17, 19, 32, 127};
    make("one", 64 * MIB, 1, true);
    const struct header *h = (const void *)s.tables;
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++, h = next(h)) {
        CHECK(h);
        CHECK_EQ(h->type, types[i]);
    }
    CHECK(!h);
    CHECK_EQ(((const struct memory_device *)find(TYPE_MEMORY_DEVICE, 0))->extended_size, 0);
}

TEST(a_machine_has_its_name_and_a_uuid_of_its_own)
{
    make("one", 64 * MIB, 1, true);
    const struct system *system = find(TYPE_SYSTEM, 0);
    CHECK_STR(string(system, system->product), "Plinth PC");
    CHECK_STR(string(system, system->serial), "one");
    u8 first[16], again[16];
    memcpy(first, system->uuid, sizeof(first));
    CHECK_EQ(first[7] >> 4, 8);
    CHECK_EQ(first[8] >> 6, 2);
    make("one", 128 * MIB, 4, false);
    memcpy(again, ((const struct system *)find(TYPE_SYSTEM, 0))->uuid, sizeof(again));
    CHECK_EQ(memcmp(first, again, sizeof(first)), 0);
    make("two", 64 * MIB, 1, true);
    memcpy(again, ((const struct system *)find(TYPE_SYSTEM, 0))->uuid, sizeof(again));
    CHECK(memcmp(first, again, 8) && memcmp(first + 8, again + 8, 8));
}

TEST(a_firmware_adds_its_own_name)
{
    make("one", 64 * MIB, 1, false);
    CHECK(!find(TYPE_BIOS, 0));
    make("one", 64 * MIB, 1, true);
    CHECK(find(TYPE_BIOS, 0));
}

TEST(processors_are_cores_of_one_package)
{
    make("one", 64 * MIB, 3, true);
    const struct processor *p = find(TYPE_PROCESSOR, 0);
    CHECK_EQ(p->cores, 3);
    CHECK(!find(TYPE_PROCESSOR, 1));
    make("one", 64 * MIB, 1000, true);
    p = find(TYPE_PROCESSOR, 0);
    CHECK_EQ(p->cores, 255);
}

TEST(memory_is_one_device_in_two_ranges)
{
    make("one", 64 * MIB, 1, true);
    const struct memory_device *d = find(TYPE_MEMORY_DEVICE, 0);
    const struct memory_mapped *low = find(TYPE_MEMORY_MAPPED, 0);
    CHECK_EQ(d->size, 64);
    CHECK_EQ(d->array, ((const struct header *)find(TYPE_MEMORY_ARRAY, 0))->handle);
    CHECK_EQ(low->end, 64 * 1024 - 1);
    CHECK(!find(TYPE_MEMORY_MAPPED, 1));
    make("one", 64 * GIB, 1, true);
    d = find(TYPE_MEMORY_DEVICE, 0);
    low = find(TYPE_MEMORY_MAPPED, 0);
    const struct memory_mapped *high = find(TYPE_MEMORY_MAPPED, 1);
    CHECK_EQ(d->size, SIZE_EXTENDED);
    CHECK_EQ(d->extended_size, 65536);
    CHECK_EQ(low->end, LAYOUT_PCI_HOLE / KIB - 1);
    CHECK_EQ(high->start, 4 * MIB);
    CHECK_EQ(high->end, (64 * GIB + LAYOUT_ABOVE_4G - LAYOUT_PCI_HOLE) / KIB - 1);
}

TEST(terabytes_take_the_wider_fields)
{
    make("one", 8192 * GIB, 1, true);
    const struct memory_array *a = find(TYPE_MEMORY_ARRAY, 0);
    const struct memory_mapped *high = find(TYPE_MEMORY_MAPPED, 1);
    CHECK_EQ(a->capacity, ARRAY_EXTENDED);
    CHECK_EQ(a->extended_capacity, 8192 * GIB);
    CHECK_EQ(high->start, MAPPED_EXTENDED);
    CHECK_EQ(high->extended_start, LAYOUT_ABOVE_4G);
}

TEST(the_longest_name_fits)
{
    make("a-virtual-machine-of-31-letters", 8192 * GIB, 64, true);
    CHECK(s.size < SMBIOS_TABLES_SIZE);
}
