// SPDX-License-Identifier: MIT
// Puts a multiboot kernel into a guest's memory (Multiboot Specification 0.6.96): an ELF file, or a
// file of any kind whose header holds the addresses. It is entered in 32-bit protected mode.
#pragma once

#include "vmm/load/guest_image.h"

bool load_multiboot_recognises(const struct guest_image *in);
// As load_linux().
MUST_CHECK int load_multiboot(struct guest_memory *gm, const struct guest_image *in,
                              struct guest_entry *out);
