// SPDX-License-Identifier: MIT
// Memory for unit tests that want the real frame allocator: host physical memory is an arena,
// mapped where the tests' direct map is. Include before anything of mm/.
#pragma once

#define DIRECT_MAP_BASE 0x200000000000ull
#define EARLY_MAP_BASE  DIRECT_MAP_BASE

#include <sys/mman.h>
#include "tests/unit/test.h"
#include "boot/boot_info.h"
#include "mm/frame.c"

#define ARENA_SIZE (8 * GIB) // reserved; only what is touched costs anything

void log_line(enum log_level level, const char *format, ...)
{
    (void)level;
    (void)format;
}

// A fresh arena and frame allocator. The map itself lies at physical 0x1000, in memory that is
// never given out.
static struct boot_info arena_boot(const struct boot_memory_range *ranges, u32 count)
{
    static bool mapped;
    if (mapped)
        munmap((void *)DIRECT_MAP_BASE, ARENA_SIZE);
    mapped = true;
    void *at = mmap((void *)DIRECT_MAP_BASE, ARENA_SIZE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (at != (void *)DIRECT_MAP_BASE)
        abort();
    memset(free_heads, 0, sizeof(free_heads));
    memset(&counts, 0, sizeof(counts));
    free_orders = 0;
    lock = (struct spinlock)SPINLOCK_INIT;
    memcpy((void *)(DIRECT_MAP_BASE + PAGE_SIZE), ranges, count * sizeof(*ranges));
    struct boot_info boot = {.memory = (void *)PAGE_SIZE, .memory_count = count};
    frame_init(&boot);
    return boot;
}

// The usual machine: one piece of RAM from 0 on.
static UNUSED void arena_start(u64 size)
{
    struct boot_memory_range range = {0, size, BOOT_MEMORY_FREE, 0};
    arena_boot(&range, 1);
}

// Use up memory until `frames` frames are left, all of them single.
static UNUSED void arena_exhaust(u64 frames)
{
    hpa_t kept[512];
    if (frames > ARRAY_SIZE(kept))
        abort();
    for (u64 i = 0; i < frames; i++)
        kept[i] = frame_alloc(FRAME_ORDER_4K, FRAME_CORE);
    for (unsigned order = ORDER_COUNT; order > 0; order--)
        while (frame_alloc(order - 1, FRAME_CORE) != HPA_NONE)
            ;
    for (u64 i = 0; i < frames; i++)
        frame_free(kept[i], FRAME_ORDER_4K);
}
