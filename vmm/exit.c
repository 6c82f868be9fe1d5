// SPDX-License-Identifier: MIT
// What to do about each kind of exit. A handler reads the decoded exit, changes the guest's
// registers or its machine, and names an action; it never moves RIP. Neutral: everything about the
// CPU goes through struct cpu_ops.
#include "vmm/exit.h"
#include "vmm/guest_cpu/control_registers.h"
#include "vmm/guest_cpu/cpuid.h"
#include "vmm/debug/debug.h"
#include "vmm/emulate/emulate.h"
#include "vmm/guest_cpu/msr.h"
#include "vmm/emulate/task_switch.h"
#include "vmm/thread.h"
#include "vmm/vm.h"
#include "vmm/vm_io.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/regs.h"
#include "arch/x86_64/xstate.h"

// KVM's hypercall interface, which stock Linux speaks: an unknown number gives -KVM_ENOSYS.
#define HYPERCALL_ENOSYS ((u64)-1000)

#define X(kind, handler, name) static enum exit_action handler(struct vcpu *, struct vm_exit *);
EXIT_LIST(X)
#undef X

static enum exit_action (*const handlers[EXIT_KIND_COUNT])(struct vcpu *, struct vm_exit *) = {
#define X(kind, handler, name) [kind] = handler,
    EXIT_LIST(X)
#undef X
};

static const char *const names[EXIT_KIND_COUNT] = {
#define X(kind, handler, name) [kind] = name,
    EXIT_LIST(X)
#undef X
};

enum exit_action exit_dispatch(struct vcpu *vcpu, struct vm_exit *exit)
{
    return handlers[exit->kind](vcpu, exit);
}

const char *exit_kind_name(enum exit_kind kind)
{
    return kind < EXIT_KIND_COUNT ? names[kind] : "?";
}

enum exit_action exit_fault(struct vm_exit *exit, u8 vector)
{
    exit->fault = (struct vcpu_event){.valid = true, .vector = vector, .type = EVENT_EXCEPTION};
    return ACTION_FAULT;
}

enum exit_action exit_fault_error(struct vm_exit *exit, u8 vector, u32 error)
{
    exit->fault = (struct vcpu_event){.valid = true,
                                      .vector = vector,
                                      .type = EVENT_EXCEPTION,
                                      .has_error = true,
                                      .error = error};
    return ACTION_FAULT;
}

// --- the run was ended from outside: look around, go on ---

static enum exit_action exit_interrupt(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)exit;
    vcpu->run_until = 0;
    return ACTION_RETRY;
}

static enum exit_action exit_timer(struct vcpu *vcpu, struct vm_exit *exit)
{
    return exit_interrupt(vcpu, exit);
}

static enum exit_action exit_window(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)exit;
    vcpu_note(vcpu, VCPU_REQUEST_EVENT);
    return ACTION_RETRY;
}

static enum exit_action exit_nmi_window(struct vcpu *vcpu, struct vm_exit *exit)
{
    vcpu->ops->want_nmi_window(vcpu, false);
    return exit_window(vcpu, exit);
}

// --- instructions ---

static enum exit_action exit_cpuid(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)exit;
    struct cpuid c;
    cpuid_guest(vcpu, (u32)vcpu->gpr[GPR_RAX], (u32)vcpu->gpr[GPR_RCX], &c);
    vcpu->gpr[GPR_RAX] = c.eax;
    vcpu->gpr[GPR_RBX] = c.ebx;
    vcpu->gpr[GPR_RCX] = c.ecx;
    vcpu->gpr[GPR_RDX] = c.edx;
    return ACTION_NEXT;
}

static enum exit_action exit_hlt(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)exit;
    // It ends at once: the interrupt comes at the entry.
    if (vcpu->vm->apic_hardware && vcpu->ops->apic_pending(vcpu))
        return ACTION_NEXT;
    vcpu->halted = true;
    vcpu_note(vcpu, VCPU_REQUEST_EVENT);
    return ACTION_NEXT;
}

// It waits in a loop, for another vCPU that does not run perhaps.
static enum exit_action exit_pause(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)exit;
    thread_give_way();
    vcpu->run_until = 0;
    return ACTION_NEXT;
}

static void port_read(struct vcpu *vcpu, u16 port, unsigned size)
{
    u64 value, mask = bytes_mask(size);
    vm_port_read(vcpu, port, size, &value);
    if (size == 4)
        vcpu->gpr[GPR_RAX] = (u32)value;
    else
        vcpu->gpr[GPR_RAX] = (vcpu->gpr[GPR_RAX] & ~mask) | (value & mask);
}

static enum exit_action exit_io(struct vcpu *vcpu, struct vm_exit *exit)
{
    if (unlikely(exit->io.string))
        return emulate_string_io(vcpu, exit);
    if (exit->io.write)
        vm_port_write(vcpu, exit->io.port, exit->io.size,
                      vcpu->gpr[GPR_RAX] & bytes_mask(exit->io.size));
    else
        port_read(vcpu, exit->io.port, exit->io.size);
    return ACTION_NEXT;
}

static enum exit_action exit_msr_read(struct vcpu *vcpu, struct vm_exit *exit)
{
    u64 value;
    if (!msr_guest_read(vcpu, exit->msr.index, &value))
        return exit_fault_error(exit, VECTOR_GP, 0);
    vcpu->gpr[GPR_RAX] = (u32)value;
    vcpu->gpr[GPR_RDX] = value >> 32;
    return ACTION_NEXT;
}

static enum exit_action exit_msr_write(struct vcpu *vcpu, struct vm_exit *exit)
{
    if (!msr_guest_write(vcpu, exit->msr.index, exit->msr.value))
        return exit_fault_error(exit, VECTOR_GP, 0);
    return ACTION_NEXT;
}

