// SPDX-License-Identifier: MIT
// What a VMCS holds before its first entry: the controls, the host's state, and the guest's state
// after power-up, the last as one table. SDM volume 3, "VM-Execution Control Fields", "Host-State
// Area", "Processor State After Reset".
#include "arch/x86_64/vmx/vmx.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/descriptors.h"
#include "arch/x86_64/regs.h"
#include "mm/frame.h"
#include "vmm/lib/string.h"

struct field_value {
    u32 field;
    u64 value;
};

static void fields_write(const struct field_value *values, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        vmwrite(values[i].field, values[i].value);
}

// --- controls ---

static const struct field_value fixed_controls[] = {
    {VMCS_EXCEPTION_BITMAP, INTERCEPTED_EXCEPTIONS},
    {VMCS_PAGE_FAULT_ERROR_CODE_MASK, 0},
    {VMCS_PAGE_FAULT_ERROR_CODE_MATCH, 0},
    {VMCS_CR3_TARGET_COUNT, 0},
    {VMCS_EXIT_MSR_STORE_COUNT, 0},
    {VMCS_EXIT_MSR_LOAD_COUNT, 0},
    {VMCS_ENTRY_MSR_LOAD_COUNT, 0},
    {VMCS_ENTRY_INTERRUPTION_INFO, 0},
    {VMCS_LINK_POINTER, VMCS_LINK_NONE},
};

// Without accessed and dirty flags, which nobody reads: with them, the CPU's reads of the guest's
// page tables count as writes ("Accessed and Dirty Flags for EPT"), and tables in ROM would never
// do.
void vmcs_write_eptp(struct vmx_vcpu *v)
{
    v->eptp = v->vcpu->vm->memory.stage2.root | EPTP_WALK_4 | EPTP_WRITE_BACK;
    vmwrite(VMCS_EPT_POINTER, v->eptp);
}

// "PAUSE-Loop Exiting": PAUSEs no farther apart than the gap are one loop, which exits once it
// lasts for the window. A guest's lock that is free soon is waited for; one whose owner is not
// running costs little of the slice. In TSC ticks.
#define PAUSE_LOOP_GAP    128
#define PAUSE_LOOP_WINDOW 4096

// Fields that exist only where the CPU has their control.
static void optional_controls_write(const struct vmx_vcpu *v, u32 proc2)
{
    if (proc2 & PROC2_ENABLE_VPID)
        vmwrite(VMCS_VIRTUAL_PROCESSOR_ID, v->vpid);
    if (proc2 & PROC2_PAUSE_LOOP_EXITING) {
        vmwrite(VMCS_PLE_GAP, PAUSE_LOOP_GAP);
        vmwrite(VMCS_PLE_WINDOW, PAUSE_LOOP_WINDOW);
    }
    if (proc2 & PROC2_ENCLS_EXITING)
        vmwrite(VMCS_ENCLS_EXITING_BITMAP, ~0ull);
}

void vmcs_write_controls(struct vmx_vcpu *v)
{
    const u32 *controls = vmx_capabilities.controls;
    v->proc_controls = controls[CONTROLS_PROC];
    v->entry_controls = controls[CONTROLS_ENTRY];
    vmwrite(VMCS_PIN_BASED_CONTROLS, controls[CONTROLS_PIN]);
    vmwrite(VMCS_PRIMARY_PROCESSOR_CONTROLS, v->proc_controls);
    vmwrite(VMCS_SECONDARY_PROCESSOR_CONTROLS, controls[CONTROLS_PROC2]);
    vmwrite(VMCS_EXIT_CONTROLS, controls[CONTROLS_EXIT]);
    vmwrite(VMCS_ENTRY_CONTROLS, v->entry_controls);
    fields_write(fixed_controls, ARRAY_SIZE(fixed_controls));
    optional_controls_write(v, controls[CONTROLS_PROC2]);
    vmwrite(VMCS_CR0_GUEST_HOST_MASK, vmx_cr0_mask());
    vmwrite(VMCS_CR4_GUEST_HOST_MASK, vmx_cr4_mask());
    vmwrite(VMCS_IO_BITMAP_A, v->io_bitmap);
    vmwrite(VMCS_IO_BITMAP_B, v->io_bitmap);
    vmwrite(VMCS_MSR_BITMAPS, hva_to_hpa(v->msr_bitmap));
    vmwrite(VMCS_TSC_OFFSET, v->vcpu->vm->tsc_offset);
    vmcs_write_eptp(v);
    if (v->apic_page)
        vmcs_write_apic(v);
}

// --- host ---

