// SPDX-License-Identifier: MIT
// ACPI tables at the edge: every table is checked (length, checksum) before a field is read, every
// field is read by its offset, since the tables are packed. ACPI 6.4: 5.2.5 "Root System
// Description Pointer", 5.2.9 FADT, 5.2.12 MADT; Microsoft's "Serial Port Console Redirection
// Table".

#include "boot/acpi.h"

enum {
    RSDP_REVISION = 15,
    RSDP_RSDT = 16,
    RSDP_SIZE_1 = 20, // what the first checksum covers
    RSDP_LENGTH = 20,
    RSDP_XSDT = 24,
    RSDP_SIZE_2 = 36,
    RSDP_SIZE_MAX = 4096,

    TABLE_LENGTH = 4,
    TABLE_HEADER_SIZE = 36,
    TABLE_SIZE_MAX = 16 << 20,

    GAS_SPACE = 0, // "Generic Address Structure"
    GAS_ADDRESS = 4,
    GAS_SIZE = 12,
    GAS_SPACE_IO = 1,

    FADT_PM_TMR_BLK = 76,
    FADT_PM_TMR_LEN = 91,
    FADT_PM_TMR_LEN_PRESENT = 4,
    FADT_IAPC_BOOT_ARCH = 109,
    FADT_BOOT_ARCH_8042 = 1 << 1,
    FADT_FLAGS = 112,
    FADT_FLAG_TMR_VAL_EXT = 1 << 8,
    FADT_X_PM_TMR_BLK = 208,
    FADT_REVISION_BOOT_ARCH = 3, // older ones do not have the field
    TABLE_REVISION = 8,

    MADT_ENTRIES = 44,
    MADT_LAPIC = 0,
    MADT_IOAPIC = 1,
    MADT_INTERRUPT_OVERRIDE = 2,
    MADT_X2APIC = 9,
    MADT_CPU_ENABLED = 1 << 0,
    MADT_LAPIC_ID_NONE = 0xff,
    MADT_POLARITY_MASK = 3 << 0,
    MADT_POLARITY_LOW = 3 << 0,
    MADT_TRIGGER_MASK = 3 << 2,
    MADT_TRIGGER_LEVEL = 3 << 2,

    SPCR_INTERFACE = 36,
    SPCR_ADDRESS = 40,
    SPCR_16550 = 0x00,
    SPCR_16450 = 0x01,
    SPCR_16550_BY_GAS = 0x12,
};

static uint8_t read8(const void *base, size_t offset)
{
    return ((const uint8_t *)base)[offset];
}

static uint16_t read16(const void *base, size_t offset)
{
    return (uint16_t)(read8(base, offset) | read8(base, offset + 1) << 8);
}

static uint32_t read32(const void *base, size_t offset)
{
    return read16(base, offset) | (uint32_t)read16(base, offset + 2) << 16;
}

static uint64_t read64(const void *base, size_t offset)
{
    return read32(base, offset) | (uint64_t)read32(base, offset + 4) << 32;
}

static bool sum_is_zero(const void *base, size_t size)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + read8(base, i));
    return sum == 0;
}

static bool text_is(const void *base, const char *text)
{
    for (size_t i = 0; text[i]; i++)
        if (read8(base, i) != (uint8_t)text[i])
            return false;
    return true;
}

bool acpi_root_valid(const void *rsdp)
{
    if (!rsdp || !text_is(rsdp, "RSD PTR ") || !sum_is_zero(rsdp, RSDP_SIZE_1))
        return false;
    if (read8(rsdp, RSDP_REVISION) < 2)
        return true;
    uint32_t length = read32(rsdp, RSDP_LENGTH);
    return length >= RSDP_SIZE_2 && length <= RSDP_SIZE_MAX && sum_is_zero(rsdp, length);
}

static const void *table_at(uint64_t address, const char *signature)
{
    const void *table = (const void *)(uintptr_t)address;
    if (!table || !text_is(table, signature))
        return NULL;
    uint32_t length = read32(table, TABLE_LENGTH);
    if (length < TABLE_HEADER_SIZE || length > TABLE_SIZE_MAX || !sum_is_zero(table, length))
        return NULL;
    return table;
}

static const void *table_find(const void *rsdp, const char *signature)
{
    bool wide = read8(rsdp, RSDP_REVISION) >= 2 && read64(rsdp, RSDP_XSDT);
    const void *root = wide ? table_at(read64(rsdp, RSDP_XSDT), "XSDT")
                            : table_at(read32(rsdp, RSDP_RSDT), "RSDT");
    if (!root)
        return NULL;
    size_t entry = wide ? 8 : 4;
    size_t length = read32(root, TABLE_LENGTH);
    for (size_t at = TABLE_HEADER_SIZE; at + entry <= length; at += entry) {
        const void *table = table_at(wide ? read64(root, at) : read32(root, at), signature);
        if (table)
            return table;
    }
    return NULL;
}

