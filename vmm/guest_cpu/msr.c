// SPDX-License-Identifier: MIT
// One list of MSRs. It makes a row each in a table of handlers, and two arrays from an MSR's number
// to its row: one for the architectural range from 0, one for the range from C0000000H. Names and
// rules: Intel SDM volume 4.
#include "vmm/guest_cpu/msr.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/regs.h"
#include "vmm/guest_cpu/cpuid.h"
#include "vmm/guest_cpu/msr_mtrr.h"
#include "vmm/guest_cpu/pvclock.h"
#include "vmm/vm.h"

#define MSR_IA32_BIOS_UPDT_TRIG 0x79
#define MSR_KVM_WALL_CLOCK_OLD  0x11
#define MSR_KVM_SYSTEM_TIME_OLD 0x12
#define MSR_KVM_WALL_CLOCK      0x4b564d00
#define MSR_KVM_SYSTEM_TIME     0x4b564d01
#define MSR_LOW_COUNT           0x400
#define MSR_HIGH_FIRST          0xc0000000
#define MSR_HIGH_COUNT          0x110

#define MICROCODE_REVISION    0x0b000040ull // newer than any that guests know to be broken
#define MICROCODE_SHIFT       32
#define FEATURE_CONTROL_LOCK  BIT(0)
#define MISC_FAST_STRINGS     BIT(0)
// Those, thermal control, SpeedStep, MONITOR, the limit of CPUID, xTPR messages, XD disable.
#define MISC_SWITCHES         (MISC_FAST_STRINGS | BIT(3) | BIT(16) | BIT(18) | BIT(22) | BIT(23) | BIT(34))
#define MISC_BTS_UNAVAILABLE  BIT(11)
#define MISC_PEBS_UNAVAILABLE BIT(12)
#define DEBUGCTL_LBR          BIT(0)
#define DEBUGCTL_BTF          BIT(1)

// Where vcpu->msr_misc keeps what.
enum misc { MISC_ENABLE, MISC_WALL_CLOCK, MISC_WALL_CLOCK_OLD };

typedef bool (*msr_read)(struct vcpu *, u32 index, u64 *value);
typedef bool (*msr_write)(struct vcpu *, u32 index, u64 value);

// --- handlers ---

static bool read_zero(struct vcpu *vcpu, u32 index, u64 *value)
{
    (void)vcpu;
    (void)index;
    *value = 0;
    return true;
}

static bool write_ignored(struct vcpu *vcpu, u32 index, u64 value)
{
    (void)vcpu;
    (void)index;
    (void)value;
    return true;
}

static bool write_refused(struct vcpu *vcpu, u32 index, u64 value)
{
    (void)vcpu;
    (void)index;
    (void)value;
    return false;
}

static bool apic_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    spin_lock(&vcpu->vm->lock);
    bool good = lapic_msr_read(&vcpu->lapic, index, value);
    spin_unlock(&vcpu->vm->lock);
    return good;
}

static bool apic_write(struct vcpu *vcpu, u32 index, u64 value)
{
    spin_lock(&vcpu->vm->lock);
    bool good = lapic_msr_write(&vcpu->lapic, index, value);
    spin_unlock(&vcpu->vm->lock);
    return good;
}

static void tsc_adjust_set(struct vcpu *vcpu, u64 adjust)
{
    spin_lock(&vcpu->vm->lock);
    lapic_set_tsc_adjust(&vcpu->lapic, adjust);
    spin_unlock(&vcpu->vm->lock);
    vcpu->ops->set_tsc_offset(vcpu, vcpu->vm->tsc_offset + adjust);
    pvclock_publish(vcpu);
}

static bool tsc_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    (void)index;
    *value = rdtsc() + vcpu->vm->tsc_offset + vcpu->lapic.tsc_adjust;
    return true;
}

static bool tsc_write(struct vcpu *vcpu, u32 index, u64 value)
{
    u64 now;
    tsc_read(vcpu, index, &now);
    tsc_adjust_set(vcpu, vcpu->lapic.tsc_adjust + (value - now));
    return true;
}

