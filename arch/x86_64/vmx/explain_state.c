// SPDX-License-Identifier: MIT
// The entry checks but for segments: SDM volume 3, "Checks on Guest Control Registers, Debug
// Registers, and MSRs", "Checks on Guest RIP, RFLAGS, and SSP", "Checks on Guest Non-Register
// State", "Checks on Guest Page-Directory-Pointer-Table Entries", and of "Checks on VMX Controls"
// the event that is injected.
#include "arch/x86_64/vmx/explain.h"
#include "arch/x86_64/vmx/vmx.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/bits.h"

static bool ia32e_guest(void)
{
    return vmread(VMCS_ENTRY_CONTROLS) & ENTRY_CONTROL_IA32E_MODE_GUEST;
}

static bool physical(u64 address)
{
    return !(address >> vmx_capabilities.physical_bits);
}

// --- control registers, debug registers, MSRs ---

static void explain_control_registers(struct explanation *e)
{
    const struct vmx_capabilities *caps = &vmx_capabilities;
    u64 cr0 = vmread(VMCS_GUEST_CR0), cr4 = vmread(VMCS_GUEST_CR4);
    u64 cr0_must = caps->cr0_fixed0 & ~(CR0_PE | CR0_PG);
    bool paging = cr0 & CR0_PG, ia32e = ia32e_guest();
    explain_rule(e, !(cr0_must & ~cr0) && !(cr0 & ~caps->cr0_fixed1), VMCS_GUEST_CR0,
                 "a bit that is fixed in VMX operation has the other value");
    explain_rule(e, !paging || (cr0 & CR0_PE), VMCS_GUEST_CR0, "PG needs PE");
    explain_rule(e, !(caps->cr4_fixed0 & ~cr4) && !(cr4 & ~caps->cr4_fixed1), VMCS_GUEST_CR4,
                 "a bit that is fixed in VMX operation has the other value");
    explain_rule(e, !(cr4 & CR4_CET) || (cr0 & CR0_WP), VMCS_GUEST_CR4, "CET needs CR0.WP");
    explain_rule(e, !ia32e || paging, VMCS_GUEST_CR0, "an IA-32e mode guest needs PG");
    explain_rule(e, !ia32e || (cr4 & CR4_PAE), VMCS_GUEST_CR4, "an IA-32e mode guest needs PAE");
    explain_rule(e, ia32e || !(cr4 & CR4_PCIDE), VMCS_GUEST_CR4,
                 "PCIDE needs an IA-32e mode guest");
    explain_rule(e, physical(vmread(VMCS_GUEST_CR3)), VMCS_GUEST_CR3,
                 "beyond the width of a physical address");
}

#define DEBUGCTL_DEFINED 0xdfc3ull
#define PAT_ENTRIES      8
#define PAT_TYPES        (BIT(0) | BIT(1) | BIT(4) | BIT(5) | BIT(6) | BIT(7))

static bool pat_valid(u64 pat)
{
    for (unsigned i = 0; i < PAT_ENTRIES; i++) {
        u64 type = bits_get(pat, i * 8, 8);
        if (type >= 8 || !(PAT_TYPES & BIT(type)))
            return false;
    }
    return true;
}

