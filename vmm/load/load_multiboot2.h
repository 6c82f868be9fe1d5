// SPDX-License-Identifier: MIT
// Puts a multiboot 2 kernel into a guest's memory (Multiboot2 Specification 2.0): an ELF file, or a
// file of any kind whose header holds the addresses. It is entered in 32-bit protected mode, and
// moved if it can be and there is no memory at its own place.
#pragma once

#include "vmm/load/guest_image.h"

bool load_multiboot2_recognises(const struct guest_image *in);
// As load_linux().
MUST_CHECK int load_multiboot2(struct guest_memory *gm, const struct guest_image *in,
                               struct guest_entry *out);