static bool tsc_adjust_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    (void)index;
    *value = vcpu->lapic.tsc_adjust;
    return true;
}

static bool tsc_adjust_write(struct vcpu *vcpu, u32 index, u64 value)
{
    (void)index;
    tsc_adjust_set(vcpu, value);
    return true;
}

static bool feature_control_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    (void)vcpu;
    (void)index;
    *value = FEATURE_CONTROL_LOCK; // and VMX off
    return true;
}

static bool microcode_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    (void)vcpu;
    (void)index;
    *value = MICROCODE_REVISION << MICROCODE_SHIFT;
    return true;
}

static bool misc_enable_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    (void)index;
    *value = vcpu->msr_misc[MISC_ENABLE];
    return true;
}

// Switches can be set and read back; none has an effect.
static bool misc_enable_write(struct vcpu *vcpu, u32 index, u64 value)
{
    (void)index;
    vcpu->msr_misc[MISC_ENABLE] =
        (value & MISC_SWITCHES) | MISC_BTS_UNAVAILABLE | MISC_PEBS_UNAVAILABLE;
    return true;
}

static bool mcg_status_write(struct vcpu *vcpu, u32 index, u64 value)
{
    (void)vcpu;
    (void)index;
    return value == 0; // other values are for the CPU to set
}

struct register_msr {
    u32 index;
    u8 reg;             // enum vcpu_reg
    bool address, wide; // must be canonical; may be above 32 bits
};

static const struct register_msr register_msrs[] = {
    {MSR_IA32_SYSENTER_CS, REG_SYSENTER_CS, false, false},
    {MSR_IA32_SYSENTER_ESP, REG_SYSENTER_ESP, true, true},
    {MSR_IA32_SYSENTER_EIP, REG_SYSENTER_EIP, true, true},
    {MSR_IA32_STAR, REG_STAR, false, true},
    {MSR_IA32_LSTAR, REG_LSTAR, true, true},
    {MSR_IA32_CSTAR, REG_CSTAR, true, true},
    {MSR_IA32_FMASK, REG_FMASK, false, false},
    {MSR_IA32_KERNEL_GS_BASE, REG_KERNEL_GS_BASE, true, true},
    {MSR_IA32_PAT, REG_PAT, false, true},
    {MSR_IA32_EFER, REG_EFER, false, true},
};

static const struct register_msr *register_msr(u32 index)
{
    for (unsigned i = 0; i < ARRAY_SIZE(register_msrs); i++)
        if (register_msrs[i].index == index)
            return &register_msrs[i];
    return NULL;
}

static bool register_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    const struct register_msr *m = register_msr(index);
    if (m)
        *value = vcpu_reg(vcpu, m->reg);
    return m;
}

static bool register_write(struct vcpu *vcpu, u32 index, u64 value)
{
    const struct register_msr *m = register_msr(index);
    if (!m || (m->address && !vcpu_canonical(vcpu, value)))
        return false;
    if (!m->wide)
        value = (u32)value;
    vcpu->ops->reg_write(vcpu, m->reg, value);
    return true;
}

static bool has_rdtscp(struct vcpu *vcpu)
{
    return cpuid_guest_has(vcpu, 0x80000001, CPUID_EDX, 27);
}

static bool tsc_aux_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    (void)index;
    *value = vcpu_reg(vcpu, REG_TSC_AUX);
    return has_rdtscp(vcpu);
}

static bool tsc_aux_write(struct vcpu *vcpu, u32 index, u64 value)
{
    (void)index;
    if (value >> 32 || !has_rdtscp(vcpu))
        return false;
    vcpu->ops->reg_write(vcpu, REG_TSC_AUX, value);
    return true;
}

static bool segment_base_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    struct segment s;
    vcpu->ops->segment_read(vcpu, index == MSR_IA32_FS_BASE ? SEG_FS : SEG_GS, &s);
    *value = s.base;
    return true;
}

