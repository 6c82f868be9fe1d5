// SPDX-License-Identifier: MIT
// Task switches with any descriptors and any task-state segments, with and without paging: each one
// ends in a fault that is complete or in a task, and writes nothing outside of the guest's memory.
#include "tests/fuzz/fuzz.h"
#include "vmm/emulate/guest_walk.c"
#include "vmm/emulate/emulate_memory.c"
#include "vmm/emulate/emulate_wide.c"
#include "vmm/emulate/task_segments.c"
#include "vmm/emulate/task_switch.c"
#include "tests/unit/fake_guest.h"

#define GDT          0x2000u
#define LDT          0x3000u
#define TSS          0x4000u // TASKS of them; the first is the old task's
#define TASKS        8u
#define TSS_STRIDE   0x100u
#define TSS_BYTES    0x68u
#define ENTRIES      32u
#define SOURCES      4
#define SWITCHES_MAX 16
#define LEGACY_PDE   0x83u // present, writable, 4 MiB

// The tables are too much to stand in the input: they come from a number in it.
static u64 state;

static u64 random_bits(unsigned bits)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state ^ state >> 29) >> 7 & (BIT(bits) - 1);
}

// One in four has any bits; the others are a present segment or a TSS.
static void descriptor(gpa_t at)
{
    static const u8 accesses[] = {0x89, 0x8b, 0x81, 0x83, 0x92, 0x93, 0x9a, 0x9e,
                                  0xf3, 0xfb, 0x82, 0xf2, 0xfa, 0xee, 0xe9, 0x85};
    u64 what = random_bits(2), any = random_bits(16);
    if (what == 0) {
        put64(at, random_bits(32) << 32 | random_bits(32));
        return;
    }
    u64 base = what == 1 ? TSS + any % TASKS * TSS_STRIDE : any * 0x40;
    u64 limit = random_bits(3) ? 0xffff : random_bits(7);
    u64 access = accesses[random_bits(what == 1 ? 2 : 4)];
    put64(at, limit | base << 16 | access << 40 | (any & 0xd0) << 48);
}

static void tables(struct fuzz *f)
{
    state = fuzz_number(f, 2);
    for (unsigned i = 1; i < ENTRIES; i++)
        descriptor(GDT + i * 8);
    for (unsigned i = 0; i < ENTRIES / 4; i++)
        descriptor(LDT + i * 8);
    for (unsigned i = 0; i < TASKS; i++)
        for (unsigned at = 0; at < TSS_BYTES; at += sizeof(u32)) {
            u64 value = random_bits(random_bits(3) ? 8 : 32);
            memcpy(ram + TSS + i * TSS_STRIDE + at, &value, sizeof(u32));
        }
}

static void registers(struct fuzz *f)
{
    unsigned mode = fuzz_below(f, 3); // no paging, 32-bit, the same with pages for users alone
    regs[REG_CR0] = CR0_PE | (mode ? CR0_PG : 0);
    regs[REG_CR3] = mode ? PAGES : 0;
    regs[REG_CR4] = mode ? CR4_PSE : 0;
    regs[REG_EFER] = 0;
    regs[REG_RFLAGS] = fuzz_number(f, 3) | RFLAGS_RESERVED;
    put64(PAGES, LEGACY_PDE | (mode == 2 ? fuzz_number(f, 1) : 0));
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        segments[i] = (struct segment){.access = i == SEG_CS ? CODE32 : DATA, .limit = ~0u};
    segments[SEG_GDTR] = (struct segment){
        .base = GDT, .limit = fuzz_below(f, 4) ? ENTRIES * 8 - 1 : (u32)fuzz_number(f, 1)};
    segments[SEG_LDTR] = (struct segment){.base = LDT,
                                          .limit = (u32)fuzz_number(f, 1),
                                          .access = fuzz_below(f, 2) ? 0x82 : SEGMENT_UNUSABLE};
    segments[SEG_TR] = (struct segment){.base = TSS,
                                        .limit = fuzz_below(f, 4) ? 0x67 : (u32)fuzz_number(f, 1),
                                        .access = fuzz_below(f, 4) ? 0x8b : 0x83};
}

static void switch_once(struct fuzz *f)
{
    struct vm_exit ex = {.kind = EXIT_TASK_SWITCH, .rip = CODE, .length = fuzz_below(f, 16)};
    ex.task.selector = (u16)fuzz_number(f, fuzz_below(f, 4) ? 1 : 2);
    ex.task.source = (u8)fuzz_below(f, SOURCES);
    vcpu.event = (struct vcpu_event){.valid = fuzz_below(f, 2),
                                     .vector = (u8)fuzz_number(f, 1),
                                     .type = (u8)fuzz_below(f, 7),
                                     .has_error = fuzz_below(f, 2),
                                     .error = (u32)fuzz_number(f, 2)};
    enum exit_action action = task_switch(&vcpu, &ex);
    CHECK(action == ACTION_RETRY || action == ACTION_NEXT || action == ACTION_FAULT ||
          action == ACTION_STOP);
    CHECK(action != ACTION_FAULT || (ex.fault.valid && ex.fault.vector < 32));
    CHECK(action != ACTION_STOP || killed[0]);
    CHECK(regs[REG_CR0] & CR0_PE);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz f = {data, size};
    fake_guest_reset();
    registers(&f);
    tables(&f);
    for (unsigned i = 0; i < SWITCHES_MAX && f.left && !killed[0]; i++)
        switch_once(&f);
    fuzz_verdict();
    return 0;
}
