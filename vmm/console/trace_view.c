// SPDX-License-Identifier: MIT
// See the header.

#include "vmm/console/trace_view.h"
#include "vmm/lib/format.h"
#include "vmm/lib/parse.h"
#include "vmm/lib/string.h"
#include "vmm/lib/suggest.h"
#include "mm/heap.h"

// --- filter ---

#define NUMBER_MAX 32 // characters of a number, at most

void trace_filter_init(struct trace_filter *filter)
{
    *filter = (struct trace_filter){.rip.last = ~0ull, .detail.last = ~0ull};
}

static bool add_kind(struct trace_filter *filter, const char *value, char *why)
{
    assert_static(EXIT_KIND_COUNT <= 8 * sizeof(filter->kinds));
    struct suggestion near;
    suggest_start(&near, value);
    for (unsigned kind = 0; kind < EXIT_KIND_COUNT; kind++) {
        suggest_offer(&near, exit_kind_name(kind));
        if (strcmp(value, exit_kind_name(kind)) == 0) {
            filter->kinds |= 1u << kind;
            return true;
        }
    }
    if (near.best)
        format_text(why, TRACE_FILTER_WHY, "there is no kind of exit '%.24s'; did you mean '%s'?",
                    value, near.best);
    else
        format_text(why, TRACE_FILTER_WHY, "there is no kind of exit '%.24s'; stats shows them",
                    value);
    return false;
}

static bool read_range(const char *value, struct trace_range *range, char *why)
{
    char first[NUMBER_MAX];
    const char *dash = strchr(value, '-'), *last = dash ? dash + 1 : value;
    size_t length = dash ? (size_t)(dash - value) : strlen(value);
    string_copy(first, MIN(length + 1, sizeof(first)), value);
    if (length < sizeof(first) && parse_number(first, &range->first) &&
        parse_number(last, &range->last) && range->first <= range->last)
        return true;
    format_text(why, TRACE_FILTER_WHY, "'%.44s' is no number and no range: 0xFROM-0xTO", value);
    return false;
}

static bool add_rip(struct trace_filter *filter, const char *value, char *why)
{
    return read_range(value, &filter->rip, why);
}

static bool add_detail(struct trace_filter *filter, const char *value, char *why)
{
    return read_range(value, &filter->detail, why);
}

static bool add_port(struct trace_filter *filter, const char *value, char *why)
{
    filter->kinds |= 1u << EXIT_IO;
    return add_detail(filter, value, why);
}

static bool add_address(struct trace_filter *filter, const char *value, char *why)
{
    filter->kinds |= 1u << EXIT_MEMORY;
    return add_detail(filter, value, why);
}

static const struct {
    const char *key;
    bool (*add)(struct trace_filter *filter, const char *value, char *why);
} filter_keys[] = {{"kind=", add_kind},
                   {"rip=", add_rip},
                   {"detail=", add_detail},
                   {"port=", add_port},
                   {"address=", add_address}};

bool trace_filter_add(struct trace_filter *filter, const char *word, char why[TRACE_FILTER_WHY])
{
    for (unsigned i = 0; i < ARRAY_SIZE(filter_keys); i++)
        if (string_starts(word, filter_keys[i].key))
            return filter_keys[i].add(filter, word + strlen(filter_keys[i].key), why);
    format_text(why, TRACE_FILTER_WHY,
                "'%.24s' is no filter: kind=, rip=, port=, address= or detail=", word);
    return false;
}

static bool in_range(const struct trace_range *range, u64 value)
{
    return value >= range->first && value <= range->last;
}

bool trace_filter_match(const struct trace_filter *filter, const struct trace_entry *entry)
{
    return (!filter->kinds || (filter->kinds >> entry->kind & 1)) &&
           in_range(&filter->rip, entry->rip) && in_range(&filter->detail, entry->detail);
}

// --- copy ---

struct trace_copy *trace_copy_make(const struct trace *trace, const struct trace_filter *filter)
{
    struct trace_copy *copy = heap_alloc(sizeof(*copy));
    if (!copy)
        return NULL;
    const volatile u64 *next = &trace->next;
    u64 end = *next, first = end - MIN(end, (u64)TRACE_RING);
    copy->total = end;
    for (u64 n = first; n < end; n++) {
        struct trace_entry entry = trace->ring[n % TRACE_RING];
        if (*next - n > TRACE_RING)
            continue; // overwritten meanwhile, perhaps in part
        if (trace_filter_match(filter, &entry))
            copy->entries[copy->count++] = entry;
    }
    return copy;
}

// --- hot spots ---

static bool entry_before(const struct trace_entry *a, const struct trace_entry *b)
{
    return a->kind != b->kind ? a->kind < b->kind : a->rip < b->rip;
}

// Shell's sort: short, in place, and fast enough for a ring.
void trace_copy_sort(struct trace_copy *copy)
{
    struct trace_entry *entries = copy->entries;
    for (unsigned gap = TRACE_RING / 2; gap; gap /= 2)
        for (unsigned i = gap; i < copy->count; i++) {
            struct trace_entry entry = entries[i];
            unsigned at = i;
            for (; at >= gap && entry_before(&entry, &entries[at - gap]); at -= gap)
                entries[at] = entries[at - gap];
            entries[at] = entry;
        }
}

// Into the list, the most cycles first, if it is among the first.
static unsigned hot_insert(struct trace_hot *hot, unsigned count, const struct trace_hot *spot)
{
    unsigned at = count;
    for (; at && hot[at - 1].cycles < spot->cycles; at--)
        if (at < TRACE_HOT_MAX)
            hot[at] = hot[at - 1];
    if (at < TRACE_HOT_MAX)
        hot[at] = *spot;
    return MIN(count + 1, (unsigned)TRACE_HOT_MAX);
}

unsigned trace_hot_find(const struct trace_copy *copy, enum exit_kind kind,
                        struct trace_hot hot[TRACE_HOT_MAX])
{
    unsigned count = 0;
    for (unsigned i = 0; i < copy->count;) {
        const struct trace_entry *first = &copy->entries[i];
        struct trace_hot spot = {.rip = first->rip};
        for (; i < copy->count && copy->entries[i].kind == first->kind &&
               copy->entries[i].rip == first->rip;
             i++) {
            spot.count++;
            spot.cycles += copy->entries[i].cycles;
        }
        if (first->kind == kind)
            count = hot_insert(hot, count, &spot);
    }
    return count;
}

// --- JSON ---

#define NS_PER_SECOND 1000000000ull
#define NS_PER_US     1000ull

void trace_json_event(char line[TRACE_JSON_LINE], const struct trace_entry *entry, unsigned vcpu,
                      u64 tsc_zero, u64 tsc_rate)
{
    u64 rate = MAX(tsc_rate, 1ull);
    u64 start = mul_div(entry->start - tsc_zero, NS_PER_SECOND, rate);
    u64 taken = mul_div(entry->cycles, NS_PER_SECOND, rate);
    format_text(line, TRACE_JSON_LINE,
                "{\"name\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%u,\"ts\":%llu.%03llu,"
                "\"dur\":%llu.%03llu,\"args\":{\"rip\":\"0x%llx\",\"detail\":\"0x%llx\"}}",
                exit_kind_name(entry->kind), vcpu, (unsigned long long)(start / NS_PER_US),
                (unsigned long long)(start % NS_PER_US), (unsigned long long)(taken / NS_PER_US),
                (unsigned long long)(taken % NS_PER_US), (unsigned long long)entry->rip,
                (unsigned long long)entry->detail);
}
