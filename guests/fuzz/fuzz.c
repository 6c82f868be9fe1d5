// SPDX-License-Identifier: MIT
// The guest fuzzer: two CPUs. It asks for a seed, unless "seed=N" is on the command line, and ends
// after "count=N" trials. This is CPU 0: it makes blocks of trials in each way of running code, has
// CPU 1 try them, and wakes it when it hangs: with an interrupt, an NMI, at last with INIT, after
// which the block goes on behind the trial that hung. Seed and block survive a reset in CMOS
// memory. A trial that is counted was entered by CPU 1 and ended by something that it took.
#include "guests/fuzz/fuzz.h"
#include "guests/lib/apic.h"
#include "guests/lib/check.h"

#define CMOS_INDEX      0x70
#define CMOS_DATA       0x71
#define CMOS_SAVED      0x60 // where in it
#define COM1            0x3f8
#define COM1_IER        (COM1 + 1)
#define COM1_LCR        (COM1 + 3)
#define COM1_LSR        (COM1 + 5)
#define LSR_DATA        BIT(0)
#define COM1_MCR        (COM1 + 4)
#define LCR_8N1         3
#define FUZZ_CPU        1
#define ID_SHIFT        24
#define ICR_NMI         0x400
#define ICR_INIT        0x500
#define ICR_STARTUP     0x600
#define VECTOR_TICK     0xf1
#define VECTOR_WAKE     0xf2
#define TPR_QUIET       0xe0
#define LEAF_KVM_TIMING 0x40000010
#define PROGRESS_BLOCKS 16
#define FILL_BLOCKS     32
#define ABSENT_MAX      4
#define RESET_PORT      0xcf9
#define RESET_CPU       0x04
#define TRIALS_MIN      8 // that a block has on average, or nothing works any more
#define TICKS_WAKE      1 // without progress
#define TICKS_NMI       3
#define TICKS_LOST      8
#define TICKS_BLOCK     1000 // the longest that a block may take
#define TICKS_SECOND    3000
#define BLOCK_STARTS    8 // of CPU 1
#define SEED_STRIDE     1000003
#define STATE_MAGIC     0x5a17

// What is kept over a reset.
struct PACKED saved {
    u16 magic;
    u32 block;
    u64 seed, executed;
    u16 check;
};

static struct saved saved;
static u64 ends[FUZZ_ENDS], lost, woken;
static unsigned absent; // runs in a row in which nothing was executed
static u64 tick_length;

static bool on_interrupt(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    (void)frame;
    if (vector < FUZZ_VECTORS && vector >= 32)
        apic_write(APIC_EOI, 0);
    return vector >= 32 || vector == VECTOR_NMI;
}

// --- the command line ---

static u64 number_after(const char *line, const char *key)
{
    for (; *line; line++) {
        const char *l = line, *k = key;
        while (*k && *l == *k)
            l++, k++;
        if (*k)
            continue;
        u64 value = 0;
        for (; *l >= '0' && *l <= '9'; l++)
            value = value * 10 + (u64)(*l - '0');
        return value;
    }
    return 0;
}

static u64 number_typed(void)
{
    u64 value = 0;
    guest_print("fuzz: seed? ");
    for (;;) {
        while (!(in8(COM1_LSR) & LSR_DATA))
            cpu_pause();
        u8 c = in8(COM1);
        if (c < '0' || c > '9')
            return value;
        value = value * 10 + (u64)(c - '0');
    }
}

// --- CMOS memory ---

static u16 saved_check(void)
{
    const u8 *bytes = (const u8 *)&saved;
    u16 sum = 1;
    for (unsigned i = 0; i < offsetof(struct saved, check); i++)
        sum = (u16)(sum * 31 + bytes[i]);
    return sum;
}

static void state_store(void)
{
    saved.magic = STATE_MAGIC;
    saved.check = saved_check();
    for (unsigned i = 0; i < sizeof(saved); i++) {
        out8(CMOS_INDEX, (u8)(CMOS_SAVED + i));
        out8(CMOS_DATA, ((const u8 *)&saved)[i]);
    }
}

// After a reset it goes on with the block after the one that reset. False: this is the start.
static bool state_load(void)
{
    u8 any = 0;
    for (unsigned i = 0; i < sizeof(saved); i++) {
        out8(CMOS_INDEX, (u8)(CMOS_SAVED + i));
        ((u8 *)&saved)[i] = in8(CMOS_DATA);
        any |= ((u8 *)&saved)[i];
    }
    if (!any)
        return false;
    if (saved.magic != STATE_MAGIC || saved.check != saved_check()) {
        guest_print("fuzz: lost its place\n");
        guest_finish(true, NULL);
    }
    saved.block++;
    return true;
}

// --- CPU 1 ---

static void ipi(u32 command)
{
    apic_write(APIC_ICR_HIGH, FUZZ_CPU << ID_SHIFT);
    apic_write(APIC_ICR, command | APIC_ICR_ASSERT);
}

static void wait_tick(void)
{
    wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() + tick_length);
    interrupts_wait();
}

