// SPDX-License-Identifier: MIT
// vmm/run.c: when the loop looks around, what it makes of requests, halts and INIT, and which bound
// a run gets; against an engine that does what the test says at each run.

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

u64 tsc_hz = 1000000; // a tick is a microsecond

static struct vm vm;
static struct vcpu vcpu;
static struct trace trace;
static u64 regs[REG_COUNT];
static struct segment cs;
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

static u64 fake_reg_read(struct vcpu *v, enum vcpu_reg reg)
{
    (void)v;
    return regs[reg];
}

static void fake_reg_write(struct vcpu *v, enum vcpu_reg reg, u64 value)
{
    (void)v;
    regs[reg] = value;
}

static void fake_segment_read(struct vcpu *v, enum vcpu_segment which, struct segment *segment)
{
    (void)v;
    CHECK(which == SEG_CS);
    *segment = cs;
}

static void fake_segment_write(struct vcpu *v, enum vcpu_segment which,
                               const struct segment *segment)
{
    (void)v;
    CHECK(which == SEG_CS);
    cs = *segment;
}

static void fake_skip(struct vcpu *v, u64 rip)
{
    (void)v;
    regs[REG_RIP] = rip;
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
    memset(&cs, 0, sizeof(cs));
    now = 1000;
    vm.tsc_offset = 0 - 400ull; // the VM was started at 400
    vm.clock.next = ~0ull;
    vcpu.vm = &vm;
    vcpu.ops = &fake_ops;
    vcpu.trace = &trace;
    runs = yields = resets = init_signals = exits_injected = blocks = clock_runs = unloads = 0;
    run_limit = 1;
    lives = 1;
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

TEST(an_exit_is_acted_upon_and_recorded)
{
    reset();
    memset(&trace, 0, sizeof(trace));
    go();
    CHECK_EQ(runs, 1);
    CHECK_EQ(regs[REG_RIP], 0x1002);
    CHECK_EQ(trace.kinds[EXIT_CPUID].count, 1);
    CHECK_EQ(unloads, 1);
    reset();
    action = ACTION_RETRY;
    go();
    CHECK_EQ(regs[REG_RIP], 0);
    reset();
    action = ACTION_FAULT;
    go();
    CHECK_EQ(exits_injected, 1);
    CHECK_EQ(regs[REG_RIP], 0);
    reset();
    action = ACTION_STOP;
    run_limit = 5;
    go();
    CHECK_EQ(runs, 1);
}

TEST(a_reset_machine_runs_on)
{
    reset();
    lives = 3;
    go();
    CHECK_EQ(unloads, 3);
    CHECK_EQ(runs, 3);
}

// --- bounds ---

TEST(a_run_ends_at_the_first_of_timer_thread_and_limit)
{
    reset();
    go();
    CHECK_EQ(vcpu.run_until, 1000 + tsc_from_us(RUN_MAX_US));
    reset();
    vm.clock.next = 700; // in the guest's time: 1100
    go();
    CHECK_EQ(vcpu.run_until, 1100);
    reset();
    vm.clock.next = 700;
    next_event = 1050;
    go();
    CHECK_EQ(vcpu.run_until, 1050);
    CHECK_EQ(run_ticks, 50);
}

TEST(only_the_first_vcpu_keeps_the_time)
{
    reset();
    vm.clock.next = 700;
    vcpu.index = 1;
    go();
    CHECK_EQ(vcpu.run_until, 1000 + tsc_from_us(RUN_MAX_US));
    CHECK_EQ(clock_runs, 0);
}

TEST(a_timer_at_the_end_of_time_is_no_timer_in_the_past)
{
    reset();
    vm.clock.next = ~0ull - 1; // plus what the host is ahead: past its end
    go();
    CHECK_EQ(vcpu.run_until, 1000 + tsc_from_us(RUN_MAX_US));
    reset();
    vm.clock.next = ~0ull - 1;
    vcpu.halted = true;
    go();
    CHECK_EQ(blocked_until, ~0ull);
}

TEST(timers_that_are_due_are_run)
{
    reset();
    vm.clock.next = 600;
    go();
    CHECK_EQ(clock_runs, 1);
    CHECK_EQ(vcpu.run_until, 1000 + tsc_from_us(RUN_MAX_US));
}

static unsigned attends;

static void count_attend(void)
{
    attends++;
}

static bool run_takes_time(struct vm_exit *exit)
{
    (void)exit;
    now += 4000;
    return true;
}

TEST(the_bound_holds_whatever_the_exits_are)
{
    reset();
    attends = 0;
    on_interrupts = count_attend;
    on_run = run_takes_time; // no exit of the engine's timer among them
    run_limit = 6;
    go();
    CHECK_EQ(attends, 3); // before the first run, after the third, and to stop
}

// --- requests ---

static void interrupt_brings_stop(void)
{
    if (runs == 1)
        vcpu.requests |= VCPU_REQUEST_STOP;
}

TEST(a_request_that_comes_with_an_interrupt_is_seen_before_the_entry)
{
    reset();
    run_limit = 5;
    next_event = 0; // look around after each exit
    on_interrupts = interrupt_brings_stop;
    go();
    CHECK_EQ(runs, 1);
}

static void yield_brings_stop(void)
{
    vcpu.requests |= VCPU_REQUEST_STOP;
}

TEST(a_request_that_comes_during_a_yield_is_seen_before_the_entry)
{
    reset();
    run_limit = 5;
    should_yield = true;
    on_yield = yield_brings_stop;
    go();
    CHECK_EQ(yields, 1);
    CHECK_EQ(runs, 0);
}

TEST(a_stop_wakes_a_halted_vcpu)
{
    reset();
    vcpu.halted = true;
    on_block = yield_brings_stop;
    go();
    CHECK_EQ(blocks, 1);
    CHECK_EQ(runs, 0);
}

// --- pause ---

static void resume_third(void)
{
    CHECK_EQ(runs, 0);
    if (parks < 3) // woken for another reason
        return;
    vm.tsc_offset = 0 - 900ull;
    vm.paused = false;
}

TEST(a_paused_vcpu_waits_and_takes_the_new_time)
{
    reset();
    vm.paused = true;
    parks = 0;
    on_park = resume_third;
    go();
    CHECK_EQ(parks, 3);
    CHECK_EQ(runs, 1);
    CHECK_EQ(vm.parked, 0);
    CHECK_EQ(tsc_offset_set, 0 - 900ull);
}

static void stopped_while_held(void)
{
    vcpu.requests |= VCPU_REQUEST_STOP;
    vm.held = parks < 3;
}

TEST(a_held_vcpu_stays_parked_even_if_the_vm_ends)
{
    reset();
    vm.paused = vm.held = true;
    parks = 0;
    on_park = stopped_while_held;
    go();
    CHECK_EQ(parks, 3);
    CHECK_EQ(runs, 0);
    CHECK_EQ(vm.parked, 0);
}

TEST(a_paused_vcpu_can_be_stopped)
{
    reset();
    vm.paused = true;
    on_park = yield_brings_stop;
    go();
    CHECK_EQ(runs, 0);
    CHECK_EQ(vm.parked, 0);
    CHECK(vm.paused);
}

// --- events ---

TEST(an_interrupt_is_injected_if_the_guest_can_take_it)
{
    reset();
    pending = 0x41;
    go();
    CHECK(injected.valid);
    CHECK_EQ(injected.vector, 0x41);
    CHECK_EQ(injected.type, EVENT_EXTERNAL);
    CHECK_EQ(pending, -1);
    CHECK(!window);
    reset();
    pending = 0x41;
    can_take = false;
    go();
    CHECK(!injected.valid);
    CHECK_EQ(pending, 0x41);
    CHECK(window);
}

TEST(a_second_interrupt_wants_a_window)
{
    reset();
    pending = 0x41;
    pic_pending = true;
    go();
    CHECK_EQ(injected.vector, 0x41);
    CHECK(window);
    CHECK(pic_pending);
}

TEST(the_pic_gives_its_vector_when_it_is_acknowledged)
{
    reset();
    pic_pending = true;
    go();
    CHECK_EQ(injected.vector, 0x20);
    CHECK(!pic_pending);
}

TEST(nothing_is_put_over_an_event_that_is_due)
{
    reset();
    vcpu.event = (struct vcpu_event){.valid = true, .vector = VECTOR_PF, .type = EVENT_EXCEPTION};
    pending = 0x41;
    vcpu.nmi_pending = 1;
    go();
    CHECK_EQ(injected.vector, VECTOR_PF);
    CHECK_EQ(pending, 0x41);
    CHECK(vcpu.nmi_pending);
    CHECK(window && nmi_window);
}

TEST(an_nmi_goes_before_an_interrupt)
{
    reset();
    vcpu.nmi_pending = 1;
    pending = 0x41;
    go();
    CHECK_EQ(injected.vector, VECTOR_NMI);
    CHECK_EQ(injected.type, EVENT_NMI);
    CHECK(!vcpu.nmi_pending);
    CHECK_EQ(pending, 0x41);
    CHECK(window);
}

TEST(of_two_nmis_at_once_the_second_waits_for_the_end_of_the_first)
{
    reset();
    vcpu.nmi_pending = 2;
    go();
    CHECK_EQ(injected.type, EVENT_NMI);
    CHECK_EQ(vcpu.nmi_pending, 1);
    CHECK(nmi_window);
}

TEST(while_an_nmi_is_handled_one_more_is_remembered)
{
    reset();
    can_take = false;
    regs[REG_INTERRUPTIBILITY] = BLOCKED_NMI;
    vcpu.nmi_pending = 2;
    go();
    CHECK_EQ(injected.valid, false);
    CHECK_EQ(vcpu.nmi_pending, 1);
    CHECK(nmi_window);
}

TEST(an_interrupt_that_was_overtaken_goes_first)
{
    reset();
    vcpu.interrupted = (struct vcpu_event){.valid = true, .vector = 0x31, .type = EVENT_EXTERNAL};
    pending = 0x41;
    go();
    CHECK_EQ(injected.vector, 0x31);
    CHECK(!vcpu.interrupted.valid);
    CHECK_EQ(pending, 0x41);
}

static void block_brings_interrupt(void)
{
    pending = 0x41;
}

TEST(a_halted_vcpu_sleeps_until_an_interrupt)
{
    reset();
    vcpu.halted = true;
    vm.clock.next = 5000;
    on_block = block_brings_interrupt;
    go();
    CHECK_EQ(blocks, 1);
    CHECK_EQ(blocked_until, 5400);
    CHECK(!vcpu.halted);
    CHECK_EQ(runs, 1);
    CHECK_EQ(injected.vector, 0x41);
}

TEST(a_halted_vcpu_that_takes_no_interrupts_sleeps_on)
{
    reset();
    vcpu.halted = true;
    can_take = false;
    pending = 0x41;
    go();
    CHECK(vcpu.halted);
    CHECK_EQ(runs, 0);
}

// --- INIT and start-up ---

TEST(init_makes_an_application_processor_wait)
{
    reset();
    vcpu.index = 1;
    vcpu.requests = VCPU_REQUEST_INIT;
    vcpu.halted = vcpu.interrupted.valid = true;
    vcpu.nmi_pending = 1;
    pending = 0x41;
    go();
    CHECK_EQ(resets, 1);
    CHECK_EQ(init_signals, 1); // its local APIC too
    CHECK_EQ(runs, 0);
    CHECK(vcpu.waiting_for_startup);
    CHECK(!vcpu.halted && !vcpu.nmi_pending && !vcpu.interrupted.valid);
    CHECK_EQ(blocked_until, ~0ull);
}

TEST(start_up_begins_at_its_page)
{
    reset();
    vcpu.index = 1;
    vcpu.requests = VCPU_REQUEST_INIT | VCPU_REQUEST_STARTUP;
    vcpu.startup_page = 0x9a;
    action = ACTION_RETRY;
    regs[REG_RIP] = 77;
    go();
    CHECK_EQ(runs, 1);
    CHECK_EQ(cs.selector, 0x9a00);
    CHECK_EQ(cs.base, 0x9a000);
    CHECK_EQ(regs[REG_RIP], 0);
    CHECK(!vcpu.waiting_for_startup);
}

TEST(start_up_means_nothing_to_a_processor_that_runs)
{
    reset();
    vcpu.requests = VCPU_REQUEST_STARTUP;
    vcpu.startup_page = 0x9a;
    go();
    CHECK_EQ(runs, 1);
    CHECK_EQ(cs.base, 0);
    CHECK_EQ(resets, 0);
}

TEST(the_hardware_gets_the_interrupts_and_the_pic_s_are_injected)
{
    reset();
    vm.apic_hardware = true;
    pending = 0x50; // for the hardware to deliver
    pushes = 0;
    vcpu.requests = VCPU_REQUEST_EVENT;
    go();
    CHECK_EQ(pushes, 1);
    CHECK(!injected.valid);
    CHECK(!window);
    reset();
    vm.apic_hardware = true;
    pic_pending = true;
    can_take = false;
    vcpu.requests = VCPU_REQUEST_EVENT;
    go();
    CHECK(window);
    CHECK(!injected.valid);
    can_take = true;
    vcpu.requests = VCPU_REQUEST_EVENT;
    runs = 0;
    lives = 1;
    go();
    CHECK(injected.valid);
}

TEST(a_halt_ends_when_the_hardware_has_an_interrupt)
{
    reset();
    vm.apic_hardware = true;
    vcpu.halted = true;
    hardware_pending = true;
    go();
    CHECK_EQ(blocks, 0);
    CHECK(!vcpu.halted);
    hardware_pending = false;
}

TEST(the_engine_hears_how_the_apic_is_reached)
{
    reset();
    modes = 0;
    vcpu.apic_moved = true;
    go();
    CHECK_EQ(modes, 1);
}
