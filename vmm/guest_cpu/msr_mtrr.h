// SPDX-License-Identifier: MIT
// Memory types as a guest sets them: MTRRs (Intel SDM volume 3, "Memory Type Range Registers") and
// PAT. They are checked and kept, and have no effect: the stage-2 tables say what memory is.
// Handlers of vmm/guest_cpu/msr.c's table.
#pragma once

#include "vmm/lib/types.h"

struct vcpu;

#define MSR_MTRR_PHYS_FIRST   0x200
#define MSR_MTRR_PHYS_LAST    0x20f
#define MSR_MTRR_FIX64K       0x250
#define MSR_MTRR_FIX16K_FIRST 0x258
#define MSR_MTRR_FIX16K_LAST  0x259
#define MSR_MTRR_FIX4K_FIRST  0x268
#define MSR_MTRR_FIX4K_LAST   0x26f

void mtrr_reset(struct vcpu *vcpu);

// As firmware leaves them: on, and memory is write-back. Without that a Linux uses no PAT either.
void mtrr_write_back(struct vcpu *vcpu);

bool mtrr_cap_read(struct vcpu *vcpu, u32 index, u64 *value);
bool mtrr_read(struct vcpu *vcpu, u32 index, u64 *value);
bool mtrr_variable_write(struct vcpu *vcpu, u32 index, u64 value);
bool mtrr_fixed_write(struct vcpu *vcpu, u32 index, u64 value);
bool mtrr_default_write(struct vcpu *vcpu, u32 index, u64 value);
bool pat_write(struct vcpu *vcpu, u32 index, u64 value);
