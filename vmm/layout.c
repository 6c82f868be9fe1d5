// SPDX-License-Identifier: MIT
// The guest's memory map as e820 entries.

#include "vmm/layout.h"

unsigned layout_e820(u64 memory, struct e820_entry map[LAYOUT_E820_MAX])
{
    u64 below = layout_below_4g(memory), above = layout_above_4g(memory);
    const struct e820_entry all[LAYOUT_E820_MAX] = {
        {0, LAYOUT_EBDA, E820_RAM},
        {LAYOUT_EBDA, LAYOUT_LOW_SIZE - LAYOUT_EBDA, E820_RESERVED},
        {LAYOUT_BIOS, LAYOUT_BIOS_SIZE, E820_RESERVED},
        {LAYOUT_HIGH, below - LAYOUT_HIGH, E820_RAM},
        {LAYOUT_ECAM, LAYOUT_ECAM_SIZE, E820_RESERVED}, // else Linux does not trust the MCFG table
        {LAYOUT_ABOVE_4G, above, E820_RAM},
    };
    unsigned count = 0;
    for (unsigned i = 0; i < LAYOUT_E820_MAX; i++)
        if (all[i].size)
            map[count++] = all[i];
    return count;
}
