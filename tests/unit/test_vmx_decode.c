// SPDX-License-Identifier: MIT
#include "tests/unit/fake_vmx.h"
#include "arch/x86_64/vmx/event.c"
#include "arch/x86_64/vmx/decode.c"

struct vmx_capabilities vmx_capabilities;
static struct vmx_vcpu engine;
static struct vmx_cpu fake_vmx_cpu = {.current = &engine};
static struct vcpu vcpu;
static struct vm_exit exited;

void log_line(enum log_level level, const char *format, ...)
{
    (void)level;
    (void)format;
}

static unsigned borrowed, returned;

struct vmx_vcpu *vmcs_borrow(struct vmx_vcpu *v)
{
    borrowed++;
    return fake_vmx_cpu.current == v ? v : NULL;
}

void vmcs_return(struct vmx_vcpu *v, struct vmx_vcpu *former)
{
    (void)v;
    (void)former;
    returned++;
}

u32 vmx_apic_vectoring(struct vcpu *v, u32 info)
{
    CHECK(v == &vcpu);
    return info + 1;
}

static unsigned dispatched;

void interrupt_dispatch(u8 vector)
{
    dispatched = vector;
}

static void fresh(void)
{
    memset(fake_fields, 0, sizeof(fake_fields));
    memset(&vcpu, 0, sizeof(vcpu));
    memset(&exited, 0, sizeof(exited));
    fake_dr6 = DR6_INIT;
    fake_nmis = fake_machine_checks = fake_interrupts = 0;
    vcpu.engine = &engine;
    fake_percpu.engine = &fake_vmx_cpu;
}

static void decode(u32 reason)
{
    exited.kind = vmx_rows[reason].kind;
    vmx_rows[reason].decode(&vcpu, &exited);
}

static u32 information(unsigned type, unsigned vector, u32 more)
{
    return (u32)(INTERRUPTION_VALID | type << INTERRUPTION_TYPE_SHIFT | vector | more);
}

TEST(io)
{
    fresh();
    fake_fields[VMCS_EXIT_QUALIFICATION] = 0x03f8ull << 16 | 0; // OUT of a byte
    decode(VMX_EXIT_IO);
    CHECK_EQ(exited.kind, EXIT_IO);
    CHECK_EQ(exited.io.port, 0x3f8);
    CHECK_EQ(exited.io.size, 1);
    CHECK(exited.io.write);
    CHECK(!exited.io.string);
    fake_fields[VMCS_EXIT_QUALIFICATION] = 0xffffull << 16 | IO_IN | IO_STRING | IO_REP | 3;
    decode(VMX_EXIT_IO);
    CHECK_EQ(exited.io.port, 0xffff);
    CHECK_EQ(exited.io.size, 4);
    CHECK(!exited.io.write);
    CHECK(exited.io.string);
}

TEST(msr_value_is_put_together_from_halves)
{
    fresh();
    vcpu.gpr[GPR_RCX] = 0xffffffff00000174;
    vcpu.gpr[GPR_RAX] = 0xdeadbeef00000001;
    vcpu.gpr[GPR_RDX] = 0xdeadbeef00000002;
    decode(VMX_EXIT_WRMSR);
    CHECK_EQ(exited.msr.index, 0x174);
    CHECK_EQ(exited.msr.value, 0x200000001);
}

TEST(control_register)
{
    fresh();
    fake_fields[VMCS_EXIT_QUALIFICATION] = 0xf << 8 | 8; // MOV CR8, R15
    decode(VMX_EXIT_CR_ACCESS);
    CHECK_EQ(exited.kind, EXIT_CR_WRITE);
    CHECK_EQ(exited.cr.number, 8);
    CHECK_EQ(exited.cr.gpr, GPR_R15);
    fake_fields[VMCS_EXIT_QUALIFICATION] = CR_ACCESS_FROM_CR << 4 | 8;
    decode(VMX_EXIT_CR_ACCESS);
    CHECK_EQ(exited.kind, EXIT_CR_READ);
    fake_fields[VMCS_EXIT_QUALIFICATION] = 0xfff1ull << 16 | CR_ACCESS_LMSW << 4;
    decode(VMX_EXIT_CR_ACCESS);
    CHECK_EQ(exited.cr.kind, CR_LMSW);
    CHECK_EQ(exited.cr.value, 0xfff1);
}

