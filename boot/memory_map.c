// SPDX-License-Identifier: MIT
// The memory map as an array that stays sorted. Firmware lists a few hundred ranges at most, so
// insertion is fine.

#include "boot/memory_map.h"

static uint64_t range_end(const struct boot_memory_range *range)
{
    return range->base + range->size;
}

static void insert_at(struct memory_map *map, size_t at, struct boot_memory_range range)
{
    if (map->count == map->capacity) {
        map->overflow = true;
        return;
    }
    for (size_t i = map->count; i > at; i--)
        map->ranges[i] = map->ranges[i - 1];
    map->ranges[at] = range;
    map->count++;
}

void memory_map_add(struct memory_map *map, struct boot_memory_range range)
{
    uint64_t end = range.base + range.size;
    if (end <= range.base) // empty, or wraps
        return;
    size_t at = 0;
    while (at < map->count && range_end(&map->ranges[at]) <= range.base)
        at++;
    // Walk over the ranges that overlap and insert what lies in the gaps between them.
    uint64_t from = range.base;
    for (; from < end; at++) {
        bool last = at == map->count || map->ranges[at].base >= end;
        uint64_t until = last ? end : map->ranges[at].base;
        if (from < until) {
            range.base = from;
            range.size = until - from;
            insert_at(map, at++, range);
        }
        if (last || map->overflow)
            return;
        from = range_end(&map->ranges[at]);
    }
}

// Makes `address` a border between ranges.
static void split_at(struct memory_map *map, uint64_t address)
{
    for (size_t i = 0; i < map->count; i++) {
        struct boot_memory_range upper = map->ranges[i];
        if (address <= upper.base || address >= range_end(&upper))
            continue;
        size_t count = map->count;
        upper.size = range_end(&upper) - address;
        upper.base = address;
        insert_at(map, i + 1, upper);
        if (map->count > count)
            map->ranges[i].size -= upper.size;
        return;
    }
}

void memory_map_claim(struct memory_map *map, uint64_t base, uint64_t size, uint32_t type)
{
    uint64_t end = (base + size + MEMORY_PAGE_SIZE - 1) & ~(MEMORY_PAGE_SIZE - 1);
    base &= ~(MEMORY_PAGE_SIZE - 1);
    split_at(map, base);
    split_at(map, end);
    for (size_t i = 0; i < map->count; i++) {
        struct boot_memory_range *range = &map->ranges[i];
        bool ours = range->type == BOOT_MEMORY_FREE || range->type == BOOT_MEMORY_LOADER;
        if (ours && range->base >= base && range_end(range) <= end)
            range->type = type;
    }
}

void memory_map_merge(struct memory_map *map)
{
    size_t kept = 0;
    for (size_t i = 0; i < map->count; i++) {
        struct boot_memory_range *last = kept ? &map->ranges[kept - 1] : NULL;
        const struct boot_memory_range *range = &map->ranges[i];
        if (last && range_end(last) == range->base && last->type == range->type &&
            last->attributes == range->attributes)
            last->size += range->size;
        else
            map->ranges[kept++] = *range;
    }
    map->count = kept;
}

uint64_t memory_map_take_page(struct memory_map *map, uint64_t low, uint64_t high)
{
    for (size_t i = 0; i < map->count; i++) {
        const struct boot_memory_range *range = &map->ranges[i];
        uint64_t page = range->base > low ? range->base : low;
        if (range->type != BOOT_MEMORY_FREE || page >= high || page >= range_end(range))
            continue;
        memory_map_claim(map, page, MEMORY_PAGE_SIZE, BOOT_MEMORY_LOADER);
        return page;
    }
    return 0;
}
