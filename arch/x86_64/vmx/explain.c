// SPDX-License-Identifier: MIT
// The hardware's refusals in words: VM-instruction errors, names of fields, and what to print after
// an entry that failed. SDM volume 3, "VM Instruction Error Numbers".
#include "arch/x86_64/vmx/explain.h"
#include "arch/x86_64/vmx/vmx.h"
#include "vmm/lib/assert.h"

static const char *const error_names[] = {
    [1] = "VMCALL executed in VMX root operation",
    [2] = "VMCLEAR with invalid physical address",
    [3] = "VMCLEAR with VMXON pointer",
    [4] = "VMLAUNCH with non-clear VMCS",
    [5] = "VMRESUME with non-launched VMCS",
    [6] = "VMRESUME after VMXOFF",
    [7] = "VM entry with invalid control fields",
    [8] = "VM entry with invalid host-state fields",
    [9] = "VMPTRLD with invalid physical address",
    [10] = "VMPTRLD with VMXON pointer",
    [11] = "VMPTRLD with incorrect VMCS revision identifier",
    [12] = "VMREAD or VMWRITE of unsupported VMCS component",
    [13] = "VMWRITE to read-only VMCS component",
    [15] = "VMXON executed in VMX root operation",
    [16] = "VM entry with invalid executive-VMCS pointer",
    [17] = "VM entry with non-launched executive VMCS",
    [18] = "VM entry with executive-VMCS pointer not VMXON pointer",
    [19] = "VMCALL with non-clear VMCS",
    [20] = "VMCALL with invalid VM-exit control fields",
    [22] = "VMCALL with incorrect MSEG revision identifier",
    [23] = "VMXOFF under dual-monitor treatment of SMIs and SMM",
    [24] = "VMCALL with invalid SMM-monitor features",
    [25] = "VM entry with invalid VM-execution control fields in executive VMCS",
    [26] = "VM entry with events blocked by MOV SS",
    [28] = "invalid operand to INVEPT or INVVPID",
};

const char *vmx_instruction_error_name(u32 error)
{
    if (error < ARRAY_SIZE(error_names) && error_names[error])
        return error_names[error];
    return "unknown VM-instruction error";
}

const char *vmcs_field_name(u32 field)
{
    static const struct {
        u32 field;
        const char *name;
    } names[] = {
#define X(name, encoding) {encoding, #name},
        VMCS_FIELD_LIST(X)
#undef X
    };
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (names[i].field == field)
            return names[i].name;
    return "?";
}

// Reads the error by itself: vmread() would come back here for ever if there is no current VMCS.
static u64 instruction_error_read(void)
{
    u64 error = 0;
    __asm__ volatile("vmread %1, %0" : "+r"(error) : "r"((u64)VMCS_INSTRUCTION_ERROR) : "cc");
    return error;
}

void vmx_instruction_failed(const char *instruction, u64 operand)
{
    u32 error = (u32)instruction_error_read();
    panic("%s of 0x%lx (%s) failed: error %u, %s", instruction, operand,
          vmcs_field_name((u32)operand), error, vmx_instruction_error_name(error));
}

void explain_rule(struct explanation *e, bool kept, u32 field, const char *rule)
{
    if (kept)
        return;
    e->violations++;
    e->print(e->context, "%s = 0x%lx: %s", vmcs_field_name(field), vmread(field), rule);
}

void vmx_explain(struct vcpu *vcpu, void (*print)(void *context, const char *format, ...),
                 void *context)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    struct explanation e = {.print = print, .context = context};
    struct vmx_vcpu *former = vmcs_acquire(v);
    if (v->instruction_error)
        print(context, "%s", vmx_instruction_error_name(v->instruction_error));
    explain_event(&e);
    explain_registers(&e);
    explain_segments(&e);
    explain_non_registers(&e);
    vmcs_release(v, former);
    if (!e.violations)
        print(context, "the guest's state breaks no rule of a VM entry");
}
