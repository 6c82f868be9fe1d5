// SPDX-License-Identifier: MIT
// Events into the guest: injection, the ones whose delivery an exit broke off, windows, the
// interrupt shadow, single-stepping over an emulated instruction. SDM volume 3, "Event Injection",
// "Information for VM Exits That Occur During Event Delivery", "Guest Non-Register State".
#include "arch/x86_64/vmx/vmx.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/bits.h"

// Exceptions that push an error code in protected mode (SDM volume 3, "Protected-Mode Exceptions
// and Interrupts").
#define ERROR_CODE_VECTORS                                                                         \
    (BIT(VECTOR_DF) | BIT(VECTOR_TS) | BIT(VECTOR_NP) | BIT(VECTOR_SS) | BIT(VECTOR_GP) |          \
     BIT(VECTOR_PF) | BIT(VECTOR_AC))
#define ERROR_CODE_MASK 0x7fffu // what the entry checks of every CPU take

// The hardware decides about the error code, whatever the event says: an entry is refused unless
// they agree.
static bool pushes_error_code(const struct vcpu_event *event)
{
    return event->type == EVENT_EXCEPTION && event->vector < 64 &&
           (ERROR_CODE_VECTORS & BIT(event->vector)) && (vmread(VMCS_GUEST_CR0) & CR0_PE);
}

static bool is_software(const struct vcpu_event *event)
{
    return event->type >= EVENT_SOFT_INTERRUPT;
}

void vmx_event_inject(struct vcpu *vcpu)
{
    struct vcpu_event *event = &vcpu->event;
    u64 info = INTERRUPTION_VALID | (u64)event->type << INTERRUPTION_TYPE_SHIFT | event->vector;
    if (pushes_error_code(event)) {
        info |= INTERRUPTION_HAS_ERROR;
        vmwrite(VMCS_ENTRY_EXCEPTION_ERROR_CODE,
                event->has_error ? event->error & ERROR_CODE_MASK : 0);
    }
    if (is_software(event))
        vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, event->length);
    if (event->has_cr2)
        write_cr2(event->cr2);
    // The exit clears the valid bit again.
    vmwrite(VMCS_ENTRY_INTERRUPTION_INFO, info);
    event->valid = false;
}

struct vcpu_event vmx_event_decode(u32 info, u32 error_field)
{
    struct vcpu_event event = {
        .valid = true,
        .vector = (u8)(info & INTERRUPTION_VECTOR_MASK),
        .type = (u8)bits_get(info, INTERRUPTION_TYPE_SHIFT, INTERRUPTION_TYPE_WIDTH),
        .has_error = info & INTERRUPTION_HAS_ERROR,
    };
    if (event.has_error)
        event.error = (u32)vmread(error_field);
    if (is_software(&event))
        event.length = (u8)vmread(VMCS_EXIT_INSTRUCTION_LENGTH);
    return event;
}

void vmx_event_requeue(struct vcpu *vcpu)
{
    u32 info = (u32)vmread(VMCS_IDT_VECTORING_INFO);
    if (likely(!(info & INTERRUPTION_VALID)))
        return;
    if (unlikely(vmx_capabilities.vectoring_stale))
        info = vmx_apic_vectoring(vcpu, info);
    vcpu->event = vmx_event_decode(info, VMCS_IDT_VECTORING_ERROR_CODE);
    // An NMI that was not delivered blocks no NMIs; with the blocking left in place its injection
    // would be refused.
    if (vcpu->event.type == EVENT_NMI)
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY,
                vmread(VMCS_GUEST_INTERRUPTIBILITY) & ~INTERRUPTIBILITY_NMI);
}

// --- windows ---

// A debug trap comes before both, and an injection would lose it ("Delivery of Pending Debug
// Exceptions after VM Entry").
static bool trap_pending(void)
{
    return vmread(VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS) &
           (PENDING_DEBUG_BS | PENDING_DEBUG_BREAKPOINT);
}

bool vmx_can_take_interrupt(struct vcpu *vcpu)
{
    struct vmx_vcpu *former = vmcs_acquire(vmx_of(vcpu));
    bool can = (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF) &&
               !(vmread(VMCS_GUEST_INTERRUPTIBILITY) & INTERRUPTIBILITY_SHADOW) && !trap_pending();
    vmcs_release(vmx_of(vcpu), former);
    return can;
}

// Some CPUs refuse an NMI in the shadow of STI too ("Checks on Guest Non-Register State").
bool vmx_can_take_nmi(struct vcpu *vcpu)
{
    struct vmx_vcpu *former = vmcs_acquire(vmx_of(vcpu));
    bool can =
        !(vmread(VMCS_GUEST_INTERRUPTIBILITY) & (INTERRUPTIBILITY_SHADOW | INTERRUPTIBILITY_NMI)) &&
        !trap_pending();
    vmcs_release(vmx_of(vcpu), former);
    return can;
}

