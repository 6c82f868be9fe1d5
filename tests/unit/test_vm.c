// SPDX-License-Identifier: MIT
// vmm/vm.c: starts that fail half-way, ends, and requests that meet each other. The test is the
// vCPU threads: it acts for them while the shell's thread sleeps.

#include "tests/unit/vm_rig.h"

TEST(a_start_that_fails_at_any_step_gives_everything_back)
{
    reset(2);
    int before = parts;
    bool failed = true;
    for (int step = 0; failed; step++) {
        steps_left = step;
        failed = vm_start(vm, why) != OK;
        if (!failed)
            break;
        CHECK(vm->state == VM_STOPPED);
        CHECK(strstr(why, "memory") != NULL);
        CHECK_EQ(parts, before);
        CHECK(!vm->vcpus[0].thread && !vm->vcpus[1].thread);
        CHECK(step < 100);
    }
    steps_left = -1;
    CHECK_EQ(wakes, 2);
    on_block = NULL;
    vm->vcpus_running = 1; // as if the other had ended
    vm->threads = 1;
    parts--;
    vm_request_stop(vm, VM_STOP_USER);
    ended(0, false);
    CHECK_EQ(parts, before);
    finish();
}

TEST(a_start_without_a_kernel_says_so)
{
    reset(1);
    int before = parts;
    boots_left = 0;
    CHECK_EQ(vm_start(vm, why), ERR_NOT_FOUND);
    CHECK_STR(why, "no kernel");
    CHECK_EQ(parts, before);
    finish();
}

TEST(more_memory_than_there_is_is_refused)
{
    reset(1);
    frames_free = 63 * MIB / PAGE_SIZE;
    CHECK_EQ(vm_start(vm, why), ERR_NO_MEMORY);
    frames_free = GIB / PAGE_SIZE;
    CHECK(vm->state == VM_STOPPED);
    finish();
}

// It counts what each VM has not touched yet, with its share of tables, and what disks may grow by.
TEST(memory_that_was_promised_to_another_is_not_promised_again)
{
    reset(1);
    struct config_vm config = {.name = "other", .engine = "fake", .mmu = "auto", .cpus = 1};
    struct vm *other;
    config.memory = 64 * MIB;
    CHECK_EQ(vm_create(&config, &other, why), OK);
    other->memory.slot_count = 1; // it runs, and has touched a half
    other->memory.size = 64 * MIB;
    other->memory.backed = 32 * MIB;
    int before = parts;
    u64 own = 64 * MIB - (LAYOUT_HIGH - LAYOUT_LOW_SIZE) + LAYOUT_ROMS_SIZE + LAYOUT_BIOS_SIZE;
    u64 all = own + own / 256 + 32 * MIB + 32 * MIB / 256;
    frames_free = all / PAGE_SIZE;
    CHECK_EQ(vm_start(vm, why), ERR_NO_MEMORY);
    CHECK_STR(why,
              "VM guest: 1 MiB more than the host has are promised to its VMs: lower 'memory' in "
              "plinth.ini or stop a VM");
    CHECK(vm->state == VM_STOPPED);
    CHECK_EQ(parts, before);
    frames_free++;
    start();
    on_sleep = end_0;
    CHECK_EQ(vm_stop(vm), OK);
    disk_left = PAGE_SIZE;
    CHECK_EQ(vm_start(vm, why), ERR_NO_MEMORY);
    disk_left = 0;
    frames_free = GIB / PAGE_SIZE;
    other->memory.slot_count = 0;
    CHECK_EQ(vm_destroy(other), OK);
    finish();
}

TEST(a_stop_ends_the_vm)
{
    reset(1);
    int before = parts;
    CHECK_EQ(vm_stop(vm), ERR_STATE);
    start();
    CHECK_EQ(vm_start(vm, why), ERR_STATE);
    on_sleep = end_0;
    CHECK_EQ(vm_stop(vm), OK);
    CHECK(vm->state == VM_STOPPED);
    CHECK(!console_is_open);
    CHECK_EQ(parts, before);
    start(); // and again
    CHECK_EQ(vm_stop(vm), OK);
    finish();
}

TEST(a_stop_wins_over_the_guest_s_reset)
{
    reset(1);
    start();
    vm_request_stop(vm, VM_STOP_RESET);
    on_sleep = end_0;
    CHECK_EQ(vm_stop(vm), OK);
    CHECK(vm->state == VM_STOPPED);
    CHECK_EQ(machine_resets, 1);
    finish();
}

