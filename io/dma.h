// SPDX-License-Identifier: MIT
// Guest memory as a bus master reaches it: guest physical addresses, which may lead anywhere.
#pragma once

#include "vmm/lib/types.h"

struct io_dma {
    // The host address of guest memory for reading or writing; *length: in, bytes wanted (at least
    // 1); out, how many are contiguous from there. Null: nothing there that may be accessed so.
    void *(*map)(void *context, u64 gpa, bool write, u64 *length);
    void *context;
};

static inline void *dma_map(const struct io_dma *dma, u64 gpa, bool write, u64 *length)
{
    return dma->map(dma->context, gpa, write, length);
}

// Copy across pages; false if a byte cannot be reached (what came before it has been copied).
MUST_CHECK bool dma_read(const struct io_dma *dma, u64 gpa, void *to, u64 size);
MUST_CHECK bool dma_write(const struct io_dma *dma, u64 gpa, const void *from, u64 size);
