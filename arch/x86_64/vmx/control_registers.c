// SPDX-License-Identifier: MIT
// CR0, CR3, CR4 and EFER as the guest sees them and as the hardware holds them. A bit in the
// guest/host mask is ours: the guest reads it from the shadow, and its attempt to change it exits.
// Paging goes on and off with all that hangs on it: IA-32e mode and the PDPTEs. The caller has made
// the architectural checks (#GP). SDM volume 3, "Guest/Host Masks and Read Shadows for CR0 and
// CR4", "Restrictions on VMX Operation", "Unrestricted Guests".
#include "arch/x86_64/vmx/vmx.h"
#include "arch/x86_64/regs.h"
#include "mm/guest_memory.h"
#include "vmm/lib/error.h"

// The guest changes these on its own. Of paging, PE and WP alone: unrestricted guest and EPT make
// them harmless, and they change often.
#define CR0_GUEST_OWNED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_WP | CR0_AM)
// No effect outside the guest, present in every CPU with EPT, and PGE flips at each full TLB flush.
#define CR4_GUEST_OWNED                                                                            \
    (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT)
// VMXE must be set in VMX operation. A machine check with MCE clear would shut the machine down.
#define CR4_HOST_SET (CR4_VMXE | CR4_MCE)

// Caches stay on: another guest may share them.
#define CR0_CACHES_OFF (CR0_CD | CR0_NW)

#define CR3_NO_FLUSH   BIT(63)
#define CR3_PAE_MASK   (~0x1full)
#define PDPTE_COUNT    4
#define PDPTE_PRESENT  BIT(0)
#define PDPTE_RESERVED (BIT(1) | BIT(2) | BIT(5) | BIT(6) | BIT(7) | BIT(8))

u64 vmx_cr0_mask(void)
{
    return ~CR0_GUEST_OWNED;
}

u64 vmx_cr4_mask(void)
{
    return ~CR4_GUEST_OWNED;
}

u64 vmx_cr0_read(void)
{
    return (vmread(VMCS_GUEST_CR0) & CR0_GUEST_OWNED) |
           (vmread(VMCS_CR0_READ_SHADOW) & ~CR0_GUEST_OWNED);
}

u64 vmx_cr4_read(void)
{
    return (vmread(VMCS_GUEST_CR4) & CR4_GUEST_OWNED) |
           (vmread(VMCS_CR4_READ_SHADOW) & ~CR4_GUEST_OWNED);
}

// --- what follows from them ---

// "PDPTE Registers": with PAE paging the entry takes them from the VMCS. One with reserved bits set
// would make the entry fail; the caller has refused those, but a task switch and another CPU may
// bring one: it counts as not present.
static u64 pdpte_valid(u64 pdpte)
{
    u64 reserved = PDPTE_RESERVED | ~(BIT(vmx_capabilities.physical_bits) - 1);
    return (pdpte & PDPTE_PRESENT) && !(pdpte & reserved) ? pdpte : 0;
}

static void pdptes_load(struct vmx_vcpu *v)
{
    u64 pdptes[PDPTE_COUNT] = {0};
    gpa_t table = (u32)(vmread(VMCS_GUEST_CR3) & CR3_PAE_MASK);
    if (guest_memory_read(&v->vcpu->vm->memory, table, pdptes, sizeof(pdptes)) != OK)
        for (unsigned i = 0; i < PDPTE_COUNT; i++)
            pdptes[i] = 0;
    for (unsigned i = 0; i < PDPTE_COUNT; i++)
        vmwrite(VMCS_GUEST_PDPTE0 + 2 * i, pdpte_valid(pdptes[i]));
}

// "VM-Entry Controls": IA-32e mode guest goes with EFER.LMA. TR may come from real mode as a 16-bit
// TSS, which the entry refuses there ("Checks on Guest Segment Registers").
#define ACCESS_TYPE_MASK  0xfull
#define ACCESS_TSS16_BUSY 0x3
#define ACCESS_TSS_BUSY   0xb

static void long_mode_set(struct vmx_vcpu *v, bool on)
{
    u32 controls = on ? v->entry_controls | (u32)ENTRY_CONTROL_IA32E_MODE_GUEST
                      : v->entry_controls & ~(u32)ENTRY_CONTROL_IA32E_MODE_GUEST;
    if (controls == v->entry_controls)
        return;
    v->entry_controls = controls;
    vmwrite(VMCS_ENTRY_CONTROLS, controls);
    u64 tr = vmread(VMCS_GUEST_TR_ACCESS_RIGHTS);
    if (on && (tr & ACCESS_TYPE_MASK) == ACCESS_TSS16_BUSY)
        vmwrite(VMCS_GUEST_TR_ACCESS_RIGHTS, (tr & ~ACCESS_TYPE_MASK) | ACCESS_TSS_BUSY);
}

// EFER.LMA is LME and paging, whoever changed which.
static void efer_write(struct vmx_vcpu *v, u64 value, bool paging)
{
    bool long_mode = (value & EFER_LME) && paging;
    value = long_mode ? value | EFER_LMA : value & ~EFER_LMA;
    vmwrite(VMCS_GUEST_IA32_EFER, value);
    long_mode_set(v, long_mode);
}

// After any change: what MOV to a control register does besides.
static void paging_changed(struct vmx_vcpu *v, u64 cr0, u64 cr4)
{
    bool long_mode = vmread(VMCS_GUEST_IA32_EFER) & EFER_LMA;
    if ((cr0 & CR0_PG) && (cr4 & CR4_PAE) && !long_mode)
        pdptes_load(v);
    vmx_flush_linear(v);
}

void vmx_cr0_write(struct vmx_vcpu *v, u64 value)
{
    const struct vmx_capabilities *caps = &vmx_capabilities;
    u64 must = caps->cr0_fixed0 & ~(CR0_PE | CR0_PG); // unrestricted guest lifts these two
    vmwrite(VMCS_CR0_READ_SHADOW, value | CR0_ET);
    vmwrite(VMCS_GUEST_CR0, ((value & ~CR0_CACHES_OFF) | CR0_ET | must) & caps->cr0_fixed1);
    efer_write(v, vmread(VMCS_GUEST_IA32_EFER), value & CR0_PG);
    paging_changed(v, value, vmx_cr4_read());
}

void vmx_cr3_write(struct vmx_vcpu *v, u64 value)
{
    vmwrite(VMCS_GUEST_CR3, value & ~CR3_NO_FLUSH);
    paging_changed(v, vmx_cr0_read(), vmx_cr4_read());
}

void vmx_cr4_write(struct vmx_vcpu *v, u64 value)
{
    const struct vmx_capabilities *caps = &vmx_capabilities;
    vmwrite(VMCS_CR4_READ_SHADOW, value);
    vmwrite(VMCS_GUEST_CR4, (value | CR4_HOST_SET | caps->cr4_fixed0) & caps->cr4_fixed1);
    paging_changed(v, vmx_cr0_read(), value);
}

void vmx_efer_write(struct vmx_vcpu *v, u64 value)
{
    u64 cr0 = vmx_cr0_read();
    efer_write(v, value, cr0 & CR0_PG);
    paging_changed(v, cr0, vmx_cr4_read());
}
