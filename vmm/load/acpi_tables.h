// SPDX-License-Identifier: MIT
// The ACPI tables that a guest finds: RSDP, RSDT, XSDT, FADT, FACS, DSDT, MADT, MCFG, an SSDT with
// the processors, and HPET if there is one.
#pragma once

#include "mm/guest_memory.h"

#define ACPI_TABLES_SIZE 0x4000 // of 64 processors; asserted
#define ACPI_RSDP_SIZE   36
#define ACPI_LINKS_MAX   20
#define ACPI_TABLES_MAX  8

// All but the RSDP lie in one piece, which begins at an address that is a multiple of 64. Addresses
// in it, and in the RSDP, are right for the base that it was made for; a firmware that moves it
// must add to each link.
struct acpi_tables {
    u8 bytes[ACPI_TABLES_SIZE];
    u32 size; // as much of it is used
    u8 rsdp[ACPI_RSDP_SIZE];
    struct acpi_link {
        u32 at; // offset in bytes[] of a little-endian address
        u8 size;
    } links[ACPI_LINKS_MAX];
    unsigned link_count;
    u32 fadt, rsdt, xsdt; // offsets of the tables that links are in
};
#define ACPI_CHECKSUM          9 // offset of a table's checksum
#define ACPI_RSDP_CHECKSUM     8 // of its first ACPI_RSDP_V1_SIZE bytes
#define ACPI_RSDP_V1_SIZE      20
#define ACPI_RSDP_RSDT         16
#define ACPI_RSDP_RSDT_SIZE    4
#define ACPI_RSDP_XSDT         24
#define ACPI_RSDP_XSDT_SIZE    8
#define ACPI_RSDP_CHECKSUM_ALL 32

// ERR_RANGE: too many processors.
MUST_CHECK int acpi_tables_make(struct acpi_tables *t, unsigned cpus, bool hpet, gpa_t base);

// Make and place them in the firmware's reserved memory (LAYOUT_BIOS), which must be there. The
// RSDP's address comes back in *rsdp. ERR_RANGE: too many processors; ERR_NO_MEMORY; what writing
// guest memory says.
MUST_CHECK int acpi_tables_build(struct guest_memory *gm, unsigned cpus, bool hpet, gpa_t *rsdp);
