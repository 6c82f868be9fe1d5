// SPDX-License-Identifier: MIT
// The heap on the real frame allocator.

#include "tests/unit/arena.h"
#define lock      heap_lock
#define footprint heap_footprint_now
#include "mm/heap.c"

static bool is_byte(const u8 *p, u8 byte, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] != byte)
            return false;
    return true;
}

static void heap_start(u64 size)
{
    memset(roomy, 0, sizeof(roomy));
    heap_lock = (struct spinlock)SPINLOCK_INIT;
    bytes = footprint = 0;
    arena_start(size);
}

TEST(every_size_is_zeroed_aligned_and_apart)
{
    heap_start(64 * MIB);
    u64 free_before = frame_counts().owned[FRAME_FREE];
    static u8 *objects[5000];
    for (unsigned size = 0; size < ARRAY_SIZE(objects); size++) {
        objects[size] = heap_alloc(size);
        CHECK(objects[size] && IS_ALIGNED((u64)objects[size], size >= 2048 ? PAGE_SIZE : 16));
        CHECK(is_byte(objects[size], 0, size));
        memset(objects[size], (u8)size, size);
    }
    for (unsigned size = 0; size < ARRAY_SIZE(objects); size++) {
        CHECK(is_byte(objects[size], (u8)size, size));
        heap_free(objects[size]);
    }
    CHECK_EQ(heap_bytes(), 0);
    CHECK_EQ(heap_footprint(), 0);
    CHECK_EQ(frame_counts().owned[FRAME_FREE], free_before);
}

TEST(classes_fill_their_slabs)
{
    for (unsigned class = 0; class < CLASS_COUNT; class ++) {
        CHECK_EQ(class_sizes[class] % 16, 0);
        CHECK(class_capacity(class) <= SLAB_OBJECTS);
        // One more step of 16 would not fit as often.
        CHECK((PAGE_SIZE - SLAB_HEADER) / (class_sizes[class] + 16u) < class_capacity(class));
    }
    CHECK_EQ(class_sizes[CLASS_COUNT - 1], SMALL_MAX);
}

TEST(freed_objects_are_used_again)
{
    heap_start(16 * MIB);
    void *many[300];
    for (unsigned i = 0; i < 300; i++)
        many[i] = heap_alloc(16);
    CHECK_EQ(heap_footprint(), 2 * PAGE_SIZE);
    heap_free(many[7]);
    CHECK(heap_alloc(10) == many[7]);
    for (unsigned i = 0; i < 300; i++)
        heap_free(many[i]);
    CHECK_EQ(heap_footprint(), 0);
}

TEST(large_objects_are_powers_of_two_of_frames)
{
    heap_start(16 * MIB);
    void *a = heap_alloc(SMALL_MAX + 1), *b = heap_alloc(PAGE_SIZE + 1), *c = heap_alloc(64 * KIB);
    CHECK_EQ(heap_footprint(), PAGE_SIZE + 2 * PAGE_SIZE + 64 * KIB);
    CHECK_EQ(heap_bytes(), heap_footprint());
    heap_free(a);
    heap_free(b);
    heap_free(c);
    CHECK_EQ(heap_footprint(), 0);
}

TEST(no_memory_is_null)
{
    heap_start(16 * MIB);
    CHECK(heap_alloc(~0ul) == NULL);
    CHECK(heap_alloc(32 * MIB) == NULL);
    CHECK(heap_alloc((PAGE_SIZE << FRAME_ORDER_MAX) + 1) == NULL);
    arena_exhaust(0);
    CHECK(heap_alloc(1) == NULL);
    CHECK(heap_alloc(PAGE_SIZE) == NULL);
    CHECK_EQ(heap_footprint(), 0);
    heap_free(NULL);
}

TEST(wrong_frees_panic)
{
    heap_start(16 * MIB);
    u8 *a = heap_alloc(100), *b = heap_alloc(100);
    heap_free(a);
    CHECK_PANICS(heap_free(a));
    heap_lock = (struct spinlock)SPINLOCK_INIT;
    CHECK_PANICS(heap_free(b + 16));
    heap_lock = (struct spinlock)SPINLOCK_INIT;
    CHECK_PANICS(heap_free((u8 *)((u64)b & ~PAGE_MASK) + 32));
    heap_lock = (struct spinlock)SPINLOCK_INIT;
    heap_free(b);
    CHECK_PANICS(heap_free(b)); // its slab is gone by now
    heap_lock = (struct spinlock)SPINLOCK_INIT;
    u8 *large = heap_alloc(PAGE_SIZE);
    heap_free(large);
    CHECK_PANICS(heap_free(large));
}
