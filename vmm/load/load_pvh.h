// SPDX-License-Identifier: MIT
// Puts a kernel with a PVH entry into a guest's memory: an ELF file with the note
// XEN_ELFNOTE_PHYS32_ENTRY, as Linux' vmlinux is one. It is entered in 32-bit protected mode.
#pragma once

#include "vmm/load/guest_image.h"

bool load_pvh_recognises(const struct guest_image *in);
// As load_linux(); reads no tables of the guest.
MUST_CHECK int load_pvh(struct guest_memory *gm, const struct guest_image *in,
                        struct guest_entry *out);
