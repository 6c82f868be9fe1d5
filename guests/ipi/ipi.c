// SPDX-License-Identifier: MIT
// Two CPUs that wake each other by IPIs, in every form that an IPI has: not one may be lost or come
// twice. A CPU that waits halts, so a wake-up that is lost ends in silence. With "bench" on the
// command line, what an IPI costs; with "switch", what it costs to go from one vCPU to the other on
// one host CPU.
#include "guests/lib/guest.h"
#include "guests/lib/apic.h"
#include "guests/lib/samples.h"
#include "guests/lib/smp.h"

#define SAMPLES      1001
#define SETTLE_TICKS 20000 // in which the other CPU has gone to sleep
#define VECTOR_PING  0x60  // of the first CPU; the other's is the next, so that they stay two
#define SPURIOUS     0xff
#define CPUS         2

#define ICR_LOGICAL     BIT(11)
#define ICR_NMI         (4ull << 8)
#define ICR_ALL         (2ull << 18)
#define ICR_OTHERS      (3ull << 18)
#define ICR_DESTINATION 32
#define XAPIC_ID_SHIFT  24

static u8 other_stack[16 * KIB] __attribute__((aligned(16)));
static volatile u64 received[CPUS], handled_at[CPUS], halted_at[CPUS];
static bool x2apic[CPUS]; // as each has its local APIC
static u32 samples[SAMPLES], more_samples[SAMPLES];

static unsigned this_cpu_index(void)
{
    u64 here = (u64)__builtin_frame_address(0);
    return here >= (u64)other_stack && here <= (u64)(other_stack + sizeof(other_stack));
}

// Asks no MSR for the mode, as apic_write() does.
static void apic_set(enum apic_register reg, u64 value)
{
    if (x2apic[this_cpu_index()])
        wrmsr(MSR_X2APIC_FIRST + reg, value);
    else
        *(volatile u32 *)(APIC_PAGE + ((u64)reg << 4)) = (u32)value;
}

// --- receiving ---

extern const u8 nmi_check[], nmi_halt[];

void guest_interrupt(u64 vector, u64 error, u64 rip, u64 *return_rip)
{
    u64 now = rdtsc();
    unsigned me = this_cpu_index();
    (void)error;
    if (vector == VECTOR_NMI) {
        // One that came between the look and the HLT: look again.
        if (rip >= (u64)nmi_check && rip <= (u64)nmi_halt)
            *return_rip = (u64)nmi_check;
    } else if (vector >= VECTOR_PING && vector < VECTOR_PING + CPUS) {
        apic_set(APIC_EOI, 0);
    } else {
        guest_finish(false, "an unexpected interrupt or exception");
    }
    handled_at[me] = now;
    received[me]++;
}

enum wait { WAIT_HALTED, WAIT_RUNNING, WAIT_NMI };

static void wait_halted(unsigned me, u64 count)
{
    while (received[me] < count) {
        halted_at[me] = rdtsc();
        __asm__ volatile("sti; hlt; cli" ::: "memory");
    }
}

static void wait_running(unsigned me, u64 count)
{
    __asm__ volatile("sti" ::: "memory");
    while (received[me] < count)
        ;
    __asm__ volatile("cli" ::: "memory");
}

static __attribute__((noinline, noclone)) void wait_nmi(unsigned me, u64 count)
{
    __asm__ volatile("nmi_check: cmp %1, %0; jae 1f; nmi_halt: hlt; jmp nmi_check; 1:"
                     :
                     : "m"(received[me]), "r"(count)
                     : "memory", "cc");
}

static void wait_for(enum wait wait, u64 count)
{
    static void (*const ways[])(unsigned, u64) = {wait_halted, wait_running, wait_nmi};
    ways[wait](this_cpu_index(), count);
}

// --- sending ---

static void send(u64 command, u32 destination)
{
    command |= APIC_ICR_ASSERT | (VECTOR_PING + this_cpu_index());
    if (x2apic[this_cpu_index()]) {
        apic_set(APIC_ICR, (u64)destination << ICR_DESTINATION | command);
        return;
    }
    apic_set(APIC_ICR_HIGH, destination << XAPIC_ID_SHIFT);
    apic_set(APIC_ICR, command);
}

static void send_other(u64 command)
{
    unsigned other = 1 - this_cpu_index();
    send(command, command & ICR_LOGICAL ? 1u << other : other);
}

static void apic_setup(bool to_x2apic)
{
    if (to_x2apic)
        wrmsr(MSR_IA32_APIC_BASE, rdmsr(MSR_IA32_APIC_BASE) | APIC_BASE_EXTD);
    else
        apic_set(APIC_LDR, 1u << (XAPIC_ID_SHIFT + this_cpu_index()));
    x2apic[this_cpu_index()] = to_x2apic;
    apic_set(APIC_SVR, APIC_SVR_ENABLE | SPURIOUS);
}

// --- ping-pong: the same on both CPUs, but that the first begins ---