static bool segment_base_write(struct vcpu *vcpu, u32 index, u64 value)
{
    enum vcpu_segment which = index == MSR_IA32_FS_BASE ? SEG_FS : SEG_GS;
    struct segment s;
    if (!vcpu_canonical(vcpu, value))
        return false;
    vcpu->ops->segment_read(vcpu, which, &s);
    s.base = value;
    vcpu->ops->segment_write(vcpu, which, &s);
    return true;
}

static const struct efer_need {
    u64 efer_bit;
    u8 cpuid_bit; // of leaf 80000001H, EDX
} efer_needs[] = {{EFER_SCE, 11}, {EFER_NXE, 20}, {EFER_LME, 29}};

static bool efer_write(struct vcpu *vcpu, u32 index, u64 value)
{
    (void)index;
    u64 old = vcpu_reg(vcpu, REG_EFER), allowed = EFER_LMA;
    for (unsigned i = 0; i < ARRAY_SIZE(efer_needs); i++)
        if (cpuid_guest_has(vcpu, 0x80000001, CPUID_EDX, efer_needs[i].cpuid_bit))
            allowed |= efer_needs[i].efer_bit;
    if (value & ~allowed)
        return false;
    if (((old ^ value) & EFER_LME) && (vcpu_reg(vcpu, REG_CR0) & CR0_PG))
        return false;
    vcpu->ops->reg_write(vcpu, REG_EFER,
                         (value & ~EFER_LMA) | (old & EFER_LMA)); // LMA is the CPU's
    return true;
}

static bool debugctl_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    (void)index;
    *value = vcpu_reg(vcpu, REG_DEBUGCTL);
    return true;
}

// Branch records are not offered: the switch is taken and has no effect.
static bool debugctl_write(struct vcpu *vcpu, u32 index, u64 value)
{
    (void)index;
    if (value & ~(DEBUGCTL_LBR | DEBUGCTL_BTF))
        return false;
    vcpu->ops->reg_write(vcpu, REG_DEBUGCTL, value & DEBUGCTL_BTF);
    return true;
}

static enum misc wall_clock_slot(u32 index)
{
    return index == MSR_KVM_WALL_CLOCK ? MISC_WALL_CLOCK : MISC_WALL_CLOCK_OLD;
}

static bool wall_clock_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    *value = vcpu->msr_misc[wall_clock_slot(index)];
    return true;
}

static bool wall_clock_write(struct vcpu *vcpu, u32 index, u64 value)
{
    if (!pvclock_wall_clock(vcpu, value))
        return false;
    vcpu->msr_misc[wall_clock_slot(index)] = value;
    return true;
}

static bool system_time_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    (void)index;
    *value = vcpu->pvclock_gpa;
    return true;
}

static bool system_time_write(struct vcpu *vcpu, u32 index, u64 value)
{
    (void)index;
    return pvclock_enable(vcpu, value);
}

// --- the list: X(row, first, last, read, write), by where they are found ---

