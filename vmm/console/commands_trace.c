// SPDX-License-Identifier: MIT
// Commands on what exits cost: per kind, and the last ones. A vCPU may write while this reads;
// figures of different columns may then be one exit apart.

#include "vmm/console/commands.h"
#include "vmm/console/console.h"
#include "vmm/console/trace_view.h"
#include "vmm/vm.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/cpu.h"
#include "mm/heap.h"

#define TRACE_DEFAULT 20
#define BAR_WIDTH     40

// --- stats ---

// The end of the bucket that the part `numerator`/`denominator` of all exits is reached in: their
// cycles are below it.
static u64 percentile(const struct trace_kind *kind, u64 numerator, u64 denominator)
{
    u64 total = 0, seen = 0;
    for (unsigned b = 0; b < TRACE_BUCKETS; b++)
        total += kind->buckets[b];
    for (unsigned b = 0; b < TRACE_BUCKETS; b++) {
        seen += kind->buckets[b];
        if (seen && seen * denominator >= total * numerator)
            return BIT(b + 1);
    }
    return 0;
}

// Kinds that occurred, the most expensive first; returns how many.
static unsigned sort_kinds(const struct trace *trace, unsigned order[EXIT_KIND_COUNT])
{
    unsigned count = 0;
    for (unsigned kind = 0; kind < EXIT_KIND_COUNT; kind++) {
        if (!trace->kinds[kind].count)
            continue;
        unsigned at = count++;
        for (; at && trace->kinds[order[at - 1]].cycles < trace->kinds[kind].cycles; at--)
            order[at] = order[at - 1];
        order[at] = kind;
    }
    return count;
}

static void print_histogram(const struct trace_kind *kind)
{
    u32 largest = 1;
    for (unsigned b = 0; b < TRACE_BUCKETS; b++)
        largest = MAX(largest, kind->buckets[b]);
    for (unsigned b = 0; b < TRACE_BUCKETS; b++) {
        if (!kind->buckets[b])
            continue;
        char bar[BAR_WIDTH + 1];
        unsigned width = (unsigned)((u64)kind->buckets[b] * BAR_WIDTH / largest);
        memset(bar, '#', width);
        bar[width] = 0;
        host_print("    %10llu.. %10u %s\n", (unsigned long long)BIT(b), kind->buckets[b], bar);
    }
}

static void print_kind(unsigned kind, const struct trace_kind *k, u64 all_cycles)
{
    host_print("  %-12s %11llu %15llu %5llu%% %9llu %9llu %9llu\n", exit_kind_name(kind),
               (unsigned long long)k->count, (unsigned long long)k->cycles,
               (unsigned long long)(all_cycles ? mul_div(k->cycles, 100, all_cycles) : 0),
               (unsigned long long)(k->cycles / MAX(k->count, 1ull)),
               (unsigned long long)percentile(k, 50, 100),
               (unsigned long long)percentile(k, 99, 100));
}

static void print_stats(const struct vcpu *vcpu, bool histograms)
{
    unsigned order[EXIT_KIND_COUNT];
    const struct trace *trace = vcpu->trace;
    unsigned count = sort_kinds(trace, order);
    u64 cycles = 0;
    for (unsigned i = 0; i < count; i++)
        cycles += trace->kinds[order[i]].cycles;
    host_print("vCPU %u: %llu exits, %llu cycles\n", vcpu->index, (unsigned long long)trace->next,
               (unsigned long long)cycles);
    if (count)
        host_print("  %-12s %11s %15s %6s %9s %9s %9s\n", "exit", "count", "cycles", "share",
                   "mean", "p50 <", "p99 <");
    for (unsigned i = 0; i < count; i++) {
        const struct trace_kind *kind = &trace->kinds[order[i]];
        print_kind(order[i], kind, cycles);
        if (histograms)
            print_histogram(kind);
    }
}

// --- hot spots ---

static void print_hot_kind(const struct trace_copy *copy, unsigned kind)
{
    struct trace_hot hot[TRACE_HOT_MAX];
    unsigned count = trace_hot_find(copy, kind, hot);
    for (unsigned i = 0; i < count; i++)
        host_print("  %-12s 0x%016llx %8llu %15llu %9llu\n", exit_kind_name(kind),
                   (unsigned long long)hot[i].rip, (unsigned long long)hot[i].count,
                   (unsigned long long)hot[i].cycles,
                   (unsigned long long)(hot[i].cycles / MAX(hot[i].count, 1ull)));
}

static struct trace_copy *copy_or_say(const struct vcpu *vcpu, const struct trace_filter *filter)
{
    struct trace_copy *copy = trace_copy_make(vcpu->trace, filter);
    if (!copy)
        host_print("the host has no memory left for a copy of the trace\n");
    return copy;
}

