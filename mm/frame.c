// SPDX-License-Identifier: MIT
// The buddy allocator. The frame table has 8 bytes for every frame from 0 to the end of RAM. Blocks
// of 2^order frames, free or allocated, are described by the record of their first frame alone; all
// other records are zero. So the cost of an operation is that of the splits or merges, whatever the
// size of the block, and the owner of any frame is found by looking at the (at most 19) places
// where its block may start. Free blocks of one order are a list through their records: nothing is
// kept in free memory, where a stray write could reach it. Frame numbers have 28 bits: RAM from 1
// TiB on is left alone.

#include "mm/frame.h"
#include "boot/boot_info.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/log.h"
#include "vmm/lib/spinlock.h"
#include "vmm/lib/string.h"

// RAM before the direct map is there: the loader maps it one to one. The unit tests have another
// place.
#ifndef EARLY_MAP_BASE
#define EARLY_MAP_BASE 0ull
#endif

// A record: the block's owner, its order plus one (0: no block starts here), and while it is free
// the frame numbers of its neighbours in the list (0: none; frame 0 is never ours).
#define RECORD_OWNER_SHIFT 0
#define RECORD_OWNER_BITS  3
#define RECORD_ORDER_SHIFT 3
#define RECORD_ORDER_BITS  5
#define RECORD_NEXT_SHIFT  8
#define RECORD_PREV_SHIFT  36
#define RECORD_LINK_BITS   28
#define RECORD_LINK_MASK   (BIT(RECORD_LINK_BITS) - 1)

#define FRAME_FIRST (MIB >> PAGE_SHIFT) // below lie the trampoline and the firmware's legacy areas
#define FRAME_LIMIT BIT(RECORD_LINK_BITS)
#define ORDER_COUNT (FRAME_ORDER_MAX + 1)

assert_static(FRAME_OWNER_COUNT <= 1 << RECORD_OWNER_BITS);
assert_static(ORDER_COUNT < 1 << RECORD_ORDER_BITS);

static struct spinlock lock;
static u64 map_base = EARLY_MAP_BASE;
static hpa_t table_hpa;
static u64 *records; // indexed by frame number, [0, record_count)
static u64 record_count;
static u64 free_heads[ORDER_COUNT]; // frame numbers, 0: none
static u64 free_orders;             // bit n: free_heads[n] is not empty
static struct frame_counts counts;

// --- records ---

static inline enum frame_owner record_owner(u64 record)
{
    return (enum frame_owner)bits_get(record, RECORD_OWNER_SHIFT, RECORD_OWNER_BITS);
}

// The order plus one.
static inline u64 record_size(u64 record)
{
    return bits_get(record, RECORD_ORDER_SHIFT, RECORD_ORDER_BITS);
}

static inline u64 record_next(u64 record)
{
    return bits_get(record, RECORD_NEXT_SHIFT, RECORD_LINK_BITS);
}

static inline u64 record_prev(u64 record)
{
    return bits_get(record, RECORD_PREV_SHIFT, RECORD_LINK_BITS);
}

static inline u64 record_make(enum frame_owner owner, unsigned order, u64 next, u64 prev)
{
    return (u64)owner | (u64)(order + 1) << RECORD_ORDER_SHIFT | next << RECORD_NEXT_SHIFT |
           prev << RECORD_PREV_SHIFT;
}

static inline void record_link(u64 frame, unsigned shift, u64 to)
{
    records[frame] = (records[frame] & ~(RECORD_LINK_MASK << shift)) | to << shift;
}

// --- the lists of free blocks ---

static inline void free_push(u64 frame, unsigned order)
{
    u64 next = free_heads[order];
    records[frame] = record_make(FRAME_FREE, order, next, 0);
    if (next)
        record_link(next, RECORD_PREV_SHIFT, frame);
    free_heads[order] = frame;
    free_orders |= BIT(order);
}

static inline void free_remove(u64 frame, unsigned order)
{
    u64 next = record_next(records[frame]), prev = record_prev(records[frame]);
    if (next)
        record_link(next, RECORD_PREV_SHIFT, prev);
    if (prev) {
        record_link(prev, RECORD_NEXT_SHIFT, next);
    } else {
        free_heads[order] = next;
        if (!next)
            free_orders &= ~BIT(order);
    }
    records[frame] = 0;
}

static inline bool is_free_block(u64 frame, unsigned order)
{
    return frame < record_count && record_size(records[frame]) == order + 1 &&
           record_owner(records[frame]) == FRAME_FREE;
}

// Put a block into the lists, merged with its buddies as far as they are free.
static void free_merge(u64 frame, unsigned order)
{
    records[frame] = 0;
    while (order < FRAME_ORDER_MAX && is_free_block(frame ^ BIT(order), order)) {
        free_remove(frame ^ BIT(order), order);
        frame &= ~BIT(order);
        order++;
    }
    free_push(frame, order);
}

