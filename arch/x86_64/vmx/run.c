// SPDX-License-Identifier: MIT
// One run of a guest: bound it, inject, enter, and say why it came back. Every instruction here is
// paid at every exit.
#include "arch/x86_64/vmx/vmx.h"
#include "arch/x86_64/asm.h"
#include "vmm/lib/assert.h"

// What entry.asm takes for granted.
assert_static(offsetof(struct vmx_vcpu, host_rsp) == 0);
assert_static(offsetof(struct vmx_vcpu, launched) == 8);
assert_static(GPR_RDI == 7 && GPR_R15 == 15);

// The timer counts down at a fraction of the TSC's rate and is loaded anew at each entry
// ("VMX-Preemption Timer"). One tick more than the whole ones that fit: an exit just before the
// deadline would be for nothing. The field has 32 bits; of a deadline farther off the low ones give
// an exit too early, which does no harm.
static inline void timer_set(u64 tsc_ticks)
{
    vmwrite(VMCS_PREEMPTION_TIMER_VALUE, (tsc_ticks >> vmx_capabilities.timer_shift) + 1);
}

static inline unsigned enter(u64 *gpr, struct vmx_vcpu *v)
{
    unsigned result;
    __asm__ volatile("call vmx_enter"
                     : "=a"(result), "+D"(gpr), "+S"(v)
                     :
                     : "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
                       "cc", "memory");
    return result;
}

#define VMFAIL_INVALID_CONTROLS 7

// The VMCS was refused before the guest's state was looked at. An injected event may be to blame,
// which is the VM's affair; all else is a bug of ours.
static u32 entry_refused(unsigned result)
{
    u32 error = result == VMX_ENTRY_FAIL_VALID ? (u32)vmread(VMCS_INSTRUCTION_ERROR) : 0;
    if (error != VMFAIL_INVALID_CONTROLS)
        panic("VM entry: %s", error ? vmx_instruction_error_name(error) : "no current VMCS");
    return error;
}

// entry.asm took it for launched; whether it was before, the next entry launches it.
static COLD void launch_again(struct vmx_vcpu *v)
{
    vmclear(v->vmcs);
    vmptrld(v->vmcs);
    v->launched = 0;
}

// The guest did not run: `result` says that the VMCS was refused, or `reason` that the guest's
// state was ("VM-Entry Failures During or After Loading Guest State").
static COLD void entry_failed(struct vcpu *vcpu, struct vm_exit *exit, unsigned result, u32 reason)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    u32 error = result == VMX_ENTRY_OK ? 0 : entry_refused(result);
    if (!error && (reason & EXIT_REASON_BASIC_MASK) == VMX_EXIT_MACHINE_CHECK)
        host_machine_check_take();
    v->instruction_error = (u8)error;
    exit->kind = EXIT_ENTRY_FAILED;
    exit->length = 0;
    exit->rip = vmread(VMCS_GUEST_RIP);
    exit->detail = error ? error : reason;
    launch_again(v);
}

// The guest's state was refused, but it can be put right: try again, with the event too.
static COLD bool entry_repaired(struct vcpu *vcpu, struct vm_exit *exit, u32 reason, bool injected)
{
    if ((reason & EXIT_REASON_BASIC_MASK) != VMX_EXIT_INVALID_GUEST_STATE ||
        !vmx_real_segments_repair())
        return false;
    launch_again(vmx_of(vcpu));
    vcpu->event.valid = injected;
    exit->kind = EXIT_INTERRUPT;
    exit->length = 0;
    exit->vector = 0;
    exit->detail = 0;
    return true;
}

static COLD void exit_odd(struct vcpu *vcpu, struct vm_exit *exit, u32 reason, bool injected)
{
    if (!(reason & EXIT_REASON_ENTRY_FAILED))
        vmx_decode_unknown(exit, reason);
    else if (!entry_repaired(vcpu, exit, reason, injected))
        entry_failed(vcpu, exit, VMX_ENTRY_OK, reason);
}

// `injected` is a constant in both uses: an event was put into this entry.
static inline __attribute__((always_inline)) void run_once(struct vcpu *vcpu, struct vm_exit *exit,
                                                           u64 ticks, bool injected)
{
    timer_set(ticks);
    unsigned result = enter(vcpu->gpr, vmx_of(vcpu));
    if (unlikely(result != VMX_ENTRY_OK)) {
        entry_failed(vcpu, exit, result, 0);
        return;
    }
    u32 reason = (u32)vmread(VMCS_EXIT_REASON);
    exit->rip = vmread(VMCS_GUEST_RIP);
    const struct vmx_row *row = &vmx_rows[reason];
    if (unlikely(reason >= ARRAY_SIZE(vmx_rows) || !row->decode)) {
        exit_odd(vcpu, exit, reason, injected);
        return;
    }
    exit->kind = row->kind;
    exit->length = 0;
    if (row->flags & VMX_ROW_LENGTH)
        exit->length = (u8)vmread(VMCS_EXIT_INSTRUCTION_LENGTH);
    if (injected || (row->flags & VMX_ROW_DELIVERY))
        vmx_event_requeue(vcpu);
    row->decode(vcpu, exit);
}

static __attribute__((noinline)) void run_injecting(struct vcpu *vcpu, struct vm_exit *exit,
                                                    u64 ticks)
{
    vmx_event_inject(vcpu);
    run_once(vcpu, exit, ticks, true);
}

void vmx_run(struct vcpu *vcpu, struct vm_exit *exit, u64 ticks)
{
    if (unlikely(vcpu->event.valid))
        run_injecting(vcpu, exit, ticks);
    else
        run_once(vcpu, exit, ticks, false);
}
