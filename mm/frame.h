// SPDX-License-Identifier: MIT
// Host physical memory in 4 KiB frames: a buddy allocator over the boot memory map, with one small
// record a frame that says who owns it. Thread-safe.
#pragma once

#include "vmm/lib/types.h"

struct boot_info;

#define FRAME_ORDER_4K  0
#define FRAME_ORDER_2M  9
#define FRAME_ORDER_1G  18
#define FRAME_ORDER_MAX 18

enum frame_owner {
    FRAME_FREE = 0,
    FRAME_RESERVED, // never ours: holes, firmware, devices
    FRAME_CORE,     // image, frame table, heap, stacks, host page tables
    FRAME_FILE,     // a file that the loader read
    FRAME_STAGE2,   // a VM's stage-2 page tables, and its lists of backing frames
    FRAME_GUEST,    // a VM's memory
    FRAME_ENGINE,   // VMCS, bitmaps and the like
    FRAME_OWNER_COUNT
};

struct frame_counts {
    u64 total;                    // frames of RAM that the map gave us, in 4 KiB units
    u64 owned[FRAME_OWNER_COUNT]; // by owner, total together; FRAME_FREE is what can be allocated
    u64 table_bytes;              // the frame table itself
};

// Build the frame table from the boot memory map, on the loader's page tables. BOOT_MEMORY_LOADER
// ranges stay reserved until frame_release_loader(). Nothing below 1 MiB is ever given out. Panics
// if there is too little memory.
void frame_init(const struct boot_info *boot);
// From now on RAM is reached through the direct map: host_map_init() has switched to it.
void frame_use_direct_map(void);
// After this nothing of the loader's memory may be used any more, the boot information included:
// copy it before.
void frame_release_loader(const struct boot_info *boot);

// 2^order contiguous, naturally aligned frames; contents undefined. HPA_NONE if there are none.
MUST_CHECK hpa_t frame_alloc(unsigned order, enum frame_owner owner);
MUST_CHECK hpa_t frame_alloc_zero(unsigned order, enum frame_owner owner);
// The same, all below `limit` (for what a CPU in 32-bit mode must reach). Slow.
MUST_CHECK hpa_t frame_alloc_below(unsigned order, enum frame_owner owner, hpa_t limit);
// Give back exactly what was allocated (order included), or parts of it with smaller orders.
// Panics on a double free or an address that is not ours.
void frame_free(hpa_t hpa, unsigned order);
enum frame_owner frame_owner_of(hpa_t hpa);
unsigned
frame_order_of(hpa_t hpa); // of the block that was allocated there; panics if none starts there
struct frame_counts frame_counts(void);
// The host address of RAM, before and after the direct map is there.
void *frame_hva(hpa_t hpa);

// The direct map: all of RAM, at one constant offset. The unit tests put their own in place.
#ifndef DIRECT_MAP_BASE
#define DIRECT_MAP_BASE 0xffff800000000000ull
#endif
static inline void *hpa_to_hva(hpa_t hpa)
{
    return (void *)(hpa + DIRECT_MAP_BASE);
}
static inline hpa_t hva_to_hpa(const void *hva) // of the direct map only
{
    return (u64)hva - DIRECT_MAP_BASE;
}
