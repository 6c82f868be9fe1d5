// SPDX-License-Identifier: MIT
// What a vCPU's exits cost: a count and a cycle histogram per kind, and a ring with the last exits.
// Always on.
#pragma once

#include "vmm/lib/types.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"
#include "vmm/exit.h"

#define TRACE_RING    4096
#define TRACE_BUCKETS 32 // bucket n counts exits that took 2^n to 2^(n+1) - 1 cycles

struct trace_entry {
    u64 rip, detail;
    u64 start; // host TSC at the exit
    u32 cycles;
    u16 kind;
    u16 reserved;
};

struct trace_kind {
    u64 count, cycles;
    u32 buckets[TRACE_BUCKETS];
};

struct trace {
    u64 next; // entries written so far
    struct trace_entry ring[TRACE_RING];
    struct trace_kind kinds[EXIT_KIND_COUNT];
};

// cycles: from where the decoded exit is in hand to where its action is done.
static inline void trace_record(struct trace *trace, const struct vm_exit *exit, u64 start,
                                u64 cycles)
{
    struct trace_entry *e = &trace->ring[trace->next++ % TRACE_RING];
    e->rip = exit->rip;
    e->detail = exit->detail;
    e->start = start;
    e->cycles = cycles > 0xffffffff ? 0xffffffff : (u32)cycles;
    e->kind = (u16)exit->kind;
    struct trace_kind *k = &trace->kinds[exit->kind];
    k->count++;
    k->cycles += cycles;
    assert_static(TRACE_BUCKETS == 8 * sizeof(e->cycles));
    k->buckets[bit_highest(e->cycles | 1)]++;
}