TEST(ept_violation)
{
    fresh();
    fake_fields[VMCS_GUEST_PHYSICAL_ADDRESS] = 0xfee00300;
    fake_fields[VMCS_GUEST_LINEAR_ADDRESS] = 0xffff8000fee00300;
    fake_fields[VMCS_EXIT_QUALIFICATION] =
        EPT_VIOLATION_WRITE | 5 << 3 | EPT_VIOLATION_GVA_VALID | EPT_VIOLATION_FINAL;
    decode(VMX_EXIT_EPT_VIOLATION);
    CHECK_EQ(exited.memory.gpa, 0xfee00300);
    CHECK_EQ(exited.detail, 0xfee00300);
    CHECK_EQ(exited.memory.gva, 0xffff8000fee00300);
    CHECK(!exited.memory.walk);
    CHECK_EQ(exited.memory.access, PAGE_WRITE);
    CHECK_EQ(exited.memory.allowed, PAGE_READ | PAGE_EXECUTE);
    fake_fields[VMCS_EXIT_QUALIFICATION] = EPT_VIOLATION_READ | EPT_VIOLATION_GVA_VALID;
    decode(VMX_EXIT_EPT_VIOLATION);
    CHECK(exited.memory.walk);
    fake_fields[VMCS_EXIT_QUALIFICATION] = EPT_VIOLATION_READ;
    decode(VMX_EXIT_EPT_VIOLATION); // PDPTEs
    CHECK(exited.memory.walk);
    CHECK(!exited.memory.gva_valid);
}

TEST(iret_that_unblocked_nmis_and_faulted_blocks_them_again)
{
    fresh();
    fake_fields[VMCS_EXIT_QUALIFICATION] = EPT_VIOLATION_READ | EPT_VIOLATION_NMI_UNBLOCKED;
    vcpu.event.valid = true; // the bit means nothing during delivery
    decode(VMX_EXIT_EPT_VIOLATION);
    CHECK_EQ(fake_fields[VMCS_GUEST_INTERRUPTIBILITY], 0);
    vcpu.event.valid = false;
    decode(VMX_EXIT_EPT_VIOLATION);
    CHECK_EQ(fake_fields[VMCS_GUEST_INTERRUPTIBILITY], INTERRUPTIBILITY_NMI);
}

TEST(debug_exception_reaches_dr6)
{
    fresh();
    fake_dr6 = DR6_INIT | 1;
    fake_fields[VMCS_GUEST_DR7] = DR7_INIT | DR7_GD;
    fake_fields[VMCS_GUEST_IA32_DEBUGCTL] = DEBUGCTL_LBR | DEBUGCTL_BTF;
    fake_fields[VMCS_EXIT_INTERRUPTION_INFO] = information(EVENT_EXCEPTION, VECTOR_DB, 0);
    fake_fields[VMCS_EXIT_QUALIFICATION] = BIT(14) | BIT(1);
    decode(VMX_EXIT_EXCEPTION_OR_NMI);
    CHECK_EQ(exited.kind, EXIT_EXCEPTION);
    CHECK(exited.event.valid);
    CHECK_EQ(exited.event.vector, VECTOR_DB);
    CHECK(!exited.event.has_error);
    CHECK_EQ(fake_dr6, DR6_INIT | BIT(14) | BIT(1));
    CHECK_EQ(fake_fields[VMCS_GUEST_DR7], DR7_INIT);
    CHECK_EQ(fake_fields[VMCS_GUEST_IA32_DEBUGCTL], DEBUGCTL_BTF);
}