static void proc_control_set(struct vmx_vcpu *v, u32 control, bool on)
{
    u32 controls = on ? v->proc_controls | control : v->proc_controls & ~control;
    if (controls == v->proc_controls)
        return;
    v->proc_controls = controls;
    struct vmx_vcpu *former = vmcs_acquire(v);
    vmwrite(VMCS_PRIMARY_PROCESSOR_CONTROLS, controls);
    vmcs_release(v, former);
}

void vmx_want_window(struct vcpu *vcpu, bool on)
{
    proc_control_set(vmx_of(vcpu), PROC_INTERRUPT_WINDOW_EXITING, on);
}

void vmx_want_nmi_window(struct vcpu *vcpu, bool on)
{
    proc_control_set(vmx_of(vcpu), PROC_NMI_WINDOW_EXITING, on);
}

void vmx_intercept(struct vcpu *vcpu, u32 exceptions, bool debug_registers)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    struct vmx_vcpu *former = vmcs_acquire(v);
    vmwrite(VMCS_EXCEPTION_BITMAP, INTERCEPTED_EXCEPTIONS | exceptions);
    vmcs_release(v, former);
    proc_control_set(v, PROC_MOV_DR_EXITING, debug_registers);
}

void vmx_drop_step_trap(struct vcpu *vcpu)
{
    struct vmx_vcpu *former = vmcs_acquire(vmx_of(vcpu));
    u64 pending = vmread(VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS);
    vmwrite(VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, pending & ~PENDING_DEBUG_BS);
    vmx_pending_debug_adjust();
    vmcs_release(vmx_of(vcpu), former);
}

// --- stepping over an instruction ---

static bool single_steps(u64 rflags)
{
    return (rflags & RFLAGS_TF) && !(vmread(VMCS_GUEST_IA32_DEBUGCTL) & DEBUGCTL_BTF);
}

void vmx_pending_debug_adjust(void)
{
    if (!(vmread(VMCS_GUEST_INTERRUPTIBILITY) & INTERRUPTIBILITY_SHADOW))
        return;
    u64 pending = vmread(VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS) & ~PENDING_DEBUG_BS;
    if (single_steps(vmread(VMCS_GUEST_RFLAGS)))
        pending |= PENDING_DEBUG_BS;
    vmwrite(VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, pending);
}

#define INSTRUCTION_MAX 15

// Where the instruction may have ended beyond 4 GiB: outside 64-bit code EIP wraps.
static COLD u64 rip_wrapped(u64 rip)
{
    bool long_mode = vmread(VMCS_GUEST_IA32_EFER) & EFER_LMA;
    if (long_mode && (vmread(VMCS_GUEST_CS_ACCESS_RIGHTS) & SEGMENT_L))
        return rip;
    return (u32)rip;
}

// RF is set at an exit for a fault, and would else hide a breakpoint on the next instruction (SDM
// volume 3, "Saving RIP, RSP, RFLAGS, and SSP"). The trap ends a HLT.
static COLD void flags_end(struct vcpu *vcpu, u64 rflags)
{
    if (rflags & RFLAGS_RF)
        vmwrite(VMCS_GUEST_RFLAGS, rflags & ~RFLAGS_RF);
    if (!single_steps(rflags))
        return;
    vmwrite(VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS,
            vmread(VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS) | PENDING_DEBUG_BS);
    vcpu->halted = false;
}

static inline __attribute__((always_inline)) void skip_to(struct vcpu *vcpu, u64 rip)
{
    vmwrite(VMCS_GUEST_RIP, rip);
    u64 interruptibility = vmread(VMCS_GUEST_INTERRUPTIBILITY);
    if (unlikely(interruptibility & INTERRUPTIBILITY_SHADOW))
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY, interruptibility & ~INTERRUPTIBILITY_SHADOW);
    u64 rflags = vmread(VMCS_GUEST_RFLAGS);
    if (unlikely(rflags & (RFLAGS_TF | RFLAGS_RF)))
        flags_end(vcpu, rflags);
}

static COLD void skip_wrapped(struct vcpu *vcpu, u64 rip)
{
    skip_to(vcpu, rip_wrapped(rip));
}

// The vCPU is loaded: only an exit leads here. Calls of what is rare come last, so that the usual
// way saves no register for them.
void vmx_skip(struct vcpu *vcpu, u64 rip)
{
    if (unlikely((u32)rip < INSTRUCTION_MAX))
        skip_wrapped(vcpu, rip);
    else
        skip_to(vcpu, rip);
}
