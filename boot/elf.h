// SPDX-License-Identifier: MIT
// The core's ELF file: checked whole, then laid out in memory. Pure: no firmware calls.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CORE_LINK_ALIGN 0x200000ull           // the block starts at a large page
#define CORE_LINK_MIN   0xffffffff80000000ull // -mcmodel=kernel: the top 2 GiB
#define CORE_SIZE_MAX   0x10000000ull         // 256 MiB: beyond this a file is not a core

struct elf_layout {
    uint64_t link_base; // virtual address of the block's first byte, aligned to CORE_LINK_ALIGN
    uint64_t size;      // of the block in memory, bss included, whole pages
    uint64_t entry;     // virtual
};

// Null if the file is a core that can be loaded, with `layout` filled; else what is wrong, in
// words.
const char *elf_check(const void *file, size_t size, struct elf_layout *layout);

// Fills the block of layout->size bytes from a file that elf_check accepted.
void elf_load(const void *file, const struct elf_layout *layout, void *block);