TEST(int1_keeps_dr6_and_its_length)
{
    fresh();
    fake_dr6 = DR6_INIT | 1;
    fake_fields[VMCS_EXIT_INTERRUPTION_INFO] =
        information(EVENT_PRIVILEGED_SOFT_EXCEPTION, VECTOR_DB, 0);
    fake_fields[VMCS_EXIT_INSTRUCTION_LENGTH] = 1;
    decode(VMX_EXIT_EXCEPTION_OR_NMI);
    CHECK_EQ(fake_dr6, DR6_INIT | 1);
    CHECK_EQ(exited.event.type, EVENT_PRIVILEGED_SOFT_EXCEPTION);
    CHECK_EQ(exited.event.length, 1);
}

TEST(debug_register_access)
{
    fresh();
    fake_fields[VMCS_EXIT_QUALIFICATION] = 7 | DR_ACCESS_FROM_DR | 0xdull << 8;
    decode(VMX_EXIT_DR_ACCESS);
    CHECK_EQ(exited.kind, EXIT_DR_ACCESS);
    CHECK_EQ(exited.dr.number, 7);
    CHECK_EQ(exited.dr.gpr, GPR_R13);
    CHECK(exited.dr.read);
    fake_fields[VMCS_EXIT_QUALIFICATION] = 1;
    decode(VMX_EXIT_DR_ACCESS);
    CHECK(!exited.dr.read && exited.dr.number == 1 && exited.dr.gpr == 0);
}

TEST(intercepted_page_fault_brings_its_address)
{
    fresh();
    fake_fields[VMCS_EXIT_INTERRUPTION_INFO] =
        information(EVENT_EXCEPTION, VECTOR_PF, INTERRUPTION_HAS_ERROR);
    fake_fields[VMCS_EXIT_INTERRUPTION_ERROR_CODE] = 2;
    fake_fields[VMCS_EXIT_QUALIFICATION] = 0x1234;
    decode(VMX_EXIT_EXCEPTION_OR_NMI);
    CHECK(exited.event.has_cr2 && exited.event.cr2 == 0x1234 && exited.event.error == 2);
}

TEST(a_debugger_s_exceptions_come_on_top_of_the_host_s)
{
    fresh();
    vmx_intercept(&vcpu, BIT(VECTOR_BP), true);
    CHECK_EQ(fake_fields[VMCS_EXCEPTION_BITMAP], INTERCEPTED_EXCEPTIONS | BIT(VECTOR_BP));
    CHECK(fake_fields[VMCS_PRIMARY_PROCESSOR_CONTROLS] & PROC_MOV_DR_EXITING);
    vmx_intercept(&vcpu, 0, false);
    CHECK_EQ(fake_fields[VMCS_EXCEPTION_BITMAP], INTERCEPTED_EXCEPTIONS);
    CHECK(!(fake_fields[VMCS_PRIMARY_PROCESSOR_CONTROLS] & PROC_MOV_DR_EXITING));
}

TEST(a_single_step_trap_that_is_pending_can_be_dropped)
{
    fresh();
    fake_fields[VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS] = PENDING_DEBUG_BS | 1;
    vmx_drop_step_trap(&vcpu);
    CHECK_EQ(fake_fields[VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS], 1);
    // Where the entry checks want it, it stays.
    fake_fields[VMCS_GUEST_RFLAGS] = RFLAGS_TF;
    fake_fields[VMCS_GUEST_INTERRUPTIBILITY] = INTERRUPTIBILITY_STI;
    vmx_drop_step_trap(&vcpu);
    CHECK_EQ(fake_fields[VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS], PENDING_DEBUG_BS | 1);
}

// Without this the next entry is refused: MOV SS, TF, and an instruction that raises #DB.
TEST(debug_exception_in_mov_ss_shadow_keeps_single_step_pending)
{
    fresh();
    fake_fields[VMCS_GUEST_INTERRUPTIBILITY] = INTERRUPTIBILITY_MOV_SS;
    fake_fields[VMCS_GUEST_RFLAGS] = RFLAGS_RESERVED | RFLAGS_TF;
    fake_fields[VMCS_EXIT_INTERRUPTION_INFO] = information(EVENT_EXCEPTION, VECTOR_DB, 0);
    decode(VMX_EXIT_EXCEPTION_OR_NMI);
    CHECK_EQ(fake_fields[VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS], PENDING_DEBUG_BS);
}

