// SPDX-License-Identifier: MIT
// vmm/run.c and what surrounds it: an engine that does what the test says at each run, threads, a
// local APIC and a clock that count. Time is a variable.
#pragma once

#include "tests/unit/test.h"
#define this_cpu real_this_cpu
#include "arch/x86_64/percpu.h"
#undef this_cpu
#define rdtsc           real_rdtsc
#define interrupts_take real_interrupts_take
#include "arch/x86_64/asm.h"
#undef rdtsc
#undef interrupts_take

static u64 now;
static void (*on_interrupts)(void); // an interrupt is taken

static u64 rdtsc(void)
{
    return now;
}

static void interrupts_take(void)
{
    if (on_interrupts)
        on_interrupts();
}

#include "vmm/run.c"
#include "tests/unit/fake_vcpu.h"

u64 tsc_hz = 1000000; // a tick is a microsecond

static struct trace trace;
static bool can_take, window, nmi_window;
static unsigned runs, run_limit, yields, resets, init_signals, exits_injected;
static struct vcpu_event injected;           // by the last run
static bool (*on_run)(struct vm_exit *exit); // null: an exit for nothing

// --- the engine ---

static u64 run_ticks;

static void fake_run(struct vcpu *v, struct vm_exit *exit, u64 ticks)
{
    CHECK(v == &vcpu);
    run_ticks = ticks;
    CHECK(!spin_is_locked(&vm.lock));
    injected = v->event;
    v->event.valid = false;
    *exit = (struct vm_exit){.kind = EXIT_CPUID, .length = 2, .rip = 0x1000};
    runs++;
    if (on_run)
        on_run(exit);
    if (runs >= run_limit)
        v->requests |= VCPU_REQUEST_STOP;
}

static bool fake_can_take(struct vcpu *v)
{
    (void)v;
    return can_take;
}

static void fake_want_window(struct vcpu *v, bool on)
{
    (void)v;
    window = on;
}

static void fake_want_nmi_window(struct vcpu *v, bool on)
{
    (void)v;
    nmi_window = on;
}

static u64 tsc_offset_set;

static void fake_set_tsc_offset(struct vcpu *v, u64 offset)
{
    CHECK(v == &vcpu);
    tsc_offset_set = offset;
}

static void fake_reset(struct vcpu *v)
{
    v->event.valid = false;
    resets++;
}

static unsigned threshold_set, thresholds;

static void fake_tpr_threshold(struct vcpu *v, unsigned threshold)
{
    CHECK(v == &vcpu);
    threshold_set = threshold;
    thresholds++;
}

static unsigned pushes, modes;
static bool hardware_pending;

static void fake_apic_push(struct vcpu *v)
{
    CHECK(v == &vcpu);
    pushes++;
}

static bool fake_apic_pending(struct vcpu *v)
{
    CHECK(v == &vcpu);
    return hardware_pending;
}

void vcpu_apic_mode(struct vcpu *v)
{
    v->apic_moved = false;
    modes++;
}

static const struct cpu_ops fake_ops = {
    .tpr_threshold = fake_tpr_threshold,
    .apic_push = fake_apic_push,
    .apic_pending = fake_apic_pending,
    .run = fake_run,
    .reg_read = fake_reg_read,
    .reg_write = fake_reg_write,
    .segment_read = fake_segment_read,
    .segment_write = fake_segment_write,
    .skip = fake_skip,
    .can_take_interrupt = fake_can_take,
    .can_take_nmi = fake_can_take,
    .want_window = fake_want_window,
    .want_nmi_window = fake_want_nmi_window,
    .vcpu_reset = fake_reset,
    .set_tsc_offset = fake_set_tsc_offset,
};

// --- the rest of the machine ---

static int pending; // what the local APIC has; -1: nothing
static bool pic_pending;
static u64 next_event, blocked_until;
static unsigned blocks;
static bool should_yield;
static void (*on_yield)(void), (*on_block)(void);
static struct vm_exit last_exit;
static enum exit_action action;