static void explain_msrs(struct explanation *e)
{
    u64 efer = vmread(VMCS_GUEST_IA32_EFER);
    bool lma = efer & EFER_LMA, lme = efer & EFER_LME;
    explain_rule(e, !(efer & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)), VMCS_GUEST_IA32_EFER,
                 "a reserved bit is set");
    explain_rule(e, lma == ia32e_guest(), VMCS_GUEST_IA32_EFER,
                 "LMA must be as the control \"IA-32e mode guest\"");
    explain_rule(e, !(vmread(VMCS_GUEST_CR0) & CR0_PG) || lma == lme, VMCS_GUEST_IA32_EFER,
                 "with CR0.PG, LMA must be as LME");
    explain_rule(e, pat_valid(vmread(VMCS_GUEST_IA32_PAT)), VMCS_GUEST_IA32_PAT,
                 "an entry is no memory type");
    explain_rule(e, !(vmread(VMCS_GUEST_IA32_DEBUGCTL) & ~DEBUGCTL_DEFINED),
                 VMCS_GUEST_IA32_DEBUGCTL, "a reserved bit is set");
    explain_rule(e, !(vmread(VMCS_GUEST_DR7) >> 32), VMCS_GUEST_DR7, "bits 63:32 must be 0");
    explain_rule(e, canonical(vmread(VMCS_GUEST_IA32_SYSENTER_ESP)), VMCS_GUEST_IA32_SYSENTER_ESP,
                 "not canonical");
    explain_rule(e, canonical(vmread(VMCS_GUEST_IA32_SYSENTER_EIP)), VMCS_GUEST_IA32_SYSENTER_EIP,
                 "not canonical");
}

// --- RIP and RFLAGS ---

#define RFLAGS_MUST_BE_0 (~0x3fffffull | BIT(15) | BIT(5) | BIT(3))

static void explain_rip_rflags(struct explanation *e)
{
    u64 rip = vmread(VMCS_GUEST_RIP), rflags = vmread(VMCS_GUEST_RFLAGS);
    u64 info = vmread(VMCS_ENTRY_INTERRUPTION_INFO);
    bool code64 = ia32e_guest() && (vmread(VMCS_GUEST_CS_ACCESS_RIGHTS) & SEGMENT_L);
    u64 type = bits_get(info, INTERRUPTION_TYPE_SHIFT, INTERRUPTION_TYPE_WIDTH);
    bool external = (info & INTERRUPTION_VALID) && type == EVENT_EXTERNAL;
    u64 high = (u64)((s64)rip >> vmx_capabilities.linear_bits);
    explain_rule(e, code64 || !(rip >> 32), VMCS_GUEST_RIP,
                 "bits 63:32 must be 0 outside 64-bit code");
    explain_rule(e, !code64 || !high || !~high, VMCS_GUEST_RIP,
                 "the bits above a linear address must be alike");
    explain_rule(e, !(rflags & RFLAGS_MUST_BE_0) && (rflags & RFLAGS_RESERVED), VMCS_GUEST_RFLAGS,
                 "a reserved bit has the wrong value");
    explain_rule(e, !(rflags & RFLAGS_VM) || (!ia32e_guest() && (vmread(VMCS_GUEST_CR0) & CR0_PE)),
                 VMCS_GUEST_RFLAGS, "VM needs protected mode outside IA-32e mode");
    explain_rule(e, !external || (rflags & RFLAGS_IF), VMCS_GUEST_RFLAGS,
                 "IF must be set to inject an external interrupt");
}

// --- PDPTEs ---

#define PDPTE_COUNT    4
#define PDPTE_PRESENT  BIT(0)
#define PDPTE_RESERVED (BIT(1) | BIT(2) | BIT(5) | BIT(6) | BIT(7) | BIT(8))

static void explain_pdptes(struct explanation *e)
{
    bool used =
        (vmread(VMCS_GUEST_CR0) & CR0_PG) && (vmread(VMCS_GUEST_CR4) & CR4_PAE) && !ia32e_guest();
    for (u32 i = 0; used && i < PDPTE_COUNT; i++) {
        u32 field = VMCS_GUEST_PDPTE0 + 2 * i;
        u64 pdpte = vmread(field);
        explain_rule(e, !(pdpte & PDPTE_PRESENT) || (!(pdpte & PDPTE_RESERVED) && physical(pdpte)),
                     field, "a reserved bit is set in a PDPTE");
    }
}

void explain_registers(struct explanation *e)
{
    explain_control_registers(e);
    explain_msrs(e);
    explain_rip_rflags(e);
    explain_pdptes(e);
}

// --- activity, interruptibility, pending debug exceptions, link pointer ---

