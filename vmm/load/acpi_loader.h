// SPDX-License-Identifier: MIT
// How firmware is told to put the ACPI tables into its memory: QEMU's linker/loader commands, the
// file "etc/table-loader". Firmware allocates the two files, adds their addresses to the links in
// them, and makes the checksums that this changed.
#pragma once

#include "vmm/load/acpi_tables.h"

#define ACPI_LOADER_TABLES "etc/acpi/tables"
#define ACPI_LOADER_RSDP   "etc/acpi/rsdp"

#define ACPI_LOADER_FILE_SIZE    56
#define ACPI_LOADER_COMMAND_SIZE 128

// 2 allocations, a pointer for each link and the RSDP's, checksums of FADT, XSDT and twice the
// RSDP.
#define ACPI_LOADER_COMMANDS (2 + ACPI_LINKS_MAX + 2 + 5)

struct acpi_loader_command { // little-endian
    u32 command;
    union {
        struct {
            char file[ACPI_LOADER_FILE_SIZE];
            u32 align;
            u8 zone;
        } PACKED allocate;
        struct {
            char file[ACPI_LOADER_FILE_SIZE]; // that has the pointer,
            char target[ACPI_LOADER_FILE_SIZE];
            u32 offset;
            u8 size;
        } PACKED pointer;
        struct {
            char file[ACPI_LOADER_FILE_SIZE];
            u32 offset, start, length;
        } PACKED checksum;
        u8 bytes[ACPI_LOADER_COMMAND_SIZE - sizeof(u32)];
    };
} PACKED;

// For tables that were made for base 0. Sets the checksums to 0 that the commands make. The number
// of commands.
unsigned acpi_loader_make(struct acpi_tables *t,
                          struct acpi_loader_command commands[ACPI_LOADER_COMMANDS]);