// The guest was being reset when the request came, and lost it.
static void reset_then_end(unsigned nth)
{
    if (nth == 1)
        vm->stop_reason = VM_STOP_RESET;
    ended(0, nth == 1);
}

TEST(a_stop_that_a_reset_overtook_is_asked_for_again)
{
    reset(1);
    start();
    on_sleep = reset_then_end;
    CHECK_EQ(vm_stop(vm), OK);
    CHECK_EQ(sleeps, 2);
    CHECK_EQ(machine_resets, 2);
    CHECK(vm->state == VM_STOPPED);
    finish();
}

TEST(a_running_vm_that_resets_itself_can_be_destroyed)
{
    reset(1);
    start();
    on_sleep = reset_then_end;
    finish();
}

static void destroy_early(void)
{
    CHECK(vm->state == VM_STARTING);
    CHECK_EQ(vm_destroy(vm), ERR_STATE);
    CHECK(vm_at(0) == vm);
}

TEST(a_vm_that_is_being_started_is_not_destroyed)
{
    reset(1);
    on_boot = destroy_early;
    start();
    on_sleep = end_0;
    finish();
}

static void end_by_reset(unsigned nth)
{
    (void)nth;
    ended(0, true);
}

TEST(a_reset_runs_the_machine_anew)
{
    reset(1);
    start();
    on_sleep = end_by_reset;
    u32 boots = vm->boots;
    CHECK_EQ(vm_reset(vm), OK);
    CHECK(vm->state == VM_RUNNING);
    CHECK_EQ(vm->boots, boots + 1);
    CHECK_EQ(vm->stop_reason, VM_STOP_NONE);
    CHECK_EQ(vm->vcpus[0].requests, 0);
    CHECK_EQ(vm->vcpus_running, 1);
    on_sleep = end_0;
    finish();
}

TEST(the_mtrrs_are_on_where_no_firmware_sets_them)
{
    reset(1);
    start();
    CHECK_EQ(write_backs, 1);
    vm->firmware = (struct firmware *)vm; // which one does not matter
    on_sleep = end_by_reset;
    CHECK_EQ(vm_reset(vm), OK);
    CHECK_EQ(write_backs, 1);
    vm->firmware = NULL;
    on_sleep = end_0;
    finish();
}

TEST(memory_outlives_a_reset_where_firmware_runs)
{
    reset(1);
    start();
    on_sleep = end_by_reset;
    memory_clears = 0;
    CHECK_EQ(vm_reset(vm), OK);
    CHECK_EQ(memory_clears, 1);
    vm->firmware = (struct firmware *)vm; // which one does not matter
    CHECK_EQ(vm_reset(vm), OK);
    CHECK_EQ(memory_clears, 1);
    vm->firmware = NULL;
    on_sleep = end_0;
    finish();
}

TEST(a_reset_that_fails_is_a_crash)
{
    reset(1);
    start();
    on_sleep = end_0;
    boots_left = 0;
    CHECK_EQ(vm_reset(vm), OK);
    CHECK(vm->state == VM_CRASHED);
    CHECK_STR(vm->why, "no kernel");
    finish();
}

TEST(the_first_death_is_the_one_that_is_reported)
{
    reset(1);
    start();
    vm_request_stop(vm, VM_STOP_RESET);
    vm_kill(vm, "reason %d", 1);
    vm_kill(vm, "reason %d", 2);
    vm_request_stop(vm, VM_STOP_USER);
    CHECK_EQ(reports, 1);
    CHECK_STR(vm->why, "reason 1");
    ended(0, false);
    CHECK(vm->state == VM_CRASHED);
    CHECK_STR(vm->why, "reason 1");
    boots_left = 100;
    start(); // a crashed VM can be started
    CHECK_STR(vm->why, "");
    on_sleep = end_0;
    finish();
}

static bool last_runs_again;

static void last_one_ends(void)
{
    CHECK(vm->vcpus[1].verdict == VERDICT_NONE);
    ended(0, last_runs_again);
    CHECK(vm->vcpus[1].verdict != VERDICT_NONE);
}

static void others_end(unsigned nth)
{
    (void)nth;
    CHECK(!vm->vcpus[1].thread); // nobody wakes it any more
    vm->threads--;
}

TEST(the_others_run_again_when_the_last_says_so)
{
    reset(2);
    start();
    vm_request_stop(vm, VM_STOP_RESET);
    last_runs_again = true;
    on_block = last_one_ends;
    wakes = 0;
    ended(1, true);
    CHECK_EQ(wakes, 1);
    CHECK_EQ(vm->vcpus_running, 2);
    CHECK_EQ(vm->vcpus[1].requests, 0);
    CHECK(vm->vcpus[1].verdict == VERDICT_NONE);

    vm_request_stop(vm, VM_STOP_POWEROFF);
    last_runs_again = false;
    on_sleep = others_end;
    ended(1, false);
    CHECK(vm->state == VM_STOPPED);
    finish();
}

