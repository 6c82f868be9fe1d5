// SPDX-License-Identifier: MIT
// A VM's memory: slots of guest physical addresses, filled on demand. The slot remembers each
// page's backing frame; the stage-2 table is a cache of that, filled by faults. Two states of a
// page are therefore apart: backed or not, mapped or not. Pages are 4 KiB, or 2 MiB (1 GiB) where
// the slot is aligned, the policy allows and a block is free.
#pragma once

#include "vmm/lib/types.h"
#include "vmm/lib/spinlock.h"
#include "arch/x86_64/page_table.h"

#define GUEST_SLOT_MAX 32

enum guest_pages { GUEST_PAGES_AUTO, GUEST_PAGES_4K, GUEST_PAGES_2M, GUEST_PAGES_1G };

enum guest_slot_kind {
    GUEST_SLOT_RAM,
    GUEST_SLOT_ROM,    // guest writes go to the bus (are emulated), reads and fetches are direct
    GUEST_SLOT_DEVICE, // every access of the guest goes to the bus; the contents are the host's to
                       // keep
};

struct guest_slot {
    gpa_t base;
    u64 size;
    enum guest_slot_kind kind;
    // One word for every 2 MiB of the slot (the first counted from ALIGN_DOWN(base, 2 MiB)): 0
    // nothing, a frame block of 2 MiB (or its part of one of 1 GiB), or a table of 512 words for 4
    // KiB frames. Encoding is guest_memory.c's own.
    u64 *chunks;
};

struct guest_memory {
    struct spinlock lock;
    struct guest_slot slots[GUEST_SLOT_MAX];
    unsigned slot_count;
    struct guest_slot *last; // the slot that was found last
    bool other_kinds;        // some slot is, or was, not RAM
    struct page_table stage2;
    hpa_t
        spare_tables; // a list of what left stage2, not given back yet: see guest_memory.c; 0: none
    enum guest_pages pages;
    u64 size;              // bytes of all slots together: the most that can be backed
    u64 backed;            // bytes backed by frames now
    unsigned release_slot; // where guest_memory_clear() goes on
    u64 release_chunk;
    u64 generation;    // changes when pages lose their backing: host addresses are stale then
    u64 mapped_faults; // stage-2 faults that found backing
    u64 filled_faults; // stage-2 faults that had to fill
};

enum guest_fault {
    GUEST_FAULT_MAPPED,    // mapped now: run the instruction again
    GUEST_FAULT_DEVICE,    // no slot there (or a write to ROM): a device access or a hole
    GUEST_FAULT_NO_MEMORY, // the host has no frame left
};

// `format` is the engine's stage-2 format; max_leaf as page_table.max_leaf.
MUST_CHECK int guest_memory_init(struct guest_memory *gm, const struct page_table_format *format,
                                 unsigned max_leaf, enum guest_pages pages);
// Free every frame and table. The engine must have flushed translations before frames are used
// again.
void guest_memory_destroy(struct guest_memory *gm);
// Refuses an empty, unaligned (4 KiB), wrapping or overlapping range: ERR_INVALID, ERR_EXISTS,
// ERR_RANGE (too many).
MUST_CHECK int guest_memory_add(struct guest_memory *gm, gpa_t base, u64 size,
                                enum guest_slot_kind kind);
// Drop contents (frames and mappings), keep the slots and the stage-2 root: a VM's reset or end.
// Some each time: false says that there is more, so that the caller can let others run. No vCPU may
// run, and the engine must flush its translations before one runs again.
bool guest_memory_clear(struct guest_memory *gm);
// Drop stage-2 mappings of a range, keep the backing. The caller flushes translations.
MUST_CHECK int guest_memory_unmap(struct guest_memory *gm, gpa_t base, u64 size);

// Make the slot at `base` another kind; its contents stay. True if it was none already: the caller
// flushes translations then.
MUST_CHECK bool guest_memory_set_kind(struct guest_memory *gm, gpa_t base,
                                      enum guest_slot_kind kind);

// Does the guest's access to this address go to the bus, although the host has memory there?
static inline bool guest_memory_is_device(const struct guest_memory *gm, gpa_t gpa, unsigned access)
{
    for (unsigned i = 0; gm->other_kinds && i < gm->slot_count; i++)
        if (gpa - gm->slots[i].base < gm->slots[i].size)
            return gm->slots[i].kind == GUEST_SLOT_DEVICE ||
                   (gm->slots[i].kind == GUEST_SLOT_ROM && access & PAGE_WRITE);
    return false;
}

// Map a frame of the host's where no slot is, until it is unmapped or the contents are cleared.
MUST_CHECK int guest_memory_map_frame(struct guest_memory *gm, gpa_t gpa, hpa_t frame);

// A stage-2 fault. access is of enum page_access.
enum guest_fault guest_memory_fault(struct guest_memory *gm, gpa_t gpa, unsigned access);

// The host address of guest memory; fills the page if need be. *length: in, bytes wanted (at least
// 1); out, how many of them are contiguous from there (at least 1). Null: not RAM or ROM, or no
// memory.
void *guest_memory_hva(struct guest_memory *gm, gpa_t gpa, u64 *length);
// Copy across pages. ERR_FAULT if any byte is not RAM or ROM (what came before it has been copied).
MUST_CHECK int guest_memory_read(struct guest_memory *gm, gpa_t gpa, void *to, u64 size);
MUST_CHECK int guest_memory_write(struct guest_memory *gm, gpa_t gpa, const void *from, u64 size);
MUST_CHECK int guest_memory_fill(struct guest_memory *gm, gpa_t gpa, int byte, u64 size);
