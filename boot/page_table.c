// SPDX-License-Identifier: MIT
// Page tables that carry the core over its first instructions, until it has its own: RAM, the
// framebuffer and the low 4 GiB one to one, and the core at its link address; everything writable
// and executable. SDM volume 3: 4.5 "4-Level Paging and 5-Level Paging".

#include <cpuid.h>
#include "boot/loader.h"

#define PTE_PRESENT  (1ull << 0)
#define PTE_WRITABLE (1ull << 1)
#define PTE_LARGE    (1ull << 7)
#define PTE_TABLE    (PTE_PRESENT | PTE_WRITABLE)
#define PTE_ADDRESS  0x000ffffffffff000ull

#define INDEX_MASK   511ull
#define PML4_SHIFT   39
#define PDPT_SHIFT   30
#define PD_SHIFT     21
#define GIB          (1ull << PDPT_SHIFT)
#define LARGE_SIZE   (1ull << PD_SHIFT)
#define LOW_END      (4 * GIB)
#define IDENTITY_END (1ull << 47) // the lower half; the core is in the upper one

#define CPUID_EXTENDED_FEATURES 0x80000001u
#define CPUID_EDX_PAGE_1G       (1u << 26)

struct tables {
    uint64_t root;
    bool has_1g, failed;
};

static uint64_t table_new(struct tables *t)
{
    uint64_t table = memory_allocate(PAGE_SIZE, MEMORY_ANYWHERE);
    if (table)
        __builtin_memset((void *)table, 0, PAGE_SIZE);
    else
        t->failed = true;
    return table;
}

static uint64_t *entry_at(uint64_t table, uint64_t va, unsigned shift)
{
    return (uint64_t *)table + ((va >> shift) & INDEX_MASK);
}

// The table below `va`'s entry, made if it is missing; 0 if memory ran out.
static uint64_t table_below(struct tables *t, uint64_t table, uint64_t va, unsigned shift)
{
    uint64_t *entry = entry_at(table, va, shift);
    if (!*entry) {
        uint64_t below = table_new(t);
        *entry = below ? below | PTE_TABLE : 0;
    }
    return *entry & PTE_ADDRESS;
}

static void map_large(struct tables *t, uint64_t va, uint64_t pa)
{
    uint64_t pdpt = table_below(t, t->root, va, PML4_SHIFT);
    uint64_t pd = pdpt ? table_below(t, pdpt, va, PDPT_SHIFT) : 0;
    if (pd)
        *entry_at(pd, va, PD_SHIFT) = pa | PTE_TABLE | PTE_LARGE;
}

// Below 4 GiB always by 2 MiB pages: a larger page would span RAM and device memory there.
static void map_gib(struct tables *t, uint64_t address)
{
    uint64_t pdpt = table_below(t, t->root, address, PML4_SHIFT);
    if (!pdpt || *entry_at(pdpt, address, PDPT_SHIFT))
        return;
    if (t->has_1g && address >= LOW_END) {
        *entry_at(pdpt, address, PDPT_SHIFT) = address | PTE_TABLE | PTE_LARGE;
        return;
    }
    for (uint64_t at = address; at < address + GIB && !t->failed; at += LARGE_SIZE)
        map_large(t, at, at);
}

static void map_identity(struct tables *t, uint64_t base, uint64_t size)
{
    if (!size || base >= IDENTITY_END || size > IDENTITY_END - base)
        return;
    for (uint64_t at = base & ~(GIB - 1); at < base + size && !t->failed; at += GIB)
        map_gib(t, at);
}

static bool has_1g_pages(void)
{
    uint32_t a, b, c, d;
    return __get_cpuid(CPUID_EXTENDED_FEATURES, &a, &b, &c, &d) && (d & CPUID_EDX_PAGE_1G);
}

uint64_t page_tables_build(const struct loader *loader, const struct firmware_map *map)
{
    struct tables t = {.has_1g = has_1g_pages()};
    t.root = table_new(&t);
    if (!t.root)
        return 0;
    map_identity(&t, 0, LOW_END);
    for (uint32_t i = 0; i < firmware_map_count(map); i++) {
        const EFI_MEMORY_DESCRIPTOR *range = firmware_map_at(map, i);
        if (firmware_memory_is_ram(range))
            map_identity(&t, range->PhysicalStart, range->NumberOfPages * PAGE_SIZE);
    }
    const struct boot_framebuffer *framebuffer = &loader->info->framebuffer;
    map_identity(&t, framebuffer->base, framebuffer->size);
    for (uint64_t at = 0; at < loader->core.size; at += LARGE_SIZE)
        map_large(&t, loader->core.link_base + at, loader->core_base + at);
    return t.failed ? 0 : t.root;
}
