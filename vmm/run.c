// SPDX-License-Identifier: MIT
// The run loop: the body of a vCPU's thread. Only this file moves RIP, records exits and injects
// events.
//
// Two speeds. As long as nobody asked for anything (vcpu->requests) and the bound worked out for
// the run still holds (vcpu->run_until), an exit is: run, dispatch, step, record. Everything else -
// requests, timers, interrupts, other threads' turns, halting - happens in attend().
#include "vmm/vm.h"
#include "vmm/run.h"
#include "vmm/vcpu.h"
#include "vmm/thread.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/regs.h"
#include "vmm/machine.h"

#define RUN_MAX_US 10000 // the longest that a guest runs without an exit

static u64 guest_now(const struct vm *vm)
{
    return rdtsc() + vm->tsc_offset;
}

// The vCPU that runs the VM's timers.
static bool keeps_time(const struct vcpu *vcpu)
{
    return vcpu->index == 0;
}

static void run_timers(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    if (!keeps_time(vcpu) || vm->clock.next > guest_now(vm))
        return;
    spin_lock(&vm->lock);
    io_clock_run(&vm->clock, guest_now(vm));
    spin_unlock(&vm->lock);
}

// Host TSC of the VM's next timer, if this vCPU has to care for it.
static u64 next_timer(const struct vcpu *vcpu)
{
    const struct vm *vm = vcpu->vm;
    u64 next = vm->clock.next;
    if (!keeps_time(vcpu) || next == ~0ull)
        return ~0ull;
    u64 tsc = next - vm->tsc_offset;
    return tsc < next ? ~0ull
                      : tsc; // the guest's clock is behind the host's: it chose one past its end
}

// Whatever the PIC says when it is acknowledged. No local APIC has one below 16.
#define PIC_VECTOR 0

// The vector of an interrupt that waits for this vCPU, or -1. VM's lock held.
static int interrupt_waiting(struct vcpu *vcpu)
{
    int vector = lapic_pending(&vcpu->lapic);
    if (vector < 0 && lapic_takes_pic(&vcpu->lapic) && machine_pic_pending(vcpu->vm))
        return PIC_VECTOR;
    return vector;
}

static u8 interrupt_accept(struct vcpu *vcpu, int vector)
{
    if (vector == PIC_VECTOR)
        return machine_pic_acknowledge(vcpu->vm);
    lapic_accept(&vcpu->lapic, (u8)vector);
    return (u8)vector;
}

static void set_tpr_threshold(struct vcpu *vcpu, unsigned threshold)
{
    if (likely(threshold == vcpu->tpr_threshold))
        return;
    vcpu->tpr_threshold = (u8)threshold;
    vcpu->ops->tpr_threshold(vcpu, threshold);
}

// Queue the next interrupt if the guest can take it now; else ask for an exit when it can.
static void queue_interrupt(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    bool more = false;
    spin_lock(&vm->lock);
    int vector = interrupt_waiting(vcpu);
    set_tpr_threshold(vcpu, vector > PIC_VECTOR ? 0 : lapic_tpr_threshold(&vcpu->lapic));
    if (vector >= 0) {
        more = true;
        if (!vcpu->event.valid && vcpu->ops->can_take_interrupt(vcpu)) {
            vcpu->event = (struct vcpu_event){
                .valid = true, .vector = interrupt_accept(vcpu, vector), .type = EVENT_EXTERNAL};
            more = interrupt_waiting(vcpu) >= 0;
        }
    }
    spin_unlock(&vm->lock);
    vcpu->ops->want_window(vcpu, more);
}

// The same where the hardware delivers what the local APIC has. The PIC's interrupts are injected,
// before those: while a window is asked for, the hardware holds its own back.
static void hand_over_interrupts(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    spin_lock(&vm->lock);
    vcpu->ops->apic_push(vcpu);
    bool pic = lapic_takes_pic(&vcpu->lapic) && machine_pic_pending(vm);
    if (pic && !vcpu->event.valid && vcpu->ops->can_take_interrupt(vcpu)) {
        vcpu->event = (struct vcpu_event){
            .valid = true, .vector = machine_pic_acknowledge(vm), .type = EVENT_EXTERNAL};
        pic = machine_pic_pending(vm);
    }
    spin_unlock(&vm->lock);
    vcpu->ops->want_window(vcpu, pic);
    if (vcpu->halted && vcpu->ops->apic_pending(vcpu))
        vcpu->halted = false;
}

// While one is handled the CPU remembers one more. Two that came before this vCPU could take the
// first are two as well: a CPU would have begun with the first at once.
static void queue_nmi(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    spin_lock(&vm->lock);
    if (!vcpu->event.valid && vcpu->ops->can_take_nmi(vcpu)) {
        vcpu->event = (struct vcpu_event){.valid = true, .vector = VECTOR_NMI, .type = EVENT_NMI};
        vcpu->nmi_pending--;
    } else if (vcpu_reg(vcpu, REG_INTERRUPTIBILITY) & BLOCKED_NMI) {
        vcpu->nmi_pending = 1;
    }
    bool more = vcpu->nmi_pending > 0;
    spin_unlock(&vm->lock);
    if (more)
        vcpu->ops->want_nmi_window(vcpu, true);
}

static void queue_events(struct vcpu *vcpu)
{
    if (unlikely(vcpu->nmi_pending))
        queue_nmi(vcpu);
    if (unlikely(vcpu->interrupted.valid)) {
        if (!vcpu->event.valid && vcpu->ops->can_take_interrupt(vcpu)) {
            vcpu->event = vcpu->interrupted;
            vcpu->interrupted.valid = false;
        } else {
            set_tpr_threshold(vcpu, 0); // it may be above TPR by now; the window comes first
            vcpu->ops->want_window(vcpu, true);
            return;
        }
    }
    if (vcpu->vm->apic_hardware)
        hand_over_interrupts(vcpu);
    else
        queue_interrupt(vcpu);
    if (vcpu->event.valid)
        vcpu->halted = false;
}