TEST(alignment_check_with_error_code)
{
    fresh();
    fake_fields[VMCS_EXIT_INTERRUPTION_INFO] =
        information(EVENT_EXCEPTION, VECTOR_AC, INTERRUPTION_HAS_ERROR);
    fake_fields[VMCS_EXIT_INTERRUPTION_ERROR_CODE] = 0;
    fake_fields[VMCS_IDT_VECTORING_ERROR_CODE] = 0x1234; // the other one
    decode(VMX_EXIT_EXCEPTION_OR_NMI);
    CHECK(exited.event.has_error);
    CHECK_EQ(exited.event.error, 0);
}

TEST(what_is_the_hosts_goes_to_the_host)
{
    fresh();
    fake_fields[VMCS_EXIT_INTERRUPTION_INFO] = information(EVENT_NMI, VECTOR_NMI, 0);
    decode(VMX_EXIT_EXCEPTION_OR_NMI);
    CHECK_EQ(exited.kind, EXIT_INTERRUPT);
    CHECK_EQ(fake_nmis, 1);
    fake_fields[VMCS_EXIT_INTERRUPTION_INFO] = information(EVENT_EXCEPTION, VECTOR_MC, 0);
    decode(VMX_EXIT_EXCEPTION_OR_NMI);
    CHECK_EQ(exited.kind, EXIT_INTERRUPT);
    CHECK_EQ(fake_machine_checks, 1);
    fake_fields[VMCS_EXIT_INTERRUPTION_INFO] = information(EVENT_EXTERNAL, HOST_VECTOR_TIMER, 0);
    decode(VMX_EXIT_EXTERNAL_INTERRUPT);
    CHECK_EQ(exited.kind, EXIT_INTERRUPT);
    CHECK_EQ(dispatched, HOST_VECTOR_TIMER); // it is acknowledged already
    CHECK_EQ(fake_interrupts, 0);
    decode(VMX_EXIT_PREEMPTION_TIMER);
    CHECK_EQ(exited.kind, EXIT_TIMER);
    CHECK_EQ(fake_interrupts, 1);
}

TEST(rdpmc_is_a_general_protection_fault)
{
    fresh();
    decode(VMX_EXIT_RDPMC);
    CHECK_EQ(exited.kind, EXIT_EXCEPTION);
    CHECK_EQ(exited.event.vector, VECTOR_GP);
    CHECK(exited.event.valid && exited.event.has_error);
}

TEST(instructions_that_exit_on_new_cpus_only_are_undefined)
{
    static const u32 reasons[] = {76, 77, 84, 85}; // SEAMCALL, TDCALL, MSRs by immediates
    for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
        fresh();
        CHECK(reasons[i] < ARRAY_SIZE(vmx_rows) && vmx_rows[reasons[i]].decode);
        fake_fields[VMCS_EXIT_REASON] = reasons[i];
        decode(reasons[i]);
        CHECK_EQ(exited.kind, EXIT_UNDEFINED);
        CHECK_EQ(exited.detail, reasons[i]);
    }
}

TEST(every_row_has_a_decoder_or_nothing)
{
    for (unsigned i = 0; i < ARRAY_SIZE(vmx_rows); i++)
        CHECK(vmx_rows[i].decode || (!vmx_rows[i].kind && !vmx_rows[i].flags));
    vmx_decode_unknown(&exited, 37);
    CHECK_EQ(exited.kind, EXIT_UNKNOWN);
    CHECK_EQ(exited.detail & 0xffff, 37);
}

// --- events ---

