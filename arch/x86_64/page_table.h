// SPDX-License-Identifier: MIT
// One page-table engine for every four-level format of the architecture: the host's own tables, EPT
// and NPT are parameters. Pure: it reaches tables through page_table_env, so the unit tests run it
// on the host.
#pragma once

#include "vmm/lib/types.h"

// What one entry of a level spans: 4 KiB at level 1, 2 MiB, 1 GiB, 512 GiB at level 4.
#define PAGE_LEVEL_BITS         9
#define PAGE_LEVEL_SHIFT(level) (PAGE_SHIFT + PAGE_LEVEL_BITS * ((level)-1))
#define PAGE_LEVEL_SIZE(level)  BIT(PAGE_LEVEL_SHIFT(level))

enum page_access {
    PAGE_READ = 1,
    PAGE_WRITE = 2,
    PAGE_EXECUTE = 4,
    PAGE_USER = 8,
    PAGE_GLOBAL = 16
};
enum page_memory_type { PAGE_WB, PAGE_UC, PAGE_WC, PAGE_WT };

struct page_mapping {
    u64 physical;    // that the looked-up address has
    u64 size;        // 4 KiB, 2 MiB or 1 GiB: of the leaf that was found
    unsigned access; // enum page_access bits
    enum page_memory_type type;
    bool accessed, dirty;
};

// How a format writes entries. One const table per format, below. Bits 51:12 are the address in all
// of them.
struct page_table_format {
    const char *name;
    u64 present_mask;            // any of these set: the entry means something
    u64 leaf_bit;                // at levels 2 and 3: the entry is a leaf. At level 1 all are
    u64 table_bits;              // of an entry that points to a table
    u64 accessed_bit, dirty_bit; // of a leaf; the CPU sets them
    u64 (*leaf)(u64 physical, unsigned level, unsigned access, enum page_memory_type type);
    void (*decode)(u64 entry, unsigned level, struct page_mapping *mapping);
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
void page_table_clear(
    struct page_table *pt); // the same, but the (then empty) root stays where it is
// Map [va, va + size) to physical with the largest leaves that alignment and max_leaf allow. An
// existing mapping is replaced (a larger leaf is split first). ERR_NO_MEMORY leaves a prefix
// mapped. Addresses are taken modulo 2^48. ERR_INVALID: empty, not in whole pages, over the end of
// the address space, or no access at all.
MUST_CHECK int page_table_map(struct page_table *pt, u64 va, u64 physical, u64 size,
                              unsigned access, enum page_memory_type type);
// Map one leaf of exactly PAGE_LEVEL_SIZE(level), both addresses aligned to it; the fast path of a
// fault.
MUST_CHECK int page_table_map_leaf(struct page_table *pt, u64 va, u64 physical, unsigned level,
                                   unsigned access, enum page_memory_type type);
// Remove every mapping in the range, splitting larger leaves at its ends; frees tables that become
// empty. Neither this nor a map that replaces something flushes translations: the caller does,
// before what was mapped, or a table that env.free was given, is used for anything else.
// ERR_NO_MEMORY (a split): a prefix is unmapped.
MUST_CHECK int page_table_unmap(struct page_table *pt, u64 va, u64 size);
bool page_table_lookup(const struct page_table *pt, u64 va, struct page_mapping *mapping);
