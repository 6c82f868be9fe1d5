// SPDX-License-Identifier: MIT
// A guest's memory for the loaders' fuzzers: one piece of the host's. A write outside of the
// machine's RAM is a failure.
#pragma once

#include "tests/fuzz/fuzz.h"
#include "vmm/layout.h"
#include "mm/guest_memory.h"
#include "vmm/lib/error.h"

#define MEMORY_MAX (32 * MIB)

static u8 memory[MEMORY_MAX] ALIGNED(4096);
static u64 memory_size;

static bool is_ram(gpa_t gpa, u64 size)
{
    u64 end = gpa < LAYOUT_LOW_SIZE ? LAYOUT_LOW_SIZE : memory_size;
    return (gpa < LAYOUT_LOW_SIZE || gpa >= LAYOUT_HIGH) && gpa <= end && size <= end - gpa;
}

void thread_yield(void)
{
}

void *guest_memory_hva(struct guest_memory *gm UNUSED, gpa_t gpa, u64 *length)
{
    CHECK(is_ram(gpa, *length));
    return memory + gpa;
}

int guest_memory_write(struct guest_memory *gm UNUSED, gpa_t gpa, const void *from, u64 size)
{
    CHECK(is_ram(gpa, size));
    if (test_failed)
        abort();
    memcpy(memory + gpa, from, size);
    return OK;
}

int guest_memory_read(struct guest_memory *gm UNUSED, gpa_t gpa, void *to, u64 size)
{
    CHECK(is_ram(gpa, size));
    if (test_failed)
        abort();
    memcpy(to, memory + gpa, size);
    return OK;
}

int guest_memory_fill(struct guest_memory *gm UNUSED, gpa_t gpa, int byte, u64 size)
{
    CHECK(is_ram(gpa, size));
    if (test_failed)
        abort();
    memset(memory + gpa, byte, size);
    return OK;
}
