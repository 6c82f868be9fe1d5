// SPDX-License-Identifier: MIT
// Guest memory on the real frame allocator, heap and EPT tables: filling, faults, exhaustion, and
// that all comes back.

#include "tests/unit/arena.h"
#define lock heap_lock
#include "mm/heap.c"
#undef lock
#include "arch/x86_64/page_table.c"
#include "mm/guest_memory.c"

#define RWX (PAGE_READ | PAGE_WRITE | PAGE_EXECUTE)

static struct guest_memory gm;
static struct frame_counts before;

static void start(u64 host_memory, unsigned max_leaf, enum guest_pages pages)
{
    memset(roomy, 0, sizeof(roomy));
    bytes = footprint = 0;
    arena_start(host_memory);
    before = frame_counts();
    CHECK_EQ(guest_memory_init(&gm, &page_format_ept, max_leaf, pages), OK);
}

static void check_equal_counts(const struct frame_counts *now)
{
    for (unsigned i = 0; i < FRAME_OWNER_COUNT; i++)
        CHECK_EQ(now->owned[i], before.owned[i]);
}

static void end(void)
{
    guest_memory_destroy(&gm);
    struct frame_counts now = frame_counts();
    check_equal_counts(&now);
}

static void add(gpa_t base, u64 size)
{
    CHECK_EQ(guest_memory_add(&gm, base, size, GUEST_SLOT_RAM), OK);
}

static struct page_mapping at(gpa_t gpa)
{
    struct page_mapping m = {0};
    return page_table_lookup(&gm.stage2, gpa, &m) ? m : (struct page_mapping){.physical = HPA_NONE};
}

static u64 hva_of(gpa_t gpa)
{
    u64 length = 1;
    return (u64)guest_memory_hva(&gm, gpa, &length);
}

static void clear(void)
{
    while (!guest_memory_clear(&gm))
        ;
}

TEST(bad_slots_are_refused)
{
    start(16 * MIB, 2, GUEST_PAGES_AUTO);
    CHECK_EQ(guest_memory_add(&gm, 0, 0, GUEST_SLOT_RAM), ERR_INVALID);
    CHECK_EQ(guest_memory_add(&gm, 1, PAGE_SIZE, GUEST_SLOT_RAM), ERR_INVALID);
    CHECK_EQ(guest_memory_add(&gm, 0, 100, GUEST_SLOT_RAM), ERR_INVALID);
    CHECK_EQ(guest_memory_add(&gm, ~PAGE_MASK, PAGE_SIZE, GUEST_SLOT_RAM), ERR_INVALID);
    CHECK_EQ(guest_memory_add(&gm, BIT(47), BIT(48), GUEST_SLOT_RAM), ERR_INVALID);
    CHECK_EQ(guest_memory_add(&gm, 0, BIT(47), GUEST_SLOT_RAM), ERR_NO_MEMORY);
    add(16 * PAGE_SIZE, 16 * PAGE_SIZE);
    static const u64 overlaps[][2] = {{0, 17}, {16, 1}, {20, 1}, {31, 1},
                                      {31, 9}, {0, 90}, {16, 16}};
    for (unsigned i = 0; i < ARRAY_SIZE(overlaps); i++)
        CHECK_EQ(guest_memory_add(&gm, overlaps[i][0] * PAGE_SIZE, overlaps[i][1] * PAGE_SIZE,
                                  GUEST_SLOT_RAM),
                 ERR_EXISTS);
    add(0, 16 * PAGE_SIZE);
    add(32 * PAGE_SIZE, PAGE_SIZE);
    for (u64 i = 3; i < GUEST_SLOT_MAX; i++)
        add(i * MIB, PAGE_SIZE);
    CHECK_EQ(guest_memory_add(&gm, GIB, PAGE_SIZE, GUEST_SLOT_RAM), ERR_RANGE);
    CHECK_EQ(gm.size, (33 + GUEST_SLOT_MAX - 3) * PAGE_SIZE);
    end();
}

