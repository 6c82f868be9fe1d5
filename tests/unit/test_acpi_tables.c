// SPDX-License-Identifier: MIT
// Walks the tables as an operating system does. With a directory as its argument in
// ACPI_TABLES_DUMP it also writes them there, for `iasl -d` and `iasl -e`.
#include "tests/unit/test.h"

#include "vmm/load/acpi_tables.c"
#include "vmm/load/acpi_loader.c"
#include "vmm/lib/format.c"

static u8 bios[LAYOUT_BIOS_SIZE];
static u64 bios_size; // how much of it is there

int guest_memory_write(struct guest_memory *gm UNUSED, gpa_t gpa, const void *from, u64 size)
{
    if (gpa < LAYOUT_BIOS || gpa + size > LAYOUT_BIOS + bios_size)
        return ERR_FAULT;
    memcpy(bios + (gpa - LAYOUT_BIOS), from, size);
    return OK;
}

void *heap_alloc(size_t size)
{
    return calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

static u8 sum(const void *bytes, u64 size)
{
    u8 total = 0;
    for (u64 i = 0; i < size; i++)
        total = (u8)(total + ((const u8 *)bytes)[i]);
    return total;
}

static const void *at(gpa_t gpa)
{
    CHECK(gpa >= LAYOUT_BIOS && gpa < LAYOUT_BIOS + LAYOUT_BIOS_SIZE);
    return bios + (gpa - LAYOUT_BIOS);
}

static bool with_hpet;

static int build(unsigned cpus)
{
    gpa_t rsdp = 0;
    memset(bios, 0, sizeof(bios));
    bios_size = sizeof(bios);
    int error = acpi_tables_build(NULL, cpus, with_hpet, &rsdp);
    CHECK(error != OK || rsdp == LAYOUT_RSDP);
    return error;
}

// A table of the XSDT by its signature; its checksum must be right.
static const struct acpi_header *find(const char *signature)
{
    const struct acpi_rsdp *rsdp = at(LAYOUT_RSDP);
    CHECK(memcmp(rsdp->signature, "RSD PTR ", 8) == 0);
    CHECK_EQ(rsdp->revision, 2);
    CHECK_EQ(sum(rsdp, 20), 0);
    CHECK_EQ(sum(rsdp, 36), 0);
    const struct acpi_xsdt *xsdt = at(rsdp->xsdt);
    CHECK(memcmp(xsdt->header.signature, "XSDT", 4) == 0);
    CHECK_EQ(sum(xsdt, xsdt->header.length), 0);
    for (unsigned i = 0; i < (xsdt->header.length - 36) / 8; i++) {
        const struct acpi_header *table = at(xsdt->tables[i]);
        CHECK_EQ(sum(table, table->length), 0);
        if (memcmp(table->signature, signature, 4) == 0)
            return table;
    }
    CHECK(!"table is there");
    return at(LAYOUT_RSDP);
}

TEST(the_rsdt_lists_the_same_tables)
{
    CHECK_EQ(build(1), OK);
    const struct acpi_rsdp *rsdp = at(LAYOUT_RSDP);
    const struct acpi_rsdt *rsdt = at(rsdp->rsdt);
    const struct acpi_xsdt *xsdt = at(rsdp->xsdt);
    CHECK(memcmp(rsdt->header.signature, "RSDT", 4) == 0);
    CHECK_EQ(sum(rsdt, rsdt->header.length), 0);
    unsigned count = (rsdt->header.length - 36) / 4;
    CHECK_EQ(count, (xsdt->header.length - 36) / 8);
    CHECK(count >= 4);
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(rsdt->tables[i], xsdt->tables[i]);
}

TEST(fadt_points_to_facs_and_dsdt)
{
    CHECK_EQ(build(1), OK);
    const struct acpi_fadt *fadt = (const void *)find("FACP");
    CHECK_EQ(fadt->header.length, 276);
    CHECK_EQ(fadt->facs % 64, 0);
    CHECK(memcmp(at(fadt->facs), "FACS", 4) == 0);
    const struct acpi_header *dsdt = at(fadt->dsdt);
    CHECK(memcmp(dsdt->signature, "DSDT", 4) == 0);
    CHECK_EQ(sum(dsdt, dsdt->length), 0);
    CHECK_EQ(fadt->x_dsdt, fadt->dsdt);
}

static u32 fadt_u32(unsigned offset)
{
    u32 value;
    memcpy(&value, (const u8 *)find("FACP") + offset, sizeof(value));
    return value;
}

TEST(fadt_names_the_chips_ports)
{
    CHECK_EQ(build(1), OK);
    CHECK_EQ(fadt_u32(46) & 0xffff, ACPI_SCI_IRQ);
    CHECK_EQ(fadt_u32(56), ACPI_PM_BASE);
    CHECK_EQ(fadt_u32(64), ACPI_PM_BASE + ACPI_PM1_CONTROL);
    CHECK_EQ(fadt_u32(76), ACPI_PM_BASE + ACPI_PM_TIMER);
    CHECK_EQ(fadt_u32(80), ACPI_PM_BASE + ACPI_GPE0_STATUS);
    CHECK_EQ(fadt_u32(109) & 3, 1);         // legacy devices, no 8042
    CHECK_EQ(fadt_u32(112) & 0x530, 0x520); // 32-bit timer, reset register, a fixed power button
    CHECK_EQ(fadt_u32(120), ACPI_RESET_PORT);
    CHECK_EQ(fadt_u32(128) & 0xff, ACPI_RESET_VALUE);
}

TEST(madt_lists_every_processor)
{
    for (unsigned cpus = 1; cpus <= APIC_BUS_MAX; cpus += 21) {
        CHECK_EQ(build(cpus), OK);
        const u8 *madt = (const void *)find("APIC");
        u32 length = ((const struct acpi_header *)madt)->length;
        unsigned lapics = 0, ioapics = 0, overrides = 0, nmis = 0, entry = 44;
        for (; entry + 2 <= length; entry += madt[entry + 1]) {
            CHECK(madt[entry + 1] >= 6);
            if (madt[entry] == MADT_LAPIC)
                CHECK_EQ(madt[entry + 3], lapics++);
            ioapics += madt[entry] == MADT_IOAPIC;
            overrides += madt[entry] == MADT_OVERRIDE;
            nmis += madt[entry] == MADT_LAPIC_NMI;
            if (madt[entry] == MADT_OVERRIDE && madt[entry + 3] == 0)
                CHECK_EQ(madt[entry + 4], 2);
        }
        CHECK_EQ(entry, length);
        CHECK_EQ(lapics, cpus);
        CHECK_EQ(ioapics, 1);
        CHECK_EQ(overrides, 2);
        CHECK_EQ(nmis, 1);
    }
}

TEST(mcfg_says_where_ecam_is)
{
    CHECK_EQ(build(1), OK);
    const u8 *mcfg = (const void *)find("MCFG");
    u64 base;
    memcpy(&base, mcfg + 44, sizeof(base));
    CHECK_EQ(base, LAYOUT_ECAM);
    CHECK_EQ(mcfg[54], 0);
    CHECK_EQ(mcfg[55], LAYOUT_ECAM_BUSES - 1);
}

TEST(ssdt_has_a_device_for_each_processor)
{
    CHECK_EQ(build(64), OK);
    const struct acpi_ssdt *ssdt = (const void *)find("SSDT");
    CHECK_EQ((ssdt->length[0] & 15u) | (u32)ssdt->length[1] << 4, ssdt->header.length - 37);
    CHECK(memcmp(ssdt->cpus[63].name, "C03F", 4) == 0);
    CHECK_EQ(ssdt->cpus[63].uid_value, 63);
}

TEST(hpet_is_listed_if_there_is_one)
{
    with_hpet = false;
    CHECK_EQ(build(1), OK);
    const struct acpi_rsdp *rsdp = at(LAYOUT_RSDP);
    u32 without = ((const struct acpi_header *)at(rsdp->xsdt))->length;
    with_hpet = true;
    CHECK_EQ(build(1), OK);
    CHECK_EQ(((const struct acpi_header *)at(rsdp->xsdt))->length, without + 8);
    const struct acpi_hpet *hpet = (const void *)find("HPET");
    CHECK_EQ(hpet->header.length, 56);
    CHECK_EQ(hpet->block_id, HPET_BLOCK_ID);
    CHECK_EQ(hpet->address, LAYOUT_HPET);
    with_hpet = false;
}

TEST(too_much_is_refused)
{
    CHECK_EQ(build(APIC_BUS_MAX + 1), ERR_RANGE);
    gpa_t rsdp;
    for (bios_size = 0; bios_size < 4096; bios_size += 100)
        CHECK_EQ(acpi_tables_build(NULL, 64, false, &rsdp), ERR_FAULT);
}

// --- as firmware places them ---

static struct acpi_tables relocatable;
static struct acpi_loader_command commands[ACPI_LOADER_COMMANDS];

static bool allocated[2]; // the RSDP; the tables

static u8 *file_of(const char *name)
{
    bool tables = strcmp(name, ACPI_LOADER_TABLES) == 0;
    CHECK(tables || strcmp(name, ACPI_LOADER_RSDP) == 0);
    CHECK(allocated[tables]);
    return tables ? relocatable.bytes : relocatable.rsdp;
}

// What firmware does with the tables at `base`; a checksum's own byte counts, as some firmware has
// it.
static void run_command(const struct acpi_loader_command *c, u64 base)
{
    u64 value = 0;
    u8 *file;
    switch (c->command) {
    case LOADER_POINTER:
        CHECK_STR(c->pointer.target, ACPI_LOADER_TABLES);
        file = file_of(c->pointer.file) + c->pointer.offset;
        memcpy(&value, file, c->pointer.size);
        CHECK(value < relocatable.size);
        value += base;
        memcpy(file, &value, c->pointer.size);
        break;
    case LOADER_CHECKSUM:
        file = file_of(c->checksum.file);
        file[c->checksum.offset] = (u8)-sum(file + c->checksum.start, c->checksum.length);
        break;
    default:
        CHECK_EQ(c->command, LOADER_ALLOCATE);
        allocated[strcmp(c->allocate.file, ACPI_LOADER_TABLES) == 0] = true;
        file_of(c->allocate.file);
        CHECK_EQ(base % c->allocate.align, 0);
    }
}

TEST(firmware_can_place_them_anywhere)
{
    const gpa_t base = LAYOUT_BIOS + 0x8000;
    CHECK_EQ(acpi_tables_make(&relocatable, 5, true, 0), OK);
    unsigned count = acpi_loader_make(&relocatable, commands);
    for (unsigned i = 0; i < count; i++)
        run_command(&commands[i], base);
    memset(bios, 0, sizeof(bios));
    memcpy(bios + (LAYOUT_RSDP - LAYOUT_BIOS), relocatable.rsdp, sizeof(relocatable.rsdp));
    memcpy(bios + (base - LAYOUT_BIOS), relocatable.bytes, relocatable.size);
    const struct acpi_rsdt *rsdt = at(((const struct acpi_rsdp *)relocatable.rsdp)->rsdt);
    CHECK_EQ(sum(rsdt, rsdt->header.length), 0);
    const struct acpi_fadt *fadt = (const void *)find("FACP");
    CHECK(at(rsdt->tables[0]) == fadt);
    CHECK(memcmp(at(fadt->facs), "FACS", 4) == 0);
    const struct acpi_header *dsdt = at(fadt->x_dsdt);
    CHECK_EQ(sum(dsdt, dsdt->length), 0);
    CHECK_EQ(fadt->x_dsdt, fadt->dsdt);
    CHECK_EQ(find("APIC")->length % 8, (44 + 12 + 20 + 6 + 5 * 8) % 8);
}

static void dump(const char *folder, const struct acpi_header *table)
{
    char path[256];
    format_text(path, sizeof(path), "%s/%.4s.aml", folder, table->signature);
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(table, 1, table->length, file) == table->length);
    if (file)
        fclose(file);
}

TEST(dump_for_iasl)
{
    const char *folder = getenv("ACPI_TABLES_DUMP");
    if (!folder)
        return;
    with_hpet = true;
    CHECK_EQ(build(4), OK);
    static const char *const names[] = {"FACP", "APIC", "MCFG", "SSDT", "HPET"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        dump(folder, find(names[i]));
    dump(folder, at(((const struct acpi_fadt *)find("FACP"))->dsdt));
}
