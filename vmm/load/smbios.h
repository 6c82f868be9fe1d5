// SPDX-License-Identifier: MIT
// The SMBIOS tables that a guest finds: what machine this is, by name, with a UUID of its own that
// stays the same from boot to boot, its processors and its memory (DMTF DSP0134, "System Management
// BIOS Reference Specification").
#pragma once

#include "vmm/lib/types.h"

#define SMBIOS_TABLES_SIZE 1024
#define SMBIOS_ANCHOR_SIZE 31
#define SMBIOS_ANCHOR_ROOM 32 // of one that is followed by its tables

struct smbios {
    u8 anchor[SMBIOS_ANCHOR_SIZE]; // the entry point structure
    u8 tables[SMBIOS_TABLES_SIZE];
    u32 size; // as much of them is used
    u16 count, largest, next_handle;
};

struct smbios_machine {
    const char *name; // of the VM: its serial number, and what the UUID is made of
    u64 memory;
    unsigned cpus;
    bool bios; // say who made the firmware; if not, a firmware adds that of its own
};

// `address` is where the tables will lie; a firmware that moves them puts its own there.
void smbios_make(struct smbios *s, const struct smbios_machine *m, u32 address);