TEST(faults_fill_and_map)
{
    start(32 * MIB, 2, GUEST_PAGES_4K);
    add(0, 8 * MIB);
    CHECK_EQ(guest_memory_fault(&gm, 5 * MIB + 123, PAGE_READ), GUEST_FAULT_MAPPED);
    struct page_mapping m = at(5 * MIB + 123);
    CHECK_EQ(m.size, PAGE_SIZE);
    CHECK_EQ(m.access, RWX);
    CHECK_EQ(m.type, PAGE_WB);
    CHECK_EQ((u64)hpa_to_hva(m.physical), hva_of(5 * MIB + 123));
    CHECK_EQ(frame_owner_of(m.physical), FRAME_GUEST);
    CHECK_EQ(gm.backed, PAGE_SIZE);
    CHECK_EQ(gm.filled_faults, 1);
    CHECK_EQ(gm.mapped_faults, 0);
    CHECK_EQ(guest_memory_fault(&gm, 5 * MIB, PAGE_WRITE),
             GUEST_FAULT_MAPPED); // raced by another vCPU
    CHECK_EQ(gm.mapped_faults, 1);
    CHECK_EQ(at(5 * MIB).physical, ALIGN_DOWN(m.physical, PAGE_SIZE));
    CHECK_EQ(guest_memory_fault(&gm, 8 * MIB, PAGE_READ), GUEST_FAULT_DEVICE);
    CHECK_EQ(guest_memory_fault(&gm, ~0ull, PAGE_READ), GUEST_FAULT_DEVICE);
    end();
}

TEST(a_new_page_is_zero)
{
    start(16 * MIB, 2, GUEST_PAGES_AUTO);
    memset(hpa_to_hva(8 * MIB), 0xff, 7 * MIB);
    add(0, 4 * MIB + PAGE_SIZE);
    u8 page[PAGE_SIZE], any = 0;
    for (gpa_t gpa = 0; gpa < 4 * MIB + PAGE_SIZE; gpa += PAGE_SIZE) {
        CHECK_EQ(guest_memory_read(&gm, gpa, page, PAGE_SIZE), OK);
        for (u64 i = 0; i < PAGE_SIZE; i++)
            any |= page[i];
    }
    CHECK_EQ(any, 0);
    end();
}

// A block needs its whole 2 MiB in the slot.
TEST(auto_takes_large_blocks_where_they_fit)
{
    start(64 * MIB, 3, GUEST_PAGES_AUTO);
    add(MIB, 6 * MIB - MIB + PAGE_SIZE);
    static const struct {
        gpa_t gpa;
        u64 size;
    } expected[] = {{MIB, PAGE_SIZE},
                    {2 * MIB - 1, PAGE_SIZE},
                    {2 * MIB, PAGE_2M},
                    {6 * MIB - 1, PAGE_2M},
                    {6 * MIB, PAGE_SIZE}};
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
        CHECK_EQ(guest_memory_fault(&gm, expected[i].gpa, PAGE_READ), GUEST_FAULT_MAPPED);
        CHECK_EQ(at(expected[i].gpa).size, expected[i].size);
    }
    CHECK_EQ(gm.backed, 3 * PAGE_SIZE + 2 * PAGE_2M);
    end();
}

TEST(a_block_can_be_mapped_by_smaller_leaves_only)
{
    start(32 * MIB, 1, GUEST_PAGES_2M);
    add(0, 4 * MIB);
    CHECK_EQ(guest_memory_fault(&gm, 3 * MIB + 5, PAGE_READ), GUEST_FAULT_MAPPED);
    CHECK_EQ(at(3 * MIB).size, PAGE_SIZE);
    CHECK_EQ(gm.backed, PAGE_2M);
    CHECK_EQ((u64)hpa_to_hva(at(3 * MIB).physical), hva_of(3 * MIB));
    CHECK_EQ(at(2 * MIB).physical, HPA_NONE);
    end();
}

TEST(giant_pages)
{
    start(3 * GIB, 3, GUEST_PAGES_1G);
    add(0, 2 * GIB - PAGE_SIZE);
    CHECK_EQ(guest_memory_fault(&gm, 7 * MIB, PAGE_READ), GUEST_FAULT_MAPPED);
    CHECK_EQ(at(GIB - 1).size, PAGE_1G);
    CHECK_EQ((u64)hpa_to_hva(at(GIB - 1).physical), hva_of(GIB - 1));
    CHECK_EQ(guest_memory_fault(&gm, GIB, PAGE_READ), GUEST_FAULT_MAPPED); // not wholly in the slot
    CHECK_EQ(at(GIB).size, PAGE_2M);
    CHECK_EQ(gm.backed, GIB + PAGE_2M);
    clear();
    CHECK_EQ(frame_counts().owned[FRAME_GUEST], 0);
    end();
}

