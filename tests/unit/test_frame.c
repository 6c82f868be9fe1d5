// SPDX-License-Identifier: MIT
// The frame allocator over memory maps with holes, and a random life with every frame's owner
// modelled.

#include "tests/unit/arena.h"

#define M(n) ((n)*MIB)

static u64 seed = 1;

static u64 random_below(u64 limit)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 16) % limit;
}

static u64 owned_total(void)
{
    struct frame_counts c = frame_counts();
    u64 sum = 0;
    for (unsigned i = 0; i < FRAME_OWNER_COUNT; i++)
        sum += c.owned[i];
    return sum;
}

static const struct boot_memory_range holes[] = {
    {0x1000, 0x9e000, BOOT_MEMORY_FREE, 0},   // below 1 MiB: never ours
    {0x9f000, 0x1000, BOOT_MEMORY_LOADER, 0}, // the trampoline
    {M(1), M(3), BOOT_MEMORY_FREE, 0},
    {M(4), M(2), BOOT_MEMORY_CORE, 0},
    {M(6), M(5), BOOT_MEMORY_FREE, 0},
    {M(11), M(1), BOOT_MEMORY_LOADER, 0},
    {M(12), 0x3000, BOOT_MEMORY_ACPI, 0},
    {M(12) + 0x3000, 0x5000, BOOT_MEMORY_FILE, 0},
    {M(14), M(1), BOOT_MEMORY_RESERVED, 0},
    {M(16), M(16), BOOT_MEMORY_FREE, 0},
    {0xff000000, M(16), BOOT_MEMORY_RESERVED, 0},
    {4 * GIB, GIB + M(64), BOOT_MEMORY_FREE, 0},
    {1024 * GIB, M(1), BOOT_MEMORY_RESERVED, 0},
    {2048 * GIB, M(1), BOOT_MEMORY_RESERVED, 0},
};

TEST(a_map_with_holes)
{
    arena_boot(holes, ARRAY_SIZE(holes));
    struct frame_counts c = frame_counts();
    CHECK_EQ(c.table_bytes, (5 * GIB + M(64)) / PAGE_SIZE * 8); // to the end of RAM, not of the map
    CHECK_EQ(c.total, (0x9f000 + M(3 + 2 + 5 + 1 + 16 + 64) + GIB + 0x5000) / PAGE_SIZE);
    CHECK_EQ(owned_total(), c.total);
    CHECK_EQ(c.owned[FRAME_RESERVED], (0x9f000 + M(1)) / PAGE_SIZE);
    CHECK_EQ(c.owned[FRAME_FILE], 5);
    CHECK_EQ(c.owned[FRAME_CORE], (M(2) + c.table_bytes) / PAGE_SIZE);
    CHECK_EQ(frame_owner_of(0), FRAME_RESERVED);
    CHECK_EQ(frame_owner_of(0x1000), FRAME_RESERVED);
    CHECK_EQ(frame_owner_of(M(4)), FRAME_CORE);
    CHECK_EQ(frame_owner_of(M(6) - 1), FRAME_CORE);
    CHECK_EQ(frame_owner_of(M(11)), FRAME_RESERVED);
    CHECK_EQ(frame_owner_of(M(12)), FRAME_RESERVED);
    CHECK_EQ(frame_owner_of(M(12) + 0x3000), FRAME_FILE);
    CHECK_EQ(frame_owner_of(M(13)), FRAME_RESERVED);
    CHECK_EQ(frame_owner_of(4 * GIB + M(1)), FRAME_FREE);
    CHECK_EQ(frame_owner_of(5 * GIB + M(64)), FRAME_RESERVED);
    CHECK_EQ(frame_owner_of(HPA_NONE), FRAME_RESERVED);
}

