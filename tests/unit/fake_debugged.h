// SPDX-License-Identifier: MIT
// A guest without an engine (fake_guest.h) under a debugger: the verbs that a debugger needs
// besides, and a VM that is paused and resumed at once. Include after the .c files under test.
#pragma once

#include "tests/unit/fake_guest.h"
#include "vmm/lib/error.h"
#include "vmm/lib/log.h"
#include "vmm/thread.h"

#define VCPUS 2

static struct vcpu vcpus[VCPUS];
static u8 xstate[PAGE_SIZE] ALIGNED(64);
static u32 intercepted; // by the last call
static bool nmi_window, window, can_take, held_vm, lives;
static unsigned runs, dropped_traps, unloads, loads, pauses, resumes, stops, skipped;
static struct vcpu_event injected; // by the last run
static unsigned sleeps;
static void (*on_sleep)(unsigned nth);
static void (*on_run)(struct vcpu *v, struct vm_exit *exit);

static void fake_run(struct vcpu *v, struct vm_exit *exit, u64 ticks)
{
    (void)ticks;
    injected = v->event;
    v->event.valid = false;
    *exit = (struct vm_exit){.kind = EXIT_TIMER, .rip = regs[REG_RIP]};
    runs++;
    if (on_run)
        on_run(v, exit);
}

static void fake_intercept(struct vcpu *v, u32 exceptions, bool debug_registers)
{
    (void)v;
    (void)debug_registers;
    intercepted = exceptions;
}

static void fake_drop(struct vcpu *v)
{
    (void)v;
    dropped_traps++;
}

static void fake_skip_counted(struct vcpu *v, u64 rip)
{
    skipped++;
    fake_skip(v, rip);
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

static bool fake_can_take(struct vcpu *v)
{
    (void)v;
    return can_take;
}

static void fake_reset(struct vcpu *v)
{
    memset(v->dr, 0, sizeof(v->dr));
    regs[REG_DR7] = DR7_INIT;
}

static const struct cpu_ops debugged_ops = {.run = fake_run,
                                            .intercept = fake_intercept,
                                            .drop_step_trap = fake_drop,
                                            .skip = fake_skip_counted,
                                            .want_window = fake_want_window,
                                            .want_nmi_window = fake_want_nmi_window,
                                            .can_take_interrupt = fake_can_take,
                                            .can_take_nmi = fake_can_take,
                                            .vcpu_reset = fake_reset,
                                            .reg_read = fake_reg_read,
                                            .reg_write = fake_reg_write,
                                            .segment_read = fake_segment_read,
                                            .segment_write = fake_segment_write};

void vcpu_load_here(struct vcpu *v)
{
    (void)v;
    loads++;
}

void vcpu_unload_here(struct vcpu *v)
{
    (void)v;
    unloads++;
}

void vcpu_inject(struct vcpu *v, const struct vcpu_event *event)
{
    v->event = *event;
}

void thread_sleep_us(u64 us)
{
    CHECK(us > 0);
    sleeps++;
    if (on_sleep)
        on_sleep(sleeps);
}

bool vm_pause_begin(struct vm *m)
{
    CHECK(m == &vm);
    pauses += !m->paused && lives;
    m->paused = lives;
    return lives;
}

int vm_pause_wait(struct vm *m)
{
    return m->paused ? OK : ERR_STATE;
}

bool vm_hold(struct vm *m)
{
    CHECK(!held_vm);
    held_vm = m->paused && lives;
    return held_vm;
}

void vm_release(struct vm *m)
{
    CHECK(m == &vm && held_vm);
    held_vm = false;
}

int vm_resume(struct vm *m)
{
    CHECK(!held_vm);
    m->paused = false;
    resumes++;
    return OK;
}

int vm_stop(struct vm *m)
{
    CHECK(!held_vm);
    m->paused = lives = false;
    m->state = VM_STOPPED;
    return OK;
}

u64 control_register_read(struct vcpu *v, unsigned number)
{
    (void)v;
    CHECK_EQ(number, 8);
    return 3;
}

void log_line(enum log_level level, const char *format, ...)
{
    (void)level;
    (void)format;
}

static void on_stop(void)
{
    stops++;
}

static void fake_debugged_reset(void)
{
    fake_guest_reset();
    memset(vcpus, 0, sizeof(vcpus));
    memset(xstate, 0, sizeof(xstate));
    runs = dropped_traps = unloads = loads = pauses = resumes = stops = skipped = 0;
    nmi_window = window = held_vm = false;
    can_take = lives = true;
    on_run = NULL;
    on_sleep = NULL;
    sleeps = 0;
    injected.valid = false;
    vm = (struct vm){.state = VM_RUNNING,
                     .vcpus = vcpus,
                     .vcpu_count = VCPUS,
                     .ops = &debugged_ops,
                     .memory = vm.memory};
    for (unsigned i = 0; i < VCPUS; i++)
        vcpus[i] = (struct vcpu){
            .vm = &vm, .index = i, .ops = &debugged_ops, .xstate = xstate, .dr6 = DR6_INIT};
    regs[REG_DR6] = DR6_INIT;
    regs[REG_DR7] = DR7_INIT;
    regs[REG_RIP] = CODE;
    regs[REG_RSP] = 0x9000;
}
