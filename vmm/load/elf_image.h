// SPDX-License-Identifier: MIT
// The segments of an ELF executable: which bytes of the file go where in a guest's memory; and its
// notes. System V ABI, "Program Header", "Note Section". 32-bit and 64-bit x86 files.
#pragma once

#include "vmm/load/load_plan.h"

bool elf_recognises(const struct guest_image *in);
// Adds every segment to the plan and sets the entry.
MUST_CHECK int elf_parts(struct load_plan *plan);
// The first four bytes of the note of this owner and type.
bool elf_note(const struct guest_image *in, const char *name, u32 type, u32 *value);
