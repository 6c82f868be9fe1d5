// SPDX-License-Identifier: MIT
// What is on a guest's disk: a file in memory that is only read and may be shared, and pages of the
// disk's own for what was written to it.
#pragma once

#include "vmm/lib/types.h"

struct disk_image {
    const u8 *file;
    u64 size;     // bytes
    u64 written;  // bytes in pages of its own
    u8 ***chunks; // one for every 2 MiB: null, or a table of pages; null if it is never written
    bool writable;
};

// The file must stay. ERR_NO_MEMORY.
MUST_CHECK int disk_image_init(struct disk_image *image, const void *file, u64 size, bool writable);
// Give back 2 MiB of what was written, or what is left. False: there is more.
MUST_CHECK bool disk_image_destroy(struct disk_image *image);
// The bytes at an offset below the size; *length: in, bytes wanted; out, how many are contiguous.
const void *disk_image_read(const struct disk_image *image, u64 offset, u64 *length);
// The same, in a page of the disk's own. Null: no memory, or not writable.
void *disk_image_write(struct disk_image *image, u64 offset, u64 *length);
// Bytes of pages that disk_image_write() may still take.
u64 disk_image_left(const struct disk_image *image);
