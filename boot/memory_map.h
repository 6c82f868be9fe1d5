// SPDX-License-Identifier: MIT
// The memory map that the core gets: page-granular, sorted, without overlaps. Pure: no firmware
// calls.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "boot/boot_info.h"

#define MEMORY_PAGE_SIZE 4096ull

struct memory_map {
    struct boot_memory_range *ranges;
    size_t count, capacity; // a map that is full stops growing and says so in `overflow`
    bool overflow;
};

// Adds a range in any order; whatever an earlier range covers is left as it is.
void memory_map_add(struct memory_map *map, struct boot_memory_range range);

// Turns [base, base + size), in whole pages, into `type` where the map has RAM of the loader or
// free RAM.
void memory_map_claim(struct memory_map *map, uint64_t base, uint64_t size, uint32_t type);

// Joins neighbours of one kind.
void memory_map_merge(struct memory_map *map);

// The address of a free page in [low, high), now of the loader; 0 if there is none.
uint64_t memory_map_take_page(struct memory_map *map, uint64_t low, uint64_t high);
