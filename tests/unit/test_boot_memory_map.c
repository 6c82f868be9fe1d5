// SPDX-License-Identifier: MIT
// The loader's memory map: sorted, without overlaps, claims only in its own memory.
#include "tests/unit/test.h"
#include "boot/memory_map.c"

#define PAGE MEMORY_PAGE_SIZE

static struct boot_memory_range storage[16];
static struct memory_map map;

static void reset(size_t capacity)
{
    map = (struct memory_map){.ranges = storage, .capacity = capacity};
}

static void add(uint64_t page, uint64_t pages, uint32_t type)
{
    memory_map_add(&map, (struct boot_memory_range){page * PAGE, pages * PAGE, type, 0});
}

static void check_range(size_t index, uint64_t page, uint64_t pages, uint32_t type)
{
    CHECK(index < map.count);
    CHECK_EQ(storage[index].base, page * PAGE);
    CHECK_EQ(storage[index].size, pages * PAGE);
    CHECK_EQ(storage[index].type, type);
}

TEST(sorts)
{
    reset(16);
    add(20, 10, BOOT_MEMORY_FREE);
    add(0, 10, BOOT_MEMORY_ACPI);
    add(10, 5, BOOT_MEMORY_RESERVED);
    CHECK_EQ(map.count, 3);
    check_range(0, 0, 10, BOOT_MEMORY_ACPI);
    check_range(1, 10, 5, BOOT_MEMORY_RESERVED);
    check_range(2, 20, 10, BOOT_MEMORY_FREE);
}

TEST(fills_only_gaps)
{
    reset(16);
    add(5, 5, BOOT_MEMORY_ACPI);
    add(15, 5, BOOT_MEMORY_RESERVED);
    add(0, 30, BOOT_MEMORY_FREE);
    CHECK_EQ(map.count, 5);
    check_range(0, 0, 5, BOOT_MEMORY_FREE);
    check_range(1, 5, 5, BOOT_MEMORY_ACPI);
    check_range(2, 10, 5, BOOT_MEMORY_FREE);
    check_range(3, 15, 5, BOOT_MEMORY_RESERVED);
    check_range(4, 20, 10, BOOT_MEMORY_FREE);
    add(6, 2, BOOT_MEMORY_FREE);
    CHECK_EQ(map.count, 5);
}

TEST(ignores_nothing_and_what_wraps)
{
    reset(16);
    add(5, 0, BOOT_MEMORY_FREE);
    memory_map_add(&map, (struct boot_memory_range){UINT64_MAX - PAGE + 1, 2 * PAGE, 1, 0});
    CHECK_EQ(map.count, 0);
}

TEST(claims_split_and_respect_others)
{
    reset(16);
    add(0, 10, BOOT_MEMORY_LOADER);
    add(10, 10, BOOT_MEMORY_RESERVED);
    memory_map_claim(&map, 3 * PAGE, PAGE + 1, BOOT_MEMORY_FILE);
    check_range(0, 0, 3, BOOT_MEMORY_LOADER);
    check_range(1, 3, 2, BOOT_MEMORY_FILE);
    check_range(2, 5, 5, BOOT_MEMORY_LOADER);
    memory_map_claim(&map, 8 * PAGE, 6 * PAGE, BOOT_MEMORY_CORE);
    memory_map_merge(&map);
    CHECK_EQ(map.count, 5);
    check_range(3, 8, 2, BOOT_MEMORY_CORE);
    check_range(4, 10, 10, BOOT_MEMORY_RESERVED);
}

TEST(merges_neighbours_of_one_kind)
{
    reset(16);
    add(0, 1, BOOT_MEMORY_FREE);
    add(1, 1, BOOT_MEMORY_FREE);
    add(3, 1, BOOT_MEMORY_FREE);
    add(4, 1, BOOT_MEMORY_ACPI);
    memory_map_merge(&map);
    CHECK_EQ(map.count, 3);
    check_range(0, 0, 2, BOOT_MEMORY_FREE);
}

TEST(takes_a_page_within_bounds)
{
    reset(16);
    add(0, 3, BOOT_MEMORY_FREE);
    CHECK_EQ(memory_map_take_page(&map, PAGE, 2 * PAGE), PAGE);
    CHECK_EQ(memory_map_take_page(&map, PAGE, 2 * PAGE), 0);
    CHECK_EQ(memory_map_take_page(&map, PAGE, 3 * PAGE), 2 * PAGE);
    check_range(1, 1, 1, BOOT_MEMORY_LOADER);
}

TEST(says_when_it_is_full)
{
    reset(2);
    add(0, 1, BOOT_MEMORY_FREE);
    add(2, 3, BOOT_MEMORY_FREE);
    CHECK(!map.overflow);
    memory_map_claim(&map, 3 * PAGE, PAGE, BOOT_MEMORY_FILE);
    CHECK(map.overflow);
    CHECK_EQ(map.count, 2);
    check_range(1, 2, 3, BOOT_MEMORY_FREE);
    add(8, 1, BOOT_MEMORY_FREE);
    CHECK_EQ(map.count, 2);
}