static void print_hot(const struct vcpu *vcpu)
{
    unsigned order[EXIT_KIND_COUNT];
    struct trace_filter all;
    trace_filter_init(&all);
    struct trace_copy *copy = copy_or_say(vcpu, &all);
    if (!copy)
        return;
    trace_copy_sort(copy);
    host_print("vCPU %u: where the last %u of %llu exits came from\n", vcpu->index, copy->count,
               (unsigned long long)copy->total);
    if (copy->count)
        host_print("  %-12s %18s %8s %15s %9s\n", "exit", "RIP", "count", "cycles", "mean");
    unsigned count = sort_kinds(vcpu->trace, order);
    for (unsigned i = 0; i < count; i++)
        print_hot_kind(copy, order[i]);
    heap_free(copy);
}

void command_stats(unsigned count, char **words)
{
    bool histograms = command_option(&count, words, "-h");
    bool hot = count == 3 && strcmp(words[2], "hot") == 0;
    if (count != 2 && (!hot || histograms)) {
        host_print("stats: one VM, and -h for histograms or hot for hot spots\n");
        return;
    }
    struct vm *vm = command_vm(words[1]);
    for (unsigned i = 0; vm && i < vm->vcpu_count; i++) {
        if (hot)
            print_hot(&vm->vcpus[i]);
        else
            print_stats(&vm->vcpus[i], histograms);
    }
}

// --- trace ---

struct trace_request {
    struct trace_filter filter;
    unsigned wanted; // 0: not said
    bool all, json;
};

static u64 microseconds_of(u64 tsc)
{
    return tsc_hz ? mul_div(tsc - tsc_boot, 1000000, tsc_hz) : 0;
}

static void print_trace(const struct vcpu *vcpu, const struct trace_copy *copy, unsigned first)
{
    host_print("vCPU %u: %llu exits\n", vcpu->index, (unsigned long long)copy->total);
    if (first < copy->count)
        host_print("  %14s %-12s %18s %18s %10s\n", "us", "exit", "RIP", "detail", "cycles");
    for (unsigned n = first; n < copy->count; n++) {
        const struct trace_entry *e = &copy->entries[n];
        host_print("  %14llu %-12s 0x%016llx 0x%016llx %10u\n",
                   (unsigned long long)microseconds_of(e->start), exit_kind_name(e->kind),
                   (unsigned long long)e->rip, (unsigned long long)e->detail, e->cycles);
    }
}

// An event a line, each with a comma: tests/trace2json.py picks them out of a captured console.
static void print_json(const struct vcpu *vcpu, const struct trace_copy *copy, unsigned first)
{
    char line[TRACE_JSON_LINE];
    for (unsigned n = first; n < copy->count; n++) {
        trace_json_event(line, &copy->entries[n], vcpu->index, tsc_boot, tsc_hz);
        host_print("%s,\n", line);
    }
    // A name for the vCPU's row, last: no comma where the list ends.
    host_print("{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%u,"
               "\"args\":{\"name\":\"vCPU %u\"}}%s\n",
               vcpu->index, vcpu->index, vcpu->index + 1 < vcpu->vm->vcpu_count ? "," : "");
}

static void trace_vcpu(const struct vcpu *vcpu, const struct trace_request *request)
{
    struct trace_copy *copy = copy_or_say(vcpu, &request->filter);
    if (!copy)
        return;
    unsigned first = copy->count - MIN(copy->count, request->wanted);
    if (request->json)
        print_json(vcpu, copy, first);
    else
        print_trace(vcpu, copy, first);
    heap_free(copy);
}

// A word behind the VM's name: how many, which, or how. False: it is wrong, which has been said.
static bool read_trace_word(struct trace_request *request, const char *word)
{
    char why[TRACE_FILTER_WHY];
    bool all = strcmp(word, "all") == 0, json = strcmp(word, "json") == 0;
    request->all |= all || json;
    request->json |= json;
    if (all || json)
        return true;
    if (*word >= '0' && *word <= '9')
        return command_number(word, TRACE_RING, &request->wanted);
    if (trace_filter_add(&request->filter, word, why))
        return true;
    host_print("%s\n", why);
    return false;
}

void command_trace(unsigned count, char **words)
{
    struct trace_request request = {0};
    trace_filter_init(&request.filter);
    struct vm *vm = command_vm(words[1]);
    for (unsigned i = 2; vm && i < count; i++)
        if (!read_trace_word(&request, words[i]))
            return;
    if (!vm)
        return;
    if (!request.wanted)
        request.wanted = request.all ? TRACE_RING : TRACE_DEFAULT;
    if (request.json)
        host_print("--- trace of %s ---\n{\"traceEvents\":[\n", vm->config.name);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        trace_vcpu(&vm->vcpus[i], &request);
    if (request.json)
        host_print("]}\n--- end of trace ---\n");
}
