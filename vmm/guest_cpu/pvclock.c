// SPDX-License-Identifier: MIT
// The TSC never changes its rate and all of a VM's vCPUs count from the same moment, so a page is
// written once: its line goes through the VM's start, and all vCPUs' lines are one. A version that
// is odd says "being written".
#include "vmm/guest_cpu/pvclock.h"
#include "arch/x86_64/cpu.h"
#include "drivers/rtc.h"
#include "vmm/vm.h"

#define NS_PER_SECOND   1000000000ull
#define MULTIPLIER_BITS 32
#define ENABLED         1
#define ALIGNMENT       4
#define FLAG_TSC_STABLE 1

struct time_info {
    u32 version;
    u32 unused;
    u64 tsc_timestamp;
    u64 system_time;
    u32 tsc_to_system_mul;
    s8 tsc_shift;
    u8 flags;
    u8 reserved[2];
};

struct wall_clock {
    u32 version, seconds, nanoseconds;
};

// The multiplier is a fraction between a half and one, rounded to the nearest: full precision.
struct pvclock_scale pvclock_scale(u64 hz)
{
    unsigned __int128 numerator = (unsigned __int128)NS_PER_SECOND << MULTIPLIER_BITS;
    s8 shift = 0;
    while (numerator / hz >= BIT(MULTIPLIER_BITS)) {
        numerator >>= 1;
        shift++;
    }
    while (numerator / hz < BIT(MULTIPLIER_BITS - 1)) {
        numerator <<= 1;
        shift--;
    }
    u64 multiplier = (u64)((numerator + hz / 2) / hz);
    return (struct pvclock_scale){(u32)MIN(multiplier, BIT(MULTIPLIER_BITS) - 1), shift};
}

static bool is_ram(const struct guest_memory *gm, gpa_t gpa, u64 size)
{
    return !guest_memory_is_device(gm, gpa, PAGE_WRITE) &&
           !guest_memory_is_device(gm, gpa + size - 1, PAGE_WRITE);
}

// Everything with an odd version, then the even one. What is not in RAM is the guest's loss.
static bool publish(struct vcpu *vcpu, gpa_t gpa, const void *structure, u64 size, u32 version)
{
    struct guest_memory *gm = &vcpu->vm->memory;
    u32 odd = version - 1;
    if (!is_ram(gm, gpa, size) || guest_memory_write(gm, gpa, &odd, sizeof(odd)) ||
        guest_memory_write(gm, gpa + sizeof(u32), (const u8 *)structure + sizeof(u32),
                           size - sizeof(u32)))
        return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return guest_memory_write(gm, gpa, &version, sizeof(version)) == 0;
}

void pvclock_publish(struct vcpu *vcpu)
{
    gpa_t gpa = vcpu->pvclock_gpa & ~(gpa_t)ENABLED;
    if (!(vcpu->pvclock_gpa & ENABLED))
        return;
    struct pvclock_scale scale = pvclock_scale(tsc_hz);
    struct time_info info = {.tsc_timestamp =
                                 vcpu->lapic.tsc_adjust, // what this TSC was at the VM's start
                             .tsc_to_system_mul = scale.multiplier,
                             .tsc_shift = scale.shift,
                             .flags = FLAG_TSC_STABLE};
    vcpu->pvclock_version += 2;
    if (!publish(vcpu, gpa, &info, sizeof(info), vcpu->pvclock_version))
        vm_odd_access(vcpu->vm, "paravirtual clock at 0x%llx: no memory there",
                      (unsigned long long)gpa);
}

bool pvclock_enable(struct vcpu *vcpu, u64 value)
{
    if (!IS_ALIGNED(value & ~(u64)ENABLED, ALIGNMENT))
        return false;
    vcpu->pvclock_gpa = value;
    pvclock_publish(vcpu);
    return true;
}

bool pvclock_wall_clock(struct vcpu *vcpu, gpa_t gpa)
{
    if (!IS_ALIGNED(gpa, ALIGNMENT))
        return false;
    u64 since_start = mul_div(rdtsc() + vcpu->vm->tsc_offset, NS_PER_SECOND, tsc_hz);
    u64 start = rtc_wall_clock_ns() - since_start;
    struct wall_clock wall = {.seconds = (u32)(start / NS_PER_SECOND),
                              .nanoseconds = (u32)(start % NS_PER_SECOND)};
    vcpu->pvclock_version += 2;
    if (!publish(vcpu, gpa, &wall, sizeof(wall), vcpu->pvclock_version))
        vm_odd_access(vcpu->vm, "paravirtual wall clock at 0x%llx: no memory there",
                      (unsigned long long)gpa);
    return true;
}
