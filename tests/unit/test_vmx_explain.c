// SPDX-License-Identifier: MIT
#include "tests/unit/fake_vmx.h"
static u64 rdmsr(u32 msr)
{
    (void)msr;
    return 0;
}
#include "arch/x86_64/vmx/explain.c"
#include "arch/x86_64/vmx/explain_state.c"
#define ia32e_guest segments_ia32e_guest
#include "arch/x86_64/vmx/explain_segments.c"
#include "arch/x86_64/vmx/vmcs_setup.c"

struct vmx_capabilities vmx_capabilities = {
    .cr0_fixed0 = CR0_PE | CR0_NE | CR0_PG,
    .cr0_fixed1 = 0xffffffff,
    .cr4_fixed0 = CR4_VMXE,
    .cr4_fixed1 = 0x3767ff,
    .physical_bits = 39,
    .linear_bits = 48,
};
static struct vmx_vcpu engine;
static struct vcpu vcpu = {.engine = &engine};
static unsigned lines;
static char last_line[200];

void vmcs_write_apic(struct vmx_vcpu *v)
{
    CHECK(v->apic_page);
}

struct vmx_vcpu *vmcs_borrow(struct vmx_vcpu *v)
{
    return v;
}

void vmcs_return(struct vmx_vcpu *v, struct vmx_vcpu *former)
{
    (void)v;
    (void)former;
}

u64 vmx_cr0_mask(void)
{
    return 0;
}

u64 vmx_cr4_mask(void)
{
    return 0;
}

void vmx_cr0_write(struct vmx_vcpu *v, u64 value)
{
    (void)v;
    vmwrite(VMCS_GUEST_CR0, value | CR0_NE);
}

void vmx_cr4_write(struct vmx_vcpu *v, u64 value)
{
    (void)v;
    vmwrite(VMCS_GUEST_CR4, value | CR4_VMXE);
}

void vmx_exit_entry(void)
{
}

const struct task_state *cpu_task_state(const struct percpu *cpu)
{
    (void)cpu;
    return NULL;
}

const u64 *cpu_gdt(const struct percpu *cpu)
{
    (void)cpu;
    return NULL;
}

const struct idt_gate *cpu_idt(void)
{
    return NULL;
}

static void print_line(void *context, const char *format, ...)
{
    CHECK(context == &lines);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_line, sizeof(last_line), format, arguments);
    va_end(arguments);
    lines++;
}

static unsigned violations(void)
{
    struct explanation e = {.print = print_line, .context = &lines};
    lines = 0;
    explain_event(&e);
    explain_registers(&e);
    explain_segments(&e);
    explain_non_registers(&e);
    CHECK_EQ(e.violations, lines);
    return lines;
}

static void reset_state(void)
{
    memset(fake_fields, 0, sizeof(fake_fields));
    vmcs_write_guest_reset(&engine);
    fake_fields[VMCS_LINK_POINTER] = VMCS_LINK_NONE;
}

static void long_mode_state(void)
{
    reset_state();
    fake_fields[VMCS_GUEST_CR0] = CR0_PE | CR0_PG | CR0_NE;
    fake_fields[VMCS_GUEST_CR4] = CR4_PAE | CR4_VMXE;
    fake_fields[VMCS_GUEST_IA32_EFER] = EFER_LME | EFER_LMA;
    fake_fields[VMCS_ENTRY_CONTROLS] = ENTRY_CONTROL_IA32E_MODE_GUEST;
    fake_fields[VMCS_GUEST_CS_SELECTOR] = 8;
    fake_fields[VMCS_GUEST_CS_BASE] = 0;
    fake_fields[VMCS_GUEST_CS_ACCESS_RIGHTS] = 0xa09b;
    fake_fields[VMCS_GUEST_CS_LIMIT] = 0xffffffff;
    fake_fields[VMCS_GUEST_RIP] = 0xffffffff81000000;
}

TEST(reset_state_is_valid)
{
    reset_state();
    CHECK_EQ(violations(), 0);
}

TEST(long_mode_state_is_valid)
{
    long_mode_state();
    CHECK_EQ(violations(), 0);
}

