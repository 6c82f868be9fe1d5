// SPDX-License-Identifier: MIT
// The page-table engine against a model that has one word for every page, in both formats.

#include "tests/unit/test.h"
#include "arch/x86_64/page_table.c"

// --- an environment whose physical addresses are pointers, and that can run dry ---

static int tables_live;
static int tables_left; // that may still be allocated

static u64 fake_alloc(void *context)
{
    (void)context;
    if (tables_left == 0)
        return HPA_NONE;
    tables_left--;
    tables_live++;
    void *table = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
    memset(table, 0, PAGE_SIZE);
    return (u64)table;
}

static void fake_free(void *context, u64 physical)
{
    (void)context;
    tables_live--;
    free((void *)physical);
}

static u64 *fake_table(u64 physical)
{
    return (u64 *)physical;
}

static struct page_table table_make(const struct page_table_format *format, unsigned max_leaf)
{
    struct page_table pt = {
        .format = format, .env = {fake_alloc, fake_free, fake_table, 0}, .max_leaf = max_leaf};
    tables_left = 1 << 20;
    CHECK_EQ(page_table_init(&pt), OK);
    return pt;
}

static void table_end(struct page_table *pt)
{
    page_table_destroy(pt);
    CHECK_EQ(tables_live, 0);
    CHECK_EQ(pt->tables, 0);
}

// --- the model ---

#define MODEL_BASE  (0xffff800000000000ull + 511 * PAGE_1G) // the window crosses a level-4 entry
#define MODEL_PAGES (3 * PAGE_1G / PAGE_SIZE)
#define RW          (PAGE_READ | PAGE_WRITE)

static u64 *model; // what a page maps to | access, 0: nothing
static u64 seed;

static u64 random_below(u64 limit)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 16) % limit;
}

static void model_start(u64 with_seed)
{
    seed = with_seed;
    model = calloc(MODEL_PAGES, sizeof(u64));
}

static bool model_agrees(const struct page_table *pt, u64 page)
{
    struct page_mapping m;
    if (!page_table_lookup(pt, MODEL_BASE + page * PAGE_SIZE + 5, &m))
        return model[page] == 0;
    return model[page] == (m.physical - 5 + m.access) && m.size <= PAGE_1G;
}

static void model_check(const struct page_table *pt, u64 page, u64 count)
{
    u64 wrong = 0;
    for (u64 i = page ? page - 1 : 0; i < MIN(page + count + 1, MODEL_PAGES); i++)
        wrong += !model_agrees(pt, i);
    CHECK_EQ(wrong, 0);
}

static void model_map(struct page_table *pt, u64 page, u64 count, u64 physical, unsigned access)
{
    CHECK_EQ(page_table_map(pt, MODEL_BASE + page * PAGE_SIZE, physical, count * PAGE_SIZE, access,
                            PAGE_WB),
             OK);
    for (u64 i = 0; i < count; i++)
        model[page + i] = (physical + i * PAGE_SIZE) | access;
    model_check(pt, page, count);
}

static void model_unmap(struct page_table *pt, u64 page, u64 count)
{
    CHECK_EQ(page_table_unmap(pt, MODEL_BASE + page * PAGE_SIZE, count * PAGE_SIZE), OK);
    memset(&model[page], 0, count * sizeof(u64));
    model_check(pt, page, count);
}

static void random_step(struct page_table *pt)
{
    static const u64 units[] = {1, 1, 512, 512, 512 * 512};
    u64 unit = units[random_below(ARRAY_SIZE(units))];
    u64 page = random_below(MODEL_PAGES / unit) * unit;
    u64 count = (1 + random_below(3)) * unit + random_below(2);
    count = MIN(count, MODEL_PAGES - page);
    u64 physical = 64 * PAGE_1G + random_below(8) * unit * PAGE_SIZE;
    if (random_below(3) == 0)
        model_unmap(pt, page, count);
    else
        model_map(pt, page, count, physical, random_below(2) ? RW : PAGE_READ | PAGE_EXECUTE);
}

static void random_run(const struct page_table_format *format, unsigned max_leaf, u64 with_seed)
{
    struct page_table pt = table_make(format, max_leaf);
    model_start(with_seed);
    for (unsigned i = 0; i < 80; i++)
        random_step(&pt);
    model_check(&pt, 0, MODEL_PAGES);
    model_unmap(&pt, 0, MODEL_PAGES);
    CHECK_EQ(pt.tables, 1); // all that became empty are gone
    free(model);
    table_end(&pt);
}

TEST(random_changes_agree_with_the_model)
{
    random_run(&page_format_host, 3, 1);
    random_run(&page_format_ept, 3, 2);
    random_run(&page_format_ept, 2, 3);
    random_run(&page_format_host, 1, 4);
}

// --- single properties ---

