// SPDX-License-Identifier: MIT
// A vCPU's registers, requests from other threads, what its local APIC tells it, and queueing of
// exceptions.
#include "vmm/vm.h"
#include "vmm/thread.h"
#include "vmm/vcpu.h"
#include "vmm/lib/format.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/regs.h"

u64 vcpu_gpr_read(struct vcpu *vcpu, unsigned gpr)
{
    return gpr == GPR_RSP ? vcpu->ops->reg_read(vcpu, REG_RSP) : vcpu->gpr[gpr];
}

void vcpu_gpr_write(struct vcpu *vcpu, unsigned gpr, u64 value)
{
    if (gpr == GPR_RSP)
        vcpu->ops->reg_write(vcpu, REG_RSP, value);
    else
        vcpu->gpr[gpr] = value;
}

// `vector` is what interrupts the vCPU's run, if it runs on another CPU.
static void request(struct vcpu *vcpu, u32 requests, u8 vector)
{
    __atomic_fetch_or(&vcpu->requests, requests, __ATOMIC_SEQ_CST);
    struct thread *thread = vcpu->thread;
    if (!thread || thread == thread_self())
        return;
    thread_wake(thread);
    // One that waits for its turn looks at its requests when that comes. Until then the CPU is
    // another's, perhaps of another VM, which must not be interrupted for it.
    bool runs = __atomic_load_n(&thread->state, __ATOMIC_SEQ_CST) == THREAD_RUNNING;
    if (runs && thread->cpu != this_cpu()->index)
        apic_send_ipi(percpus[thread->cpu].apic_id, vector);
}

void vcpu_request(struct vcpu *vcpu, u32 requests)
{
    request(vcpu, requests, HOST_VECTOR_WAKE);
}

void vcpu_load_here(struct vcpu *vcpu)
{
    struct percpu *cpu = this_cpu();
    if (likely(cpu->loaded == vcpu))
        return;
    if (cpu->loaded)
        cpu->loaded->ops->vcpu_unload(cpu->loaded);
    __atomic_store_n(&cpu->loaded, vcpu, __ATOMIC_RELEASE); // the former may go elsewhere now
    vcpu->ops->vcpu_load(vcpu);
}

void vcpu_unload_here(struct vcpu *vcpu)
{
    struct percpu *cpu = this_cpu();
    if (cpu->loaded != vcpu)
        return;
    vcpu->ops->vcpu_unload(vcpu);
    __atomic_store_n(&cpu->loaded, NULL, __ATOMIC_RELEASE);
}

void vcpu_apic_mode(struct vcpu *vcpu)
{
    vcpu->apic_moved = false;
    if (vcpu->vm->apic_hardware)
        vcpu->ops->apic_mode(vcpu);
}

bool vcpu_may_leave(const struct thread *thread)
{
    return __atomic_load_n(&percpus[thread->cpu].loaded, __ATOMIC_ACQUIRE) != thread->argument;
}

// --- exceptions (SDM volume 3, "Interrupt 8 - Double Fault Exception") ---

enum exception_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum exception_class event_class(const struct vcpu_event *event)
{
    const u32 contributory = BIT(VECTOR_DE) | BIT(VECTOR_TS) | BIT(VECTOR_NP) | BIT(VECTOR_SS) |
                             BIT(VECTOR_GP) | BIT(VECTOR_CP);
    if (event->type != EVENT_EXCEPTION || event->vector >= 32)
        return BENIGN;
    if (event->vector == VECTOR_DF)
        return DOUBLE_FAULT;
    if (event->vector == VECTOR_PF)
        return PAGE_FAULT;
    return contributory & BIT(event->vector) ? CONTRIBUTORY : BENIGN;
}

static bool makes_double_fault(enum exception_class first, enum exception_class second)
{
    return (first == CONTRIBUTORY && second == CONTRIBUTORY) ||
           (first == PAGE_FAULT && (second == CONTRIBUTORY || second == PAGE_FAULT));
}

