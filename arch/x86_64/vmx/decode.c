// SPDX-License-Identifier: MIT
// From the hardware's exit to struct vm_exit: one row for each basic exit reason, which says what
// is read. Past this file nobody knows an exit qualification. SDM volume 3, "VMX Basic Exit
// Reasons", "Basic VM-Exit Information".
#include "arch/x86_64/vmx/vmx.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/log.h"

// --- nothing or next to nothing to decode ---

static void decode_plain(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    exit->detail = 0;
}

static void decode_leaf(struct vcpu *vcpu, struct vm_exit *exit)
{
    exit->detail = (u32)vcpu->gpr[GPR_RAX];
}

static void decode_undefined(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    exit->detail = vmread(VMCS_EXIT_REASON);
}

static void no_detail(struct vm_exit *exit)
{
    exit->vector = 0;
    exit->detail = 0;
}

// The CPU has acknowledged it ("Acknowledge interrupt on exit").
static void decode_interrupt(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    interrupt_dispatch((u8)vmread(VMCS_EXIT_INTERRUPTION_INFO));
    no_detail(exit);
}

// It may have ended the run in place of an interrupt: some emulators do not exit for one while the
// guest has interrupts disabled.
static void decode_timer(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    interrupts_take();
    no_detail(exit);
}

static void decode_msr(struct vcpu *vcpu, struct vm_exit *exit)
{
    exit->msr.index = (u32)vcpu->gpr[GPR_RCX];
    exit->msr.value = vcpu->gpr[GPR_RDX] << 32 | (u32)vcpu->gpr[GPR_RAX];
    exit->detail = exit->msr.index;
}

// --- exceptions ---

static void nmi_block(void)
{
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY,
            vmread(VMCS_GUEST_INTERRUPTIBILITY) | INTERRUPTIBILITY_NMI);
}

// "Debug Exceptions": an intercepted #DB has touched neither DR6, DR7 nor IA32_DEBUGCTL; what it
// found is in the qualification. INT1 (a software exception of this vector) changes none of them.
static void debug_exception_commit(void)
{
    u64 found = vmread(VMCS_EXIT_QUALIFICATION) & DEBUG_EXIT_MASK;
    write_dr6((read_dr6() & ~DR6_B_MASK) | found);
    vmwrite(VMCS_GUEST_DR7, vmread(VMCS_GUEST_DR7) & ~DR7_GD);
    vmwrite(VMCS_GUEST_IA32_DEBUGCTL, vmread(VMCS_GUEST_IA32_DEBUGCTL) & ~DEBUGCTL_LBR);
}

static void decode_host_event(struct vm_exit *exit, u8 vector)
{
    exit->kind = EXIT_INTERRUPT;
    exit->vector = vector;
    exit->detail = vector;
}

static void decode_exception(struct vcpu *vcpu, struct vm_exit *exit)
{
    u32 info = (u32)vmread(VMCS_EXIT_INTERRUPTION_INFO);
    struct vcpu_event event = vmx_event_decode(info, VMCS_EXIT_INTERRUPTION_ERROR_CODE);
    if (event.type == EVENT_NMI) {
        host_nmi_take();
        decode_host_event(exit, VECTOR_NMI);
        return;
    }
    if (event.vector == VECTOR_MC) {
        host_machine_check_take();
        decode_host_event(exit, VECTOR_MC);
        return;
    }
    // The bit means nothing if the fault came while another event was delivered.
    if ((info & INTERRUPTION_NMI_UNBLOCKED) && !vcpu->event.valid && event.vector != VECTOR_DF)
        nmi_block();
    if (event.vector == VECTOR_DB) {
        if (event.type == EVENT_EXCEPTION)
            debug_exception_commit();
        vmx_pending_debug_adjust();
    } else if (event.vector == VECTOR_PF) { // CR2 is not set by an exit
        event.has_cr2 = true;
        event.cr2 = vmread(VMCS_EXIT_QUALIFICATION);
    }
    exit->event = event;
    exit->detail = event.vector;
}

// RDPMC exits before its operand is looked at; a guest has no counters, so every index is wrong
// (SDM volume 2, "RDPMC").
static void decode_rdpmc(struct vcpu *vcpu, struct vm_exit *exit)
{
    exit->event = (struct vcpu_event){
        .valid = true, .vector = VECTOR_GP, .type = EVENT_EXCEPTION, .has_error = true};
    exit->detail = (u32)vcpu->gpr[GPR_RCX];
}

// --- with a qualification ---

static void decode_io(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    u64 q = vmread(VMCS_EXIT_QUALIFICATION);
    exit->io.port = (u16)bits_get(q, IO_PORT_SHIFT, IO_PORT_WIDTH);
    exit->io.size = (u8)((q & IO_SIZE_MASK) + 1);
    exit->io.write = !(q & IO_IN);
    exit->io.string = q & IO_STRING;
    exit->detail = exit->io.port;
}

