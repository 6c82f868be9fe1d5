// SPDX-License-Identifier: MIT
// vmm/console/trace_view.c: filters as typed, copies of the ring, hot spots, lines of JSON.
#include "tests/unit/test.h"
#include "vmm/lib/format.c"
#include "vmm/lib/parse.c"
#include "vmm/lib/suggest.c"
#include "vmm/console/trace_view.c"
#include <string.h>

void *heap_alloc(size_t size)
{
    return calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

bool string_copy(char *to, size_t size, const char *from)
{
    return (size_t)snprintf(to, size, "%s", from) < size;
}

bool string_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

const char *exit_kind_name(enum exit_kind kind)
{
    static const char *const names[] = {
#define X(kind, handler, name) name,
        EXIT_LIST(X)
#undef X
    };
    return names[kind];
}

static struct trace_filter filter;
static char why[TRACE_FILTER_WHY];
static struct trace trace;

static bool add(const char *word)
{
    why[0] = 0;
    bool good = trace_filter_add(&filter, word, why);
    CHECK(good == !why[0]);
    return good;
}

static bool lets(enum exit_kind kind, u64 rip, u64 detail)
{
    struct trace_entry entry = {.kind = (u16)kind, .rip = rip, .detail = detail};
    return trace_filter_match(&filter, &entry);
}

static void record(enum exit_kind kind, u64 rip, u64 detail, u64 cycles)
{
    struct vm_exit exit = {.kind = kind, .rip = rip, .detail = detail};
    trace_record(&trace, &exit, 1000 * trace.next, cycles);
}

TEST(no_filter_lets_all_through)
{
    trace_filter_init(&filter);
    CHECK(lets(EXIT_INTERRUPT, 0, 0));
    CHECK(lets(EXIT_UNKNOWN, ~0ull, ~0ull));
}

TEST(kinds_add_up)
{
    trace_filter_init(&filter);
    CHECK(add("kind=io"));
    CHECK(lets(EXIT_IO, 1, 1));
    CHECK(!lets(EXIT_CPUID, 1, 1));
    CHECK(add("kind=unknown"));
    CHECK(lets(EXIT_IO, 1, 1));
    CHECK(lets(EXIT_UNKNOWN, 1, 1));
    CHECK(!lets(EXIT_INTERRUPT, 1, 1));
}

TEST(rip_ranges_include_both_ends)
{
    trace_filter_init(&filter);
    CHECK(add("rip=0xffffffff81000000-0xffffffff81000fff"));
    CHECK(lets(EXIT_IO, 0xffffffff81000000, 0));
    CHECK(lets(EXIT_IO, 0xffffffff81000fff, 0));
    CHECK(!lets(EXIT_IO, 0xffffffff81001000, 0));
    CHECK(!lets(EXIT_IO, 0xffffffff80ffffff, 0));
    trace_filter_init(&filter);
    CHECK(add("rip=4096"));
    CHECK(lets(EXIT_IO, 0x1000, 0));
    CHECK(!lets(EXIT_IO, 0x1001, 0));
}

TEST(all_conditions_must_hold)
{
    trace_filter_init(&filter);
    CHECK(add("kind=io") && add("detail=0x3f8") && add("rip=0x1000-0x2000"));
    CHECK(lets(EXIT_IO, 0x1800, 0x3f8));
    CHECK(!lets(EXIT_IO, 0x1800, 0x3f9));
    CHECK(!lets(EXIT_IO, 0x2800, 0x3f8));
    CHECK(!lets(EXIT_MSR_READ, 0x1800, 0x3f8));
    trace_filter_init(&filter);
    CHECK(add("detail=0")); // 0 is a value like others
    CHECK(!lets(EXIT_IO, 0, 1));
}

TEST(ports_and_addresses_are_details_of_their_kind)
{
    trace_filter_init(&filter);
    CHECK(add("port=0x3f8-0x3ff"));
    CHECK(lets(EXIT_IO, 1, 0x3f8) && lets(EXIT_IO, 1, 0x3ff));
    CHECK(!lets(EXIT_IO, 1, 0x400) && !lets(EXIT_IO, 1, 0x3f7));
    CHECK(!lets(EXIT_MEMORY, 1, 0x3f8));
    trace_filter_init(&filter);
    CHECK(add("address=0xfee00000"));
    CHECK(lets(EXIT_MEMORY, 1, 0xfee00000));
    CHECK(!lets(EXIT_MEMORY, 1, 0xfee00001));
    CHECK(!lets(EXIT_MSR_READ, 1, 0xfee00000));
    CHECK(!add("port=com1"));
    CHECK(!add("address=2-1"));
}

TEST(what_is_wrong_is_said)
{
    static const struct {
        const char *word, *why;
    } wrong[] = {
        {"kind=hlr", "there is no kind of exit 'hlr'; did you mean 'hlt'?"},
        {"kind=zzzzzzzzzz", "there is no kind of exit 'zzzzzzzzzz'; stats shows them"},
        {"kind=", NULL},
        {"rip=1-", "'1-' is no number and no range: 0xFROM-0xTO"},
        {"rip=-1", "'-1' is no number and no range: 0xFROM-0xTO"},
        {"rip=2-1", "'2-1' is no number and no range: 0xFROM-0xTO"},
        {"rip=1-2-3", "'1-2-3' is no number and no range: 0xFROM-0xTO"},
        {"rip=", NULL},
        {"rip=00000000000000000000000000000000000000000000001-2", NULL},
        {"detail=x", "'x' is no number and no range: 0xFROM-0xTO"},
        {"detail=0x10000000000000000", NULL},
        {"colour=red", "'colour=red' is no filter: kind=, rip=, port=, address= or detail="},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        trace_filter_init(&filter);
        CHECK(!add(wrong[i].word));
        if (wrong[i].why)
            CHECK_STR(why, wrong[i].why);
    }
}

TEST(copies_hold_the_last_exits_in_order)
{
    memset(&trace, 0, sizeof(trace));
    trace_filter_init(&filter);
    struct trace_copy *copy = trace_copy_make(&trace, &filter);
    CHECK_EQ(copy->count, 0);
    heap_free(copy);
    for (u64 i = 0; i < TRACE_RING + 10; i++)
        record(i % 2 ? EXIT_IO : EXIT_CPUID, i, 0, 1);
    copy = trace_copy_make(&trace, &filter);
    CHECK_EQ(copy->total, TRACE_RING + 10);
    CHECK_EQ(copy->count, TRACE_RING);
    CHECK_EQ(copy->entries[0].rip, 10);
    CHECK_EQ(copy->entries[TRACE_RING - 1].rip, TRACE_RING + 9);
    heap_free(copy);
    CHECK(add("kind=io"));
    copy = trace_copy_make(&trace, &filter);
    CHECK_EQ(copy->count, TRACE_RING / 2);
    CHECK_EQ(copy->entries[0].rip, 11);
    heap_free(copy);
}

TEST(hot_spots_are_the_dearest_of_their_kind)
{
    memset(&trace, 0, sizeof(trace));
    trace_filter_init(&filter);
    for (unsigned round = 0; round < 3; round++)
        for (u64 rip = 1; rip <= 8; rip++)
            record(EXIT_IO, rip, round, 10 * (rip * 3 % 8)); // 1: 30, 2: 60, ... 8: 0
    record(EXIT_CPUID, 3, 0, 100000);
    struct trace_copy *copy = trace_copy_make(&trace, &filter);
    struct trace_hot hot[TRACE_HOT_MAX];
    trace_copy_sort(copy);
    CHECK_EQ(trace_hot_find(copy, EXIT_IO, hot), TRACE_HOT_MAX);
    static const u64 rips[TRACE_HOT_MAX] = {5, 2, 7, 4, 1}; // 70, 60, 50, 40, 30
    for (unsigned i = 0; i < TRACE_HOT_MAX; i++) {
        CHECK_EQ(hot[i].rip, rips[i]);
        CHECK_EQ(hot[i].count, 3);
        CHECK_EQ(hot[i].cycles, 3 * (70 - 10 * i));
    }
    CHECK_EQ(trace_hot_find(copy, EXIT_CPUID, hot), 1);
    CHECK_EQ(hot[0].cycles, 100000);
    CHECK_EQ(trace_hot_find(copy, EXIT_HLT, hot), 0);
    heap_free(copy);
}

TEST(events_are_json_in_microseconds)
{
    struct trace_entry entry = {.kind = EXIT_MSR_WRITE,
                                .rip = 0xffffffff81000000,
                                .detail = 0x6e0,
                                .start = 5000000,
                                .cycles = 125};
    char line[TRACE_JSON_LINE];
    trace_json_event(line, &entry, 3, 1000000, 50000000); // 50 MHz: 20 ns a tick
    CHECK_STR(line,
              "{\"name\":\"wrmsr\",\"ph\":\"X\",\"pid\":1,\"tid\":3,\"ts\":80000.000,"
              "\"dur\":2.500,\"args\":{\"rip\":\"0xffffffff81000000\",\"detail\":\"0x6e0\"}}");
    entry = (struct trace_entry){~0ull, ~0ull, ~0ull, ~0u, EXIT_TRIPLE_FAULT, 0};
    trace_json_event(line, &entry, ~0u, 0, 1000000000); // the longest line is whole
    CHECK(line[strlen(line) - 1] == '}' && line[strlen(line) - 2] == '}');
    trace_json_event(line, &entry, 0, 0, 0); // an unknown rate
}