TEST(interrupted_delivery_is_queued_again)
{
    fresh();
    fake_fields[VMCS_IDT_VECTORING_INFO] =
        information(EVENT_EXCEPTION, VECTOR_PF, INTERRUPTION_HAS_ERROR);
    fake_fields[VMCS_IDT_VECTORING_ERROR_CODE] = 6;
    vmx_event_requeue(&vcpu);
    CHECK(vcpu.event.valid);
    CHECK_EQ(vcpu.event.vector, VECTOR_PF);
    CHECK_EQ(vcpu.event.error, 6);
    fresh();
    vmx_event_requeue(&vcpu);
    CHECK(!vcpu.event.valid);
}

TEST(interrupted_nmi_does_not_block_itself)
{
    fresh();
    fake_fields[VMCS_IDT_VECTORING_INFO] = information(EVENT_NMI, VECTOR_NMI, 0);
    fake_fields[VMCS_GUEST_INTERRUPTIBILITY] = INTERRUPTIBILITY_NMI;
    vmx_event_requeue(&vcpu);
    CHECK_EQ(vcpu.event.type, EVENT_NMI);
    CHECK_EQ(fake_fields[VMCS_GUEST_INTERRUPTIBILITY], 0);
}

TEST(error_code_is_the_hardwares_choice)
{
    fresh();
    fake_fields[VMCS_GUEST_CR0] = CR0_PE;
    vcpu.event = (struct vcpu_event){.valid = true, .vector = VECTOR_GP, .type = EVENT_EXCEPTION};
    vmx_event_inject(&vcpu);
    CHECK_EQ(fake_fields[VMCS_ENTRY_INTERRUPTION_INFO],
             information(EVENT_EXCEPTION, VECTOR_GP, INTERRUPTION_HAS_ERROR));
    CHECK_EQ(fake_fields[VMCS_ENTRY_EXCEPTION_ERROR_CODE], 0);
    CHECK(!vcpu.event.valid);
    fake_fields[VMCS_GUEST_CR0] = 0; // real mode pushes none
    vcpu.event = (struct vcpu_event){
        .valid = true, .vector = VECTOR_GP, .type = EVENT_EXCEPTION, .has_error = true, .error = 8};
    vmx_event_inject(&vcpu);
    CHECK_EQ(fake_fields[VMCS_ENTRY_INTERRUPTION_INFO], information(EVENT_EXCEPTION, VECTOR_GP, 0));
}

TEST(page_fault_brings_cr2)
{
    fresh();
    fake_fields[VMCS_GUEST_CR0] = CR0_PE;
    vcpu.event = (struct vcpu_event){.valid = true,
                                     .vector = VECTOR_PF,
                                     .type = EVENT_EXCEPTION,
                                     .has_error = true,
                                     .error = 0xffff0002,
                                     .has_cr2 = true,
                                     .cr2 = 0x1000};
    vmx_event_inject(&vcpu);
    CHECK_EQ(fake_cr2, 0x1000);
    CHECK_EQ(fake_fields[VMCS_ENTRY_EXCEPTION_ERROR_CODE], 0x0002);
}

TEST(software_interrupt_brings_its_length)
{
    fresh();
    vcpu.event = (struct vcpu_event){
        .valid = true, .vector = 0x80, .type = EVENT_SOFT_INTERRUPT, .length = 2};
    vmx_event_inject(&vcpu);
    CHECK_EQ(fake_fields[VMCS_ENTRY_INSTRUCTION_LENGTH], 2);
    CHECK_EQ(fake_fields[VMCS_ENTRY_INTERRUPTION_INFO], information(EVENT_SOFT_INTERRUPT, 0x80, 0));
}

// --- stepping over an instruction ---

TEST(skip_ends_the_shadow_and_keeps_nmi_blocking)
{
    fresh();
    fake_fields[VMCS_GUEST_INTERRUPTIBILITY] = INTERRUPTIBILITY_STI | INTERRUPTIBILITY_NMI;
    vmx_skip(&vcpu, 0x1002);
    CHECK_EQ(fake_fields[VMCS_GUEST_RIP], 0x1002);
    CHECK_EQ(fake_fields[VMCS_GUEST_INTERRUPTIBILITY], INTERRUPTIBILITY_NMI);
    CHECK_EQ(fake_fields[VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS], 0);
}

