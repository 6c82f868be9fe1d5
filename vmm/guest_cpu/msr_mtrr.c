// SPDX-License-Identifier: MIT
// vcpu->mtrr holds the variable ranges, then the fixed ones, then the default type.
#include "vmm/guest_cpu/msr_mtrr.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/assert.h"
#include "vmm/vm.h"

#define TYPE_MASK       0xffull
#define TYPE_BITS       8
#define TYPES_PER_MSR   8
#define TYPE_WRITE_BACK 6ull
#define MTRR_TYPES      (BIT(0) | BIT(1) | BIT(4) | BIT(5) | BIT(6)) // UC, WC, WT, WP, WB
#define PAT_TYPES       (MTRR_TYPES | BIT(7))                        // UC-
#define MTRRCAP_VCNT    8ull
#define MTRRCAP_FIX     BIT(8)
#define MTRRCAP_WC      BIT(10)
#define DEF_TYPE_FE     BIT(10)
#define DEF_TYPE_E      BIT(11)
#define PHYS_BASE_LOW   0xf00ull // reserved in a base
#define PHYS_MASK_LOW   0x7ffull // reserved in a mask
#define HIGH_RESERVED   (~0ull << 52)

enum slot {
    SLOT_PHYS,
    SLOT_FIX64K = SLOT_PHYS + 2 * MTRRCAP_VCNT,
    SLOT_FIX16K,
    SLOT_FIX4K = SLOT_FIX16K + 2,
    SLOT_DEF_TYPE = SLOT_FIX4K + 8,
    SLOT_COUNT
};

static const struct range {
    u32 first, last;
    u8 slot;
} ranges[] = {
    {MSR_MTRR_PHYS_FIRST, MSR_MTRR_PHYS_LAST, SLOT_PHYS},
    {MSR_MTRR_FIX64K, MSR_MTRR_FIX64K, SLOT_FIX64K},
    {MSR_MTRR_FIX16K_FIRST, MSR_MTRR_FIX16K_LAST, SLOT_FIX16K},
    {MSR_MTRR_FIX4K_FIRST, MSR_MTRR_FIX4K_LAST, SLOT_FIX4K},
    {MSR_IA32_MTRR_DEF_TYPE, MSR_IA32_MTRR_DEF_TYPE, SLOT_DEF_TYPE},
};

static u64 *slot_of(struct vcpu *vcpu, u32 index)
{
    assert_static(SLOT_COUNT <= ARRAY_SIZE(vcpu->mtrr));
    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
        if (index >= ranges[i].first && index <= ranges[i].last)
            return &vcpu->mtrr[ranges[i].slot + (index - ranges[i].first)];
    return NULL;
}

void mtrr_reset(struct vcpu *vcpu)
{
    for (unsigned i = 0; i < ARRAY_SIZE(vcpu->mtrr); i++)
        vcpu->mtrr[i] = 0;
}

void mtrr_write_back(struct vcpu *vcpu)
{
    *slot_of(vcpu, MSR_IA32_MTRR_DEF_TYPE) = DEF_TYPE_E | TYPE_WRITE_BACK;
}

bool mtrr_cap_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    (void)vcpu;
    (void)index;
    *value = MTRRCAP_VCNT | MTRRCAP_FIX | MTRRCAP_WC;
    return true;
}

bool mtrr_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    const u64 *slot = slot_of(vcpu, index);
    if (slot)
        *value = *slot;
    return slot;
}

static bool mtrr_set(struct vcpu *vcpu, u32 index, u64 value)
{
    u64 *slot = slot_of(vcpu, index);
    if (slot)
        *slot = value;
    return slot;
}

static bool type_valid(u64 type, u64 types)
{
    return type < 64 && (types & BIT(type));
}

static bool types_valid(u64 value, u64 types)
{
    for (unsigned i = 0; i < TYPES_PER_MSR; i++)
        if (!type_valid((value >> (i * TYPE_BITS)) & TYPE_MASK, types))
            return false;
    return true;
}

bool mtrr_variable_write(struct vcpu *vcpu, u32 index, u64 value)
{
    bool base = !((index - MSR_MTRR_PHYS_FIRST) & 1);
    u64 reserved = HIGH_RESERVED | vcpu->gpa_reserved | (base ? PHYS_BASE_LOW : PHYS_MASK_LOW);
    if ((value & reserved) || (base && !type_valid(value & TYPE_MASK, MTRR_TYPES)))
        return false;
    return mtrr_set(vcpu, index, value);
}

bool mtrr_fixed_write(struct vcpu *vcpu, u32 index, u64 value)
{
    return types_valid(value, MTRR_TYPES) && mtrr_set(vcpu, index, value);
}

bool mtrr_default_write(struct vcpu *vcpu, u32 index, u64 value)
{
    if ((value & ~(TYPE_MASK | DEF_TYPE_FE | DEF_TYPE_E)) ||
        !type_valid(value & TYPE_MASK, MTRR_TYPES))
        return false;
    return mtrr_set(vcpu, index, value);
}

bool pat_write(struct vcpu *vcpu, u32 index, u64 value)
{
    (void)index;
    if (!types_valid(value, PAT_TYPES))
        return false;
    vcpu->ops->reg_write(vcpu, REG_PAT, value);
    return true;
}
