// SPDX-License-Identifier: MIT
// What a bit in CR4 needs is one table: the CPUID feature that the guest must have been shown.
#include "vmm/guest_cpu/control_registers.h"
#include "vmm/guest_cpu/cpuid.h"
#include "vmm/lib/error.h"
#include "vmm/vm.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/regs.h"

#define CR0_DEFINED                                                                                \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |     \
     CR0_PG)
#define CR3_PCID_MASK  0xfffull
#define CR3_PAE_MASK   0xffffffe0ull
#define PDPTE_COUNT    4
#define PDPTE_PRESENT  BIT(0)
#define PDPTE_RESERVED (0x1e6ull | 0xfffull << 52) // and what is beyond the physical addresses
#define CR8_DEFINED    0xfull

static const struct cr4_need {
    u64 bits;
    u32 leaf;
    u8 reg; // enum cpuid_register
    u8 bit;
} cr4_needs[] = {
    {CR4_VME | CR4_PVI, 1, CPUID_EDX, 1}, {CR4_DE, 1, CPUID_EDX, 2},
    {CR4_PSE, 1, CPUID_EDX, 3},           {CR4_TSD, 1, CPUID_EDX, 4},
    {CR4_PAE, 1, CPUID_EDX, 6},           {CR4_MCE, 1, CPUID_EDX, 7},
    {CR4_PGE, 1, CPUID_EDX, 13},          {CR4_OSFXSR, 1, CPUID_EDX, 24},
    {CR4_OSXMMEXCPT, 1, CPUID_EDX, 25},   {CR4_PCIDE, 1, CPUID_ECX, 17},
    {CR4_OSXSAVE, 1, CPUID_ECX, 26},      {CR4_FSGSBASE, 7, CPUID_EBX, 0},
    {CR4_SMEP, 7, CPUID_EBX, 7},          {CR4_SMAP, 7, CPUID_EBX, 20},
    {CR4_UMIP, 7, CPUID_ECX, 2},          {CR4_PKE, 7, CPUID_ECX, 3},
    {CR4_CET, 7, CPUID_ECX, 7},           {CR4_LA57, 7, CPUID_ECX, 16},
    {CR4_PKS, 7, CPUID_ECX, 31},
};

static u64 cr4_allowed(struct vcpu *vcpu)
{
    u64 allowed = CR4_PCE;
    for (unsigned i = 0; i < ARRAY_SIZE(cr4_needs); i++) {
        struct cpuid c;
        cpuid_guest(vcpu, cr4_needs[i].leaf, 0, &c);
        const u32 words[] = {c.eax, c.ebx, c.ecx, c.edx};
        if (words[cr4_needs[i].reg] & BIT(cr4_needs[i].bit))
            allowed |= cr4_needs[i].bits;
    }
    return allowed;
}

static bool in_64bit_code(struct vcpu *vcpu)
{
    struct segment cs;
    vcpu->ops->segment_read(vcpu, SEG_CS, &cs);
    return (vcpu_reg(vcpu, REG_EFER) & EFER_LMA) && (cs.access & SEGMENT_L);
}

// Turning paging on with EFER.LME set enters IA-32e mode; the checks of SDM volume 3, "Initializing
// IA-32e Mode".
static bool paging_on_valid(struct vcpu *vcpu)
{
    if (!(vcpu_reg(vcpu, REG_EFER) & EFER_LME))
        return true;
    struct segment cs;
    vcpu->ops->segment_read(vcpu, SEG_CS, &cs);
    return (vcpu_reg(vcpu, REG_CR4) & CR4_PAE) && !(cs.access & SEGMENT_L);
}

// "PDPTE Registers": PAE paging has four of them, and a write that makes the CPU load them is
// refused if one makes no sense. A table in no RAM reads as ones.
static bool pdptes_valid(struct vcpu *vcpu, u64 cr3)
{
    u64 pdptes[PDPTE_COUNT], reserved = PDPTE_RESERVED | vcpu->gpa_reserved;
    if (guest_memory_read(&vcpu->vm->memory, cr3 & CR3_PAE_MASK, pdptes, sizeof(pdptes)) != OK)
        return false;
    for (unsigned i = 0; i < PDPTE_COUNT; i++)
        if ((pdptes[i] & PDPTE_PRESENT) && (pdptes[i] & reserved))
            return false;
    return true;
}

