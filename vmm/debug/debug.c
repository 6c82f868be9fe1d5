// SPDX-License-Identifier: MIT
// The verbs of an engine with a debugger in between. A run that ends at something of the debugger's
// becomes an exit for nothing, and asks for a pause: the run loop then parks the vCPU where it is.
#include "vmm/debug/debug.h"
#include "vmm/debug/debug_step.h"
#include "vmm/emulate/guest_walk.h"
#include "vmm/thread.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/regs.h"

#define STAY_POLL_US 1000

// Not #DF: a second exception during a delivery is seen by itself then, and merged by
// vcpu_inject(). Not #MC, which is the host's.
#define STEP_EXCEPTIONS (~(u32)(BIT(VECTOR_DF) | BIT(VECTOR_NMI) | BIT(VECTOR_MC)))

struct debug debug;

// --- addresses of code ---

gva_t debug_linear_rip(struct vcpu *vcpu)
{
    struct guest_paging mode;
    guest_paging_begin(vcpu, &mode);
    u64 rip = vcpu_reg(vcpu, REG_RIP);
    return mode.code64 ? rip : (u32)(mode.code_base + rip);
}

void debug_set_linear_rip(struct vcpu *vcpu, gva_t gva)
{
    struct guest_paging mode;
    guest_paging_begin(vcpu, &mode);
    vcpu->ops->reg_write(vcpu, REG_RIP, mode.code64 ? gva : (u32)(gva - mode.code_base));
}

// --- stops ---

static void vcpu_stop(struct vcpu *vcpu, enum debug_kind kind, gva_t gva)
{
    struct debug_vcpu *d = debug_of(vcpu);
    d->stop = kind;
    d->stop_gva = gva;
    vcpu->run_until = 0;
    vcpu_note(vcpu, VCPU_REQUEST_EVENT); // what was held off while it stepped
    (void)vm_pause_begin(vcpu->vm);      // false: another one was first
    debug.stopped();
}

static void stop_at_exit(struct vcpu *vcpu, struct vm_exit *exit, enum debug_kind kind, gva_t gva)
{
    exit->kind = EXIT_INTERRUPT;
    exit->detail = exit->vector = 0;
    vcpu_stop(vcpu, kind, gva);
}

// --- exceptions: the debugger's, or the guest's ---

// Both may have a condition that came true: the guest's is delivered when it goes on.
static void debug_trap(struct vcpu *vcpu, struct vm_exit *exit, const struct debug_found *found,
                       bool stepping)
{
    bool ours = found->slot >= 0 || (stepping && found->stepped);
    if (!ours)
        return;
    if (found->guests)
        vcpu_inject(vcpu, &exit->event);
    if (found->slot >= 0)
        stop_at_exit(vcpu, exit, debug.slots[found->slot].kind, debug.slots[found->slot].gva);
    else
        stop_at_exit(vcpu, exit, DEBUG_STEPPED, 0);
}

static bool is_debug_trap(const struct vm_exit *exit)
{
    return exit->kind == EXIT_EXCEPTION && exit->event.vector == VECTOR_DB &&
           exit->event.type == EVENT_EXCEPTION;
}

static bool is_breakpoint(const struct vm_exit *exit)
{
    return exit->kind == EXIT_EXCEPTION && exit->event.vector == VECTOR_BP &&
           exit->event.type == EVENT_SOFT_EXCEPTION;
}

static void look_at_breakpoint(struct vcpu *vcpu, struct vm_exit *exit)
{
    gva_t gva = debug_linear_rip(vcpu);
    if (is_breakpoint(exit) && debug_breakpoint_at(vcpu, gva))
        stop_at_exit(vcpu, exit, DEBUG_BREAKPOINT, gva);
}

// --- runs ---

static void run_plain(struct vcpu *vcpu, struct vm_exit *exit, u64 ticks)
{
    debug.real->run(vcpu, exit, ticks);
    if (is_debug_trap(exit)) {
        struct debug_found found = debug_exception(vcpu);
        if (found.stepped) {
            debug_guest_step(vcpu);
            found.guests = true;
        }
        debug_trap(vcpu, exit, &found, false);
    } else {
        look_at_breakpoint(vcpu, exit);
    }
}

// An event is delivered, and its handler's first instruction is where the step ends. The NMI window
// is an exit that comes before it, whatever the interrupt flag; while an NMI is being served there
// is none, and the shortest run is what is left.
static void run_delivery(struct vcpu *vcpu, struct vm_exit *exit)
{
    debug.real->want_nmi_window(vcpu, true);
    debug.real->run(vcpu, exit, 0);
    debug.real->want_nmi_window(vcpu, false);
    bool delivered =
        exit->kind == EXIT_NMI_WINDOW || exit->kind == EXIT_TIMER || exit->kind == EXIT_INTERRUPT;
    if (delivered && !vcpu->event.valid)
        stop_at_exit(vcpu, exit, DEBUG_STEPPED, 0);
    else
        look_at_breakpoint(vcpu, exit);
}

