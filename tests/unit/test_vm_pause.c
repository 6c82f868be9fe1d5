// SPDX-License-Identifier: MIT
// A VM that is paused, held and resumed, before its start and at its end; and where its vCPUs may
// run.
#include "tests/unit/vm_rig.h"

// --- pause ---

static void park_all(unsigned nth)
{
    if (nth == 2)
        vm->parked = vm->vcpu_count;
}

static void unpark_all(unsigned nth)
{
    (void)nth;
    vm->parked = 0;
}

TEST(a_paused_vm_s_time_stands_still)
{
    reset(2);
    CHECK_EQ(vm_pause(vm), ERR_STATE);
    start();
    CHECK_STR(vm_status(vm), "running");
    CHECK_EQ(vm_resume(vm), ERR_STATE);
    on_sleep = park_all;
    CHECK_EQ(vm_pause(vm), OK);
    CHECK_EQ(sleeps, 2);
    CHECK_STR(vm_status(vm), "paused");
    CHECK(vm->vcpus[0].requests && vm->vcpus[1].requests);
    CHECK_EQ(vm_pause(vm), ERR_STATE);
    u64 at = vm->paused_at + vm->tsc_offset;
    on_sleep = unpark_all;
    CHECK_EQ(vm_resume(vm), OK);
    u64 after = rdtsc() + vm->tsc_offset;
    CHECK(after >= at && after - at < tsc_hz * 1000);
    CHECK(vm->tsc_offset != 0);
    CHECK_EQ(sleeps, 3);
    CHECK_STR(vm_status(vm), "running");
    vm->vcpus_running = vm->threads = 1;
    parts--;
    vm_request_stop(vm, VM_STOP_USER);
    ended(0, false);
    finish();
}

static void end_unparked(unsigned nth)
{
    if (nth == 3)
        ended(0, false);
}

TEST(a_vm_is_held_only_while_all_its_vcpus_are_parked)
{
    reset(2);
    CHECK(!vm_hold(vm));
    start();
    CHECK(!vm_hold(vm));
    CHECK(vm_pause_begin(vm));
    CHECK(!vm_pause_begin(vm));
    vm->parked = 1;
    CHECK(!vm_hold(vm));
    vm->parked = 2;
    CHECK(!vm_hold(vm)); // its time does not stand still yet
    CHECK_EQ(vm_pause_wait(vm), OK);
    u64 at = vm->paused_at;
    CHECK_EQ(vm_pause_wait(vm), OK);
    CHECK_EQ(vm->paused_at, at);
    CHECK(vm_hold(vm) && vm->held);
    vm->vcpus[0].requests = 0;
    vm_release(vm);
    CHECK(!vm->held && vm->vcpus[0].requests);
    on_sleep = unpark_all;
    CHECK_EQ(vm_resume(vm), OK);
    vm->vcpus_running = vm->threads = 1;
    parts--;
    vm_request_stop(vm, VM_STOP_USER);
    ended(0, false);
    finish();
}

static void pause_before_its_start(struct vm *started)
{
    CHECK(started->state == VM_STARTING);
    started->paused = true;
}

TEST(a_vm_can_be_paused_before_its_first_instruction)
{
    reset(1);
    vm->on_start = pause_before_its_start;
    start();
    CHECK_STR(vm_status(vm), "paused");
    vm_request_stop(vm, VM_STOP_USER);
    ended(0, false);
    finish();
}

TEST(a_vm_that_is_being_paused_can_end)
{
    reset(1);
    start();
    vm_request_stop(vm, VM_STOP_POWEROFF);
    on_sleep = end_unparked;
    CHECK_EQ(vm_pause(vm), ERR_STATE);
    CHECK(vm->state == VM_STOPPED);
    CHECK_STR(vm_status(vm), "stopped");
    CHECK_EQ(vm_resume(vm), ERR_STATE);
    finish();
}

TEST(a_reset_ends_a_pause)
{
    reset(1);
    start();
    vm->parked = 1;
    CHECK_EQ(vm_pause(vm), OK);
    vm->parked = 0;
    vm_request_stop(vm, VM_STOP_RESET);
    ended(0, true);
    CHECK_STR(vm_status(vm), "running");
    CHECK_EQ(vm->paused_at, 0);
    on_sleep = end_0;
    vm_request_stop(vm, VM_STOP_USER);
    ended(0, false);
    finish();
}

// --- pins ---

TEST(a_pin_needs_its_cpu)
{
    reset(3);
    percpus[0].engine_on = percpus[1].engine_on = true;
    vm->config.pin_count = 2;
    vm->config.pin[0] = 1;
    vm->config.pin[1] = 2;
    vm->config.pin_line = 7;
    CHECK_EQ(vm_start(vm, why), ERR_INVALID);
    CHECK_STR(why, "plinth.ini:7: VM guest: pin: the host has no CPU 2 that runs guests");
    vm->config.pin[1] = 0;
    CHECK_EQ(host_cpu(&vm->vcpus[0]), 1);
    CHECK_EQ(host_cpu(&vm->vcpus[1]), 0);
    CHECK_EQ(host_cpu(&vm->vcpus[2]), 1);
    percpus[0].engine_on = false;
    CHECK_EQ(vm_start(vm, why), ERR_INVALID);
    vm->config.pin_count = 0;
    CHECK_EQ(host_cpu(&vm->vcpus[2]), THREAD_ANY_CPU);
    finish();
}