static const struct round {
    const char *name;
    u64 command;
    u32 count;
    bool x2apic, self; // self: it comes to the sender too
    enum wait wait;
} rounds[] = {
    {"xapic-physical", 0, 3000, false, false, WAIT_HALTED},
    {"xapic-logical", ICR_LOGICAL, 1000, false, false, WAIT_HALTED},
    {"xapic-others", ICR_OTHERS, 1000, false, false, WAIT_HALTED},
    {"xapic-all", ICR_ALL, 1000, false, true, WAIT_HALTED},
    {"xapic-nmi", ICR_NMI, 1000, false, false, WAIT_NMI},
    {"x2apic-physical", 0, 50000, true, false, WAIT_HALTED},
    {"x2apic-logical", ICR_LOGICAL, 2000, true, false, WAIT_HALTED},
    {"x2apic-others", ICR_OTHERS, 2000, true, false, WAIT_HALTED},
    {"x2apic-all", ICR_ALL, 2000, true, true, WAIT_HALTED},
    {"x2apic-nmi", ICR_NMI, 2000, true, false, WAIT_NMI},
    {"x2apic-nmi-others", ICR_NMI | ICR_OTHERS, 2000, true, false, WAIT_NMI},
};

static volatile unsigned begun, done; // rounds: by the first CPU, by the other

// before: what had come when this CPU was ready; NMIs may come at once.
static bool play(const struct round *round, u64 before)
{
    unsigned me = this_cpu_index();
    u32 each = round->self ? 2 : 1;
    for (u32 i = 0; i < round->count; i++) {
        if (me == 0)
            send_other(round->command);
        wait_for(round->wait, before + i * each + (me ? 1 : each));
        if (me == 1)
            send_other(round->command);
    }
    interrupts_take(); // its own last one, and one too many
    return received[me] == before + (u64)round->count * each;
}

static volatile bool wrong;

static void other_plays(void)
{
    guest_idt_load();
    for (unsigned i = 0; i < ARRAY_SIZE(rounds); i++) {
        apic_setup(rounds[i].x2apic);
        u64 before = received[1];
        done = i;
        while (begun <= i)
            cpu_pause();
        wrong |= !play(&rounds[i], before);
    }
    done = ARRAY_SIZE(rounds);
    halt_forever();
}

static void start_other(void (*entry)(void))
{
    guest_start_cpu(1, other_stack + sizeof(other_stack), entry);
}

static void count(void)
{
    done = ~0u;
    start_other(other_plays);
    for (unsigned i = 0; i < ARRAY_SIZE(rounds); i++) {
        guest_print("ipi: ");
        guest_print(rounds[i].name);
        guest_print("\n");
        apic_setup(rounds[i].x2apic);
        while (done != i)
            cpu_pause();
        begun = i + 1;
        wrong |= !play(&rounds[i], received[0]);
    }
    while (done != ARRAY_SIZE(rounds))
        cpu_pause();
    guest_finish(!wrong, "a CPU received too many");
}

// --- what it costs ---

static volatile enum wait bench_wait;

// Answers nothing: it only receives, and shows that it did by the count.
static void other_receives(void)
{
    guest_idt_load();
    apic_setup(true);
    for (done = 1;;)
        wait_for(bench_wait, received[1] + 1);
}

static void measure_ipi(const char *send_name, const char *handler_name, enum wait wait)
{
    bench_wait = wait;
    for (unsigned i = 0; i < SAMPLES; i++) {
        u64 settled = rdtsc() + SETTLE_TICKS, before = received[1];
        while (rdtsc() < settled)
            ;
        u64 start = rdtsc();
        wrmsr(MSR_X2APIC_FIRST + APIC_ICR, 1ull << ICR_DESTINATION | APIC_ICR_ASSERT | VECTOR_PING);
        samples[i] = (u32)(rdtsc() - start);
        while (received[1] == before)
            ;
        more_samples[i] = (u32)(handled_at[1] - start);
    }
    samples_report(send_name, samples, SAMPLES);
    samples_report(handler_name, more_samples, SAMPLES);
}

static void bench(void)
{
    apic_setup(true);
    start_other(other_receives);
    while (!done)
        cpu_pause();
    measure_ipi("ipi-halted-send", "ipi-halted-handler", WAIT_HALTED);
    bench_wait = WAIT_RUNNING;
    u64 before = received[1];
    send(0, 1); // out of its HLT, into the other way of waiting
    while (received[1] == before)
        cpu_pause();
    measure_ipi("ipi-running-send", "ipi-running-handler", WAIT_RUNNING);
    guest_finish(true, NULL);
}

static void other_answers(void)
{
    guest_idt_load();
    apic_setup(true);
    done = 1;
    for (u64 i = 1;; i++) {
        wait_halted(1, i);
        send_other(0);
    }
}

// From one CPU's HLT to the other's handler, both on one host CPU.
static void bench_switch(void)
{
    apic_setup(true);
    start_other(other_answers);
    while (!done)
        cpu_pause();
    for (u64 i = 0; i < SAMPLES; i++) {
        send_other(0);
        wait_halted(0, i + 1);
        samples[i] = (u32)(handled_at[1] - halted_at[0]);
    }
    samples_report("switch", samples, SAMPLES);
    guest_finish(true, NULL);
}

void guest_main(const u8 *boot_params)
{
    guest_idt_load();
    if (guest_has_word(boot_params, "bench"))
        bench();
    if (guest_has_word(boot_params, "switch"))
        bench_switch();
    count();
}
