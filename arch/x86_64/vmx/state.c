// SPDX-License-Identifier: MIT
// The guest's registers and segments, wherever VT-x keeps them. SDM volume 3, "Guest Register
// State".
#include "arch/x86_64/vmx/vmx.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/assert.h"

// Registers that are a field of the VMCS and nothing more; 0 for the others (field 0 is the VPID).
static const u16 plain_fields[REG_COUNT] = {
    [REG_RIP] = VMCS_GUEST_RIP,
    [REG_RSP] = VMCS_GUEST_RSP,
    [REG_RFLAGS] = VMCS_GUEST_RFLAGS,
    [REG_CR3] = VMCS_GUEST_CR3,
    [REG_DR7] = VMCS_GUEST_DR7,
    [REG_EFER] = VMCS_GUEST_IA32_EFER,
    [REG_PAT] = VMCS_GUEST_IA32_PAT,
    [REG_SYSENTER_CS] = VMCS_GUEST_IA32_SYSENTER_CS,
    [REG_SYSENTER_ESP] = VMCS_GUEST_IA32_SYSENTER_ESP,
    [REG_SYSENTER_EIP] = VMCS_GUEST_IA32_SYSENTER_EIP,
    [REG_DEBUGCTL] = VMCS_GUEST_IA32_DEBUGCTL,
    [REG_PDPTE0] = VMCS_GUEST_PDPTE0,
    [REG_PDPTE1] = VMCS_GUEST_PDPTE1,
    [REG_PDPTE2] = VMCS_GUEST_PDPTE2,
    [REG_PDPTE3] = VMCS_GUEST_PDPTE3,
};

#define INTERRUPTIBILITY_SEEN (BLOCKED_STI | BLOCKED_MOV_SS | BLOCKED_NMI)
assert_static(BLOCKED_STI == INTERRUPTIBILITY_STI && BLOCKED_MOV_SS == INTERRUPTIBILITY_MOV_SS &&
              BLOCKED_NMI == INTERRUPTIBILITY_NMI);

static u64 special_read(struct vmx_vcpu *v, enum vcpu_reg reg)
{
    if (reg >= REG_STAR && reg <= REG_TSC_AUX)
        return vmx_swapped_msr_read(v, reg - REG_STAR);
    switch (reg) {
    case REG_CR0:
        return vmx_cr0_read();
    case REG_CR2:
        return v->loaded ? read_cr2() : v->cr2;
    case REG_CR4:
        return vmx_cr4_read();
    case REG_DR6:
        return v->loaded ? read_dr6() : v->vcpu->dr6;
    case REG_INTERRUPTIBILITY:
        return vmread(VMCS_GUEST_INTERRUPTIBILITY) & INTERRUPTIBILITY_SEEN;
    default:
        panic("vmx: no register %d", (int)reg);
    }
}

u64 vmx_reg_read(struct vcpu *vcpu, enum vcpu_reg reg)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    assert(reg < REG_COUNT);
    struct vmx_vcpu *former = vmcs_acquire(v);
    u64 value = plain_fields[reg] ? vmread(plain_fields[reg]) : special_read(v, reg);
    vmcs_release(v, former);
    return value;
}

static void cr2_write(struct vmx_vcpu *v, u64 value)
{
    v->cr2 = value;
    if (v->loaded)
        write_cr2(value);
}

static void dr6_write(struct vmx_vcpu *v, u64 value)
{
    v->vcpu->dr6 = value;
    if (v->loaded)
        write_dr6(value);
}

static void interruptibility_write(u64 value)
{
    u64 kept = vmread(VMCS_GUEST_INTERRUPTIBILITY) & ~(u64)INTERRUPTIBILITY_SEEN;
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, kept | (value & INTERRUPTIBILITY_SEEN));
    vmx_pending_debug_adjust();
}

#define RFLAGS_DEFINED 0x3f7fd7ull // the others must be 0

static void rflags_write(u64 value)
{
    vmwrite(VMCS_GUEST_RFLAGS, (value & RFLAGS_DEFINED) | RFLAGS_RESERVED);
    vmx_pending_debug_adjust();
}

static void special_write(struct vmx_vcpu *v, enum vcpu_reg reg, u64 value)
{
    switch (reg) {
    case REG_RFLAGS:
        rflags_write(value);
        break;
    case REG_CR0:
        vmx_cr0_write(v, value);
        break;
    case REG_CR2:
        cr2_write(v, value);
        break;
    case REG_CR3:
        vmx_cr3_write(v, value);
        break;
    case REG_CR4:
        vmx_cr4_write(v, value);
        break;
    case REG_EFER:
        vmx_efer_write(v, value);
        break;
    case REG_DR6:
        dr6_write(v, value);
        break;
    case REG_INTERRUPTIBILITY:
        interruptibility_write(value);
        break;
    default:
        vmwrite(plain_fields[reg], value);
        break;
    }
}

