// SPDX-License-Identifier: MIT
// The guest's writes to control registers, with the checks of the Intel SDM (volume 3, "Control
// Registers"; volume 2, "MOV - Move to/from Control Registers").
#pragma once

#include "vmm/lib/types.h"
#include "arch/x86_64/regs.h"

struct vcpu;

// Write CR0, CR3, CR4 or CR8 as MOV does. False: the guest gets #GP(0), nothing changed.
MUST_CHECK bool control_register_write(struct vcpu *vcpu, unsigned number, u64 value);
u64 control_register_read(struct vcpu *vcpu, unsigned number);

// What LMSW makes of CR0: it sets or clears the low four bits, but cannot clear PE.
#define CR0_LMSW (CR0_PE | CR0_MP | CR0_EM | CR0_TS)
static inline u64 cr0_lmsw(u64 cr0, u64 source)
{
    return (cr0 & ~(CR0_LMSW & ~CR0_PE)) | (source & CR0_LMSW);
}