static const struct field_value fixed_host_state[] = {
    {VMCS_HOST_CS_SELECTOR, HOST_CODE_SELECTOR},
    {VMCS_HOST_SS_SELECTOR, HOST_DATA_SELECTOR},
    {VMCS_HOST_DS_SELECTOR, HOST_DATA_SELECTOR},
    {VMCS_HOST_ES_SELECTOR, HOST_DATA_SELECTOR},
    {VMCS_HOST_FS_SELECTOR, 0},
    {VMCS_HOST_GS_SELECTOR, 0},
    {VMCS_HOST_TR_SELECTOR, HOST_TSS_SELECTOR},
    {VMCS_HOST_FS_BASE, 0},
    {VMCS_HOST_IA32_SYSENTER_CS, 0},
    {VMCS_HOST_IA32_SYSENTER_ESP, 0},
    {VMCS_HOST_IA32_SYSENTER_EIP, 0},
};

void vmcs_write_host_state(struct vmx_vcpu *v)
{
    const struct percpu *cpu = this_cpu();
    fields_write(fixed_host_state, ARRAY_SIZE(fixed_host_state));
    vmwrite(VMCS_HOST_CR0, read_cr0());
    vmwrite(VMCS_HOST_CR3, read_cr3());
    vmwrite(VMCS_HOST_CR4, read_cr4());
    vmwrite(VMCS_HOST_IA32_PAT, rdmsr(MSR_IA32_PAT));
    vmwrite(VMCS_HOST_IA32_EFER, rdmsr(MSR_IA32_EFER));
    vmwrite(VMCS_HOST_GS_BASE, (u64)cpu);
    vmwrite(VMCS_HOST_TR_BASE, (u64)cpu_task_state(cpu));
    vmwrite(VMCS_HOST_GDTR_BASE, (u64)cpu_gdt(cpu));
    vmwrite(VMCS_HOST_IDTR_BASE, (u64)cpu_idt());
    vmwrite(VMCS_HOST_RIP, (u64)vmx_exit_entry);
    v->host_rsp = 0; // entry.asm writes it when it differs
}

// --- guest ---

// A descriptor's access byte: present, DPL 0, and the type.
#define ACCESS_DATA 0x93
#define ACCESS_CODE 0x9b
#define ACCESS_LDT  0x82
#define ACCESS_TSS  0x8b // busy, 32-bit or 64-bit

#define RESET_LIMIT       0xffff
#define RESET_CS_SELECTOR 0xf000
#define RESET_CS_BASE     0xffff0000ull
#define RESET_RIP         0xfff0
#define RESET_PAT         0x0007040600070406ull

#define RESET_SEGMENT(name, selector, base, access)                                                \
    {VMCS_GUEST_##name##_SELECTOR, selector}, {VMCS_GUEST_##name##_BASE, base},                    \
        {VMCS_GUEST_##name##_LIMIT, RESET_LIMIT},                                                  \
    {                                                                                              \
        VMCS_GUEST_##name##_ACCESS_RIGHTS, access                                                  \
    }

static const struct field_value guest_reset[] = {
    RESET_SEGMENT(ES, 0, 0, ACCESS_DATA),
    RESET_SEGMENT(CS, RESET_CS_SELECTOR, RESET_CS_BASE, ACCESS_CODE),
    RESET_SEGMENT(SS, 0, 0, ACCESS_DATA),
    RESET_SEGMENT(DS, 0, 0, ACCESS_DATA),
    RESET_SEGMENT(FS, 0, 0, ACCESS_DATA),
    RESET_SEGMENT(GS, 0, 0, ACCESS_DATA),
    RESET_SEGMENT(LDTR, 0, 0, ACCESS_LDT),
    RESET_SEGMENT(TR, 0, 0, ACCESS_TSS),
    {VMCS_GUEST_GDTR_BASE, 0},
    {VMCS_GUEST_GDTR_LIMIT, RESET_LIMIT},
    {VMCS_GUEST_IDTR_BASE, 0},
    {VMCS_GUEST_IDTR_LIMIT, RESET_LIMIT},
    {VMCS_GUEST_CR3, 0},
    {VMCS_GUEST_IA32_EFER, 0},
    {VMCS_GUEST_IA32_PAT, RESET_PAT},
    {VMCS_GUEST_IA32_DEBUGCTL, 0},
    {VMCS_GUEST_IA32_SYSENTER_CS, 0},
    {VMCS_GUEST_IA32_SYSENTER_ESP, 0},
    {VMCS_GUEST_IA32_SYSENTER_EIP, 0},
    {VMCS_GUEST_DR7, DR7_INIT},
    {VMCS_GUEST_RSP, 0},
    {VMCS_GUEST_RIP, RESET_RIP},
    {VMCS_GUEST_RFLAGS, RFLAGS_RESERVED},
    {VMCS_GUEST_PDPTE0, 0},
    {VMCS_GUEST_PDPTE1, 0},
    {VMCS_GUEST_PDPTE2, 0},
    {VMCS_GUEST_PDPTE3, 0},
    {VMCS_GUEST_INTERRUPTIBILITY, 0},
    {VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE},
    {VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, 0},
};

void vmcs_write_guest_reset(struct vmx_vcpu *v)
{
    fields_write(guest_reset, ARRAY_SIZE(guest_reset));
    vmx_cr4_write(v, 0);
    vmx_cr0_write(v, CR0_CD | CR0_NW | CR0_ET);
}
