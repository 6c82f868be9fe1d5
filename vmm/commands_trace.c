// SPDX-License-Identifier: MIT
// Commands on what exits cost: per kind, and the last ones. A vCPU may write while this reads;
// figures of different columns may then be one exit apart.

#include "vmm/commands.h"
#include "vmm/console.h"
#include "vmm/trace.h"
#include "vmm/vm.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/cpu.h"

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

void command_stats(unsigned count, char **words)
{
    bool histograms = command_option(&count, words, "-h");
    if (count != 2) {
        host_print("stats: one VM, and -h for histograms\n");
        return;
    }
    struct vm *vm = command_vm(words[1]);
    for (unsigned i = 0; vm && i < vm->vcpu_count; i++)
        print_stats(&vm->vcpus[i], histograms);
}

// --- trace ---

static u64 microseconds_of(u64 tsc)
{
    return tsc_hz ? mul_div(tsc - tsc_boot, 1000000, tsc_hz) : 0;
}

static void print_trace(const struct vcpu *vcpu, unsigned wanted)
{
    const struct trace *trace = vcpu->trace;
    u64 end = trace->next;
    u64 kept = MIN(end, (u64)TRACE_RING);
    host_print("vCPU %u: %llu exits\n", vcpu->index, (unsigned long long)end);
    if (end)
        host_print("  %14s %-12s %18s %18s %10s\n", "us", "exit", "RIP", "detail", "cycles");
    for (u64 n = end - MIN(kept, wanted); n < end; n++) {
        const struct trace_entry *e = &trace->ring[n % TRACE_RING];
        host_print("  %14llu %-12s 0x%016llx 0x%016llx %10u\n",
                   (unsigned long long)microseconds_of(e->start), exit_kind_name(e->kind),
                   (unsigned long long)e->rip, (unsigned long long)e->detail, e->cycles);
    }
}

void command_trace(unsigned count, char **words)
{
    unsigned wanted = TRACE_DEFAULT;
    struct vm *vm = command_vm(words[1]);
    if (!vm || (count == 3 && !command_number(words[2], TRACE_RING, &wanted)))
        return;
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        print_trace(&vm->vcpus[i], wanted);
}