int lapic_pending(const struct lapic *lapic)
{
    CHECK(lapic == &vcpu.lapic);
    CHECK(spin_is_locked(&vm.lock));
    return pending;
}

static unsigned threshold_wanted;

unsigned lapic_tpr_threshold(const struct lapic *lapic)
{
    CHECK(lapic == &vcpu.lapic);
    CHECK(spin_is_locked(&vm.lock));
    return threshold_wanted;
}

void lapic_accept(struct lapic *lapic, u8 vector)
{
    (void)lapic;
    CHECK_EQ(vector, pending);
    pending = -1;
}

bool lapic_takes_pic(const struct lapic *lapic)
{
    (void)lapic;
    return true;
}

void lapic_init_signal(struct lapic *lapic)
{
    CHECK(lapic == &vcpu.lapic);
    CHECK(spin_is_locked(&vm.lock));
    pending = -1;
    init_signals++;
}

bool machine_pic_pending(struct vm *m)
{
    (void)m;
    return pic_pending;
}

u8 machine_pic_acknowledge(struct vm *m)
{
    (void)m;
    pic_pending = false;
    return 0x20;
}

static unsigned clock_runs;

void io_clock_run(struct io_clock *clock, u64 time)
{
    CHECK(clock == &vm.clock);
    CHECK(clock->next <= time);
    CHECK(spin_is_locked(&vm.lock));
    clock->next = ~0ull;
    clock_runs++;
}

bool thread_should_yield(void)
{
    return should_yield;
}

void thread_yield(void)
{
    CHECK(!spin_is_locked(&vm.lock));
    should_yield = false;
    yields++;
    if (on_yield)
        on_yield();
}

u64 thread_next_event(void)
{
    return next_event;
}

static unsigned parks;
static void (*on_park)(void);

void thread_block(void)
{
    CHECK(!spin_is_locked(&vm.lock));
    CHECK_EQ(vm.parked, 1);
    parks++;
    on_park();
}

bool thread_block_until(u64 tsc)
{
    CHECK(!spin_is_locked(&vm.lock));
    blocked_until = tsc;
    if (++blocks >= 10)
        vcpu.requests |= VCPU_REQUEST_STOP;
    else if (on_block)
        on_block();
    return true;
}

void vcpu_load_here(struct vcpu *v)
{
    (void)v;
}

static unsigned unloads;

void vcpu_unload_here(struct vcpu *v)
{
    (void)v;
    unloads++;
}

static unsigned lives;

bool vm_vcpu_ended(struct vm *m, struct vcpu *v)
{
    CHECK(m == &vm && v == &vcpu);
    return --lives;
}

enum exit_action exit_dispatch(struct vcpu *v, struct vm_exit *exit)
{
    (void)v;
    last_exit = *exit;
    return action;
}

void vcpu_inject(struct vcpu *v, const struct vcpu_event *event)
{
    v->event = *event;
    exits_injected++;
}

static void reset(void)
{
    memset(&vcpu, 0, sizeof(vcpu));
    memset(&vm, 0, sizeof(vm));
    memset(regs, 0, sizeof(regs));
    memset(&injected, 0, sizeof(injected));
    memset(segments, 0, sizeof(segments));
    now = 1000;
    vm.tsc_offset = 0 - 400ull; // the VM was started at 400
    vm.clock.next = ~0ull;
    vcpu.vm = &vm;
    vcpu.ops = &fake_ops;
    vcpu.trace = &trace;
    runs = yields = resets = init_signals = exits_injected = blocks = clock_runs = unloads = 0;
    run_limit = 1;
    lives = 1;
    threshold_set = threshold_wanted = thresholds = 0;
    can_take = true;
    window = nmi_window = pic_pending = should_yield = false;
    pending = -1;
    next_event = ~0ull;
    action = ACTION_NEXT;
    on_interrupts = on_yield = on_block = NULL;
    on_run = NULL;
}

static void go(void)
{
    vcpu_thread(&vcpu);
}