static void explain_interruptibility(struct explanation *e)
{
    const u32 field = VMCS_GUEST_INTERRUPTIBILITY;
    u64 state = vmread(field), info = vmread(VMCS_ENTRY_INTERRUPTION_INFO);
    u64 type = bits_get(info, INTERRUPTION_TYPE_SHIFT, INTERRUPTION_TYPE_WIDTH);
    bool external = (info & INTERRUPTION_VALID) && type == EVENT_EXTERNAL;
    bool nmi = (info & INTERRUPTION_VALID) && type == EVENT_NMI;
    bool sti = state & INTERRUPTIBILITY_STI, mov_ss = state & INTERRUPTIBILITY_MOV_SS;
    explain_rule(e, !(state & ~INTERRUPTIBILITY_DEFINED), field, "a reserved bit is set");
    explain_rule(e, !sti || !mov_ss, field, "blocking by STI and by MOV SS at once");
    explain_rule(e, !sti || (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF), field,
                 "blocking by STI needs RFLAGS.IF");
    explain_rule(e, !external || (!sti && !mov_ss), field,
                 "an external interrupt is injected while they are blocked");
    explain_rule(e, !nmi || (!sti && !mov_ss && !(state & INTERRUPTIBILITY_NMI)), field,
                 "an NMI is injected while they are blocked");
    explain_rule(e, !(state & INTERRUPTIBILITY_SMI), field, "blocking by SMI outside SMM");
}

void explain_non_registers(struct explanation *e)
{
    u64 pending = vmread(VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS);
    u64 activity = vmread(VMCS_GUEST_ACTIVITY_STATE);
    bool shadow = vmread(VMCS_GUEST_INTERRUPTIBILITY) & INTERRUPTIBILITY_SHADOW;
    bool steps = (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF) &&
                 !(vmread(VMCS_GUEST_IA32_DEBUGCTL) & DEBUGCTL_BTF);
    explain_rule(e, activity <= ACTIVITY_LAST, VMCS_GUEST_ACTIVITY_STATE, "no such state");
    explain_rule(e, !shadow || activity == ACTIVITY_ACTIVE, VMCS_GUEST_ACTIVITY_STATE,
                 "must be active while STI or MOV SS blocks");
    explain_interruptibility(e);
    explain_rule(e, !(pending & ~PENDING_DEBUG_DEFINED), VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS,
                 "a reserved bit is set");
    explain_rule(e, !shadow || steps == !!(pending & PENDING_DEBUG_BS),
                 VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS,
                 "BS must be as RFLAGS.TF while STI or MOV SS blocks");
    explain_rule(e, vmread(VMCS_LINK_POINTER) == VMCS_LINK_NONE, VMCS_LINK_POINTER,
                 "must be all ones");
}

// --- the event ---

#define INTERRUPTION_RESERVED 0x7ffff000ull
#define TYPE_RESERVED         1
#define EXCEPTION_LAST        31
#define INSTRUCTION_MAX       15

void explain_event(struct explanation *e)
{
    const u32 field = VMCS_ENTRY_INTERRUPTION_INFO;
    u64 info = vmread(field), vector = info & INTERRUPTION_VECTOR_MASK;
    u64 type = bits_get(info, INTERRUPTION_TYPE_SHIFT, INTERRUPTION_TYPE_WIDTH);
    u64 length = vmread(VMCS_ENTRY_INSTRUCTION_LENGTH);
    if (!(info & INTERRUPTION_VALID))
        return;
    explain_rule(e, !(info & INTERRUPTION_RESERVED), field, "a reserved bit is set");
    explain_rule(e, type != TYPE_RESERVED, field, "type 1 is reserved");
    explain_rule(e, type != EVENT_NMI || vector == VECTOR_NMI, field, "an NMI has vector 2");
    explain_rule(e, type != EVENT_EXCEPTION || vector <= EXCEPTION_LAST, field,
                 "an exception has a vector below 32");
    explain_rule(e, type < EVENT_SOFT_INTERRUPT || (length >= 1 && length <= INSTRUCTION_MAX),
                 VMCS_ENTRY_INSTRUCTION_LENGTH, "an instruction is 1 to 15 bytes long");
}
