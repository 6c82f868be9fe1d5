// SPDX-License-Identifier: MIT
// Slots and their backing, and the stage-2 table as a cache of it. Backing is allocated zeroed, as
// large as the policy allows, at the first touch of a page by the guest or by the host on its
// behalf; each frame is in exactly one word of one slot. All of a VM's memory is under one lock.
// Tables that leave the stage-2 table while the VM exists are kept for its own next need: another
// CPU may still walk them until the engine has flushed, and must find nothing there but this VM's
// entries.

#include "mm/guest_memory.h"
#include "mm/frame.h"
#include "mm/heap.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"

#define GPA_LIMIT      BIT(48)
#define CHUNK_SHIFT    21
#define CHUNK_SIZE     BIT(CHUNK_SHIFT)
#define CHUNK_PAGES    (CHUNK_SIZE / PAGE_SIZE)
#define GIANT_CHUNKS   (PAGE_1G / CHUNK_SIZE)
#define LEVEL_ORDER(l) (PAGE_LEVEL_BITS * ((l)-1))

// A chunk's word: 0; the address of a 2 MiB block with these bits; or the host address of a table
// of CHUNK_PAGES words, each 0 or the address of a frame.
#define CHUNK_BLOCK BIT(0)
#define CHUNK_GIANT BIT(1) // the block is a part of a block of 1 GiB

struct backing {
    hpa_t hpa;      // that the gpa has; 0: nothing
    unsigned level; // of the leaf that can map it
};

// The level of the largest backing.
static const u8 policy_level[] = {
    [GUEST_PAGES_AUTO] = 2, [GUEST_PAGES_4K] = 1, [GUEST_PAGES_2M] = 2, [GUEST_PAGES_1G] = 3};

static const u8 kind_access[] = {
    [GUEST_SLOT_RAM] = PAGE_READ | PAGE_WRITE | PAGE_EXECUTE,
    [GUEST_SLOT_ROM] = PAGE_READ | PAGE_EXECUTE,
    [GUEST_SLOT_DEVICE] = 0,
};

// --- where the stage-2 table's tables come from ---

static u64 table_alloc(void *context)
{
    struct guest_memory *gm = context;
    hpa_t hpa = gm->spare_tables;
    if (likely(!hpa))
        return frame_alloc_zero(FRAME_ORDER_4K, FRAME_STAGE2);
    u64 *table = hpa_to_hva(hpa);
    gm->spare_tables = table[0];
    memset(table, 0, PAGE_SIZE);
    return hpa;
}

// The link is in the table's first entry: an aligned address, or 0 at the end, is not present in
// any format.
static void table_keep(void *context, u64 hpa)
{
    struct guest_memory *gm = context;
    *(u64 *)hpa_to_hva(hpa) = gm->spare_tables;
    gm->spare_tables = hpa;
}

static void spare_release(struct guest_memory *gm)
{
    while (gm->spare_tables) {
        hpa_t hpa = gm->spare_tables;
        gm->spare_tables = *(u64 *)hpa_to_hva(hpa);
        frame_free(hpa, FRAME_ORDER_4K);
    }
}

static u64 *table_hva(u64 hpa)
{
    return hpa_to_hva(hpa);
}

// --- slots ---

static COLD struct guest_slot *slot_search(struct guest_memory *gm, gpa_t gpa)
{
    for (unsigned i = 0; i < gm->slot_count; i++)
        if (gpa - gm->slots[i].base < gm->slots[i].size)
            return gm->last = &gm->slots[i];
    return NULL;
}

static inline struct guest_slot *slot_find(struct guest_memory *gm, gpa_t gpa)
{
    struct guest_slot *last = gm->last;
    return likely(gpa - last->base < last->size) ? last : slot_search(gm, gpa);
}

static inline u64 *slot_chunk(const struct guest_slot *slot, gpa_t gpa)
{
    return &slot->chunks[(gpa >> CHUNK_SHIFT) - (slot->base >> CHUNK_SHIFT)];
}

static u64 slot_chunk_count(gpa_t base, u64 size)
{
    return ((base + size - 1) >> CHUNK_SHIFT) - (base >> CHUNK_SHIFT) + 1;
}

static inline u64 *chunk_table(u64 chunk)
{
    return (u64 *)chunk;
}