// One field is spoiled; exactly one rule names it.
static const struct spoiled {
    const char *name;
    u32 field;
    u64 value;
} spoiled[] = {
    {"GUEST_CR0", VMCS_GUEST_CR0, CR0_PE | CR0_PG},
    {"GUEST_CR4", VMCS_GUEST_CR4, CR4_VMXE},
    {"GUEST_CR3", VMCS_GUEST_CR3, BIT(39)},
    {"GUEST_IA32_EFER", VMCS_GUEST_IA32_EFER, EFER_LME | EFER_LMA | BIT(1)},
    {"GUEST_IA32_PAT", VMCS_GUEST_IA32_PAT, 0x02},
    {"GUEST_IA32_DEBUGCTL", VMCS_GUEST_IA32_DEBUGCTL, BIT(2)},
    {"GUEST_DR7", VMCS_GUEST_DR7, BIT(32)},
    {"GUEST_IA32_SYSENTER_EIP", VMCS_GUEST_IA32_SYSENTER_EIP, BIT(47)},
    {"GUEST_RIP", VMCS_GUEST_RIP, BIT(50)},
    {"GUEST_RFLAGS", VMCS_GUEST_RFLAGS, 0},
    {"GUEST_CS_ACCESS_RIGHTS", VMCS_GUEST_CS_ACCESS_RIGHTS, 0xa098},
    {"GUEST_CS_ACCESS_RIGHTS", VMCS_GUEST_CS_ACCESS_RIGHTS, 0xe09b},
    {"GUEST_CS_LIMIT", VMCS_GUEST_CS_LIMIT, 0xfffff000},
    {"GUEST_SS_ACCESS_RIGHTS", VMCS_GUEST_SS_ACCESS_RIGHTS, 0x91},
    {"GUEST_DS_ACCESS_RIGHTS", VMCS_GUEST_DS_ACCESS_RIGHTS, 0x92},
    {"GUEST_ES_LIMIT", VMCS_GUEST_ES_LIMIT, 0x100000},
    {"GUEST_FS_BASE", VMCS_GUEST_FS_BASE, BIT(47)},
    {"GUEST_TR_ACCESS_RIGHTS", VMCS_GUEST_TR_ACCESS_RIGHTS, 0x83},
    {"GUEST_LDTR_ACCESS_RIGHTS", VMCS_GUEST_LDTR_ACCESS_RIGHTS, 0x83},
    {"GUEST_GDTR_LIMIT", VMCS_GUEST_GDTR_LIMIT, 0x10000},
    {"GUEST_IDTR_BASE", VMCS_GUEST_IDTR_BASE, BIT(63)},
    {"GUEST_ACTIVITY_STATE", VMCS_GUEST_ACTIVITY_STATE, 4},
    {"GUEST_INTERRUPTIBILITY", VMCS_GUEST_INTERRUPTIBILITY, INTERRUPTIBILITY_STI},
    {"GUEST_INTERRUPTIBILITY", VMCS_GUEST_INTERRUPTIBILITY, INTERRUPTIBILITY_SMI},
    {"GUEST_PENDING_DEBUG_EXCEPTIONS", VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, BIT(20)},
    {"LINK_POINTER", VMCS_LINK_POINTER, 0},
    {"ENTRY_INTERRUPTION_INFO", VMCS_ENTRY_INTERRUPTION_INFO, INTERRUPTION_VALID | 1 << 8},
    {"GUEST_RFLAGS", VMCS_ENTRY_INTERRUPTION_INFO, INTERRUPTION_VALID | 0x30},
};

TEST(each_broken_rule_is_named)
{
    for (unsigned i = 0; i < ARRAY_SIZE(spoiled); i++) {
        long_mode_state();
        fake_fields[spoiled[i].field] = spoiled[i].value;
        unsigned count = violations();
        if (count != 1 || strncmp(last_line, spoiled[i].name, strlen(spoiled[i].name)) != 0) {
            printf("row %u, %s: %u lines, last: %s\n", i, spoiled[i].name, count, last_line);
            test_failed = true;
        }
    }
}

TEST(pdptes_count_only_with_pae_paging)
{
    long_mode_state();
    fake_fields[VMCS_GUEST_PDPTE2] = 0x7;
    CHECK_EQ(violations(), 0);
    reset_state();
    fake_fields[VMCS_GUEST_PDPTE2] = 0x7;
    fake_fields[VMCS_GUEST_CR0] = CR0_PE | CR0_PG | CR0_NE;
    fake_fields[VMCS_GUEST_CR4] = CR4_PAE | CR4_VMXE;
    CHECK_EQ(violations(), 1);
    CHECK(strncmp(last_line, "GUEST_PDPTE2", 12) == 0);
}

TEST(virtual_8086_segments)
{
    reset_state();
    fake_fields[VMCS_GUEST_CR0] = CR0_PE | CR0_NE;
    fake_fields[VMCS_GUEST_RFLAGS] = RFLAGS_RESERVED | RFLAGS_VM;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        fake_fields[VMCS_GUEST_ES_SELECTOR + 2 * i] = 0x100;
        fake_fields[VMCS_GUEST_ES_BASE + 2 * i] = 0x1000;
        fake_fields[VMCS_GUEST_ES_ACCESS_RIGHTS + 2 * i] = 0xf3;
    }
    CHECK_EQ(violations(), 0);
    fake_fields[VMCS_GUEST_SS_BASE] = 0x1001;
    CHECK_EQ(violations(), 1);
}

TEST(report)
{
    static struct vmx_cpu cpu = {.current = &engine};
    fake_percpu.engine = &cpu;
    reset_state();
    lines = 0;
    vmx_explain(&vcpu, print_line, &lines);
    CHECK_EQ(lines, 1);
    CHECK_STR(last_line, "the guest's state breaks no rule of a VM entry");
    engine.instruction_error = 7;
    fake_fields[VMCS_GUEST_RFLAGS] = 0;
    lines = 0;
    vmx_explain(&vcpu, print_line, &lines);
    CHECK_EQ(lines, 2);
    engine.instruction_error = 0;
}

TEST(errors_and_fields_have_names)
{
    CHECK_STR(vmx_instruction_error_name(7), "VM entry with invalid control fields");
    CHECK_STR(vmx_instruction_error_name(14), "unknown VM-instruction error");
    CHECK_STR(vmx_instruction_error_name(~0u), "unknown VM-instruction error");
    CHECK_STR(vmcs_field_name(VMCS_GUEST_RIP), "GUEST_RIP");
    CHECK_STR(vmcs_field_name(0xffff), "?");
}