// None is offered (CPUID shows no feature that has one), so each is unknown, from every privilege
// level.
static enum exit_action exit_hypercall(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)exit;
    vcpu->gpr[GPR_RAX] = HYPERCALL_ENOSYS;
    return ACTION_NEXT;
}

// The CPU was delivering an event, and the guest's descriptor table or stack is in no memory.
static COLD enum exit_action delivery_failed(struct vcpu *vcpu, const struct vm_exit *exit)
{
    vm_kill(vcpu->vm, "delivery of vector %u needs address 0x%llx, where there is no memory",
            vcpu->event.vector, (unsigned long long)exit->memory.gpa);
    return ACTION_STOP;
}

static enum exit_action exit_memory(struct vcpu *vcpu, struct vm_exit *exit)
{
    switch (guest_memory_fault(&vcpu->vm->memory, exit->memory.gpa, exit->memory.access)) {
    case GUEST_FAULT_MAPPED:
        return ACTION_RETRY;
    case GUEST_FAULT_DEVICE:
        if (unlikely(vcpu->event.valid && !exit->memory.walk)) // it was no instruction's access
            return delivery_failed(vcpu, exit);
        return emulate_mmio(vcpu, exit);
    default:
        vm_kill(vcpu->vm, "the host is out of memory for address 0x%llx of this guest",
                (unsigned long long)exit->memory.gpa);
        return ACTION_STOP;
    }
}

// --- the local APIC, where the hardware does a part of it ---

static enum exit_action exit_apic_access(struct vcpu *vcpu, struct vm_exit *exit)
{
    if (likely(!exit->memory.walk))
        return emulate_mmio(vcpu, exit);
    vcpu->ops->apic_page_drop(vcpu);
    return ACTION_RETRY;
}

static enum exit_action exit_apic_write(struct vcpu *vcpu, struct vm_exit *exit)
{
    spin_lock(&vcpu->vm->lock);
    lapic_page_written(&vcpu->lapic, (unsigned)exit->detail);
    spin_unlock(&vcpu->vm->lock);
    return ACTION_RETRY;
}

static enum exit_action exit_apic_eoi(struct vcpu *vcpu, struct vm_exit *exit)
{
    spin_lock(&vcpu->vm->lock);
    lapic_page_eoi(&vcpu->lapic, (u8)exit->detail);
    spin_unlock(&vcpu->vm->lock);
    return ACTION_RETRY;
}

static u64 cr_write_value(struct vcpu *vcpu, const struct vm_exit *exit)
{
    u64 cr0 = vcpu_reg(vcpu, REG_CR0);
    switch (exit->cr.kind) {
    case CR_CLTS:
        return cr0 & ~CR0_TS;
    case CR_LMSW:
        return cr0_lmsw(cr0, exit->cr.value);
    default:
        return vcpu_gpr_read(vcpu, exit->cr.gpr);
    }
}

static enum exit_action exit_cr_write(struct vcpu *vcpu, struct vm_exit *exit)
{
    if (!control_register_write(vcpu, exit->cr.number, cr_write_value(vcpu, exit)))
        return exit_fault_error(exit, VECTOR_GP, 0);
    return ACTION_NEXT;
}

static enum exit_action exit_cr_read(struct vcpu *vcpu, struct vm_exit *exit)
{
    vcpu_gpr_write(vcpu, exit->cr.gpr, control_register_read(vcpu, exit->cr.number));
    return ACTION_NEXT;
}

static enum exit_action exit_dr_access(struct vcpu *vcpu, struct vm_exit *exit)
{
    return debug_register_access(vcpu, exit);
}

// Not every CPU looks at the privilege level before it exits; CPL is SS's DPL.
static enum exit_action exit_xsetbv(struct vcpu *vcpu, struct vm_exit *exit)
{
    u64 value = (vcpu->gpr[GPR_RDX] << 32) | (u32)vcpu->gpr[GPR_RAX];
    struct segment ss;
    vcpu->ops->segment_read(vcpu, SEG_SS, &ss);
    if ((ss.access & SEGMENT_DPL) || (u32)vcpu->gpr[GPR_RCX] != 0 || !xstate_set_xcr0(vcpu, value))
        return exit_fault_error(exit, VECTOR_GP, 0);
    return ACTION_NEXT;
}

static enum exit_action exit_wbinvd(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    (void)exit;
    return ACTION_NEXT; // guest memory is write-back and coherent; no device bypasses the caches
}

static enum exit_action exit_undefined(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    return exit_fault(exit, VECTOR_UD);
}

// --- events ---

static enum exit_action exit_exception(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    exit->fault = exit->event;
    return ACTION_FAULT;
}

static enum exit_action exit_task_switch(struct vcpu *vcpu, struct vm_exit *exit)
{
    return task_switch(vcpu, exit);
}

static enum exit_action exit_triple_fault(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)exit;
    vm_triple_fault(vcpu->vm, vcpu->index, "an exception");
    return ACTION_STOP;
}

static enum exit_action exit_entry_failed(struct vcpu *vcpu, struct vm_exit *exit)
{
    vm_kill(vcpu->vm, "the CPU refused to enter vCPU %u: its state is invalid (reason 0x%llx)",
            vcpu->index, (unsigned long long)exit->detail);
    return ACTION_STOP;
}

static enum exit_action exit_unknown(struct vcpu *vcpu, struct vm_exit *exit)
{
    vm_kill(vcpu->vm, "unknown exit, raw reason 0x%llx", (unsigned long long)exit->detail);
    return ACTION_STOP;
}