static void wake(unsigned quiet)
{
    if (quiet == TICKS_WAKE)
        ipi(VECTOR_WAKE);
    else if (quiet == TICKS_NMI)
        ipi(ICR_NMI);
    woken += quiet <= TICKS_NMI;
}

// Until the block is done or hangs for good. Returns whether it is done.
static bool block_run(void)
{
    volatile struct fuzz_header *h = FUZZ_HEADER;
    unsigned quiet = 0;
    ipi(ICR_INIT);
    ipi(ICR_STARTUP | FUZZ_BASE >> PAGE_SHIFT);
    for (u32 last = 0, ticks = 0; !h->done && quiet < TICKS_LOST && ticks < TICKS_BLOCK;
         last = h->index, ticks++) {
        wait_tick();
        quiet = h->index == last ? quiet + 1 : 0;
        if (quiet && !h->done)
            wake(quiet);
    }
    if (h->done)
        return true;
    ipi(ICR_INIT);
    wait_tick();
    lost++;
    return false;
}

// --- what is said ---

// The trials may have programmed the serial line.
static void line_restore(void)
{
    out8(COM1_LCR, LCR_8N1);
    out8(COM1_IER, 0);
    out8(COM1_MCR, 3);
}

static void print_count(const char *text, u64 value)
{
    guest_print(text);
    guest_print_number(value);
}

static void progress_print(void)
{
    line_restore();
    print_count("fuzz: ", saved.executed);
    print_count(" executed, hangs ", lost);
    guest_print("\n");
}

static void summary_print(void)
{
    progress_print();
    print_count("fuzz: finished ", ends[END_FINISHED] + ends[INT_FINISHED]);
    print_count(", by task ", ends[END_TASK]);
    print_count(", woken ", woken);
    guest_print("\nfuzz: ended by vector");
    for (unsigned v = 0; v < FUZZ_VECTORS; v++) {
        if (!ends[v] || v == INT_FINISHED)
            continue;
        print_count(" ", v);
        print_count(":", ends[v]);
    }
    guest_print("\n");
}

// --- blocks ---

// Trials may have overwritten the counts: those that do not agree count nothing. A CPU 1 that does
// not come up, as one that has switched its local APIC off, does so after a reset.
static void block_count(void)
{
    volatile struct fuzz_header *h = FUZZ_HEADER;
    u64 executed = h->executed, sum = 0;
    for (unsigned i = 0; i < FUZZ_ENDS; i++)
        sum += h->ends[i];
    absent = executed ? 0 : absent + 1;
    if (absent == ABSENT_MAX) {
        state_store();
        out8(RESET_PORT, 0); // it resets when the bit goes up
        out8(RESET_PORT, RESET_CPU);
    }
    if (executed > FUZZ_TRIALS || sum != executed)
        return;
    saved.executed += executed;
    for (unsigned i = 0; i < FUZZ_ENDS; i++)
        ends[i] += h->ends[i];
}

static void block_try(void)
{
    volatile struct fuzz_header *h = FUZZ_HEADER;
    random_seed(saved.seed * SEED_STRIDE + saved.block);
    const struct way *way = &ways[saved.block % way_count];
    state_store();
    if (saved.block % FILL_BLOCKS == 0)
        world_fill();
    world_make(way);
    for (unsigned i = 0; i < FUZZ_TRIALS; i++)
        trial_make(way, i);
    bool done = block_run();
    block_count();
    for (unsigned starts = 1; !done && starts < BLOCK_STARTS; starts++) {
        u32 next = h->index + 1;
        if (next >= FUZZ_TRIALS)
            break;
        world_make(way);
        h->index = next;
        done = block_run();
        block_count();
    }
}

static void apic_setup(void)
{
    u64 kilohertz = cpuid(LEAF_KVM_TIMING, 0).eax;
    tick_length = (kilohertz ? kilohertz : 1000000) * 1000 / TICKS_SECOND;
    interrupt_hook = on_interrupt;
    apic_write(APIC_TPR, TPR_QUIET);
    apic_write(APIC_LVT_LINT0, APIC_LVT_MASKED);
    apic_write(APIC_LVT_LINT1, APIC_LVT_MASKED);
    apic_write(APIC_SVR, APIC_SVR_ENABLE | 0xff);
    apic_write(APIC_LVT_TIMER, VECTOR_TICK | APIC_LVT_TSC_DEADLINE);
}

void guest_main(const u8 *boot_params)
{
    const char *line = (const char *)(u64)boot_params_u32(boot_params, BOOT_PARAMS_CMDLINE_PTR);
    u64 count = number_after(line, "count=");
    check_setup();
    apic_setup();
    if (!state_load()) {
        saved.seed = number_after(line, "seed=");
        if (!saved.seed)
            saved.seed = number_typed();
    }
    print_count("fuzz: seed ", saved.seed);
    print_count(", from block ", saved.block);
    guest_print("\n");
    world_fill();
    while (saved.executed < count && saved.block < count / TRIALS_MIN) {
        block_try();
        if (saved.block++ % PROGRESS_BLOCKS == 0)
            progress_print();
    }
    summary_print();
    guest_finish(true, NULL);
}
