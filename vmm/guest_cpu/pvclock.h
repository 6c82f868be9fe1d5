// SPDX-License-Identifier: MIT
// The paravirtual clock that KVM defined and stock guests know (Linux:
// Documentation/virt/kvm/x86/msr.rst): a page in the guest's memory says how to turn its TSC into
// nanoseconds since the VM's start, another what time it was then.
#pragma once

#include "vmm/lib/types.h"

struct vcpu;

// ns = ((tsc shifted left by `shift`, or right if negative) * multiplier) >> 32.
struct pvclock_scale {
    u32 multiplier;
    s8 shift;
};
struct pvclock_scale pvclock_scale(u64 tsc_hz); // tsc_hz is not 0

// MSR_KVM_SYSTEM_TIME: address and, in bit 0, on. False: #GP(0).
MUST_CHECK bool pvclock_enable(struct vcpu *vcpu, u64 value);
// Write the vCPU's page anew, if it has one: the TSC was changed.
void pvclock_publish(struct vcpu *vcpu);
// MSR_KVM_WALL_CLOCK. False: #GP(0).
MUST_CHECK bool pvclock_wall_clock(struct vcpu *vcpu, gpa_t gpa);