// With these registers; loaded if one of the bits that `changed` tells of did.
static bool pdptes_allow(struct vcpu *vcpu, u64 cr0, u64 cr3, u64 cr4, bool changed)
{
    bool pae = (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(vcpu_reg(vcpu, REG_EFER) & EFER_LME);
    return !pae || !changed || pdptes_valid(vcpu, cr3);
}

static bool cr0_write(struct vcpu *vcpu, u64 value)
{
    u64 old = vcpu_reg(vcpu, REG_CR0);
    if (value >> 32)
        return false;
    value = (value & CR0_DEFINED) | CR0_ET;
    if ((value & CR0_PG) && !(value & CR0_PE))
        return false;
    if ((value & CR0_NW) && !(value & CR0_CD))
        return false;
    if ((value & CR0_PG) && !(old & CR0_PG) && !paging_on_valid(vcpu))
        return false;
    if (!(value & CR0_PG) && (old & CR0_PG) &&
        (in_64bit_code(vcpu) || (vcpu_reg(vcpu, REG_CR4) & CR4_PCIDE)))
        return false;
    if (!pdptes_allow(vcpu, value, vcpu_reg(vcpu, REG_CR3), vcpu_reg(vcpu, REG_CR4),
                      (old ^ value) & (CR0_CD | CR0_NW | CR0_PG)))
        return false;
    vcpu->ops->reg_write(vcpu, REG_CR0, value);
    return true;
}

static bool cr4_write(struct vcpu *vcpu, u64 value)
{
    u64 old = vcpu_reg(vcpu, REG_CR4), changed = old ^ value;
    bool long_mode = vcpu_reg(vcpu, REG_EFER) & EFER_LMA;
    if (value & ~cr4_allowed(vcpu))
        return false;
    if (long_mode && (changed & (CR4_LA57 | (old & CR4_PAE))))
        return false;
    if ((changed & value & CR4_PCIDE) && (!long_mode || (vcpu_reg(vcpu, REG_CR3) & CR3_PCID_MASK)))
        return false;
    if (!pdptes_allow(vcpu, vcpu_reg(vcpu, REG_CR0), vcpu_reg(vcpu, REG_CR3), value,
                      changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP)))
        return false;
    vcpu->ops->reg_write(vcpu, REG_CR4, value);
    return true;
}

static bool cr3_write(struct vcpu *vcpu, u64 value)
{
    if (!pdptes_allow(vcpu, vcpu_reg(vcpu, REG_CR0), value, vcpu_reg(vcpu, REG_CR4), true))
        return false;
    vcpu->ops->reg_write(vcpu, REG_CR3, value);
    return true;
}

static bool cr8_write(struct vcpu *vcpu, u64 value)
{
    if (value & ~CR8_DEFINED)
        return false;
    spin_lock(&vcpu->vm->lock);
    lapic_cr8_write(&vcpu->lapic, value);
    spin_unlock(&vcpu->vm->lock);
    return true;
}

bool control_register_write(struct vcpu *vcpu, unsigned number, u64 value)
{
    if (value >> 32 && !in_64bit_code(vcpu))
        value = (u32)value; // the operand has 32 bits there, whatever the register holds above
    switch (number) {
    case 0:
        return cr0_write(vcpu, value);
    case 3:
        return cr3_write(vcpu, value);
    case 4:
        return cr4_write(vcpu, value);
    case 8:
        return cr8_write(vcpu, value);
    default:
        return false;
    }
}

u64 control_register_read(struct vcpu *vcpu, unsigned number)
{
    switch (number) {
    case 0:
        return vcpu_reg(vcpu, REG_CR0);
    case 3:
        return vcpu_reg(vcpu, REG_CR3);
    case 4:
        return vcpu_reg(vcpu, REG_CR4);
    default:
        return lapic_cr8_read(&vcpu->lapic);
    }
}