// Take the first 2^order frames of a free block that has 2^from; the rest goes back to the lists.
static inline hpa_t free_take(u64 frame, unsigned from, unsigned order, enum frame_owner owner)
{
    free_remove(frame, from);
    while (from > order) {
        from--;
        free_push(frame + BIT(from), from);
    }
    records[frame] = record_make(owner, order, 0, 0);
    counts.owned[FRAME_FREE] -= BIT(order);
    counts.owned[owner] += BIT(order);
    return frame << PAGE_SHIFT;
}

// The first frame of the block that the frame is part of; 0 if of none.
static u64 block_of(u64 frame)
{
    if (frame >= record_count)
        return 0;
    for (unsigned order = 0; order < ORDER_COUNT; order++) {
        u64 head = frame & ~(BIT(order) - 1);
        if (record_size(records[head]))
            return record_size(records[head]) > order ? head : 0;
    }
    return 0;
}

// --- the boot memory map ---

// Pointers in the boot information are physical addresses.
static const struct boot_memory_range *boot_ranges(const struct boot_info *boot)
{
    return frame_hva((u64)boot->memory);
}

// Who owns a range at first; FRAME_OWNER_COUNT: it is not RAM that we may ever have.
static enum frame_owner range_owner(const struct boot_memory_range *range)
{
    static const enum frame_owner owners[] = {[BOOT_MEMORY_FREE] = FRAME_FREE,
                                              [BOOT_MEMORY_LOADER] = FRAME_RESERVED,
                                              [BOOT_MEMORY_CORE] = FRAME_CORE,
                                              [BOOT_MEMORY_FILE] = FRAME_FILE,
                                              [BOOT_MEMORY_FIRMWARE] = FRAME_OWNER_COUNT,
                                              [BOOT_MEMORY_ACPI] = FRAME_OWNER_COUNT,
                                              [BOOT_MEMORY_RESERVED] = FRAME_OWNER_COUNT};
    if (!range->type || range->type >= ARRAY_SIZE(owners))
        return FRAME_OWNER_COUNT;
    return owners[range->type];
}

// Enter [frame, end) as blocks, the largest that fit.
static void range_enter(u64 frame, u64 end, enum frame_owner owner)
{
    counts.owned[owner] += end - frame;
    while (frame < end) {
        unsigned order = MIN(bit_lowest(frame), bit_highest(end - frame));
        order = MIN(order, FRAME_ORDER_MAX);
        if (owner == FRAME_FREE)
            free_merge(frame, order);
        else
            records[frame] = record_make(owner, order, 0, 0);
        frame += BIT(order);
    }
}

// What of a range we manage: nothing below 1 MiB, nothing beyond the table.
static bool range_clip(const struct boot_memory_range *range, u64 *frame, u64 *end)
{
    *frame = MAX(range->base >> PAGE_SHIFT, FRAME_FIRST);
    *end = MIN((range->base + range->size) >> PAGE_SHIFT, record_count);
    return *frame < *end;
}

static u64 count_records(const struct boot_info *boot)
{
    const struct boot_memory_range *ranges = boot_ranges(boot);
    u64 count = 0;
    for (u32 i = 0; i < boot->memory_count; i++) {
        u64 end = (ranges[i].base + ranges[i].size) >> PAGE_SHIFT;
        if (range_owner(&ranges[i]) != FRAME_OWNER_COUNT)
            count = MAX(count, end);
    }
    if (count > FRAME_LIMIT)
        log_warn("frame: RAM from %llu GiB on is not used",
                 (unsigned long long)(FRAME_LIMIT >> 18));
    return MIN(count, FRAME_LIMIT);
}

// The first free range that has room for the table.
static hpa_t place_table(const struct boot_info *boot, u64 bytes)
{
    const struct boot_memory_range *ranges = boot_ranges(boot);
    for (u32 i = 0; i < boot->memory_count; i++) {
        u64 frame, end;
        if (ranges[i].type == BOOT_MEMORY_FREE && range_clip(&ranges[i], &frame, &end) &&
            (end - frame) << PAGE_SHIFT >= bytes)
            return frame << PAGE_SHIFT;
    }
    panic("too little memory: no free piece of %llu KiB for the frame table",
          (unsigned long long)(bytes / KIB));
}

static void enter_range(const struct boot_memory_range *range, u64 table_frame, u64 table_end)
{
    enum frame_owner owner = range_owner(range);
    if (owner == FRAME_OWNER_COUNT)
        return;
    u64 frame, end, all = MIN((range->base + range->size) >> PAGE_SHIFT, record_count);
    u64 start = MIN(range->base >> PAGE_SHIFT, all);
    counts.total += all - start;
    if (!range_clip(range, &frame, &end)) {
        counts.owned[FRAME_RESERVED] += all - start;
        return;
    }
    counts.owned[FRAME_RESERVED] += frame - start;
    if (frame == table_frame) {
        range_enter(frame, table_end, FRAME_CORE);
        frame = table_end;
    }
    range_enter(frame, end, owner);
}

