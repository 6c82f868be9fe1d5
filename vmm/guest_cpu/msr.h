// SPDX-License-Identifier: MIT
// The model-specific registers that a guest has; docs/guest-cpu.md lists them.
#pragma once

#include "vmm/lib/types.h"

struct vcpu;

// RDMSR and WRMSR that exited. False: #GP(0).
MUST_CHECK bool msr_guest_read(struct vcpu *vcpu, u32 index, u64 *value);
MUST_CHECK bool msr_guest_write(struct vcpu *vcpu, u32 index, u64 value);
// Values after power-up of what is kept here and not by the engine.
void msr_reset(struct vcpu *vcpu);
// Tell the engine which MSRs the guest may use without an exit. After the vCPU was made.
void msr_passthrough_setup(struct vcpu *vcpu);
