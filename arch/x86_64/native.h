// SPDX-License-Identifier: MIT
// Single instructions on the vector, MMX and general registers of the guest that is in this CPU: an
// instruction that insn_relocate() has made is put into this CPU's slot and run. What it raises
// comes back as a vector.
#pragma once

#include "vmm/lib/types.h"

struct trap_frame;

#define NATIVE_OPERAND_ALIGNED 64
#define NATIVE_OPERAND_MAX     128
// From RSP to `operand`, when the instruction runs.
#define NATIVE_OPERAND_AT      72

struct native {
    u8 operand[NATIVE_OPERAND_MAX]; // when it runs, aligned to NATIVE_OPERAND_ALIGNED
    u64 gpr[16];                    // RSP's is not used
    u64 flags;                      // arithmetic ones only
};

// Returns 0, or the vector of the exception that the instruction raised: then nothing has changed
// but flags in MXCSR.
unsigned native_run(struct native *n, const u8 *code, unsigned length);
// For trap_dispatch: an exception within native_run's instruction is none of ours.
bool native_trap(struct trap_frame *frame);
