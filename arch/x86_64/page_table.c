// SPDX-License-Identifier: MIT
// Four-level page tables of any format: walk, map, split, unmap. A level-N table has 512 entries
// that each span 4 KiB << 9*(N-1); level 4 is the root. Entries are written whole and a table is
// filled before it is linked, so a CPU may walk the tables meanwhile; changes are serialised by the
// caller. Intel SDM volume 3, "4-Level Paging and 5-Level Paging", "EPT Translation Mechanism".

#include "arch/x86_64/page_table.h"
#include "vmm/lib/error.h"

#define LEVELS       4
#define LEAF_MAX     3
#define ENTRIES      512
#define ADDRESS_BITS 48
#define ADDRESS_MASK 0x000ffffffffff000ull
#define VA_SIZE      BIT(ADDRESS_BITS)

// --- the formats ---

#define HOST_PRESENT  BIT(0)
#define HOST_WRITE    BIT(1)
#define HOST_USER     BIT(2)
#define HOST_PWT      BIT(3)
#define HOST_PCD      BIT(4)
#define HOST_ACCESSED BIT(5)
#define HOST_DIRTY    BIT(6)
#define HOST_LARGE    BIT(7)
#define HOST_PAT_4K   BIT(7)
#define HOST_GLOBAL   BIT(8)
#define HOST_PAT      BIT(12) // of a large leaf
#define HOST_NX       BIT(63)

// Memory types by the PAT that the core programs: 0 WB, 1 WT, 3 UC, 4 WC. WC's PAT bit depends on
// the level.
static const u64 host_type_bits[] = {
    [PAGE_WB] = 0, [PAGE_UC] = HOST_PCD | HOST_PWT, [PAGE_WC] = 0, [PAGE_WT] = HOST_PWT};

static u64 host_pat_bit(unsigned level)
{
    return level == 1 ? HOST_PAT_4K : HOST_PAT;
}

static u64 host_leaf(u64 physical, unsigned level, unsigned access, enum page_memory_type type)
{
    u64 entry = physical | HOST_PRESENT | host_type_bits[type];
    entry |= level > 1 ? HOST_LARGE : 0;
    entry |= type == PAGE_WC ? host_pat_bit(level) : 0;
    entry |= access & PAGE_WRITE ? HOST_WRITE : 0;
    entry |= access & PAGE_EXECUTE ? 0 : HOST_NX;
    entry |= access & PAGE_USER ? HOST_USER : 0;
    entry |= access & PAGE_GLOBAL ? HOST_GLOBAL : 0;
    return entry;
}

static enum page_memory_type host_type(u64 entry, unsigned level)
{
    if (entry & host_pat_bit(level))
        return PAGE_WC;
    if (entry & HOST_PCD)
        return PAGE_UC;
    return entry & HOST_PWT ? PAGE_WT : PAGE_WB;
}

static void host_decode(u64 entry, unsigned level, struct page_mapping *mapping)
{
    unsigned access = PAGE_READ;
    access |= entry & HOST_WRITE ? PAGE_WRITE : 0;
    access |= entry & HOST_NX ? 0 : PAGE_EXECUTE;
    access |= entry & HOST_USER ? PAGE_USER : 0;
    access |= entry & HOST_GLOBAL ? PAGE_GLOBAL : 0;
    mapping->access = access;
    mapping->type = host_type(entry, level);
}

const struct page_table_format page_format_host = {
    .name = "host",
    .present_mask = HOST_PRESENT,
    .leaf_bit = HOST_LARGE,
    .table_bits = HOST_PRESENT | HOST_WRITE | HOST_USER,
    .accessed_bit = HOST_ACCESSED,
    .dirty_bit = HOST_DIRTY,
    .leaf = host_leaf,
    .decode = host_decode,
};

#define EPT_READ       BIT(0)
#define EPT_WRITE      BIT(1)
#define EPT_EXECUTE    BIT(2)
#define EPT_TYPE_SHIFT 3
#define EPT_TYPE_WIDTH 3
#define EPT_LARGE      BIT(7)
#define EPT_ACCESSED   BIT(8)
#define EPT_DIRTY      BIT(9)

enum { EPT_TYPE_UC = 0, EPT_TYPE_WC = 1, EPT_TYPE_WT = 4, EPT_TYPE_WB = 6 };

static const u8 ept_types[] = {[PAGE_WB] = EPT_TYPE_WB,
                               [PAGE_UC] = EPT_TYPE_UC,
                               [PAGE_WC] = EPT_TYPE_WC,
                               [PAGE_WT] = EPT_TYPE_WT};

// Every leaf can be read: write-only is a misconfiguration, and execute-only is not on every CPU.
static u64 ept_leaf(u64 physical, unsigned level, unsigned access, enum page_memory_type type)
{
    u64 entry = physical | EPT_READ | (u64)ept_types[type] << EPT_TYPE_SHIFT;
    entry |= level > 1 ? EPT_LARGE : 0;
    entry |= access & PAGE_WRITE ? EPT_WRITE : 0;
    entry |= access & PAGE_EXECUTE ? EPT_EXECUTE : 0;
    return entry;
}

