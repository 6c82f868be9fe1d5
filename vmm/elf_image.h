// SPDX-License-Identifier: MIT
// The segments of an ELF executable: which bytes of the file go where in a guest's memory. System V
// ABI, "Program Header". 32-bit and 64-bit x86 files.
#pragma once

#include "vmm/guest_image.h"

#define LOAD_PARTS_MAX 16

struct load_part {
    u64 offset, file_size; // in the file
    u64 gpa, size;         // in memory; what the file does not fill is zero
};

struct load_parts {
    struct load_part parts[LOAD_PARTS_MAX];
    unsigned count;
    u64 entry; // physical
};

bool elf_recognises(const struct guest_image *in);
// Every part lies in the file and in the machine's main memory below 4 GiB, the entry in a part.
MUST_CHECK int elf_parts(const struct guest_image *in, struct load_parts *out);
// Those two checks for parts from elsewhere.
MUST_CHECK int load_part_check(const struct guest_image *in, const struct load_part *part);
bool load_parts_hold(const struct load_parts *parts, u64 gpa);