#define MSR_LOW_LIST(X)                                                                            \
    X(ROW_TSC, MSR_IA32_TSC, MSR_IA32_TSC, tsc_read, tsc_write)                                    \
    X(ROW_WALL_OLD, MSR_KVM_WALL_CLOCK_OLD, MSR_KVM_WALL_CLOCK_OLD, wall_clock_read,               \
      wall_clock_write)                                                                            \
    X(ROW_TIME_OLD, MSR_KVM_SYSTEM_TIME_OLD, MSR_KVM_SYSTEM_TIME_OLD, system_time_read,            \
      system_time_write)                                                                           \
    X(ROW_PLATFORM_ID, MSR_IA32_PLATFORM_ID, MSR_IA32_PLATFORM_ID, read_zero, write_refused)       \
    X(ROW_APIC_BASE, MSR_IA32_APIC_BASE, MSR_IA32_APIC_BASE, apic_read, apic_write)                \
    X(ROW_FEATURE_CONTROL, MSR_IA32_FEATURE_CONTROL, MSR_IA32_FEATURE_CONTROL,                     \
      feature_control_read, write_refused)                                                         \
    X(ROW_TSC_ADJUST, MSR_IA32_TSC_ADJUST, MSR_IA32_TSC_ADJUST, tsc_adjust_read, tsc_adjust_write) \
    X(ROW_BIOS_UPDT_TRIG, MSR_IA32_BIOS_UPDT_TRIG, MSR_IA32_BIOS_UPDT_TRIG, read_zero,             \
      write_ignored)                                                                               \
    X(ROW_BIOS_SIGN_ID, MSR_IA32_BIOS_SIGN_ID, MSR_IA32_BIOS_SIGN_ID, microcode_read,              \
      write_ignored)                                                                               \
    X(ROW_MTRRCAP, MSR_IA32_MTRRCAP, MSR_IA32_MTRRCAP, mtrr_cap_read, write_refused)               \
    X(ROW_SYSENTER, MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_EIP, register_read, register_write)    \
    X(ROW_MCG_CAP, MSR_IA32_MCG_CAP, MSR_IA32_MCG_CAP, read_zero, write_refused)                   \
    X(ROW_MCG_STATUS, MSR_IA32_MCG_STATUS, MSR_IA32_MCG_STATUS, read_zero, mcg_status_write)       \
    X(ROW_MISC_ENABLE, MSR_IA32_MISC_ENABLE, MSR_IA32_MISC_ENABLE, misc_enable_read,               \
      misc_enable_write)                                                                           \
    X(ROW_DEBUGCTL, MSR_IA32_DEBUGCTL, MSR_IA32_DEBUGCTL, debugctl_read, debugctl_write)           \
    X(ROW_MTRR_PHYS, MSR_MTRR_PHYS_FIRST, MSR_MTRR_PHYS_LAST, mtrr_read, mtrr_variable_write)      \
    X(ROW_MTRR_FIX64K, MSR_MTRR_FIX64K, MSR_MTRR_FIX64K, mtrr_read, mtrr_fixed_write)              \
    X(ROW_MTRR_FIX16K, MSR_MTRR_FIX16K_FIRST, MSR_MTRR_FIX16K_LAST, mtrr_read, mtrr_fixed_write)   \
    X(ROW_MTRR_FIX4K, MSR_MTRR_FIX4K_FIRST, MSR_MTRR_FIX4K_LAST, mtrr_read, mtrr_fixed_write)      \
    X(ROW_PAT, MSR_IA32_PAT, MSR_IA32_PAT, register_read, pat_write)                               \
    X(ROW_MTRR_DEF_TYPE, MSR_IA32_MTRR_DEF_TYPE, MSR_IA32_MTRR_DEF_TYPE, mtrr_read,                \
      mtrr_default_write)

#define MSR_HIGH_LIST(X)                                                                           \
    X(ROW_EFER, MSR_IA32_EFER, MSR_IA32_EFER, register_read, efer_write)                           \
    X(ROW_SYSCALL, MSR_IA32_STAR, MSR_IA32_FMASK, register_read, register_write)                   \
    X(ROW_FS_GS_BASE, MSR_IA32_FS_BASE, MSR_IA32_GS_BASE, segment_base_read, segment_base_write)   \
    X(ROW_KERNEL_GS_BASE, MSR_IA32_KERNEL_GS_BASE, MSR_IA32_KERNEL_GS_BASE, register_read,         \
      register_write)                                                                              \
    X(ROW_TSC_AUX, MSR_IA32_TSC_AUX, MSR_IA32_TSC_AUX, tsc_aux_read, tsc_aux_write)

#define MSR_OTHER_LIST(X)                                                                          \
    X(ROW_X2APIC, MSR_X2APIC_FIRST, MSR_X2APIC_LAST, apic_read, apic_write)                        \
    X(ROW_TSC_DEADLINE, MSR_IA32_TSC_DEADLINE, MSR_IA32_TSC_DEADLINE, apic_read, apic_write)       \
    X(ROW_WALL, MSR_KVM_WALL_CLOCK, MSR_KVM_WALL_CLOCK, wall_clock_read, wall_clock_write)         \
    X(ROW_TIME, MSR_KVM_SYSTEM_TIME, MSR_KVM_SYSTEM_TIME, system_time_read, system_time_write)