static void decode_control_register(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    static const u8 kinds[] = {[CR_ACCESS_TO_CR] = CR_MOV,
                               [CR_ACCESS_FROM_CR] = CR_MOV,
                               [CR_ACCESS_CLTS] = CR_CLTS,
                               [CR_ACCESS_LMSW] = CR_LMSW};
    u64 q = vmread(VMCS_EXIT_QUALIFICATION);
    u64 type = bits_get(q, CR_ACCESS_TYPE_SHIFT, CR_ACCESS_TYPE_WIDTH);
    exit->kind = type == CR_ACCESS_FROM_CR ? EXIT_CR_READ : EXIT_CR_WRITE;
    exit->cr.number = (u8)(q & CR_ACCESS_NUMBER_MASK);
    exit->cr.gpr = (u8)bits_get(q, CR_ACCESS_GPR_SHIFT, CR_ACCESS_GPR_WIDTH);
    exit->cr.kind = kinds[type];
    exit->cr.value = bits_get(q, CR_ACCESS_SOURCE_SHIFT, CR_ACCESS_SOURCE_WIDTH);
    exit->detail = exit->cr.number;
}

static void decode_debug_register(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    u64 q = vmread(VMCS_EXIT_QUALIFICATION);
    exit->dr.number = (u8)(q & DR_ACCESS_NUMBER_MASK);
    exit->dr.gpr = (u8)bits_get(q, DR_ACCESS_GPR_SHIFT, DR_ACCESS_GPR_WIDTH);
    exit->dr.read = q & DR_ACCESS_FROM_DR;
    exit->detail = exit->dr.number;
}

static void decode_task_switch(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    u64 q = vmread(VMCS_EXIT_QUALIFICATION);
    exit->task.selector = (u16)(q & TASK_SWITCH_SELECTOR_MASK);
    exit->task.source = (u8)bits_get(q, TASK_SWITCH_SOURCE_SHIFT, TASK_SWITCH_SOURCE_WIDTH);
    exit->detail = exit->task.selector;
}

// The three low bits of the qualification, and the three of what the tables allow, are enum
// page_access bits.
_Static_assert(EPT_VIOLATION_READ == PAGE_READ && EPT_VIOLATION_WRITE == PAGE_WRITE &&
                   EPT_VIOLATION_FETCH == PAGE_EXECUTE,
               "the qualification's access bits are enum page_access");
#define EPT_VIOLATION_ACCESS (EPT_VIOLATION_READ | EPT_VIOLATION_WRITE | EPT_VIOLATION_FETCH)

static void decode_ept_violation(struct vcpu *vcpu, struct vm_exit *exit)
{
    u64 q = vmread(VMCS_EXIT_QUALIFICATION);
    exit->memory.gpa = vmread(VMCS_GUEST_PHYSICAL_ADDRESS);
    exit->memory.gva_valid = q & EPT_VIOLATION_GVA_VALID;
    exit->memory.gva = exit->memory.gva_valid ? vmread(VMCS_GUEST_LINEAR_ADDRESS) : 0;
    // Without a linear address it is MOV CR that loads PDPTEs.
    exit->memory.walk = !exit->memory.gva_valid || !(q & EPT_VIOLATION_FINAL);
    exit->memory.access = (unsigned)(q & EPT_VIOLATION_ACCESS);
    exit->memory.allowed =
        (unsigned)bits_get(q, EPT_VIOLATION_ALLOWED_SHIFT, EPT_VIOLATION_ALLOWED_WIDTH);
    exit->detail = exit->memory.gpa;
    if (unlikely(q & EPT_VIOLATION_NMI_UNBLOCKED) && !vcpu->event.valid)
        nmi_block();
}

// What is not an instruction's operand comes back as a stage-2 fault, for `walk` makes the page go.
static void decode_apic_access(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    u64 q = vmread(VMCS_EXIT_QUALIFICATION);
    u64 type = bits_get(q, APIC_ACCESS_TYPE_SHIFT, APIC_ACCESS_TYPE_WIDTH);
    exit->memory.gpa = LAPIC_BASE_DEFAULT + (q & APIC_ACCESS_OFFSET_MASK);
    exit->memory.gva = 0;
    exit->memory.gva_valid = false;
    exit->memory.walk = type > APIC_ACCESS_WRITE;
    exit->memory.access = type == APIC_ACCESS_WRITE ? PAGE_WRITE : PAGE_READ;
    exit->memory.allowed = 0;
    exit->detail = exit->memory.gpa;
}

static void decode_qualification(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    exit->detail = vmread(VMCS_EXIT_QUALIFICATION);
}

// An EPT entry of ours makes no sense. The VM stops; the address says where to look.
static void decode_ept_misconfiguration(struct vcpu *vcpu, struct vm_exit *exit)
{
    (void)vcpu;
    log_error("vmx: EPT misconfiguration at guest address 0x%lx",
              vmread(VMCS_GUEST_PHYSICAL_ADDRESS));
    exit->detail = VMX_EXIT_EPT_MISCONFIGURATION;
}