static void ept_decode(u64 entry, unsigned level, struct page_mapping *mapping)
{
    (void)level;
    unsigned access = entry & EPT_READ ? PAGE_READ : 0;
    access |= entry & EPT_WRITE ? PAGE_WRITE : 0;
    access |= entry & EPT_EXECUTE ? PAGE_EXECUTE : 0;
    mapping->access = access;
    mapping->type = PAGE_UC;
    u64 type = (entry >> EPT_TYPE_SHIFT) & (BIT(EPT_TYPE_WIDTH) - 1);
    for (unsigned i = 0; i < ARRAY_SIZE(ept_types); i++)
        if (ept_types[i] == type)
            mapping->type = (enum page_memory_type)i;
}

const struct page_table_format page_format_ept = {
    .name = "EPT",
    .present_mask = EPT_READ | EPT_WRITE | EPT_EXECUTE,
    .leaf_bit = EPT_LARGE,
    .table_bits = EPT_READ | EPT_WRITE | EPT_EXECUTE,
    .accessed_bit = EPT_ACCESSED,
    .dirty_bit = EPT_DIRTY,
    .leaf = ept_leaf,
    .decode = ept_decode,
};

// --- entries ---

static inline unsigned entry_index(u64 va, unsigned level)
{
    return (va >> PAGE_LEVEL_SHIFT(level)) & (ENTRIES - 1);
}

static inline bool entry_present(const struct page_table *pt, u64 entry)
{
    return entry & pt->format->present_mask;
}

static inline bool entry_is_leaf(const struct page_table *pt, u64 entry, unsigned level)
{
    return level == 1 || (entry & pt->format->leaf_bit);
}

static inline bool entry_is_table(const struct page_table *pt, u64 entry, unsigned level)
{
    return entry_present(pt, entry) && !entry_is_leaf(pt, entry, level);
}

