// SPDX-License-Identifier: MIT
// The guest fuzzer: what its files share, and where things lie in the first MiB. CPU 0 makes blocks
// of trials and watches; CPU 1 tries them (modes.asm, which has these numbers too), and is started
// anew for each block.
#pragma once

#include "guests/lib/guest.h"

#define FUZZ_BASE    0x10000ull // modes.asm; the only real-mode code segment
#define FUZZ_SEGMENT 0x1000
#define FUZZ_RECORDS 0x14000ull
#define FUZZ_CODE    0x1c000ull
#define FUZZ_TRIALS  128 // in a block
#define RECORD_SIZE  256
#define CODE_SIZE    64
#define FUZZ_STACK   0x1f000ull
#define FUZZ_GDT     0x20000ull
#define FUZZ_TSS     0x21000ull // three tasks, TSS_STRIDE apart
#define FUZZ_IDT     0x22000ull
#define FUZZ_GROUND  0x30000ull // memory that trials may use as they like
#define GROUND_SIZE  0x50000ull
#define FUZZ_TABLES  0xc00000ull   // page tables, where no trial's memory is mapped
#define FUZZ_MAZE    0x40000000ull // linear addresses whose page tables are random
#define MAZE_SIZE    (8 * PAGE_2M)
#define FUZZ_ADAPTER 0xc1000000ull // where the disks' host adapter is put

// fw_cfg's DMA requests, in the ground.
#define FUZZ_REQUESTS (FUZZ_GROUND + 0x2000)
#define REQUESTS      16
#define REQUEST_SIZE  16

enum flavour { REAL, PROTECTED, LONG };
enum paging { PAGING_NONE, PAGING_32, PAGING_PAE, PAGING_LONG };

// How trials are run: one of the ways in which an x86 CPU executes instructions.
struct way {
    const char *name;
    enum flavour flavour;
    enum paging paging;
    u8 bits; // of the code segment
    u8 cpl;
    bool vm86;
};
extern const struct way ways[];
extern const unsigned way_count;

#define FUZZ_VECTORS 256
#define INT_FINISHED 0x80 // how users come back
enum { END_FINISHED = FUZZ_VECTORS, END_TASK, FUZZ_ENDS = 259 };

struct fuzz_header {
    u32 flavour, cr0, cr3, cr4, efer, xcr0;
    u32 count, index, running, executed, done;
    u32 stubs16, stubs32, stubs64;
    u32 finish16, finish32, finish_wide16, finish_compat, finish_compat16, finish64;
    u32 double_fault, task;
    u32 ends[FUZZ_ENDS];
};
#define FUZZ_HEADER ((volatile struct fuzz_header *)(FUZZ_BASE + 16))

enum selector {
    SEL_CODE32 = 0x08,
    SEL_DATA = 0x10, // low memory alone; so are all code segments
    SEL_CODE64 = 0x18,
    SEL_USER_DATA = 0x23, // everything
    SEL_USER_CODE32 = 0x2b,
    SEL_USER_CODE64 = 0x33,
    SEL_CODE16 = 0x38,
    SEL_USER_CODE16 = 0x43,
    SEL_TSS = 0x48, // two entries each from here on
    SEL_DOUBLE_FAULT = 0x58,
    SEL_TASK = 0x68,
    SEL_LDT = 0x78,
    SEL_CALL_GATE = 0x88,
    SEL_SMALL = 0x9b, // data: the ground alone, for users
    SEL_RANDOM = 0xa0,
    SEL_END = 0x200,
};

// --- random numbers ---

void random_seed(u64 seed);
u64 random64(void);

static inline unsigned random_below(unsigned n)
{
    return (unsigned)((random64() >> 32) * n >> 32);
}

static inline bool one_in(unsigned n)
{
    return random_below(n) == 0;
}

#define PICK(array) ((array)[random_below(ARRAY_SIZE(array))])

// --- the parts ---

void devices_make(void);
void world_fill(void);
void world_make(const struct way *way);                  // everything but the trials
void trial_make(const struct way *way, unsigned number); // its record and its code
