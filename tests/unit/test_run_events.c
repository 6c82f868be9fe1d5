// SPDX-License-Identifier: MIT
// vmm/run.c: what a vCPU is given at an entry (interrupts, NMIs, INIT, start-up), and how it halts.

#include "tests/unit/run_rig.h"

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

TEST(a_threshold_goes_to_the_engine_once)
{
    reset();
    threshold_wanted = 7;
    go();
    CHECK_EQ(threshold_set, 7);
    CHECK_EQ(thresholds, 1);
    lives = 1;
    go();
    CHECK_EQ(thresholds, 1);
}

// The entry checks refuse a threshold above TPR, and TPR may have fallen.
TEST(while_an_interrupt_waits_for_its_window_there_is_no_threshold)
{
    reset();
    vcpu.tpr_threshold = 7;
    vcpu.interrupted = (struct vcpu_event){.valid = true, .vector = 0x41};
    can_take = false;
    threshold_wanted = 7;
    go();
    CHECK(window);
    CHECK_EQ(thresholds, 1);
    CHECK_EQ(threshold_set, 0);
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
    CHECK_EQ(segments[SEG_CS].selector, 0x9a00);
    CHECK_EQ(segments[SEG_CS].base, 0x9a000);
    CHECK_EQ(regs[REG_RIP], 0);
    CHECK(!vcpu.waiting_for_startup);
}

TEST(start_up_comes_later_than_init)
{
    reset();
    vcpu.index = 1;
    vcpu.waiting_for_startup = true;
    vcpu.requests = VCPU_REQUEST_STARTUP;
    vcpu.startup_page = 0x9a;
    action = ACTION_RETRY;
    go();
    CHECK_EQ(runs, 1);
    CHECK_EQ(segments[SEG_CS].base, 0x9a000);
    CHECK_EQ(resets, 0);
}

TEST(start_up_means_nothing_to_a_processor_that_runs)
{
    reset();
    vcpu.requests = VCPU_REQUEST_STARTUP;
    vcpu.startup_page = 0x9a;
    go();
    CHECK_EQ(runs, 1);
    CHECK_EQ(segments[SEG_CS].base, 0);
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
