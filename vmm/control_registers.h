// SPDX-License-Identifier: MIT
// The guest's writes to control registers, with the checks of the Intel SDM (volume 3, "Control
// Registers"; volume 2, "MOV - Move to/from Control Registers").
#pragma once

#include "vmm/lib/types.h"

struct vcpu;

// Write CR0, CR3, CR4 or CR8 as MOV does. False: the guest gets #GP(0), nothing changed.
MUST_CHECK bool control_register_write(struct vcpu *vcpu, unsigned number, u64 value);
u64 control_register_read(struct vcpu *vcpu, unsigned number);
