// SPDX-License-Identifier: MIT
// A slab is one frame: a header of 64 bytes with a bitmap of what is in use, then objects of one
// size. Sizes are such that a slab's objects fill it. Slabs with room are on their class's list; an
// empty slab's frame is given back. No object of a slab starts a page, so an address that does is a
// block of whole frames, and the frame allocator knows its size.

#include "mm/heap.h"
#include "mm/frame.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/list.h"
#include "vmm/lib/spinlock.h"
#include "vmm/lib/string.h"

#define SLAB_MAGIC     0x42414c53u // "SLAB"
#define SLAB_HEADER    64
#define SLAB_OBJECTS   252 // of the smallest class
#define SLAB_MAP_WORDS ((SLAB_OBJECTS + 63) / 64)

struct slab {
    struct list node; // of its class's list while it has room
    u32 magic;
    u16 class, used;
    u64 map[SLAB_MAP_WORDS]; // bit set: in use
};

assert_static(sizeof(struct slab) <= SLAB_HEADER);

// Multiples of 16: what a frame without its header holds 252, 126, 84, 63, 42, 31, 21, 15, 12, 10,
// 8, 6, 5, 4, 3 and 2 of.
static const u16 class_sizes[] = {16,  32,  48,  64,  96,  128,  192,  256,
                                  336, 400, 496, 672, 800, 1008, 1344, 2016};
#define CLASS_COUNT ARRAY_SIZE(class_sizes)
#define SMALL_MAX   2016

static struct spinlock lock;
static struct list roomy[CLASS_COUNT]; // a list that was never used has null pointers
static u64 bytes, footprint;

static unsigned class_capacity(unsigned class)
{
    return (unsigned)(PAGE_SIZE - SLAB_HEADER) / class_sizes[class];
}

static unsigned class_of(size_t size)
{
    unsigned class = 0;
    while (class_sizes[class] < size)
        class ++;
    return class;
}

static struct slab *slab_new(unsigned class)
{
    hpa_t hpa = frame_alloc(FRAME_ORDER_4K, FRAME_CORE);
    if (hpa == HPA_NONE)
        return NULL;
    struct slab *slab = frame_hva(hpa);
    memset(slab, 0, sizeof(*slab));
    slab->magic = SLAB_MAGIC;
    slab->class = (u16) class;
    footprint += PAGE_SIZE;
    list_prepend(&roomy[class], &slab->node);
    return slab;
}

static unsigned slab_first_free(const struct slab *slab)
{
    unsigned word = 0;
    while (slab->map[word] == ~0ull)
        word++;
    return word * 64 + bit_lowest(~slab->map[word]);
}

static void *slab_take(struct slab *slab)
{
    unsigned class = slab->class, index = slab_first_free(slab);
    slab->map[index / 64] |= BIT(index % 64);
    slab->used++;
    if (slab->used == class_capacity(class))
        list_remove(&slab->node);
    bytes += class_sizes[class];
    return (u8 *)slab + SLAB_HEADER + index * class_sizes[class];
}

static void *small_alloc(unsigned class)
{
    if (!roomy[class].next)
        list_init(&roomy[class]);
    struct slab *slab = list_empty(&roomy[class])
                            ? slab_new(class)
                            : container_of(roomy[class].next, struct slab, node);
    return slab ? slab_take(slab) : NULL;
}

static void *large_alloc(size_t size)
{
    if (size > PAGE_SIZE << FRAME_ORDER_MAX)
        return NULL;
    unsigned order = size <= PAGE_SIZE ? 0 : bit_highest(size - 1) + 1 - PAGE_SHIFT;
    hpa_t hpa = frame_alloc(order, FRAME_CORE);
    if (hpa == HPA_NONE)
        return NULL;
    footprint += PAGE_SIZE << order;
    bytes += PAGE_SIZE << order;
    return frame_hva(hpa);
}

void *heap_alloc(size_t size)
{
    spin_lock(&lock);
    void *object = size <= SMALL_MAX ? small_alloc(class_of(size)) : large_alloc(size);
    spin_unlock(&lock);
    return object ? memset(object, 0, size) : NULL;
}

static void small_free(struct slab *slab, u64 offset)
{
    unsigned class = slab->class;
    u64 index = (offset - SLAB_HEADER) / class_sizes[class];
    u64 *word = &slab->map[index / 64];
    if (offset < SLAB_HEADER || (offset - SLAB_HEADER) % class_sizes[class] != 0 ||
        !(*word & BIT(index % 64)))
        panic("heap_free: %p is not allocated", (void *)((u8 *)slab + offset));
    *word &= ~BIT(index % 64);
    bytes -= class_sizes[class];
    if (slab->used == class_capacity(class))
        list_prepend(&roomy[class], &slab->node);
    slab->used--;
    if (slab->used)
        return;
    list_remove(&slab->node);
    slab->magic = 0;
    footprint -= PAGE_SIZE;
    frame_free(hva_to_hpa(slab), FRAME_ORDER_4K);
}

static void large_free(void *object)
{
    unsigned order = frame_order_of(hva_to_hpa(object));
    footprint -= PAGE_SIZE << order;
    bytes -= PAGE_SIZE << order;
    frame_free(hva_to_hpa(object), order);
}

void heap_free(void *object)
{
    if (!object)
        return;
    u64 offset = (u64)object & PAGE_MASK;
    struct slab *slab = (struct slab *)((u64)object - offset);
    spin_lock(&lock);
    if (offset == 0)
        large_free(object);
    else if (slab->magic == SLAB_MAGIC && slab->class < CLASS_COUNT)
        small_free(slab, offset);
    else
        panic("heap_free: %p is not of the heap, or was freed before", object);
    spin_unlock(&lock);
}

u64 heap_bytes(void)
{
    return __atomic_load_n(&bytes, __ATOMIC_RELAXED);
}

u64 heap_footprint(void)
{
    return __atomic_load_n(&footprint, __ATOMIC_RELAXED);
}
