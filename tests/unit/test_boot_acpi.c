// SPDX-License-Identifier: MIT
// The loader's reading of ACPI tables, from tables that the test builds.
#include "tests/unit/test.h"
#include "boot/acpi.c"

// Each in heap memory of just its size, so that ASan sees a byte read too many.
struct table {
    uint8_t *bytes;
    size_t size;
};

static void put(uint8_t *at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static void fix_sum(uint8_t *bytes, size_t size, size_t at)
{
    bytes[at] = 0;
    for (size_t i = 0; i < size; i++)
        if (i != at)
            bytes[at] = (uint8_t)(bytes[at] - bytes[i]);
}

#define TABLE_CHECKSUM 9

static void *made[64];
static unsigned made_count;

static struct table table_new(const char *signature, size_t size, uint8_t revision)
{
    struct table t = {calloc(1, size), size};
    made[made_count++] = t.bytes; // they live as long as the program, as real tables do
    __builtin_memcpy(t.bytes, signature, 4);
    put(t.bytes + TABLE_LENGTH, size, 4);
    t.bytes[TABLE_REVISION] = revision;
    return t;
}

__attribute__((destructor)) static void free_tables(void)
{
    while (made_count)
        free(made[--made_count]);
}

static void seal(struct table t)
{
    fix_sum(t.bytes, t.size, TABLE_CHECKSUM);
}

static uint8_t rsdp[RSDP_SIZE_2];

static void root_build(const struct table *tables, unsigned count)
{
    struct table xsdt = table_new("XSDT", TABLE_HEADER_SIZE + 8 * count, 1);
    for (unsigned i = 0; i < count; i++)
        put(xsdt.bytes + TABLE_HEADER_SIZE + 8 * i, (uintptr_t)tables[i].bytes, 8);
    seal(xsdt);
    __builtin_memset(rsdp, 0, sizeof(rsdp));
    __builtin_memcpy(rsdp, "RSD PTR ", 8);
    rsdp[RSDP_REVISION] = 2;
    put(rsdp + RSDP_LENGTH, sizeof(rsdp), 4);
    put(rsdp + RSDP_XSDT, (uintptr_t)xsdt.bytes, 8);
    fix_sum(rsdp, RSDP_SIZE_1, 8);
    fix_sum(rsdp, RSDP_SIZE_2, 32);
}

static struct table madt_of(const uint8_t *entries, size_t size)
{
    struct table madt = table_new("APIC", MADT_ENTRIES + size, 3);
    __builtin_memcpy(madt.bytes + MADT_ENTRIES, entries, size);
    seal(madt);
    return madt;
}

static struct boot_info collect_one(struct table table)
{
    struct boot_info info = {.serial_base = 0x3f8, .has_i8042 = 1};
    root_build(&table, 1);
    CHECK(acpi_root_valid(rsdp));
    acpi_collect(rsdp, &info);
    return info;
}

TEST(checks_the_root_pointer)
{
    root_build(NULL, 0);
    CHECK(acpi_root_valid(rsdp));
    rsdp[35] ^= 1; // only the long checksum covers it
    CHECK(!acpi_root_valid(rsdp));
    rsdp[RSDP_REVISION] = 0;
    fix_sum(rsdp, RSDP_SIZE_1, 8);
    CHECK(acpi_root_valid(rsdp));
    rsdp[RSDP_RSDT] ^= 1;
    CHECK(!acpi_root_valid(rsdp));
    CHECK(!acpi_root_valid(NULL));
}

TEST(refuses_root_pointers_of_odd_length)
{
    root_build(NULL, 0);
    put(rsdp + RSDP_LENGTH, 20, 4);
    fix_sum(rsdp, RSDP_SIZE_1, 8);
    CHECK(!acpi_root_valid(rsdp));
    put(rsdp + RSDP_LENGTH, UINT32_MAX, 4);
    CHECK(!acpi_root_valid(rsdp));
}

TEST(takes_enabled_processors_once)
{
    static const uint8_t entries[] = {
        MADT_LAPIC,  8,  0, 4,
        1,           0,  0, 0, // enabled
        MADT_LAPIC,  8,  1, 5,
        2,           0,  0, 0, // only online capable
        MADT_LAPIC,  8,  2, MADT_LAPIC_ID_NONE,
        1,           0,  0, 0, // no id
        MADT_X2APIC, 16, 0, 0,
        4,           0,  0, 0,
        1,           0,  0, 0,
        0,           0,  0, 0, // the first again
        MADT_X2APIC, 16, 0, 0,
        0,           1,  0, 0,
        1,           0,  0, 0,
        9,           0,  0, 0, // 0x100
        0x7f,        2,        // unknown
        MADT_X2APIC, 16, 0, 0,
        7,           0,  0, 0,
        0,           0,  0, 0,
        0,           0,  0, 0, // disabled
    };
    struct boot_info info = collect_one(madt_of(entries, sizeof(entries)));
    CHECK_EQ(info.cpu_count, 2);
    CHECK_EQ(info.cpu_total, 2);
    CHECK_EQ(info.cpus[0].apic_id, 4);
    CHECK_EQ(info.cpus[1].apic_id, 0x100);
}

TEST(counts_processors_beyond_its_room)
{
    static struct boot_info info;
    for (uint32_t i = 0; i < BOOT_CPU_MAX + 3; i++)
        boot_cpu_add(&info, i);
    CHECK_EQ(info.cpu_count, BOOT_CPU_MAX);
    CHECK_EQ(info.cpu_total, BOOT_CPU_MAX + 3);
}

TEST(takes_interrupt_routing)
{
    static const uint8_t entries[] = {
        MADT_IOAPIC,
        12,
        3,
        0,
        0,
        0,
        0xc0,
        0xfe,
        24,
        0,
        0,
        0,
        MADT_INTERRUPT_OVERRIDE,
        10,
        0,
        9,
        20,
        0,
        0,
        0,
        0xf,
        0, // low, level
        MADT_INTERRUPT_OVERRIDE,
        10,
        0,
        0,
        2,
        0,
        0,
        0,
        0,
        0, // as the bus has it
        MADT_INTERRUPT_OVERRIDE,
        10,
        0,
        200,
        2,
        0,
        0,
        0,
        0,
        0, // not an ISA interrupt
    };
    struct boot_info info = collect_one(madt_of(entries, sizeof(entries)));
    CHECK_EQ(info.ioapic_count, 1);
    CHECK_EQ(info.ioapics[0].id, 3);
    CHECK_EQ(info.ioapics[0].base, 0xfec00000);
    CHECK_EQ(info.ioapics[0].gsi_base, 24);
    CHECK_EQ(info.isa_irqs[9].gsi, 20);
    CHECK_EQ(info.isa_irqs[9].active_low, 1);
    CHECK_EQ(info.isa_irqs[9].level, 1);
    CHECK_EQ(info.isa_irqs[0].gsi, 2);
    CHECK_EQ(info.isa_irqs[0].level, 0);
}

TEST(stops_at_damaged_entries)
{
    static const uint8_t endless[] = {MADT_LAPIC, 0, 0, 4, 1, 0, 0, 0};
    static const uint8_t beyond[] = {MADT_LAPIC, 9, 0, 4, 1, 0, 0, 0};
    static const uint8_t small[] = {MADT_LAPIC, 4, 0, 4};
    CHECK_EQ(collect_one(madt_of(endless, sizeof(endless))).cpu_count, 0);
    CHECK_EQ(collect_one(madt_of(beyond, sizeof(beyond))).cpu_count, 0);
    CHECK_EQ(collect_one(madt_of(small, sizeof(small))).cpu_count, 0);
}

TEST(ignores_tables_with_a_wrong_checksum)
{
    static const uint8_t entries[] = {MADT_LAPIC, 8, 0, 4, 1, 0, 0, 0};
    struct table madt = madt_of(entries, sizeof(entries));
    madt.bytes[MADT_ENTRIES + 3] ^= 1;
    CHECK_EQ(collect_one(madt).cpu_count, 0);
}

TEST(takes_the_pm_timer_and_keyboard_controller)
{
    struct table fadt = table_new("FACP", FADT_X_PM_TMR_BLK + GAS_SIZE, 6);
    put(fadt.bytes + FADT_PM_TMR_BLK, 0x408, 4);
    fadt.bytes[FADT_PM_TMR_LEN] = FADT_PM_TMR_LEN_PRESENT;
    put(fadt.bytes + FADT_FLAGS, FADT_FLAG_TMR_VAL_EXT, 4);
    seal(fadt);
    struct boot_info info = collect_one(fadt);
    CHECK_EQ(info.pm_timer_port, 0x408);
    CHECK_EQ(info.pm_timer_32bit, 1);
    CHECK_EQ(info.has_i8042, 0);

    fadt.bytes[FADT_X_PM_TMR_BLK + GAS_SPACE] = GAS_SPACE_IO;
    put(fadt.bytes + FADT_X_PM_TMR_BLK + GAS_ADDRESS, 0x1808, 8);
    put(fadt.bytes + FADT_IAPC_BOOT_ARCH, FADT_BOOT_ARCH_8042, 2);
    seal(fadt);
    info = collect_one(fadt);
    CHECK_EQ(info.pm_timer_port, 0x1808);
    CHECK_EQ(info.has_i8042, 1);
}

TEST(takes_old_and_short_fadts)
{
    struct table old = table_new("FACP", FADT_FLAGS + 4, 1);
    put(old.bytes + FADT_PM_TMR_BLK, 0x608, 4);
    old.bytes[FADT_PM_TMR_LEN] = FADT_PM_TMR_LEN_PRESENT;
    seal(old);
    struct boot_info info = collect_one(old);
    CHECK_EQ(info.pm_timer_port, 0x608);
    CHECK_EQ(info.has_i8042, 1); // the field did not exist yet
    struct table cut = table_new("FACP", FADT_FLAGS, 1);
    seal(cut);
    CHECK_EQ(collect_one(cut).pm_timer_port, 0);
}

TEST(takes_the_console_only_if_it_is_a_port)
{
    struct table spcr = table_new("SPCR", SPCR_ADDRESS + GAS_SIZE, 2);
    spcr.bytes[SPCR_ADDRESS + GAS_SPACE] = GAS_SPACE_IO;
    put(spcr.bytes + SPCR_ADDRESS + GAS_ADDRESS, 0x2f8, 8);
    seal(spcr);
    CHECK_EQ(collect_one(spcr).serial_base, 0x2f8);
    spcr.bytes[SPCR_INTERFACE] = 3;
    seal(spcr);
    CHECK_EQ(collect_one(spcr).serial_base, 0x3f8);
    spcr.bytes[SPCR_INTERFACE] = SPCR_16550_BY_GAS;
    put(spcr.bytes + SPCR_ADDRESS + GAS_ADDRESS, 0xfe030000, 8);
    seal(spcr);
    CHECK_EQ(collect_one(spcr).serial_base, 0x3f8);
}
