// SPDX-License-Identifier: MIT
// What CPUID shows a guest: of the host's features those that a table names, plus what Plinth
// virtualises itself; docs/guest-cpu.md is the policy in words. Worked out once for each vCPU.
#pragma once

#include "arch/x86_64/asm.h"

struct vcpu;

// Of CPUID, guest's or host's: used to talk about single bits.
enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

// After xstate_create(). ERR_NO_MEMORY. Also sets vcpu->gpa_reserved and the width of the
// local APIC's addresses.
MUST_CHECK int cpuid_create(struct vcpu *vcpu);
void cpuid_destroy(struct vcpu *vcpu);
void cpuid_guest(struct vcpu *vcpu, u32 leaf, u32 subleaf, struct cpuid *out);
bool cpuid_guest_has(struct vcpu *vcpu, u32 leaf, enum cpuid_register reg, unsigned bit);

// CPUID leaf 15H for a TSC of tsc_hz and a crystal (what drives the local APIC's timer) of about
// crystal_hz: such that crystal * numerator / denominator, worked out in kHz and 32 bits as Linux
// does, is exactly the TSC's frequency in kHz (vmm/guest_cpu/cpuid_timing.c).
struct cpuid_ratio {
    u32 denominator, numerator, crystal_hz;
};
struct cpuid_ratio cpuid_tsc_ratio(u64 tsc_hz, u64 crystal_hz);