// Take all there is, one frame at a time: exactly the free frames of the map, each once.
TEST(every_free_frame_is_given_out_once)
{
    struct boot_memory_range low[11];
    memcpy(low, holes, sizeof(low));
    arena_boot(low, ARRAY_SIZE(low));
    u64 free_before = frame_counts().owned[FRAME_FREE], given = 0;
    static bool seen[M(32) / PAGE_SIZE];
    memset(seen, 0, sizeof(seen));
    for (hpa_t hpa; (hpa = frame_alloc(0, FRAME_GUEST)) != HPA_NONE; given++) {
        CHECK(hpa >= M(1) && hpa < M(32) && !seen[hpa / PAGE_SIZE]);
        CHECK(!(hpa >= M(4) && hpa < M(6)) && !(hpa >= M(11) && hpa < M(16)));
        seen[hpa / PAGE_SIZE] = true;
    }
    CHECK_EQ(given, free_before);
    CHECK_EQ(frame_counts().owned[FRAME_FREE], 0);
    CHECK_EQ(frame_counts().owned[FRAME_GUEST], free_before);
    for (u64 i = 0; i < ARRAY_SIZE(seen); i++)
        if (seen[i])
            frame_free(i * PAGE_SIZE, 0);
    CHECK_EQ(frame_counts().owned[FRAME_FREE], free_before);
    CHECK(frame_alloc(12, FRAME_GUEST) != HPA_NONE); // merged again: 16 MiB at 16 MiB
}

TEST(the_loaders_memory_is_reserved_until_released)
{
    struct boot_info boot = arena_boot(holes, ARRAY_SIZE(holes));
    struct frame_counts before = frame_counts();
    frame_use_direct_map();
    frame_release_loader(&boot);
    struct frame_counts after = frame_counts();
    CHECK_EQ(after.owned[FRAME_FREE], before.owned[FRAME_FREE] + M(1) / PAGE_SIZE);
    CHECK_EQ(owned_total(), after.total);
    CHECK_EQ(frame_owner_of(M(11)), FRAME_FREE);
    CHECK_EQ(frame_owner_of(0x9f000), FRAME_RESERVED); // the trampoline stays
}

TEST(large_blocks_are_aligned_and_merge_again)
{
    arena_boot(holes, ARRAY_SIZE(holes));
    hpa_t big = frame_alloc(FRAME_ORDER_1G, FRAME_GUEST);
    CHECK_EQ(big, 4 * GIB);
    CHECK_EQ(frame_alloc(FRAME_ORDER_1G, FRAME_GUEST), HPA_NONE);
    CHECK_EQ(frame_alloc(FRAME_ORDER_MAX + 1, FRAME_GUEST), HPA_NONE);
    CHECK_EQ(frame_order_of(big), FRAME_ORDER_1G);
    CHECK_EQ(frame_owner_of(big + GIB - 1), FRAME_GUEST);
    frame_free(big + M(100), FRAME_ORDER_2M); // a part
    CHECK_EQ(frame_owner_of(big + M(100)), FRAME_FREE);
    CHECK_EQ(frame_owner_of(big + M(102)), FRAME_GUEST);
    CHECK_EQ(frame_owner_of(big + M(99)), FRAME_GUEST);
    for (u64 at = 0; at < GIB; at += PAGE_2M)
        if (at != M(100))
            frame_free(big + at, FRAME_ORDER_2M);
    CHECK_EQ(frame_alloc(FRAME_ORDER_1G, FRAME_CORE), big);
}

TEST(alloc_below_a_limit)
{
    arena_boot(holes, ARRAY_SIZE(holes));
    for (unsigned i = 0; i < 3; i++) {
        hpa_t hpa = frame_alloc_below(0, FRAME_CORE, M(8));
        CHECK(hpa >= M(1) && hpa < M(8));
    }
    CHECK_EQ(frame_alloc_below(0, FRAME_CORE, M(1)), HPA_NONE);
    CHECK_EQ(frame_alloc_below(13, FRAME_CORE, M(48)), HPA_NONE);
}

TEST(zeroed_frames_are_zero)
{
    arena_start(M(16));
    hpa_t hpa = frame_alloc(3, FRAME_CORE);
    memset(hpa_to_hva(hpa), 0xa5, PAGE_SIZE << 3);
    frame_free(hpa, 3);
    CHECK_EQ(frame_alloc_zero(3, FRAME_CORE), hpa);
    u8 any = 0;
    for (u64 i = 0; i < PAGE_SIZE << 3; i++)
        any |= ((u8 *)hpa_to_hva(hpa))[i];
    CHECK_EQ(any, 0);
}

