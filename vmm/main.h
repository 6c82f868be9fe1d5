// SPDX-License-Identifier: MIT
// The core's entry from arch/x86_64/entry.asm, and what it keeps of the loader's hand-over.
#pragma once

#include "boot/boot_info.h"

// boot: physical address, still mapped one to one. Does not return.
void core_main(struct boot_info *boot);
// Without the memory map and the list of files; valid from the shell's start on.
const struct boot_info *core_boot_info(void);
