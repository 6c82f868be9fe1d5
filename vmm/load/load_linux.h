// SPDX-License-Identifier: MIT
// Puts a Linux kernel (bzImage) into a guest's memory and says how the first vCPU enters it: in
// 64-bit mode, or in 32-bit mode if it has no other entry (Linux' Documentation/arch/x86/boot.rst,
// "64-bit Boot Protocol", "32-bit Boot Protocol").
#pragma once

#include "vmm/load/guest_image.h"

// What the loader itself puts into low memory besides the tables of the entry, below LAYOUT_EBDA.
#define LINUX_BOOT_PARAMS 0x7000ull // the "zero page"
#define LINUX_CMDLINE     0x20000ull
#define LINUX_CMDLINE_MAX 0x10000ull // with its terminator

bool load_linux_recognises(const struct guest_image *in);
// Needs RAM slots for all of low memory and from LAYOUT_HIGH on. On an error one line is in
// in->why, and guest memory may be partly written.
MUST_CHECK int load_linux(struct guest_memory *gm, const struct guest_image *in,
                          struct guest_entry *out);