// Not a trap, nor an abort.
static bool is_fault(const struct vcpu_event *event)
{
    const u32 others = BIT(VECTOR_DB) | BIT(VECTOR_NMI) | BIT(VECTOR_BP) | BIT(VECTOR_OF) |
                       BIT(VECTOR_DF) | BIT(VECTOR_MC);
    return event->type == EVENT_EXCEPTION && event->vector < 32 && !(others & BIT(event->vector));
}

static void nmi_add(struct vcpu *vcpu)
{
    vcpu->nmi_pending = (u8)MIN(vcpu->nmi_pending + 1, NMIS_PENDING);
}

void vcpu_inject(struct vcpu *vcpu, const struct vcpu_event *event)
{
    enum exception_class first = vcpu->event.valid ? event_class(&vcpu->event) : BENIGN;
    enum exception_class second = event_class(event);
    if (first == DOUBLE_FAULT && second != BENIGN) {
        char cause[24];
        format_text(cause, sizeof(cause), "exception %u", event->vector);
        vm_triple_fault(vcpu->vm, vcpu->index, cause);
        return;
    }
    // A benign one is dropped, not the double fault: if its cause persists, it comes again.
    if (first == DOUBLE_FAULT)
        return;
    // An interrupt or NMI whose delivery was broken off must not be lost: it goes back to where it
    // came from.
    if (vcpu->event.valid && vcpu->event.type == EVENT_EXTERNAL)
        vcpu->interrupted = vcpu->event;
    if (vcpu->event.valid && vcpu->event.type == EVENT_NMI)
        nmi_add(vcpu);
    if (vcpu->event.valid)
        vcpu_note(vcpu, VCPU_REQUEST_EVENT);
    if (makes_double_fault(first, second))
        vcpu->event = (struct vcpu_event){
            .valid = true, .vector = VECTOR_DF, .type = EVENT_EXCEPTION, .has_error = true};
    else
        vcpu->event = *event;
    // In its frame, so that the instruction does not meet its own breakpoint again: no injection
    // sets it (SDM volume 3, "Instruction-Breakpoint Exception Condition").
    if (is_fault(event))
        vcpu->ops->reg_write(vcpu, REG_RFLAGS, vcpu_reg(vcpu, REG_RFLAGS) | RFLAGS_RF);
    if (event->has_cr2)
        vcpu->ops->reg_write(vcpu, REG_CR2, event->cr2);
}

// --- the local APIC's side; the VM's lock is held ---

static struct vcpu *lapic_vcpu(struct lapic *lapic)
{
    return container_of(lapic, struct vcpu, lapic);
}

static void on_changed(struct lapic *lapic)
{
    vcpu_request(lapic_vcpu(lapic), VCPU_REQUEST_EVENT);
}

static void on_nmi(struct lapic *lapic)
{
    nmi_add(lapic_vcpu(lapic));
    on_changed(lapic);
}

static void on_init(struct lapic *lapic)
{
    struct vcpu *vcpu = lapic_vcpu(lapic);
    // A start-up that came before this is void.
    __atomic_fetch_and(&vcpu->requests, ~(u32)VCPU_REQUEST_STARTUP, __ATOMIC_SEQ_CST);
    vcpu_request(vcpu, VCPU_REQUEST_INIT);
}

static void on_startup(struct lapic *lapic, u8 page)
{
    struct vcpu *vcpu = lapic_vcpu(lapic);
    vcpu->startup_page = page;
    vcpu_request(vcpu, VCPU_REQUEST_STARTUP);
}

// Only the vCPU's own thread changes it, or whoever powers it on.
static void on_mode(struct lapic *lapic)
{
    lapic_vcpu(lapic)->apic_moved = true;
    vcpu_note(lapic_vcpu(lapic), VCPU_REQUEST_EVENT);
}

// In its guest, the vCPU does not notice: the CPU takes the interrupt, and finds the request at the
// next exit. Anywhere else it is a request like all.
static void on_posted(struct lapic *lapic)
{
    request(lapic_vcpu(lapic), VCPU_REQUEST_EVENT, HOST_VECTOR_POSTED);
}

const struct lapic_ops vcpu_lapic_ops = {
    .changed = on_changed,
    .nmi = on_nmi,
    .init = on_init,
    .startup = on_startup,
    .extint = on_changed,
    .mode = on_mode,
    .posted = on_posted,
};