void frame_init(const struct boot_info *boot)
{
    record_count = count_records(boot);
    counts.table_bytes = ALIGN_UP(record_count * sizeof(u64), PAGE_SIZE);
    table_hpa = place_table(boot, counts.table_bytes);
    records = frame_hva(table_hpa);
    memset(records, 0, counts.table_bytes);

    u64 table_frame = table_hpa >> PAGE_SHIFT;
    u64 table_end = table_frame + (counts.table_bytes >> PAGE_SHIFT);
    // Downwards: what comes last is given out first, so low memory goes first.
    for (u32 i = boot->memory_count; i > 0; i--)
        enter_range(&boot_ranges(boot)[i - 1], table_frame, table_end);
}

void frame_use_direct_map(void)
{
    map_base = DIRECT_MAP_BASE;
    records = frame_hva(table_hpa);
}

void frame_release_loader(const struct boot_info *boot)
{
    const struct boot_memory_range *ranges = boot_ranges(boot);
    spin_lock(&lock);
    for (u32 i = 0; i < boot->memory_count; i++) {
        u64 frame, end;
        if (ranges[i].type != BOOT_MEMORY_LOADER || !range_clip(&ranges[i], &frame, &end))
            continue;
        counts.owned[FRAME_RESERVED] -= end - frame;
        range_enter(frame, end, FRAME_FREE);
    }
    spin_unlock(&lock);
}

// --- the interface ---

void *frame_hva(hpa_t hpa)
{
    return (void *)(map_base + hpa);
}

hpa_t frame_alloc(unsigned order, enum frame_owner owner)
{
    if (order > FRAME_ORDER_MAX)
        return HPA_NONE;
    hpa_t hpa = HPA_NONE;
    spin_lock(&lock);
    u64 orders = free_orders & ~(BIT(order) - 1);
    if (likely(orders)) {
        unsigned from = bit_lowest(orders);
        hpa = free_take(free_heads[from], from, order, owner);
    }
    spin_unlock(&lock);
    return hpa;
}

hpa_t frame_alloc_zero(unsigned order, enum frame_owner owner)
{
    hpa_t hpa = frame_alloc(order, owner);
    if (likely(hpa != HPA_NONE))
        memset(frame_hva(hpa), 0, PAGE_SIZE << order);
    return hpa;
}

hpa_t frame_alloc_below(unsigned order, enum frame_owner owner, hpa_t limit)
{
    hpa_t hpa = HPA_NONE;
    spin_lock(&lock);
    for (unsigned from = order; from < ORDER_COUNT && hpa == HPA_NONE; from++)
        for (u64 frame = free_heads[from]; frame; frame = record_next(records[frame]))
            if (frame + BIT(order) <= limit >> PAGE_SHIFT) {
                hpa = free_take(frame, from, order, owner);
                break;
            }
    spin_unlock(&lock);
    return hpa;
}

// Cut an allocated block into allocated blocks until one of 2^order starts at the frame.
static void block_cut(u64 head, u64 frame, unsigned order)
{
    enum frame_owner owner = record_owner(records[head]);
    for (unsigned at = (unsigned)record_size(records[head]) - 1; at > order;) {
        at--;
        u64 upper = head + BIT(at);
        records[head] = record_make(owner, at, 0, 0);
        records[upper] = record_make(owner, at, 0, 0);
        if (frame >= upper)
            head = upper;
    }
}

void frame_free(hpa_t hpa, unsigned order)
{
    u64 frame = hpa >> PAGE_SHIFT;
    if (order > FRAME_ORDER_MAX || !IS_ALIGNED(hpa, PAGE_SIZE << order))
        panic("frame_free: 0x%llx is no block of order %u", (unsigned long long)hpa, order);
    spin_lock(&lock);
    u64 head = block_of(frame);
    u64 record = head ? records[head] : 0;
    if (unlikely(!head || record_owner(record) == FRAME_FREE || record_size(record) <= order ||
                 record_owner(record) == FRAME_RESERVED)) {
        spin_unlock(&lock);
        panic("frame_free: 0x%llx of order %u is not allocated", (unsigned long long)hpa, order);
    }
    if (unlikely(record_size(record) != order + 1))
        block_cut(head, frame, order);
    counts.owned[record_owner(record)] -= BIT(order);
    counts.owned[FRAME_FREE] += BIT(order);
    free_merge(frame, order);
    spin_unlock(&lock);
}

enum frame_owner frame_owner_of(hpa_t hpa)
{
    spin_lock(&lock);
    u64 head = block_of(hpa >> PAGE_SHIFT);
    enum frame_owner owner = head ? record_owner(records[head]) : FRAME_RESERVED;
    spin_unlock(&lock);
    return owner;
}

unsigned frame_order_of(hpa_t hpa)
{
    u64 frame = hpa >> PAGE_SHIFT;
    spin_lock(&lock);
    u64 record = frame < record_count ? records[frame] : 0;
    spin_unlock(&lock);
    if (!record_size(record) || record_owner(record) == FRAME_FREE)
        panic("frame_order_of: no block is allocated at 0x%llx", (unsigned long long)hpa);
    return (unsigned)record_size(record) - 1;
}

struct frame_counts frame_counts(void)
{
    spin_lock(&lock);
    struct frame_counts now = counts;
    spin_unlock(&lock);
    return now;
}