static inline u64 *chunk_page(u64 chunk, gpa_t gpa)
{
    return &chunk_table(chunk)[(gpa >> PAGE_SHIFT) % CHUNK_PAGES];
}

// --- backing ---

static inline struct backing backing_find(const struct guest_slot *slot, gpa_t gpa)
{
    u64 chunk = *slot_chunk(slot, gpa);
    if (chunk & CHUNK_BLOCK)
        return (struct backing){ALIGN_DOWN(chunk, CHUNK_SIZE) + gpa % CHUNK_SIZE,
                                chunk & CHUNK_GIANT ? 3 : 2};
    u64 frame = chunk ? *chunk_page(chunk, gpa) : 0;
    return (struct backing){frame ? frame + gpa % PAGE_SIZE : 0, 1};
}

// May a block of this level be around the gpa: is it wholly in the slot, and nothing in its chunks?
static bool block_fits(const struct guest_slot *slot, gpa_t gpa, unsigned level)
{
    u64 size = PAGE_LEVEL_SIZE(level);
    gpa_t start = ALIGN_DOWN(gpa, size);
    if (start < slot->base || start - slot->base > slot->size ||
        slot->size - (start - slot->base) < size)
        return false;
    const u64 *chunk = slot_chunk(slot, start);
    for (u64 i = 0; i < size / CHUNK_SIZE; i++)
        if (chunk[i])
            return false;
    return true;
}

static bool fill_block(struct guest_slot *slot, gpa_t gpa, unsigned level)
{
    if (!block_fits(slot, gpa, level))
        return false;
    hpa_t hpa = frame_alloc_zero(LEVEL_ORDER(level), FRAME_GUEST);
    if (hpa == HPA_NONE)
        return false;
    u64 flags = level == 3 ? CHUNK_BLOCK | CHUNK_GIANT : CHUNK_BLOCK;
    u64 *chunk = slot_chunk(slot, ALIGN_DOWN(gpa, PAGE_LEVEL_SIZE(level)));
    for (u64 i = 0; i < PAGE_LEVEL_SIZE(level) / CHUNK_SIZE; i++)
        chunk[i] = (hpa + i * CHUNK_SIZE) | flags;
    return true;
}

static bool fill_page(struct guest_slot *slot, gpa_t gpa)
{
    u64 *chunk = slot_chunk(slot, gpa);
    if (unlikely(!*chunk)) {
        hpa_t table = frame_alloc_zero(FRAME_ORDER_4K, FRAME_STAGE2);
        if (table == HPA_NONE)
            return false;
        *chunk = (u64)hpa_to_hva(table);
    }
    hpa_t hpa = frame_alloc_zero(FRAME_ORDER_4K, FRAME_GUEST);
    if (unlikely(hpa == HPA_NONE))
        return false;
    *chunk_page(*chunk, gpa) = hpa;
    return true;
}

// Give the page backing, as large as policy, slot and free memory allow.
static bool backing_fill(struct guest_memory *gm, struct guest_slot *slot, gpa_t gpa)
{
    unsigned level = policy_level[gm->pages];
    if (*slot_chunk(slot, gpa))
        level = 1;
    while (level > 1 && !fill_block(slot, gpa, level))
        level--;
    if (level == 1 && !fill_page(slot, gpa))
        return false;
    gm->backed += PAGE_LEVEL_SIZE(level);
    return true;
}

// How many bytes it was.
static u64 chunk_release(u64 chunk)
{
    if (chunk & CHUNK_BLOCK) {
        frame_free(ALIGN_DOWN(chunk, CHUNK_SIZE), FRAME_ORDER_2M);
        return CHUNK_SIZE;
    }
    u64 *table = chunk_table(chunk), bytes = 0;
    for (u64 i = 0; i < CHUNK_PAGES; i++) {
        if (!table[i])
            continue;
        frame_free(table[i], FRAME_ORDER_4K);
        bytes += PAGE_SIZE;
    }
    frame_free(hva_to_hpa(table), FRAME_ORDER_4K);
    return bytes;
}

// Chunks that are given back at a time: with small pages, some ten thousand frames.
#define RELEASE_CHUNKS 16

