// SPDX-License-Identifier: MIT
// Copies between a device and guest memory, a contiguous piece at a time.
#include "io/dma.h"
#include "vmm/lib/string.h"

bool dma_read(const struct io_dma *dma, u64 gpa, void *to, u64 size)
{
    for (u64 length; size; size -= length, gpa += length, to = (u8 *)to + length) {
        length = size;
        const void *from = dma_map(dma, gpa, false, &length);
        if (!from)
            return false;
        memcpy(to, from, length);
    }
    return true;
}

bool dma_write(const struct io_dma *dma, u64 gpa, const void *from, u64 size)
{
    for (u64 length; size; size -= length, gpa += length, from = (const u8 *)from + length) {
        length = size;
        void *to = dma_map(dma, gpa, true, &length);
        if (!to)
            return false;
        memcpy(to, from, length);
    }
    return true;
}