// A VM of any size gives its memory back in steps of bounded length.
TEST(clear_goes_in_steps)
{
    start(256 * MIB, 2, GUEST_PAGES_AUTO);
    add(0, 128 * MIB);
    CHECK_EQ(guest_memory_fill(&gm, 0, 1, 128 * MIB), OK);
    CHECK(!guest_memory_clear(&gm));
    CHECK_EQ(gm.backed, (64 - RELEASE_CHUNKS) * PAGE_2M);
    CHECK(!guest_memory_clear(&gm));
    CHECK(!guest_memory_clear(&gm));
    CHECK(guest_memory_clear(&gm));
    CHECK_EQ(gm.backed, 0);
    CHECK_EQ(frame_counts().owned[FRAME_GUEST], 0);
    CHECK_EQ(guest_memory_fill(&gm, 0, 1, 128 * MIB), OK);
    clear(); // from the start again
    CHECK_EQ(gm.backed, 0);
    end();
}

TEST(rom_is_not_written_through_faults)
{
    start(16 * MIB, 2, GUEST_PAGES_AUTO);
    CHECK_EQ(guest_memory_add(&gm, 0xe0000, 0x20000, GUEST_SLOT_ROM), OK);
    CHECK_EQ(gm.size, 0x20000);
    CHECK_EQ(guest_memory_fault(&gm, 0xe0000, PAGE_WRITE), GUEST_FAULT_DEVICE);
    CHECK_EQ(guest_memory_fault(&gm, 0xe0000, PAGE_READ), GUEST_FAULT_MAPPED);
    CHECK_EQ(at(0xe0000).access, PAGE_READ | PAGE_EXECUTE);
    u32 magic = 0x12345678, read = 0;
    CHECK_EQ(guest_memory_write(&gm, 0xeffff, &magic, 4), OK); // the loader's own way
    CHECK_EQ(guest_memory_read(&gm, 0xeffff, &read, 4), OK);
    CHECK_EQ(read, magic);
    end();
}

TEST(a_slot_of_another_kind_keeps_its_contents)
{
    start(16 * MIB, 2, GUEST_PAGES_AUTO);
    add(0, 2 * MIB);
    add(4 * MIB, 2 * MIB);
    u32 magic = 0x12345678, read = 0;
    CHECK(!guest_memory_is_device(&gm, 4 * MIB, PAGE_WRITE));
    CHECK_EQ(guest_memory_write(&gm, 5 * MIB, &magic, 4), OK);
    CHECK_EQ(guest_memory_fault(&gm, 5 * MIB, PAGE_READ), GUEST_FAULT_MAPPED);
    CHECK(!guest_memory_set_kind(&gm, 4 * MIB, GUEST_SLOT_RAM));
    CHECK(guest_memory_set_kind(&gm, 4 * MIB, GUEST_SLOT_DEVICE));
    CHECK_EQ(at(5 * MIB).physical, HPA_NONE);
    CHECK_EQ(guest_memory_fault(&gm, 5 * MIB, PAGE_READ), GUEST_FAULT_DEVICE);
    CHECK(guest_memory_is_device(&gm, 5 * MIB, PAGE_READ));
    CHECK(!guest_memory_is_device(&gm, MIB, PAGE_WRITE));
    CHECK(guest_memory_set_kind(&gm, 4 * MIB, GUEST_SLOT_ROM));
    CHECK(guest_memory_is_device(&gm, 5 * MIB, PAGE_WRITE));
    CHECK(!guest_memory_is_device(&gm, 5 * MIB, PAGE_READ));
    CHECK_EQ(guest_memory_fault(&gm, 5 * MIB, PAGE_WRITE), GUEST_FAULT_DEVICE);
    CHECK_EQ(guest_memory_fault(&gm, 5 * MIB, PAGE_READ), GUEST_FAULT_MAPPED);
    CHECK_EQ(at(5 * MIB).access, PAGE_READ | PAGE_EXECUTE);
    CHECK_EQ(guest_memory_read(&gm, 5 * MIB, &read, 4), OK);
    CHECK_EQ(read, magic);
    CHECK(!guest_memory_set_kind(&gm, 8 * MIB, GUEST_SLOT_ROM)); // no slot
    end();
}

