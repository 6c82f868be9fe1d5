// SPDX-License-Identifier: MIT
// Where things lie in a guest's physical address space: a small PC. Memory below 2.75 GiB, a hole
// for devices up to 4 GiB, the rest of memory from there on. The chips, the ACPI tables and the
// loaders all read these numbers here.
#pragma once

#include "vmm/lib/types.h"

// Low memory. The e820 map ends it at LAYOUT_EBDA, as a PC's firmware would; the slot itself has
// 640 KiB.
#define LAYOUT_LOW_SIZE 0xa0000ull
#define LAYOUT_EBDA     0x9fc00ull // extended BIOS data area: reserved up to LAYOUT_LOW_SIZE

// Legacy video, a hole.
#define LAYOUT_VGA      0xa0000ull
#define LAYOUT_VGA_SIZE 0x20000ull

// Where a PC has option ROMs, shadowed in RAM: empty RAM here, not in the e820 map. Linux looks
// through all of it for tables, which would be 16384 emulated reads in a hole.
#define LAYOUT_ROMS      0xc0000ull
#define LAYOUT_ROMS_SIZE 0x20000ull

// Memory that is reserved in the e820 map: the firmware's tables (ACPI) lie there. The RSDP is at
// its start, where an operating system looks for it (ACPI specification "Finding the RSDP on IA-PC
// Systems").
#define LAYOUT_BIOS      0xe0000ull
#define LAYOUT_BIOS_SIZE 0x20000ull
#define LAYOUT_RSDP      LAYOUT_BIOS
#define LAYOUT_SMBIOS    0xf0000ull // where SMBIOS' entry point is looked for

#define LAYOUT_HIGH     (1 * MIB)      // main memory starts
#define LAYOUT_PCI_HOLE 0xb0000000ull  // and ends here at the latest;
#define LAYOUT_ABOVE_4G 0x100000000ull // what is left goes on here

// The hole: PCI configuration where PC firmware for this chip set puts it, the window for PCI
// memory, then the fixed chips.
#define LAYOUT_ECAM            LAYOUT_PCI_HOLE
#define LAYOUT_ECAM_BUSES      256
#define LAYOUT_ECAM_SIZE       (LAYOUT_ECAM_BUSES * MIB)
#define LAYOUT_PCI_MEMORY      (LAYOUT_ECAM + LAYOUT_ECAM_SIZE)
#define LAYOUT_PCI_MEMORY_SIZE (LAYOUT_IOAPIC - LAYOUT_PCI_MEMORY)
#define LAYOUT_IOAPIC          0xfec00000ull
#define LAYOUT_HPET            0xfed00000ull
#define LAYOUT_LAPIC           0xfee00000ull

// One past the last address of the two spaces: ports, and memory as wide as the CPUs that guests
// are shown have it at most.
#define LAYOUT_PORT_SPACE   0x10000ull
#define LAYOUT_MEMORY_SPACE BIT(52)

// The least memory that a machine can have: low memory and something above the first MiB.
#define LAYOUT_MEMORY_MIN (2 * MIB)

// A machine with `memory` bytes has RAM up to here below the hole (the legacy area counts as
// memory, as on a PC) ...
static inline u64 layout_below_4g(u64 memory)
{
    return MIN(memory, LAYOUT_PCI_HOLE);
}

// ... and this much from LAYOUT_ABOVE_4G on.
static inline u64 layout_above_4g(u64 memory)
{
    return memory - layout_below_4g(memory);
}

// The e820 map that a guest's kernel is told (ACPI specification "INT 15H, E820H - Query System
// Address Map").
enum e820_type { E820_RAM = 1, E820_RESERVED = 2 };

struct e820_entry {
    u64 base, size;
    u32 type; // enum e820_type
} PACKED;

#define LAYOUT_E820_MAX 8

// The map of a machine with `memory` bytes; returns how many entries it has.
unsigned layout_e820(u64 memory, struct e820_entry map[LAYOUT_E820_MAX]);
