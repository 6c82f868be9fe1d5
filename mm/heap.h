// SPDX-License-Identifier: MIT
// Small objects: size classes from 16 bytes to almost 2 KiB in slabs of one frame; larger ones take
// whole frames, a power of two of them. Thread-safe.
#pragma once

#include "vmm/lib/types.h"

// Zeroed, aligned to 16 bytes (to a page from 2 KiB on). Null if there is no memory.
MUST_CHECK void *heap_alloc(size_t size);
void heap_free(void *object); // null is fine; panics on a double free of a slab object
u64 heap_bytes(void);         // in use by objects
u64 heap_footprint(void);     // frames the heap holds, in bytes