// --- the table ---

const struct vmx_row vmx_rows[VMX_EXIT_REASON_COUNT] = {
    [VMX_EXIT_EXCEPTION_OR_NMI] = {decode_exception, EXIT_EXCEPTION, VMX_ROW_DELIVERY},
    [VMX_EXIT_EXTERNAL_INTERRUPT] = {decode_interrupt, EXIT_INTERRUPT, 0},
    [VMX_EXIT_PREEMPTION_TIMER] = {decode_timer, EXIT_TIMER, 0},
    [VMX_EXIT_INTERRUPT_WINDOW] = {decode_plain, EXIT_WINDOW, 0},
    [VMX_EXIT_TPR_BELOW_THRESHOLD] = {decode_plain, EXIT_WINDOW, 0},
    [VMX_EXIT_NMI_WINDOW] = {decode_plain, EXIT_NMI_WINDOW, 0},
    [VMX_EXIT_TRIPLE_FAULT] = {decode_plain, EXIT_TRIPLE_FAULT, 0},
    [VMX_EXIT_TASK_SWITCH] = {decode_task_switch, EXIT_TASK_SWITCH,
                              VMX_ROW_LENGTH | VMX_ROW_DELIVERY},

    [VMX_EXIT_EPT_VIOLATION] = {decode_ept_violation, EXIT_MEMORY, VMX_ROW_DELIVERY},
    [VMX_EXIT_EPT_MISCONFIGURATION] = {decode_ept_misconfiguration, EXIT_UNKNOWN, VMX_ROW_DELIVERY},

    [VMX_EXIT_APIC_ACCESS] = {decode_apic_access, EXIT_APIC_ACCESS, VMX_ROW_DELIVERY},
    [VMX_EXIT_APIC_WRITE] = {decode_qualification, EXIT_APIC_WRITE, 0},
    [VMX_EXIT_VIRTUALIZED_EOI] = {decode_qualification, EXIT_APIC_EOI, 0},

    [VMX_EXIT_CPUID] = {decode_leaf, EXIT_CPUID, VMX_ROW_LENGTH},
    [VMX_EXIT_HLT] = {decode_plain, EXIT_HLT, VMX_ROW_LENGTH},
    [VMX_EXIT_PAUSE] = {decode_plain, EXIT_PAUSE, VMX_ROW_LENGTH},
    [VMX_EXIT_IO] = {decode_io, EXIT_IO, VMX_ROW_LENGTH},
    [VMX_EXIT_RDMSR] = {decode_msr, EXIT_MSR_READ, VMX_ROW_LENGTH},
    [VMX_EXIT_WRMSR] = {decode_msr, EXIT_MSR_WRITE, VMX_ROW_LENGTH},
    [VMX_EXIT_CR_ACCESS] = {decode_control_register, EXIT_CR_WRITE, VMX_ROW_LENGTH},
    [VMX_EXIT_DR_ACCESS] = {decode_debug_register, EXIT_DR_ACCESS, VMX_ROW_LENGTH},
    [VMX_EXIT_VMCALL] = {decode_leaf, EXIT_HYPERCALL, VMX_ROW_LENGTH},
    [VMX_EXIT_XSETBV] = {decode_plain, EXIT_XSETBV, VMX_ROW_LENGTH},
    [VMX_EXIT_WBINVD] = {decode_plain, EXIT_WBINVD, VMX_ROW_LENGTH},
    [VMX_EXIT_INVD] = {decode_plain, EXIT_WBINVD, VMX_ROW_LENGTH},
    [VMX_EXIT_RDPMC] = {decode_rdpmc, EXIT_EXCEPTION, 0},

    // Instructions that the guest's CPU does not have. Some exit on each CPU that knows them,
    // whatever the controls say.
    [VMX_EXIT_GETSEC] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_RSM] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_VMCLEAR] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_VMLAUNCH] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_VMPTRLD] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_VMPTRST] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_VMREAD] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_VMRESUME] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_VMWRITE] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_VMXOFF] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_VMXON] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_INVEPT] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_INVVPID] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_VMFUNC] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_MWAIT] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_MONITOR] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_UMWAIT] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_TPAUSE] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_ENCLS] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_SEAMCALL] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_TDCALL] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_RDMSR_IMMEDIATE] = {decode_undefined, EXIT_UNDEFINED, 0},
    [VMX_EXIT_WRMSRNS_IMMEDIATE] = {decode_undefined, EXIT_UNDEFINED, 0},
};

#define UNKNOWN_QUALIFICATION_SHIFT 16

void vmx_decode_unknown(struct vm_exit *exit, u32 reason)
{
    exit->kind = EXIT_UNKNOWN;
    exit->length = 0;
    exit->detail = vmread(VMCS_EXIT_QUALIFICATION) << UNKNOWN_QUALIFICATION_SHIFT |
                   (reason & EXIT_REASON_BASIC_MASK);
}
