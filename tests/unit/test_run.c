// SPDX-License-Identifier: MIT
// vmm/run.c: when the loop looks around, which bound a run gets, pauses and stops.

#include "tests/unit/run_rig.h"

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