static void init_signal(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    vcpu->ops->vcpu_reset(vcpu);
    spin_lock(&vm->lock);
    lapic_init_signal(&vcpu->lapic);
    vcpu->nmi_pending = 0;
    spin_unlock(&vm->lock);
    vcpu->interrupted.valid = false;
    vcpu->halted = false;
    vcpu->waiting_for_startup = vcpu->index != 0;
}

// INIT and start-up IPIs (SDM volume 3, "Multiple-Processor (MP) Initialization").
static void startup_requests(struct vcpu *vcpu, u32 requests)
{
    if (requests & VCPU_REQUEST_INIT)
        init_signal(vcpu);
    if ((requests & VCPU_REQUEST_STARTUP) && vcpu->waiting_for_startup) {
        struct segment cs;
        vcpu->ops->segment_read(vcpu, SEG_CS, &cs);
        cs.selector = (u16)(vcpu->startup_page << 8);
        cs.base = (u64)vcpu->startup_page << PAGE_SHIFT;
        vcpu->ops->segment_write(vcpu, SEG_CS, &cs);
        vcpu->ops->reg_write(vcpu, REG_RIP, 0);
        vcpu->waiting_for_startup = false;
        vcpu->apic_moved = true;
    }
}

// Under the VM's lock: who holds the VM (vm_hold) finds all of them parked, and none leaves then.
static bool leave_park(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    spin_lock(&vm->lock);
    bool stops = __atomic_load_n(&vcpu->requests, __ATOMIC_SEQ_CST) & VCPU_REQUEST_STOP;
    bool leaves = !vm->held && (!vm->paused || stops);
    if (leaves)
        __atomic_sub_fetch(&vm->parked, 1, __ATOMIC_SEQ_CST);
    spin_unlock(&vm->lock);
    return leaves;
}

// The VM is paused: wait until it goes on, at the time at which it was stopped, or is to end. The
// vCPU's state is in no CPU meanwhile, for others to look at.
static COLD void park(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    vcpu_unload_here(vcpu);
    __atomic_add_fetch(&vm->parked, 1, __ATOMIC_SEQ_CST);
    while (!leave_park(vcpu))
        thread_block();
    vcpu->ops->set_tsc_offset(vcpu, vm->tsc_offset);
}

// Everything that is not the fast path. False: the vCPU is to leave its run loop. Interrupts are
// taken before the look at the requests, never between it and the entry: the one that says "look at
// your requests" then ends the run. They are taken even if no exit was for them, because a guest
// that faults in each delivery of an event has no such exits.
static bool attend(struct vcpu *vcpu)
{
    for (;;) {
        interrupts_take();
        if (thread_should_yield())
            thread_yield();
        if (unlikely(vcpu->vm->paused))
            park(vcpu);
        u32 requests = __atomic_exchange_n(&vcpu->requests, 0, __ATOMIC_SEQ_CST);
        if (requests & VCPU_REQUEST_STOP)
            return false;
        vcpu_load_here(vcpu);
        if (requests & VCPU_REQUEST_FLUSH)
            vcpu->ops->flush(vcpu);
        if (requests & (VCPU_REQUEST_INIT | VCPU_REQUEST_STARTUP))
            startup_requests(vcpu, requests);
        run_timers(vcpu);
        if (unlikely(vcpu->apic_moved))
            vcpu_apic_mode(vcpu);
        if (!vcpu->waiting_for_startup)
            queue_events(vcpu);
        if (!vcpu->halted && !vcpu->waiting_for_startup)
            break;
        thread_block_until(next_timer(vcpu));
    }
    // The bound below covers a deadline that moved meanwhile.
    __atomic_fetch_and(&vcpu->requests, ~(u32)VCPU_REQUEST_TIMER, __ATOMIC_SEQ_CST);
    u64 bound = MIN(next_timer(vcpu), thread_next_event());
    vcpu->run_until = MIN(bound, rdtsc() + tsc_from_us(RUN_MAX_US));
    return true;
}

static void act(struct vcpu *vcpu, const struct vm_exit *exit, enum exit_action action)
{
    if (likely(action == ACTION_NEXT))
        vcpu->ops->skip(vcpu, exit->rip + exit->length);
    else if (action == ACTION_FAULT)
        vcpu_inject(vcpu, &exit->fault);
}

static void run_guest(struct vcpu *vcpu)
{
    struct vm_exit exit;
    u64 now = rdtsc();
    for (;;) {
        // The engine ends a run at its bound, but other exits can come first, again and again.
        if (unlikely(vcpu->requests || now >= vcpu->run_until)) {
            if (!attend(vcpu))
                return;
            now = rdtsc();
        }
        vcpu->ops->run(vcpu, &exit, now < vcpu->run_until ? vcpu->run_until - now : 0);
        u64 start = rdtsc();
        enum exit_action action = exit_dispatch(vcpu, &exit);
        act(vcpu, &exit, action);
        now = rdtsc();
        trace_record(vcpu->trace, &exit, start, now - start);
        if (unlikely(action == ACTION_STOP))
            return;
    }
}

void vcpu_thread(void *argument)
{
    struct vcpu *vcpu = argument;
    struct vm *vm = vcpu->vm;
    do {
        vcpu->run_until = 0;
        run_guest(vcpu);
        vcpu_unload_here(vcpu);
    } while (vm_vcpu_ended(vm, vcpu));
}