TEST(unmap_keeps_the_backing)
{
    start(64 * MIB, 2, GUEST_PAGES_AUTO);
    add(0, 8 * MIB);
    u64 value = 0x1122334455667788ull;
    CHECK_EQ(guest_memory_write(&gm, 3 * MIB, &value, 8), OK);
    CHECK_EQ(guest_memory_fault(&gm, 3 * MIB, PAGE_READ), GUEST_FAULT_MAPPED);
    hpa_t hpa = at(3 * MIB).physical;
    u64 guest_frames = frame_counts().owned[FRAME_GUEST];
    CHECK_EQ(guest_memory_unmap(&gm, 3 * MIB, PAGE_SIZE), OK); // splits the 2 MiB leaf
    CHECK_EQ(at(3 * MIB).physical, HPA_NONE);
    CHECK_EQ(at(3 * MIB - 1).size, PAGE_SIZE);
    CHECK_EQ(frame_counts().owned[FRAME_GUEST], guest_frames);
    CHECK_EQ(guest_memory_fault(&gm, 3 * MIB, PAGE_READ), GUEST_FAULT_MAPPED);
    CHECK_EQ(at(3 * MIB).physical, hpa);
    CHECK_EQ(at(3 * MIB).size, PAGE_2M); // and joins it again
    CHECK_EQ(gm.filled_faults, 0);
    CHECK_EQ(gm.mapped_faults, 2);
    // The table that was there for a while is kept, and used by the next that needs one.
    CHECK(gm.spare_tables != 0);
    CHECK_EQ(guest_memory_unmap(&gm, 0, 8 * MIB), OK);
    CHECK_EQ(guest_memory_fault(&gm, 3 * MIB, PAGE_READ), GUEST_FAULT_MAPPED);
    CHECK_EQ(at(2 * MIB).size, PAGE_2M);
    CHECK_EQ(at(0).physical, HPA_NONE);
    u64 read = 0;
    CHECK_EQ(guest_memory_read(&gm, 3 * MIB, &read, 8), OK);
    CHECK_EQ(read, value);
    CHECK_EQ(guest_memory_unmap(&gm, 5, PAGE_SIZE), ERR_INVALID);
    CHECK_EQ(guest_memory_unmap(&gm, BIT(48), PAGE_SIZE), ERR_INVALID);
    end();
}

TEST(clear_returns_all_and_keeps_slots_and_root)
{
    start(64 * MIB, 2, GUEST_PAGES_AUTO);
    add(0, 0xa0000);
    add(MIB, 15 * MIB);
    struct frame_counts empty = frame_counts();
    hpa_t root = gm.stage2.root;
    for (unsigned round = 0; round < 3; round++) {
        CHECK_EQ(guest_memory_fill(&gm, 0, 0x5a, 0xa0000), OK);
        CHECK_EQ(guest_memory_fill(&gm, MIB, 0x5a, 15 * MIB), OK);
        for (gpa_t gpa = 0; gpa < 16 * MIB; gpa += 64 * KIB)
            CHECK_EQ(guest_memory_fault(&gm, gpa, PAGE_READ),
                     gpa >= 0xa0000 && gpa < MIB ? GUEST_FAULT_DEVICE : GUEST_FAULT_MAPPED);
        CHECK_EQ(guest_memory_unmap(&gm, 2 * MIB, PAGE_SIZE), OK);
        CHECK_EQ(gm.backed, 0xa0000 + 15 * MIB);
        clear();
        CHECK_EQ(gm.backed, 0);
        CHECK_EQ(gm.stage2.root, root);
        struct frame_counts now = frame_counts();
        CHECK_EQ(now.owned[FRAME_FREE], empty.owned[FRAME_FREE]);
        CHECK_EQ(now.owned[FRAME_GUEST], 0);
        u8 byte = 1;
        CHECK_EQ(guest_memory_read(&gm, 4 * MIB, &byte, 1), OK);
        CHECK_EQ(byte, 0); // nothing of the life before
    }
    end();
}

TEST(no_frame_is_reachable_twice)
{
    start(64 * MIB, 2, GUEST_PAGES_AUTO);
    add(0, MIB); // two slots in one chunk
    add(MIB, 7 * MIB);
    add(64 * MIB, 4 * MIB);
    static u8 seen[64 * MIB / PAGE_SIZE];
    memset(seen, 0, sizeof(seen));
    for (gpa_t gpa = 0; gpa < 68 * MIB; gpa += PAGE_SIZE) {
        if (guest_memory_fault(&gm, gpa, PAGE_READ) != GUEST_FAULT_MAPPED)
            continue;
        CHECK_EQ(frame_owner_of(at(gpa).physical), FRAME_GUEST);
        CHECK_EQ(seen[at(gpa).physical / PAGE_SIZE], 0);
        seen[at(gpa).physical / PAGE_SIZE] = 1;
    }
    CHECK_EQ(gm.backed, 12 * MIB);
    end();
}