static u64 size_at(struct page_table *pt, u64 va)
{
    struct page_mapping m;
    return page_table_lookup(pt, va, &m) ? m.size : 0;
}

TEST(map_uses_the_largest_leaf_that_both_addresses_allow)
{
    struct page_table pt = table_make(&page_format_host, 3);
    u64 va = PAGE_1G - PAGE_2M - PAGE_SIZE;
    u64 size = PAGE_SIZE + PAGE_2M + PAGE_1G + PAGE_2M + PAGE_SIZE;
    CHECK_EQ(page_table_map(&pt, va, va + PAGE_1G, size, RW, PAGE_WB), OK);
    CHECK_EQ(size_at(&pt, va), PAGE_SIZE);
    CHECK_EQ(size_at(&pt, PAGE_1G - PAGE_2M), PAGE_2M);
    CHECK_EQ(size_at(&pt, PAGE_1G), PAGE_1G);
    CHECK_EQ(size_at(&pt, 2 * PAGE_1G), PAGE_2M);
    CHECK_EQ(size_at(&pt, 2 * PAGE_1G + PAGE_2M), PAGE_SIZE);
    CHECK_EQ(size_at(&pt, va - 1), 0);
    CHECK_EQ(size_at(&pt, va + size), 0);
    // Aligned here, but not there.
    CHECK_EQ(page_table_map(&pt, 8 * PAGE_1G, PAGE_2M, PAGE_1G, RW, PAGE_WB), OK);
    CHECK_EQ(size_at(&pt, 8 * PAGE_1G), PAGE_2M);
    CHECK_EQ(page_table_map(&pt, 16 * PAGE_1G, PAGE_SIZE, PAGE_1G, RW, PAGE_WB), OK);
    CHECK_EQ(size_at(&pt, 16 * PAGE_1G), PAGE_SIZE);
    table_end(&pt);
}

TEST(bad_ranges_are_refused)
{
    struct page_table pt = table_make(&page_format_ept, 3);
    CHECK_EQ(page_table_map(&pt, 0, 0, 0, RW, PAGE_WB), ERR_INVALID);
    CHECK_EQ(page_table_map(&pt, 1, 0, PAGE_SIZE, RW, PAGE_WB), ERR_INVALID);
    CHECK_EQ(page_table_map(&pt, 0, 1, PAGE_SIZE, RW, PAGE_WB), ERR_INVALID);
    CHECK_EQ(page_table_map(&pt, 0, 0, PAGE_SIZE - 1, RW, PAGE_WB), ERR_INVALID);
    CHECK_EQ(page_table_map(&pt, 0, 0, PAGE_SIZE, 0, PAGE_WB), ERR_INVALID);
    CHECK_EQ(page_table_map(&pt, VA_SIZE - PAGE_SIZE, 0, 2 * PAGE_SIZE, RW, PAGE_WB), ERR_INVALID);
    CHECK_EQ(page_table_unmap(&pt, 0, ~0ull << PAGE_SHIFT), ERR_INVALID);
    CHECK_EQ(page_table_unmap(&pt, 0, 0), ERR_INVALID);
    CHECK_EQ(page_table_map(&pt, ~PAGE_MASK, 0, PAGE_SIZE, RW, PAGE_WB), OK); // the very last page
    CHECK_EQ(size_at(&pt, ~0ull), PAGE_SIZE);
    table_end(&pt);
}

TEST(a_split_keeps_access_type_and_use)
{
    struct page_table pt = table_make(&page_format_host, 3);
    unsigned access = PAGE_READ | PAGE_WRITE | PAGE_USER | PAGE_GLOBAL;
    CHECK_EQ(page_table_map(&pt, 0, PAGE_1G, PAGE_1G, access, PAGE_WC), OK);
    u64 *pdpt = entry_table(&pt, fake_table(pt.root)[0]);
    pdpt[0] |= HOST_ACCESSED | HOST_DIRTY;
    CHECK_EQ(page_table_unmap(&pt, 5 * PAGE_2M + PAGE_SIZE, PAGE_SIZE), OK);
    static const u64 sizes[] = {PAGE_2M, PAGE_SIZE};
    static const u64 places[] = {0, 5 * PAGE_2M};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        struct page_mapping m;
        CHECK(page_table_lookup(&pt, places[i], &m));
        CHECK_EQ(m.physical, PAGE_1G + places[i]);
        CHECK_EQ(m.size, sizes[i]);
        CHECK_EQ(m.access, access);
        CHECK_EQ(m.type, PAGE_WC);
        CHECK(m.accessed && m.dirty);
    }
    CHECK_EQ(pt.tables, 4);
    // A large leaf over the parts takes their tables away.
    CHECK_EQ(page_table_map(&pt, 0, PAGE_1G, PAGE_1G, RW, PAGE_WB), OK);
    CHECK_EQ(pt.tables, 2);
    table_end(&pt);
}