TEST(skip_writes_only_rip_as_a_rule)
{
    fresh();
    fake_writes = 0;
    vmx_skip(&vcpu, 0xffffffff81000002);
    CHECK_EQ(fake_writes, 1);
}

TEST(skip_raises_the_single_step_trap)
{
    fresh();
    fake_fields[VMCS_GUEST_RFLAGS] = RFLAGS_TF;
    vmx_skip(&vcpu, 0x1002);
    CHECK_EQ(fake_fields[VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS], PENDING_DEBUG_BS);
    fresh();
    fake_fields[VMCS_GUEST_RFLAGS] = RFLAGS_TF;
    fake_fields[VMCS_GUEST_IA32_DEBUGCTL] = DEBUGCTL_BTF;
    vmx_skip(&vcpu, 0x1002);
    CHECK_EQ(fake_fields[VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS], 0);
}

TEST(interrupts_and_nmis_are_held_off_by_what_the_manual_says)
{
    static const struct {
        u64 flags, blocked;
        bool interrupt, nmi;
    } cases[] = {{RFLAGS_IF, 0, true, true},   {0, 0, false, true},
                 {RFLAGS_IF, 1, false, false}, // STI
                 {RFLAGS_IF, 2, false, false}, // MOV SS
                 {RFLAGS_IF, 8, true, false},  // NMI
                 {~RFLAGS_IF, 8, false, false}};
    fresh();
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        fake_fields[VMCS_GUEST_RFLAGS] = cases[i].flags;
        fake_fields[VMCS_GUEST_INTERRUPTIBILITY] = cases[i].blocked;
        CHECK_EQ(vmx_can_take_interrupt(&vcpu), cases[i].interrupt);
        CHECK_EQ(vmx_can_take_nmi(&vcpu), cases[i].nmi);
    }
}

TEST(a_window_exits_while_it_is_wanted)
{
    const u32 other = PROC_HLT_EXITING;
    fresh();
    engine.proc_controls = other;
    vmx_want_window(&vcpu, true);
    CHECK_EQ(fake_fields[VMCS_PRIMARY_PROCESSOR_CONTROLS], other | PROC_INTERRUPT_WINDOW_EXITING);
    vmx_want_nmi_window(&vcpu, true);
    vmx_want_window(&vcpu, false);
    CHECK_EQ(fake_fields[VMCS_PRIMARY_PROCESSOR_CONTROLS], other | PROC_NMI_WINDOW_EXITING);
    fake_fields[VMCS_PRIMARY_PROCESSOR_CONTROLS] = 0;
    vmx_want_window(&vcpu, false); // as it is
    CHECK_EQ(fake_fields[VMCS_PRIMARY_PROCESSOR_CONTROLS], 0);
    vmx_want_nmi_window(&vcpu, false);
    CHECK_EQ(fake_fields[VMCS_PRIMARY_PROCESSOR_CONTROLS], other);
}

TEST(a_vmcs_that_is_borrowed_goes_back)
{
    fresh();
    fake_vmx_cpu.current = NULL;
    borrowed = returned = 0;
    vmx_can_take_interrupt(&vcpu);
    vmx_can_take_nmi(&vcpu);
    vmx_want_window(&vcpu, true);
    vmx_want_window(&vcpu, false);
    vmx_intercept(&vcpu, 0, false);
    vmx_drop_step_trap(&vcpu);
    CHECK_EQ(borrowed, 6);
    CHECK_EQ(returned, 6);
    fake_vmx_cpu.current = &engine;
}