static void run_instruction(struct vcpu *vcpu, struct vm_exit *exit, u64 ticks, struct step *step)
{
    struct debug_found found = {.slot = -1};
    step_arm(vcpu, step);
    debug.real->run(vcpu, exit, ticks);
    bool trap = is_debug_trap(exit);
    if (trap)
        found = debug_exception(vcpu);
    step_disarm(vcpu, step, found.stepped);
    if (found.stepped && step->trap_flag) {
        debug_guest_step(vcpu);
        found.guests = true;
    }
    if (trap)
        debug_trap(vcpu, exit, &found, true);
    else
        look_at_breakpoint(vcpu, exit);
}

static void run_step(struct vcpu *vcpu, struct vm_exit *exit, u64 ticks)
{
    struct step step;
    if (!vcpu->event.valid) {
        step_look(vcpu, &step);
        if (step.kind != STEP_INTERRUPT) {
            run_instruction(vcpu, exit, ticks, &step);
            return;
        }
        vcpu->event = (struct vcpu_event){.valid = true,
                                          .vector = step.vector,
                                          .type = EVENT_SOFT_INTERRUPT,
                                          .length = step.length};
    }
    run_delivery(vcpu, exit);
}

static void run_not(struct vcpu *vcpu, struct vm_exit *exit)
{
    *exit = (struct vm_exit){.kind = EXIT_INTERRUPT, .rip = vcpu_reg(vcpu, REG_RIP)};
    thread_sleep_us(STAY_POLL_US);
}

static void debug_run(struct vcpu *vcpu, struct vm_exit *exit, u64 ticks)
{
    switch (debug_of(vcpu)->mode) {
    case DEBUG_RUN:
        run_plain(vcpu, exit, ticks);
        break;
    case DEBUG_STEP:
        run_step(vcpu, exit, ticks);
        break;
    case DEBUG_STAY:
        run_not(vcpu, exit);
        break;
    }
}

// --- the other verbs that are replaced ---

static void debug_skip(struct vcpu *vcpu, u64 rip)
{
    debug.real->skip(vcpu, rip);
    if (debug_of(vcpu)->mode == DEBUG_STEP)
        vcpu_stop(vcpu, DEBUG_STEPPED, 0);
}

// A halted vCPU steps by an interrupt, if one comes.
static bool holds_off(const struct vcpu *vcpu)
{
    enum debug_mode mode = debug_of(vcpu)->mode;
    return mode == DEBUG_STAY || (mode == DEBUG_STEP && !vcpu->halted);
}

static bool debug_can_take_interrupt(struct vcpu *vcpu)
{
    return !holds_off(vcpu) && debug.real->can_take_interrupt(vcpu);
}

static bool debug_can_take_nmi(struct vcpu *vcpu)
{
    return !holds_off(vcpu) && debug.real->can_take_nmi(vcpu);
}

static void debug_want_window(struct vcpu *vcpu, bool on)
{
    debug.real->want_window(vcpu, on && !holds_off(vcpu));
}

static void debug_want_nmi_window(struct vcpu *vcpu, bool on)
{
    debug.real->want_nmi_window(vcpu, on && !holds_off(vcpu));
}

static void debug_reset(struct vcpu *vcpu)
{
    debug.real->vcpu_reset(vcpu);
    debug_registers_reset(vcpu);
}

// --- coming and going ---

void debug_set_mode(struct vcpu *vcpu, enum debug_mode mode)
{
    debug_of(vcpu)->mode = mode;
    debug.real->intercept(vcpu, mode == DEBUG_STEP ? STEP_EXCEPTIONS : (u32)BIT(VECTOR_BP), true);
}

void debug_begin(struct vm *vm, void (*stopped)(void))
{
    if (debug.vm == vm)
        return;
    debug = (struct debug){.vm = vm, .stopped = stopped, .real = vm->ops, .ops = *vm->ops};
    debug.ops.run = debug_run;
    debug.ops.skip = debug_skip;
    debug.ops.can_take_interrupt = debug_can_take_interrupt;
    debug.ops.can_take_nmi = debug_can_take_nmi;
    debug.ops.want_window = debug_want_window;
    debug.ops.want_nmi_window = debug_want_nmi_window;
    debug.ops.vcpu_reset = debug_reset;
    debug.ops.reg_read = debug_reg_read;
    debug.ops.reg_write = debug_reg_write;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *vcpu = &vm->vcpus[i];
        debug_registers_take(vcpu);
        debug_registers_apply(vcpu);
        debug_set_mode(vcpu, DEBUG_RUN);
        vcpu->ops = &debug.ops;
    }
}

void debug_end(void)
{
    if (!debug.vm)
        return;
    debug_breakpoints_clear(true);
    for (unsigned i = 0; i < debug.vm->vcpu_count; i++) {
        struct vcpu *vcpu = &debug.vm->vcpus[i];
        debug_registers_give(vcpu);
        debug.real->intercept(vcpu, 0, false);
        vcpu->ops = debug.real;
    }
    debug.vm = NULL;
}

void debug_forget(void)
{
    debug_breakpoints_clear(false);
    debug.vm = NULL;
}
