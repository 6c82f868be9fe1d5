// SPDX-License-Identifier: MIT
// QEMU's hw/acpi/bios-linker-loader.c documents the commands. Some firmware counts the checksum's
// own byte in, so that has to be 0 before.
#include "vmm/load/acpi_loader.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/string.h"

enum loader_command { LOADER_ALLOCATE = 1, LOADER_POINTER, LOADER_CHECKSUM };
enum loader_zone { LOADER_ZONE_HIGH = 1, LOADER_ZONE_FSEG };

#define TABLES_ALIGN       64 // the FACS's
#define RSDP_ALIGN         16
#define ACPI_HEADER_LENGTH 4 // offset of a table's length

assert_static(sizeof(struct acpi_loader_command) == ACPI_LOADER_COMMAND_SIZE);

static void file_name(char to[ACPI_LOADER_FILE_SIZE], const char *name)
{
    memcpy(to, name, strlen(name) + 1);
}

static void allocate_command(struct acpi_loader_command *c, const char *file, u32 align,
                             enum loader_zone zone)
{
    *c = (struct acpi_loader_command){.command = LOADER_ALLOCATE};
    file_name(c->allocate.file, file);
    c->allocate.align = align;
    c->allocate.zone = (u8)zone;
}

static void pointer_command(struct acpi_loader_command *c, const char *file, u32 offset, u8 size)
{
    *c = (struct acpi_loader_command){.command = LOADER_POINTER};
    file_name(c->pointer.file, file);
    file_name(c->pointer.target, ACPI_LOADER_TABLES);
    c->pointer.offset = offset;
    c->pointer.size = size;
}

static void sum_command(struct acpi_loader_command *c, const char *file, u32 offset, u32 start,
                        u32 length)
{
    *c = (struct acpi_loader_command){.command = LOADER_CHECKSUM};
    file_name(c->checksum.file, file);
    c->checksum.offset = offset;
    c->checksum.start = start;
    c->checksum.length = length;
}

static void table_sum_command(struct acpi_loader_command *c, struct acpi_tables *t, u32 table)
{
    u32 length;
    memcpy(&length, t->bytes + table + ACPI_HEADER_LENGTH, sizeof(length));
    t->bytes[table + ACPI_CHECKSUM] = 0;
    sum_command(c, ACPI_LOADER_TABLES, table + ACPI_CHECKSUM, table, length);
}

unsigned acpi_loader_make(struct acpi_tables *t,
                          struct acpi_loader_command commands[ACPI_LOADER_COMMANDS])
{
    struct acpi_loader_command *next = commands;
    allocate_command(next++, ACPI_LOADER_TABLES, TABLES_ALIGN, LOADER_ZONE_HIGH);
    allocate_command(next++, ACPI_LOADER_RSDP, RSDP_ALIGN, LOADER_ZONE_FSEG);
    for (unsigned i = 0; i < t->link_count; i++)
        pointer_command(next++, ACPI_LOADER_TABLES, t->links[i].at, t->links[i].size);
    pointer_command(next++, ACPI_LOADER_RSDP, ACPI_RSDP_RSDT, ACPI_RSDP_RSDT_SIZE);
    pointer_command(next++, ACPI_LOADER_RSDP, ACPI_RSDP_XSDT, ACPI_RSDP_XSDT_SIZE);
    table_sum_command(next++, t, t->fadt);
    table_sum_command(next++, t, t->rsdt);
    table_sum_command(next++, t, t->xsdt);
    t->rsdp[ACPI_RSDP_CHECKSUM] = t->rsdp[ACPI_RSDP_CHECKSUM_ALL] = 0;
    sum_command(next++, ACPI_LOADER_RSDP, ACPI_RSDP_CHECKSUM, 0, ACPI_RSDP_V1_SIZE);
    sum_command(next++, ACPI_LOADER_RSDP, ACPI_RSDP_CHECKSUM_ALL, 0, ACPI_RSDP_SIZE);
    return (unsigned)(next - commands);
}