// From gm->release_slot and _chunk on. False: there is more.
static bool contents_release(struct guest_memory *gm)
{
    unsigned released = 0;
    for (; gm->release_slot < gm->slot_count; gm->release_slot++, gm->release_chunk = 0) {
        struct guest_slot *slot = &gm->slots[gm->release_slot];
        u64 count = slot_chunk_count(slot->base, slot->size);
        for (; gm->release_chunk < count; gm->release_chunk++) {
            u64 *chunk = &slot->chunks[gm->release_chunk];
            if (!*chunk)
                continue;
            if (released++ == RELEASE_CHUNKS)
                return false;
            gm->backed -= chunk_release(*chunk);
            *chunk = 0;
        }
    }
    gm->release_slot = 0;
    return true;
}

// --- life ---

int guest_memory_init(struct guest_memory *gm, const struct page_table_format *format,
                      unsigned max_leaf, enum guest_pages pages)
{
    memset(gm, 0, sizeof(*gm));
    gm->last = gm->slots;
    gm->pages = pages;
    gm->stage2.format = format;
    gm->stage2.max_leaf = max_leaf;
    gm->stage2.env = (struct page_table_env){table_alloc, table_keep, table_hva, gm};
    return page_table_init(&gm->stage2);
}

bool guest_memory_clear(struct guest_memory *gm)
{
    if (gm->stage2.root == HPA_NONE) // it never was made whole
        return true;
    spin_lock(&gm->lock);
    page_table_clear(&gm->stage2);
    spare_release(gm);
    gm->generation++;
    bool done = contents_release(gm);
    spin_unlock(&gm->lock);
    return done;
}

void guest_memory_destroy(struct guest_memory *gm)
{
    while (!guest_memory_clear(gm))
        ;
    spin_lock(&gm->lock);
    if (gm->stage2.root != HPA_NONE) {
        page_table_destroy(&gm->stage2);
        spare_release(gm);
    }
    for (unsigned i = 0; i < gm->slot_count; i++) {
        heap_free(gm->slots[i].chunks);
        gm->slots[i] = (struct guest_slot){0};
    }
    gm->slot_count = 0;
    gm->size = 0;
    spin_unlock(&gm->lock);
}

static int slot_check(const struct guest_memory *gm, gpa_t base, u64 size)
{
    if (!size || !IS_ALIGNED(base | size, PAGE_SIZE) || base >= GPA_LIMIT ||
        size > GPA_LIMIT - base)
        return ERR_INVALID;
    for (unsigned i = 0; i < gm->slot_count; i++)
        if (base < gm->slots[i].base + gm->slots[i].size && gm->slots[i].base < base + size)
            return ERR_EXISTS;
    return gm->slot_count < GUEST_SLOT_MAX ? OK : ERR_RANGE;
}

int guest_memory_add(struct guest_memory *gm, gpa_t base, u64 size, enum guest_slot_kind kind)
{
    spin_lock(&gm->lock);
    int error = slot_check(gm, base, size);
    u64 *chunks = error ? NULL : heap_alloc(slot_chunk_count(base, size) * sizeof(u64));
    if (chunks) {
        gm->slots[gm->slot_count] = (struct guest_slot){base, size, kind, chunks};
        gm->slot_count++;
        gm->size += size;
        gm->other_kinds |= kind != GUEST_SLOT_RAM;
    } else if (!error) {
        error = ERR_NO_MEMORY;
    }
    spin_unlock(&gm->lock);
    return error;
}

int guest_memory_unmap(struct guest_memory *gm, gpa_t base, u64 size)
{
    if (base >= GPA_LIMIT)
        return ERR_INVALID;
    spin_lock(&gm->lock);
    int error = page_table_unmap(&gm->stage2, base, size);
    spin_unlock(&gm->lock);
    return error;
}

bool guest_memory_set_kind(struct guest_memory *gm, gpa_t base, enum guest_slot_kind kind)
{
    spin_lock(&gm->lock);
    struct guest_slot *slot = slot_find(gm, base);
    bool changed = slot && slot->kind != kind;
    if (changed) {
        slot->kind = kind;
        gm->other_kinds |= kind != GUEST_SLOT_RAM;
        // A slot is no part of a larger page, so nothing has to be split, and nothing can fail.
        changed = page_table_unmap(&gm->stage2, slot->base, slot->size) == OK;
    }
    spin_unlock(&gm->lock);
    return changed;
}

COLD int guest_memory_map_frame(struct guest_memory *gm, gpa_t gpa, hpa_t frame)
{
    spin_lock(&gm->lock);
    int error = page_table_map_leaf(&gm->stage2, gpa, frame, 1, PAGE_READ | PAGE_WRITE, PAGE_WB);
    spin_unlock(&gm->lock);
    return error;
}

