// SPDX-License-Identifier: MIT
// One page-table engine for every four-level format of the architecture: the host's own tables, EPT and NPT are
// parameters. Pure: it reaches tables through page_table_env, so the unit tests run it on the host.
#pragma once

#include "vmm/lib/types.h"

enum page_access { PAGE_READ = 1, PAGE_WRITE = 2, PAGE_EXECUTE = 4, PAGE_USER = 8, PAGE_GLOBAL = 16 };
enum page_memory_type { PAGE_WB, PAGE_UC, PAGE_WC, PAGE_WT };

struct page_mapping {
    u64 physical;
    u64 size;          // 4 KiB, 2 MiB or 1 GiB: of the leaf that was found
    unsigned access;   // enum page_access bits
    enum page_memory_type type;
    bool accessed, dirty;
};

// How a format writes entries. One const table per format, below.
struct page_table_format {
    const char *name;
    u64 (*leaf)(u64 physical, unsigned level, unsigned access, enum page_memory_type type);
    u64 (*table)(u64 physical);
    bool (*present)(u64 entry);
    bool (*is_leaf)(u64 entry, unsigned level);
    void (*decode)(u64 entry, unsigned level, struct page_mapping *mapping);
    u64 accessed_bit, dirty_bit; // 0: the format or the CPU has none
};

extern const struct page_table_format page_format_host; // 4-level x86-64 (also NPT with PAGE_USER)
extern const struct page_table_format page_format_ept;

// Where tables come from. hpa_to_table must be cheap.
struct page_table_env {
    u64 (*alloc)(void *context); // a zeroed 4 KiB table; ~0 if none
    void (*free)(void *context, u64 physical);
    u64 *(*table)(u64 physical);
    void *context;
};

struct page_table {
    const struct page_table_format *format;
    struct page_table_env env;
    u64 root;          // physical address of the top table
    unsigned max_leaf; // largest leaf level: 1 (4 KiB), 2 (2 MiB), 3 (1 GiB)
    u64 tables;        // how many tables it holds
};

int page_table_init(struct page_table *pt);
void page_table_destroy(struct page_table *pt); // frees every table, no leaf's memory
// Map [va, va + size) to physical with the largest leaves that alignment and max_leaf allow. An existing
// mapping is replaced (a larger leaf is split first). ERR_NO_MEMORY leaves a prefix mapped.
MUST_CHECK int page_table_map(struct page_table *pt, u64 va, u64 physical, u64 size,
                              unsigned access, enum page_memory_type type);
// Map one leaf of exactly 4 KiB << 9*(level-1); the fast path of a fault.
MUST_CHECK int page_table_map_leaf(struct page_table *pt, u64 va, u64 physical, unsigned level,
                                   unsigned access, enum page_memory_type type);
// Remove every mapping in the range, splitting larger leaves at its ends; frees tables that become empty.
MUST_CHECK int page_table_unmap(struct page_table *pt, u64 va, u64 size);
bool page_table_lookup(const struct page_table *pt, u64 va, struct page_mapping *mapping);