TEST(wrong_frees_panic)
{
    arena_start(M(16));
    hpa_t hpa = frame_alloc(2, FRAME_CORE);
    frame_free(hpa, 2);
    CHECK_PANICS(frame_free(hpa, 2));
    CHECK_PANICS(frame_free(hpa, 0));
    hpa = frame_alloc(2, FRAME_CORE);
    CHECK_PANICS(frame_free(hpa, 3));
    CHECK_PANICS(frame_free(hpa + 1, 0));
    CHECK_PANICS(frame_free(hpa + PAGE_SIZE, 1));
    CHECK_PANICS(frame_free(0, 0));
    CHECK_PANICS(frame_free(M(16), 0));
    CHECK_PANICS(frame_free(HPA_NONE & ~PAGE_MASK, 0));
    CHECK_PANICS(frame_free(hpa, 40));
    CHECK_PANICS(frame_order_of(hpa + PAGE_SIZE));
    frame_free(hpa, 2);
}

TEST(too_little_memory_panics)
{
    struct boot_memory_range ranges[] = {{0, M(1), BOOT_MEMORY_FREE, 0},
                                         {M(16), M(16), BOOT_MEMORY_CORE, 0}};
    CHECK_PANICS(arena_boot(ranges, ARRAY_SIZE(ranges)));
}

#define LIVES 300

TEST(a_random_life)
{
    struct boot_memory_range low[10];
    memcpy(low, holes, sizeof(low));
    arena_boot(low, ARRAY_SIZE(low));
    struct {
        hpa_t hpa;
        unsigned order;
        enum frame_owner owner;
    } live[LIVES] = {0};
    static u8 model[M(32) / PAGE_SIZE];
    u64 free_before = frame_counts().owned[FRAME_FREE];
    memset(model, 0, sizeof(model));
    for (unsigned step = 0; step < 40000; step++) {
        unsigned i = (unsigned)random_below(LIVES);
        if (live[i].owner) {
            // Whole, or in two halves.
            unsigned parts = live[i].order && random_below(4) == 0;
            for (unsigned part = 0; part <= parts; part++)
                frame_free(live[i].hpa + part * (PAGE_SIZE << (live[i].order - parts)),
                           live[i].order - parts);
            memset(&model[live[i].hpa / PAGE_SIZE], 0, 1u << live[i].order);
            live[i].owner = FRAME_FREE;
            continue;
        }
        live[i].order = (unsigned)random_below(random_below(2) ? 10 : 3);
        live[i].hpa = frame_alloc(live[i].order, FRAME_GUEST);
        if (live[i].hpa == HPA_NONE)
            continue;
        live[i].owner = FRAME_GUEST;
        CHECK(IS_ALIGNED(live[i].hpa, PAGE_SIZE << live[i].order));
        for (u64 f = 0; f < 1u << live[i].order; f++) {
            CHECK_EQ(model[live[i].hpa / PAGE_SIZE + f], 0);
            model[live[i].hpa / PAGE_SIZE + f] = FRAME_GUEST;
        }
    }
    u64 wrong = 0, held = 0;
    for (u64 f = 0; f < ARRAY_SIZE(model); f++) {
        wrong += model[f] && frame_owner_of(f * PAGE_SIZE) != model[f];
        wrong += !model[f] && frame_owner_of(f * PAGE_SIZE) == FRAME_GUEST;
        held += model[f] != 0;
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(frame_counts().owned[FRAME_GUEST], held);
    CHECK_EQ(frame_counts().owned[FRAME_FREE], free_before - held);
    for (unsigned i = 0; i < LIVES; i++)
        if (live[i].owner)
            frame_free(live[i].hpa, live[i].order);
    CHECK_EQ(frame_counts().owned[FRAME_FREE], free_before);
}
