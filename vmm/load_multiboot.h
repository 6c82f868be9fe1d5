// SPDX-License-Identifier: MIT
// Puts a multiboot kernel into a guest's memory (Multiboot Specification 0.6.96): an ELF file, or a
// file of any kind whose header holds the addresses. It is entered in 32-bit protected mode. The
// initial RAM disk is its one module, right behind it.
#pragma once

#include "vmm/guest_image.h"

// A page of low memory with everything that the kernel is told.
#define MULTIBOOT_AREA 0x10000ull

bool load_multiboot_recognises(const struct guest_image *in);
// As load_linux().
MUST_CHECK int load_multiboot(struct guest_memory *gm, const struct guest_image *in,
                              struct guest_entry *out);
