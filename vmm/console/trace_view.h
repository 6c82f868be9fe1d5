// SPDX-License-Identifier: MIT
// What is looked at of a vCPU's ring of exits: a copy of it, a filter, its hot spots, and each exit
// as a line of JSON. Pure but for the copy's memory.
#pragma once

#include "vmm/trace.h"

// --- filter ---

#define TRACE_FILTER_WHY 96

struct trace_range {
    u64 first, last; // both count
};

struct trace_filter {
    u32 kinds; // bit n: enum exit_kind n; 0: all
    struct trace_range rip, detail;
};

void trace_filter_init(struct trace_filter *filter); // lets all through
// One word: kind=NAME (several: any of them); rip= and detail= with a number or FROM-TO; port= and
// address=, which are detail= of one kind of exit. False: it is none, and `why` says so in one
// line.
MUST_CHECK bool trace_filter_add(struct trace_filter *filter, const char *word,
                                 char why[TRACE_FILTER_WHY]);
bool trace_filter_match(const struct trace_filter *filter, const struct trace_entry *entry);

// --- copy ---

struct trace_copy {
    u64 total; // exits that the vCPU had, the lost ones included
    unsigned count;
    struct trace_entry entries[TRACE_RING]; // oldest first
};

// A copy of what the ring holds and the filter lets through; the vCPU may go on. Null: no memory.
// Freed with heap_free().
MUST_CHECK struct trace_copy *trace_copy_make(const struct trace *trace,
                                              const struct trace_filter *filter);

// --- hot spots ---

#define TRACE_HOT_MAX 5

struct trace_hot {
    u64 rip, count, cycles;
};

void trace_copy_sort(struct trace_copy *copy); // by kind, then RIP
// The RIPs whose exits of this kind took the most cycles together, from a sorted copy. Returns how
// many.
unsigned trace_hot_find(const struct trace_copy *copy, enum exit_kind kind,
                        struct trace_hot hot[TRACE_HOT_MAX]);

// --- JSON ---

#define TRACE_JSON_LINE 200

// One event of the format that trace viewers read ("Trace Event Format", complete events): times
// are in microseconds from tsc_zero on.
void trace_json_event(char line[TRACE_JSON_LINE], const struct trace_entry *entry, unsigned vcpu,
                      u64 tsc_zero, u64 tsc_rate);