enum row {
    ROW_NONE,
#define X(row, first, last, read, write) row,
    MSR_LOW_LIST(X) MSR_HIGH_LIST(X) MSR_OTHER_LIST(X)
#undef X
};

static const struct {
    msr_read read;
    msr_write write;
} rows[] = {
#define X(row, first, last, read, write) [row] = {read, write},
    MSR_LOW_LIST(X) MSR_HIGH_LIST(X) MSR_OTHER_LIST(X)
#undef X
};

static const u8 low_rows[MSR_LOW_COUNT] = {
#define X(row, first, last, read, write) [first... last] = row,
    MSR_LOW_LIST(X)
#undef X
};

static const u8 high_rows[MSR_HIGH_COUNT] = {
#define X(row, first, last, read, write) [(first)-MSR_HIGH_FIRST...(last) - MSR_HIGH_FIRST] = row,
    MSR_HIGH_LIST(X)
#undef X
};

static unsigned other_row(u32 index)
{
#define X(row, first, last, read, write)                                                           \
    if (index >= (first) && index <= (last))                                                       \
        return row;
    MSR_OTHER_LIST(X)
#undef X
    return ROW_NONE;
}

static inline unsigned row_of(u32 index)
{
    if (index < MSR_LOW_COUNT)
        return low_rows[index];
    if (index - MSR_HIGH_FIRST < MSR_HIGH_COUNT)
        return high_rows[index - MSR_HIGH_FIRST];
    return other_row(index);
}

bool msr_guest_read(struct vcpu *vcpu, u32 index, u64 *value)
{
    unsigned row = row_of(index);
    if (likely(row != ROW_NONE))
        return rows[row].read(vcpu, index, value);
    vm_odd_access(vcpu->vm, "read of MSR 0x%x: not there", index);
    return false;
}

bool msr_guest_write(struct vcpu *vcpu, u32 index, u64 value)
{
    unsigned row = row_of(index);
    if (likely(row != ROW_NONE))
        return rows[row].write(vcpu, index, value);
    vm_odd_access(vcpu->vm, "write of 0x%llx to MSR 0x%x: not there", (unsigned long long)value,
                  index);
    return false;
}

void msr_reset(struct vcpu *vcpu)
{
    for (unsigned i = 0; i < ARRAY_SIZE(vcpu->msr_misc); i++)
        vcpu->msr_misc[i] = 0;
    misc_enable_write(vcpu, MSR_IA32_MISC_ENABLE, MISC_FAST_STRINGS);
    mtrr_reset(vcpu);
    vcpu->pvclock_gpa = 0;
}

// The hardware checks what it is given. TSC_AUX is left to the engine, which knows whether the CPU
// has it.
static const struct {
    u32 index;
    bool read, write;
} passthrough[] = {
    {MSR_IA32_FS_BASE, true, true},        {MSR_IA32_GS_BASE, true, true},
    {MSR_IA32_KERNEL_GS_BASE, true, true}, {MSR_IA32_STAR, true, true},
    {MSR_IA32_LSTAR, true, true},          {MSR_IA32_CSTAR, true, true},
    {MSR_IA32_FMASK, true, true},          {MSR_IA32_SYSENTER_CS, true, true},
    {MSR_IA32_SYSENTER_ESP, true, true},   {MSR_IA32_SYSENTER_EIP, true, true},
    {MSR_IA32_EFER, true, false},          {MSR_IA32_PAT, true, false},
    {MSR_IA32_TSC, true, false},
};

void msr_passthrough_setup(struct vcpu *vcpu)
{
    for (unsigned i = 0; i < ARRAY_SIZE(passthrough); i++)
        vcpu->ops->msr_passthrough(vcpu, passthrough[i].index, passthrough[i].read,
                                   passthrough[i].write);
}
