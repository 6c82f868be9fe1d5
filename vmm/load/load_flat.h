// SPDX-License-Identifier: MIT
// Puts a file as it is into a guest's memory, to be entered at its first byte in the mode that the
// configuration names.
#pragma once

#include "vmm/load/guest_image.h"

// As load_linux().
MUST_CHECK int load_flat(struct guest_memory *gm, const struct guest_image *in,
                         struct guest_entry *out);