static inline void entry_set(u64 *entry, u64 value)
{
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

static inline u64 *entry_table(const struct page_table *pt, u64 entry)
{
    return pt->env.table(entry & ADDRESS_MASK);
}

static u64 leaf_physical(u64 entry, unsigned level)
{
    return entry & ADDRESS_MASK & ~(PAGE_LEVEL_SIZE(level) - 1);
}

static u64 table_new(struct page_table *pt)
{
    u64 physical = pt->env.alloc(pt->env.context);
    if (physical != HPA_NONE)
        pt->tables++;
    return physical;
}

static void table_release(struct page_table *pt, u64 physical)
{
    pt->tables--;
    pt->env.free(pt->env.context, physical);
}

// Everything below an entry of `level` that points to a table, and that table. At most three levels
// deep.
static void table_release_tree(struct page_table *pt, u64 entry, unsigned level)
{
    u64 *table = entry_table(pt, entry);
    for (unsigned i = 0; level > 2 && i < ENTRIES; i++)
        if (entry_is_table(pt, table[i], level - 1))
            table_release_tree(pt, table[i], level - 1);
    table_release(pt, entry & ADDRESS_MASK);
}

// --- making tables on the way ---

// Fill a new table with the leaf's parts, one level down.
static void leaf_spread(const struct page_table *pt, u64 *table, u64 leaf, unsigned level)
{
    struct page_mapping mapping;
    pt->format->decode(leaf, level, &mapping);
    u64 used = leaf & (pt->format->accessed_bit | pt->format->dirty_bit);
    u64 physical = leaf_physical(leaf, level);
    for (unsigned i = 0; i < ENTRIES; i++, physical += PAGE_LEVEL_SIZE(level - 1))
        table[i] = pt->format->leaf(physical, level - 1, mapping.access, mapping.type) | used;
}

// The entry of `level` shall point to a table: an empty one, or the parts of the leaf that it is.
static COLD int entry_make_table(struct page_table *pt, u64 *entry, unsigned level)
{
    u64 physical = table_new(pt);
    if (physical == HPA_NONE)
        return ERR_NO_MEMORY;
    if (entry_present(pt, *entry))
        leaf_spread(pt, pt->env.table(physical), *entry, level);
    entry_set(entry, physical | pt->format->table_bits);
    return OK;
}

// --- the interface ---

int page_table_init(struct page_table *pt)
{
    pt->tables = 0;
    pt->root = table_new(pt);
    return pt->root == HPA_NONE ? ERR_NO_MEMORY : OK;
}

void page_table_clear(struct page_table *pt)
{
    u64 *root = pt->env.table(pt->root);
    for (unsigned i = 0; i < ENTRIES; i++) {
        u64 entry = root[i];
        entry_set(&root[i], 0);
        if (entry_present(pt, entry))
            table_release_tree(pt, entry, LEVELS);
    }
}

void page_table_destroy(struct page_table *pt)
{
    if (pt->root == HPA_NONE)
        return;
    page_table_clear(pt);
    table_release(pt, pt->root);
    pt->root = HPA_NONE;
}

int page_table_map_leaf(struct page_table *pt, u64 va, u64 physical, unsigned level,
                        unsigned access, enum page_memory_type type)
{
    u64 *table = pt->env.table(pt->root);
    u64 *entry = &table[entry_index(va, LEVELS)];
    for (unsigned l = LEVELS; l > level; l--) {
        if (unlikely(!entry_is_table(pt, *entry, l)) && entry_make_table(pt, entry, l) != OK)
            return ERR_NO_MEMORY;
        entry = &entry_table(pt, *entry)[entry_index(va, l - 1)];
    }
    u64 old = *entry;
    entry_set(entry, pt->format->leaf(physical, level, access, type));
    if (unlikely(entry_is_table(pt, old, level)))
        table_release_tree(pt, old, level);
    return OK;
}

// The largest leaf that fits at both addresses and into what is left.
static unsigned leaf_level(const struct page_table *pt, u64 va, u64 physical, u64 size)
{
    unsigned level = MIN(pt->max_leaf, LEAF_MAX);
    while (level > 1 &&
           (size < PAGE_LEVEL_SIZE(level) || !IS_ALIGNED(va | physical, PAGE_LEVEL_SIZE(level))))
        level--;
    return level;
}

static bool range_is_valid(u64 va, u64 size)
{
    return size && IS_ALIGNED(va | size, PAGE_SIZE) && size <= VA_SIZE - va;
}

int page_table_map(struct page_table *pt, u64 va, u64 physical, u64 size, unsigned access,
                   enum page_memory_type type)
{
    va &= VA_SIZE - 1;
    if (!range_is_valid(va, size) || !IS_ALIGNED(physical, PAGE_SIZE) || !access)
        return ERR_INVALID;
    while (size) {
        unsigned level = leaf_level(pt, va, physical, size);
        int error = page_table_map_leaf(pt, va, physical, level, access, type);
        if (error)
            return error;
        va += PAGE_LEVEL_SIZE(level);
        physical += PAGE_LEVEL_SIZE(level);
        size -= PAGE_LEVEL_SIZE(level);
    }
    return OK;
}

static bool table_is_empty(const struct page_table *pt, const u64 *table)
{
    for (unsigned i = 0; i < ENTRIES; i++)
        if (entry_present(pt, table[i]))
            return false;
    return true;
}

static int unmap_table(struct page_table *pt, u64 *table, unsigned level, u64 va, u64 end);

// Unmap [va, end), which lies within one entry of `level`.
static int unmap_entry(struct page_table *pt, u64 *entry, unsigned level, u64 va, u64 end)
{
    if (!entry_present(pt, *entry))
        return OK;
    if (entry_is_leaf(pt, *entry, level)) {
        if (end - va == PAGE_LEVEL_SIZE(level)) {
            entry_set(entry, 0);
            return OK;
        }
        if (entry_make_table(pt, entry, level) != OK)
            return ERR_NO_MEMORY;
    }
    u64 old = *entry;
    int error = unmap_table(pt, entry_table(pt, old), level - 1, va, end);
    if (table_is_empty(pt, entry_table(pt, old))) {
        entry_set(entry, 0);
        table_release(pt, old & ADDRESS_MASK);
    }
    return error;
}

static int unmap_table(struct page_table *pt, u64 *table, unsigned level, u64 va, u64 end)
{
    while (va < end) {
        u64 next = MIN(ALIGN_DOWN(va, PAGE_LEVEL_SIZE(level)) + PAGE_LEVEL_SIZE(level), end);
        int error = unmap_entry(pt, &table[entry_index(va, level)], level, va, next);
        if (error)
            return error;
        va = next;
    }
    return OK;
}

int page_table_unmap(struct page_table *pt, u64 va, u64 size)
{
    va &= VA_SIZE - 1;
    if (!range_is_valid(va, size))
        return ERR_INVALID;
    return unmap_table(pt, pt->env.table(pt->root), LEVELS, va, va + size);
}

bool page_table_lookup(const struct page_table *pt, u64 va, struct page_mapping *mapping)
{
    u64 *table = pt->env.table(pt->root);
    for (unsigned level = LEVELS; level; level--) {
        u64 entry = table[entry_index(va, level)];
        if (!entry_present(pt, entry))
            return false;
        if (!entry_is_leaf(pt, entry, level)) {
            table = entry_table(pt, entry);
            continue;
        }
        pt->format->decode(entry, level, mapping);
        mapping->physical = leaf_physical(entry, level) + (va & (PAGE_LEVEL_SIZE(level) - 1));
        mapping->size = PAGE_LEVEL_SIZE(level);
        mapping->accessed = entry & pt->format->accessed_bit;
        mapping->dirty = entry & pt->format->dirty_bit;
        return true;
    }
    return false;
}