TEST(accesses_straddle_pages_slots_and_holes)
{
    start(32 * MIB, 2, GUEST_PAGES_4K);
    add(0, 2 * PAGE_SIZE);
    add(2 * PAGE_SIZE, PAGE_SIZE);
    u8 out[3 * PAGE_SIZE], in[3 * PAGE_SIZE];
    for (u64 i = 0; i < sizeof(out); i++)
        out[i] = (u8)(i * 7 + (i >> 8));
    CHECK_EQ(guest_memory_write(&gm, 0, out, sizeof(out)), OK);
    CHECK_EQ(guest_memory_read(&gm, 0, in, sizeof(in)), OK);
    CHECK(memcmp(in, out, sizeof(in)) == 0);
    CHECK_EQ(guest_memory_read(&gm, PAGE_SIZE - 3, in, 7), OK);
    CHECK(memcmp(in, out + PAGE_SIZE - 3, 7) == 0);
    CHECK_EQ(guest_memory_fill(&gm, 2 * PAGE_SIZE - 2, 0xee, 4), OK);
    CHECK_EQ(*(u8 *)hva_of(2 * PAGE_SIZE + 1), 0xee);
    CHECK_EQ(*(u8 *)hva_of(2 * PAGE_SIZE + 2), out[2 * PAGE_SIZE + 2]);
    // Into the hole: what came before it is done.
    CHECK_EQ(guest_memory_fill(&gm, 3 * PAGE_SIZE - 1, 0x77, 2), ERR_FAULT);
    CHECK_EQ(*(u8 *)hva_of(3 * PAGE_SIZE - 1), 0x77);
    CHECK_EQ(guest_memory_read(&gm, 3 * PAGE_SIZE, in, 1), ERR_FAULT);
    CHECK_EQ(guest_memory_write(&gm, ~0ull - 3, in, 16), ERR_FAULT); // wraps to 0
    CHECK_EQ(guest_memory_read(&gm, 3 * PAGE_SIZE, in, 0), OK);
    u64 length = 100;
    CHECK(guest_memory_hva(&gm, 10, &length) && length == 100);
    length = 100000;
    CHECK(guest_memory_hva(&gm, PAGE_SIZE + 10, &length) && length == PAGE_SIZE - 10);
    length = 1;
    CHECK(!guest_memory_hva(&gm, 3 * PAGE_SIZE, &length));
    end();
}

// With few single frames left: whichever step has none, the fault says so, nothing leaks, and it
// works later.
TEST(exhaustion_at_each_step)
{
    for (u64 left = 0; left < 7; left++) {
        start(16 * MIB, 2, GUEST_PAGES_AUTO);
        add(0, 8 * MIB);
        arena_exhaust(left);
        enum guest_fault result = guest_memory_fault(&gm, 4 * MIB, PAGE_READ);
        // A list of frames and a page instead of the block, then three tables.
        CHECK_EQ(result, left < 5 ? GUEST_FAULT_NO_MEMORY : GUEST_FAULT_MAPPED);
        CHECK_EQ(gm.backed, left < 2 ? 0 : PAGE_SIZE);
        CHECK_EQ(hva_of(4 * MIB) != 0, left >= 2);
        clear();
        CHECK_EQ(frame_counts().owned[FRAME_FREE], left);
        CHECK_EQ(frame_counts().owned[FRAME_GUEST], 0);
    }
}

TEST(exhaustion_midway_then_clear)
{
    start(16 * MIB, 2, GUEST_PAGES_AUTO);
    add(0, 64 * MIB);
    struct frame_counts empty = frame_counts();
    CHECK_EQ(guest_memory_fill(&gm, 0, 1, 64 * MIB), ERR_FAULT);
    CHECK(gm.backed > 8 * MIB && gm.backed % PAGE_2M != 0); // single pages at the end
    CHECK(frame_counts().owned[FRAME_FREE] == 0);
    CHECK_EQ(guest_memory_fault(&gm, 63 * MIB, PAGE_READ), GUEST_FAULT_NO_MEMORY);
    clear();
    CHECK_EQ(frame_counts().owned[FRAME_FREE], empty.owned[FRAME_FREE]);
    CHECK_EQ(guest_memory_fault(&gm, 63 * MIB, PAGE_READ), GUEST_FAULT_MAPPED);
    end();
}

TEST(init_without_memory)
{
    start(16 * MIB, 2, GUEST_PAGES_AUTO);
    end();
    arena_exhaust(0);
    CHECK_EQ(guest_memory_init(&gm, &page_format_ept, 2, GUEST_PAGES_AUTO), ERR_NO_MEMORY);
    guest_memory_destroy(&gm);
}