TEST(no_interrupt_comes_before_a_debug_trap)
{
    fresh();
    fake_fields[VMCS_GUEST_RFLAGS] = RFLAGS_IF;
    CHECK(vmx_can_take_interrupt(&vcpu) && vmx_can_take_nmi(&vcpu));
    fake_fields[VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS] = 1; // of a breakpoint that is not enabled
    CHECK(vmx_can_take_interrupt(&vcpu) && vmx_can_take_nmi(&vcpu));
    fake_fields[VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS] = PENDING_DEBUG_BS;
    CHECK(!vmx_can_take_interrupt(&vcpu) && !vmx_can_take_nmi(&vcpu));
    fake_fields[VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS] = PENDING_DEBUG_BREAKPOINT | 1;
    CHECK(!vmx_can_take_interrupt(&vcpu) && !vmx_can_take_nmi(&vcpu));
}

TEST(the_single_step_trap_ends_a_halt)
{
    fresh();
    vcpu.halted = true;
    vmx_skip(&vcpu, 0x1002);
    CHECK(vcpu.halted);
    fake_fields[VMCS_GUEST_RFLAGS] = RFLAGS_TF;
    vmx_skip(&vcpu, 0x1002);
    CHECK(!vcpu.halted);
}

TEST(skip_ends_the_resume_flag_with_its_instruction)
{
    fresh();
    fake_fields[VMCS_GUEST_RFLAGS] = RFLAGS_RESERVED | RFLAGS_RF | RFLAGS_CF;
    vmx_skip(&vcpu, 0x1002);
    CHECK_EQ(fake_fields[VMCS_GUEST_RFLAGS], RFLAGS_RESERVED | RFLAGS_CF);
    CHECK_EQ(fake_fields[VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS], 0);
}

TEST(skip_wraps_eip_outside_64_bit_code)
{
    fresh();
    vmx_skip(&vcpu, 0x100000001);
    CHECK_EQ(fake_fields[VMCS_GUEST_RIP], 1);
    fake_fields[VMCS_GUEST_IA32_EFER] = EFER_LMA;
    vmx_skip(&vcpu, 0x100000001);
    CHECK_EQ(fake_fields[VMCS_GUEST_RIP], 1);
    fake_fields[VMCS_GUEST_CS_ACCESS_RIGHTS] = SEGMENT_L;
    vmx_skip(&vcpu, 0x100000001);
    CHECK_EQ(fake_fields[VMCS_GUEST_RIP], 0x100000001);
}

TEST(apic_accesses_are_at_the_default_base)
{
    fresh();
    fake_fields[VMCS_EXIT_QUALIFICATION] = APIC_ACCESS_WRITE << APIC_ACCESS_TYPE_SHIFT | 0x390;
    decode(VMX_EXIT_APIC_ACCESS);
    CHECK_EQ(exited.kind, EXIT_APIC_ACCESS);
    CHECK_EQ(exited.memory.gpa, 0xfee00390);
    CHECK_EQ(exited.memory.access, PAGE_WRITE);
    CHECK(!exited.memory.walk);
    fake_fields[VMCS_EXIT_QUALIFICATION] = 15ull << APIC_ACCESS_TYPE_SHIFT; // a page table there
    decode(VMX_EXIT_APIC_ACCESS);
    CHECK(exited.memory.walk);
    fake_fields[VMCS_EXIT_QUALIFICATION] = 0x45;
    decode(VMX_EXIT_VIRTUALIZED_EOI);
    CHECK_EQ(exited.kind, EXIT_APIC_EOI);
    CHECK_EQ(exited.detail, 0x45);
    decode(VMX_EXIT_APIC_WRITE);
    CHECK_EQ(exited.kind, EXIT_APIC_WRITE);
}

TEST(stale_vectoring_is_asked_about)
{
    fresh();
    fake_fields[VMCS_IDT_VECTORING_INFO] = information(EVENT_EXTERNAL, 0x40, 0);
    vmx_event_requeue(&vcpu);
    CHECK_EQ(vcpu.event.vector, 0x40);
    vmx_capabilities.vectoring_stale = true;
    vmx_event_requeue(&vcpu);
    CHECK_EQ(vcpu.event.vector, 0x41);
    vmx_capabilities.vectoring_stale = false;
}