void vmx_reg_write(struct vcpu *vcpu, enum vcpu_reg reg, u64 value)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    assert(reg < REG_COUNT);
    struct vmx_vcpu *former = vmcs_acquire(v);
    if (reg >= REG_STAR && reg <= REG_TSC_AUX)
        vmx_swapped_msr_write(v, reg - REG_STAR, value);
    else
        special_write(v, reg, value);
    vmcs_release(v, former);
}

// --- segments ---

// The fields follow one another in the order of enum vcpu_segment.
assert_static(VMCS_GUEST_TR_SELECTOR == VMCS_GUEST_ES_SELECTOR + SEG_TR * VMCS_SEGMENT_STRIDE);
assert_static(VMCS_GUEST_IDTR_LIMIT == VMCS_GUEST_ES_LIMIT + SEG_IDTR * VMCS_SEGMENT_STRIDE);
assert_static(VMCS_GUEST_IDTR_BASE == VMCS_GUEST_ES_BASE + SEG_IDTR * VMCS_SEGMENT_STRIDE);
assert_static(VMCS_GUEST_TR_ACCESS_RIGHTS ==
              VMCS_GUEST_ES_ACCESS_RIGHTS + SEG_TR * VMCS_SEGMENT_STRIDE);

#define ACCESS_SEEN       0x1f0ffull // the others are reserved
#define ACCESS_S          BIT(4)     // code or data
#define ACCESS_ACCESSED   BIT(0)
#define ACCESS_READ_WRITE 3ull // data, and accessed

static bool is_table(enum vcpu_segment which)
{
    return which == SEG_GDTR || which == SEG_IDTR;
}

void vmx_segment_read(struct vcpu *vcpu, enum vcpu_segment which, struct segment *segment)
{
    assert(which < SEG_COUNT);
    struct vmx_vcpu *v = vmx_of(vcpu);
    struct vmx_vcpu *former = vmcs_acquire(v);
    u32 offset = which * VMCS_SEGMENT_STRIDE;
    *segment = (struct segment){
        .base = vmread(VMCS_GUEST_ES_BASE + offset),
        .limit = (u32)vmread(VMCS_GUEST_ES_LIMIT + offset),
    };
    if (!is_table(which)) {
        segment->selector = (u16)vmread(VMCS_GUEST_ES_SELECTOR + offset);
        segment->access = (u32)vmread(VMCS_GUEST_ES_ACCESS_RIGHTS + offset);
    }
    vmcs_release(v, former);
}

// The entry checks want every loaded code or data segment marked accessed, as the hardware's own
// loads leave it.
static u32 access_valid(u32 access)
{
    if (!(access & SEGMENT_UNUSABLE) && (access & ACCESS_S))
        access |= (u32)ACCESS_ACCESSED;
    return access & (u32)ACCESS_SEEN;
}

void vmx_segment_write(struct vcpu *vcpu, enum vcpu_segment which, const struct segment *segment)
{
    assert(which < SEG_COUNT);
    struct vmx_vcpu *v = vmx_of(vcpu);
    struct vmx_vcpu *former = vmcs_acquire(v);
    u32 offset = which * VMCS_SEGMENT_STRIDE;
    vmwrite(VMCS_GUEST_ES_BASE + offset, segment->base);
    vmwrite(VMCS_GUEST_ES_LIMIT + offset, segment->limit);
    if (!is_table(which)) {
        vmwrite(VMCS_GUEST_ES_SELECTOR + offset, segment->selector);
        vmwrite(VMCS_GUEST_ES_ACCESS_RIGHTS + offset, access_valid(segment->access));
    }
    vmcs_release(v, former);
}

// A CPU in real mode that loads a segment which was null before leaves it as some emulators have
// it: usable, but of a type that no entry takes. The CPU does not look at the type there.
bool vmx_real_segments_repair(void)
{
    bool changed = false;
    if (vmread(VMCS_GUEST_CR0) & CR0_PE)
        return false;
    for (unsigned which = SEG_ES; which <= SEG_GS; which++) {
        u32 field = VMCS_GUEST_ES_ACCESS_RIGHTS + which * VMCS_SEGMENT_STRIDE;
        u64 access = vmread(field);
        if (which == SEG_CS || which == SEG_SS || (access & (SEGMENT_UNUSABLE | ACCESS_ACCESSED)))
            continue;
        vmwrite(field, access | ACCESS_READ_WRITE);
        changed = true;
    }
    return changed;
}