static void reset_again(struct vcpu *vcpu)
{
    if (vcpu->index == 0)
        vm_request_stop(vm, VM_STOP_RESET);
}

TEST(a_request_that_comes_while_the_machine_is_reset_reaches_all_vcpus)
{
    reset(2);
    start();
    vm_request_stop(vm, VM_STOP_RESET);
    on_vcpu_reset = reset_again;
    last_runs_again = true;
    on_block = last_one_ends;
    ended(1, true);
    CHECK_EQ(vm->stop_reason, VM_STOP_RESET);
    CHECK(vm->vcpus[0].requests & VCPU_REQUEST_STOP);
    CHECK(vm->vcpus[1].requests & VCPU_REQUEST_STOP);

    vm_request_stop(vm, VM_STOP_USER);
    last_runs_again = false;
    on_sleep = others_end;
    ended(1, false);
    finish();
}

TEST(resets_do_not_fill_the_log)
{
    reset(1);
    start();
    boots_left = 1000;
    lines = 0;
    for (unsigned i = 0; i < 100; i++) {
        vm_request_stop(vm, VM_STOP_RESET);
        ended(0, true);
    }
    CHECK_EQ(vm->resets, 100);
    CHECK_EQ(lines, RESETS_LOGGED + 1);
    on_sleep = end_0;
    finish();
}

TEST(a_triple_fault_ends_the_vm)
{
    reset(1);
    start();
    vm_triple_fault(vm, 0, "exception 13");
    CHECK_EQ(reports, 1);
    CHECK_STR(vm->why,
              "triple fault on vCPU 0: exception 13 came while a double fault was delivered");
    ended(0, false);
    CHECK(vm->state == VM_CRASHED);
    finish();
}

TEST(a_triple_fault_resets_the_vm_if_it_is_configured_so)
{
    reset(1);
    vm->config.triple_fault = CONFIG_TRIPLE_FAULT_RESET;
    start();
    boots_left = 1000;
    lines = 0;
    for (unsigned i = 0; i < 100; i++) {
        vm_triple_fault(vm, 0, "an exception");
        CHECK(vm->vcpus[0].requests & VCPU_REQUEST_STOP);
        ended(0, true);
    }
    CHECK_EQ(reports, 0);
    CHECK(vm->state == VM_RUNNING);
    CHECK_EQ(vm->resets, 100);
    CHECK_EQ(lines, 2 * RESETS_LOGGED + 1);
    on_sleep = end_0;
    finish();
}

TEST(the_first_debug_exit_counts)
{
    reset(1);
    start();
    lines = 0;
    vm_debug_exit(vm, 1);
    vm_debug_exit(vm, 3);
    CHECK_STR(vm->why, "debug exit, code 1");
    CHECK_EQ(lines, 1);
    ended(0, false);
    CHECK(vm->state == VM_STOPPED);
    finish();
}

TEST(odd_accesses_do_not_fill_the_log)
{
    reset(1);
    for (unsigned i = 0; i < 1000; i++)
        vm_odd_access(vm, "read of %u", i);
    CHECK_EQ(vm->odd_accesses, 1000);
    CHECK_EQ(lines, ODD_ACCESS_LOGGED + 1);
    finish();
}

TEST(the_apic_is_what_was_asked_for_and_can_be)
{
    reset(1);
    on_sleep = end_0;
    start();
    CHECK(vm->apic_hardware);
    CHECK_EQ(vm_stop(vm), OK);
    apic_sound = false;
    start();
    CHECK(!vm->apic_hardware);
    CHECK_EQ(vm_stop(vm), OK);
    vm->config.apic = CONFIG_APIC_HARDWARE;
    start();
    CHECK(vm->apic_hardware);
    CHECK_EQ(vm_stop(vm), OK);
    apic_missing = "TPR shadow";
    vm->config.apic_line = 7;
    CHECK_EQ(vm_start(vm, why), ERR_UNSUPPORTED);
    CHECK_STR(why, "plinth.ini:7: VM guest: apic: this CPU lacks TPR shadow: use 'auto' or 'soft'");
    apic_missing = NULL;
    apic_sound = true;
    vm->config.apic = CONFIG_APIC_SOFT;
    start();
    CHECK(!vm->apic_hardware);
    CHECK_EQ(vm_stop(vm), OK);
    finish();
}
