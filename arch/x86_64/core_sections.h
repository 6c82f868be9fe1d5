// SPDX-License-Identifier: MIT
// Where the parts of the core's image lie: symbols of arch/x86_64/core.ld. Each part starts and
// ends on a page; data and bss are one part, [core_data_start, core_end).
#pragma once

#include "vmm/lib/types.h"

extern u8 core_text_start[], core_text_end[];     // read, execute
extern u8 core_rodata_start[], core_rodata_end[]; // read
extern u8 core_data_start[], core_end[];          // read, write
extern u8 core_data_end[];                        // what follows is zero and not in the file

// The page below the booting CPU's stack: leave it unmapped.
extern u8 core_boot_stack_guard[];
extern u8 core_boot_stack[], core_boot_stack_top[];