TEST(entries_are_as_the_manual_has_them)
{
    const struct page_table_format *h = &page_format_host, *e = &page_format_ept;
    CHECK_EQ(h->leaf(0x5000, 1, RW, PAGE_WB), 0x8000000000005003ull);
    CHECK_EQ(h->leaf(0x5000, 1, PAGE_READ | PAGE_EXECUTE, PAGE_UC), 0x5019);
    CHECK_EQ(h->leaf(0x200000, 2, RW | PAGE_EXECUTE | PAGE_USER | PAGE_GLOBAL, PAGE_WC), 0x201187);
    CHECK_EQ(h->leaf(0x5000, 1, RW | PAGE_EXECUTE, PAGE_WC), 0x5083);
    CHECK_EQ(h->leaf(0x5000, 1, RW | PAGE_EXECUTE, PAGE_WT), 0x500b);
    CHECK_EQ(e->leaf(0x5000, 1, RW | PAGE_EXECUTE, PAGE_WB), 0x5037);
    CHECK_EQ(e->leaf(0x5000, 1, PAGE_EXECUTE, PAGE_UC), 0x5005);
    CHECK_EQ(e->leaf(0x5000, 1, PAGE_WRITE, PAGE_WC), 0x500b);
    CHECK_EQ(e->leaf(0x40000000, 3, RW, PAGE_WT), 0x400000a3);
}

TEST(every_type_and_access_decodes_to_itself)
{
    static const struct page_table_format *const formats[] = {&page_format_host, &page_format_ept};
    for (unsigned f = 0; f < ARRAY_SIZE(formats); f++)
        for (unsigned level = 1; level <= 3; level++)
            for (unsigned type = PAGE_WB; type <= PAGE_WT; type++)
                for (unsigned access = 1; access < 8; access += 2) {
                    struct page_mapping m;
                    u64 leaf = formats[f]->leaf(PAGE_1G, level, access, type);
                    formats[f]->decode(leaf, level, &m);
                    CHECK_EQ(m.access, access);
                    CHECK_EQ(m.type, type);
                    CHECK_EQ(leaf_physical(leaf, level), PAGE_1G);
                }
}

// Whatever the step at which tables run out: an error, a prefix mapped, and nothing leaks.
TEST(running_out_of_tables_at_each_step)
{
    u64 va = 512 * PAGE_1G - PAGE_2M - PAGE_SIZE, size = PAGE_2M + 2 * PAGE_SIZE;
    for (int left = 0; left < 8; left++) {
        struct page_table pt = table_make(&page_format_ept, 3);
        tables_left = left;
        int error = page_table_map(&pt, va, va, size, RW, PAGE_WB);
        CHECK_EQ(error, left < 6 ? ERR_NO_MEMORY : OK);
        CHECK_EQ(size_at(&pt, va), left < 3 ? 0 : PAGE_SIZE);
        CHECK_EQ(size_at(&pt, va + PAGE_SIZE), left < 3 ? 0 : PAGE_2M);
        CHECK_EQ(size_at(&pt, va + size - PAGE_SIZE), left < 6 ? 0 : PAGE_SIZE);
        table_end(&pt);
    }
}

TEST(a_split_without_memory_keeps_the_mapping)
{
    for (int left = 0; left < 3; left++) {
        struct page_table pt = table_make(&page_format_ept, 3);
        CHECK_EQ(page_table_map(&pt, 0, 0, PAGE_1G, RW, PAGE_WB), OK);
        tables_left = left;
        CHECK_EQ(page_table_unmap(&pt, PAGE_SIZE, PAGE_SIZE), left < 2 ? ERR_NO_MEMORY : OK);
        CHECK_EQ(size_at(&pt, PAGE_SIZE), left == 0 ? PAGE_1G : left == 1 ? PAGE_2M : 0);
        CHECK_EQ(size_at(&pt, PAGE_2M), left == 0 ? PAGE_1G : PAGE_2M);
        table_end(&pt);
    }
}

TEST(no_root_is_an_error)
{
    struct page_table pt = {.format = &page_format_ept,
                            .env = {fake_alloc, fake_free, fake_table, 0}};
    tables_left = 0;
    CHECK_EQ(page_table_init(&pt), ERR_NO_MEMORY);
    page_table_destroy(&pt);
    CHECK_EQ(tables_live, 0);
}

TEST(clear_keeps_the_root)
{
    struct page_table pt = table_make(&page_format_ept, 2);
    CHECK_EQ(page_table_map(&pt, 0, 0, PAGE_1G + PAGE_SIZE, RW, PAGE_WB), OK);
    u64 root = pt.root;
    page_table_clear(&pt);
    CHECK_EQ(pt.root, root);
    CHECK_EQ(pt.tables, 1);
    CHECK_EQ(size_at(&pt, 0), 0);
    table_end(&pt);
}