void boot_cpu_add(struct boot_info *info, uint32_t apic_id)
{
    for (uint32_t i = 0; i < info->cpu_count; i++)
        if (info->cpus[i].apic_id == apic_id)
            return;
    info->cpu_total++;
    if (info->cpu_count < BOOT_CPU_MAX)
        info->cpus[info->cpu_count++].apic_id = apic_id;
}

static void take_lapic(const void *entry, struct boot_info *info)
{
    if ((read32(entry, 4) & MADT_CPU_ENABLED) && read8(entry, 3) != MADT_LAPIC_ID_NONE)
        boot_cpu_add(info, read8(entry, 3));
}

static void take_x2apic(const void *entry, struct boot_info *info)
{
    if (read32(entry, 8) & MADT_CPU_ENABLED)
        boot_cpu_add(info, read32(entry, 4));
}

static void take_ioapic(const void *entry, struct boot_info *info)
{
    if (info->ioapic_count < BOOT_IOAPIC_MAX)
        info->ioapics[info->ioapic_count++] = (struct boot_ioapic){
            .id = read8(entry, 2), .base = read32(entry, 4), .gsi_base = read32(entry, 8)};
}

static void take_override(const void *entry, struct boot_info *info)
{
    uint8_t source = read8(entry, 3);
    uint16_t flags = read16(entry, 8);
    if (source < BOOT_IRQ_ISA)
        info->isa_irqs[source] = (struct boot_irq){
            .gsi = read32(entry, 4),
            .active_low = (flags & MADT_POLARITY_MASK) == MADT_POLARITY_LOW,
            .level = (flags & MADT_TRIGGER_MASK) == MADT_TRIGGER_LEVEL,
        };
}

static const struct {
    uint8_t type, size;
    void (*take)(const void *entry, struct boot_info *info);
} madt_entries[] = {
    {MADT_LAPIC, 8, take_lapic},
    {MADT_IOAPIC, 12, take_ioapic},
    {MADT_INTERRUPT_OVERRIDE, 10, take_override},
    {MADT_X2APIC, 16, take_x2apic},
};

static void collect_madt(const void *madt, struct boot_info *info)
{
    size_t length = read32(madt, TABLE_LENGTH);
    for (size_t at = MADT_ENTRIES; at + 2 <= length;) {
        const void *entry = (const uint8_t *)madt + at;
        uint8_t size = read8(entry, 1);
        if (size < 2 || size > length - at)
            return;
        for (size_t i = 0; i < sizeof(madt_entries) / sizeof(madt_entries[0]); i++)
            if (madt_entries[i].type == read8(entry, 0) && madt_entries[i].size <= size)
                madt_entries[i].take(entry, info);
        at += size;
    }
}

static void collect_fadt(const void *fadt, struct boot_info *info)
{
    size_t length = read32(fadt, TABLE_LENGTH);
    if (length < FADT_FLAGS + 4)
        return;
    if (read8(fadt, FADT_PM_TMR_LEN) == FADT_PM_TMR_LEN_PRESENT)
        info->pm_timer_port = read32(fadt, FADT_PM_TMR_BLK);
    if (length >= FADT_X_PM_TMR_BLK + GAS_SIZE &&
        read8(fadt, FADT_X_PM_TMR_BLK + GAS_SPACE) == GAS_SPACE_IO &&
        read64(fadt, FADT_X_PM_TMR_BLK + GAS_ADDRESS))
        info->pm_timer_port = read64(fadt, FADT_X_PM_TMR_BLK + GAS_ADDRESS);
    info->pm_timer_32bit = (read32(fadt, FADT_FLAGS) & FADT_FLAG_TMR_VAL_EXT) != 0;
    if (read8(fadt, TABLE_REVISION) >= FADT_REVISION_BOOT_ARCH)
        info->has_i8042 = (read16(fadt, FADT_IAPC_BOOT_ARCH) & FADT_BOOT_ARCH_8042) != 0;
}

static bool is_16550(uint8_t interface)
{
    static const uint8_t compatible[] = {SPCR_16550, SPCR_16450, SPCR_16550_BY_GAS};
    for (size_t i = 0; i < sizeof(compatible); i++)
        if (interface == compatible[i])
            return true;
    return false;
}

static void collect_spcr(const void *spcr, struct boot_info *info)
{
    if (read32(spcr, TABLE_LENGTH) < SPCR_ADDRESS + GAS_SIZE ||
        !is_16550(read8(spcr, SPCR_INTERFACE)))
        return;
    uint64_t address = read64(spcr, SPCR_ADDRESS + GAS_ADDRESS);
    if (read8(spcr, SPCR_ADDRESS + GAS_SPACE) == GAS_SPACE_IO && address && address <= UINT16_MAX)
        info->serial_base = address;
}

void acpi_collect(const void *rsdp, struct boot_info *info)
{
    static const struct {
        const char *signature;
        void (*collect)(const void *table, struct boot_info *info);
    } tables[] = {{"APIC", collect_madt}, {"FACP", collect_fadt}, {"SPCR", collect_spcr}};
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        const void *table = table_find(rsdp, tables[i].signature);
        if (table)
            tables[i].collect(table, info);
    }
}