// --- the fault path ---

static inline enum guest_fault fault_map(struct guest_memory *gm, struct guest_slot *slot,
                                         gpa_t gpa)
{
    struct backing backing = backing_find(slot, gpa);
    if (likely(backing.hpa)) {
        gm->mapped_faults++;
    } else {
        if (!backing_fill(gm, slot, gpa))
            return GUEST_FAULT_NO_MEMORY;
        backing = backing_find(slot, gpa);
        gm->filled_faults++;
    }
    unsigned level = MIN(backing.level, gm->stage2.max_leaf);
    int error = page_table_map_leaf(&gm->stage2, ALIGN_DOWN(gpa, PAGE_LEVEL_SIZE(level)),
                                    ALIGN_DOWN(backing.hpa, PAGE_LEVEL_SIZE(level)), level,
                                    kind_access[slot->kind], PAGE_WB);
    return error ? GUEST_FAULT_NO_MEMORY : GUEST_FAULT_MAPPED;
}

enum guest_fault guest_memory_fault(struct guest_memory *gm, gpa_t gpa, unsigned access)
{
    enum guest_fault result = GUEST_FAULT_DEVICE;
    spin_lock(&gm->lock);
    struct guest_slot *slot = slot_find(gm, gpa);
    if (likely(slot) && !(access & ~kind_access[slot->kind]))
        result = fault_map(gm, slot, gpa);
    spin_unlock(&gm->lock);
    return result;
}

// --- the host's access ---

// The host address of what is backed, and how much of it is contiguous: pages and blocks are wholly
// in the slot.
static inline void *backing_hva(struct backing backing, gpa_t gpa, u64 *length)
{
    u64 mask = backing.level == 1 ? PAGE_SIZE - 1 : CHUNK_SIZE - 1;
    u64 contiguous = mask + 1 - (gpa & mask);
    *length = MIN(*length, contiguous);
    return hpa_to_hva(backing.hpa);
}

// Another slot than the last, or a page without backing. The lock is held, and let go here.
static COLD void *hva_search(struct guest_memory *gm, gpa_t gpa, u64 *length)
{
    struct backing backing = {0, 1};
    struct guest_slot *slot = slot_find(gm, gpa);
    if (slot)
        backing = backing_find(slot, gpa);
    if (slot && !backing.hpa && backing_fill(gm, slot, gpa))
        backing = backing_find(slot, gpa);
    spin_unlock(&gm->lock);
    return backing.hpa ? backing_hva(backing, gpa, length) : NULL;
}

// Instruction emulation walks the guest's page tables through this: the usual case calls nothing.
void *guest_memory_hva(struct guest_memory *gm, gpa_t gpa, u64 *length)
{
    spin_lock(&gm->lock);
    const struct guest_slot *slot = gm->last;
    if (unlikely(gpa - slot->base >= slot->size))
        return hva_search(gm, gpa, length);
    struct backing backing = backing_find(slot, gpa);
    if (unlikely(!backing.hpa))
        return hva_search(gm, gpa, length);
    spin_unlock(&gm->lock);
    return backing_hva(backing, gpa, length);
}

int guest_memory_read(struct guest_memory *gm, gpa_t gpa, void *to, u64 size)
{
    for (u64 length; size; size -= length, gpa += length, to = (u8 *)to + length) {
        length = size;
        const void *from = guest_memory_hva(gm, gpa, &length);
        if (!from)
            return ERR_FAULT;
        memcpy(to, from, length);
    }
    return OK;
}

int guest_memory_write(struct guest_memory *gm, gpa_t gpa, const void *from, u64 size)
{
    for (u64 length; size; size -= length, gpa += length, from = (const u8 *)from + length) {
        length = size;
        void *to = guest_memory_hva(gm, gpa, &length);
        if (!to)
            return ERR_FAULT;
        memcpy(to, from, length);
    }
    return OK;
}

int guest_memory_fill(struct guest_memory *gm, gpa_t gpa, int byte, u64 size)
{
    for (u64 length; size; size -= length, gpa += length) {
        length = size;
        void *to = guest_memory_hva(gm, gpa, &length);
        if (!to)
            return ERR_FAULT;
        memset(to, byte, length);
    }
    return OK;
}
