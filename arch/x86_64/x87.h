// SPDX-License-Identifier: MIT
// The x87 state of the guest that is in this CPU, and single instructions on it.
#pragma once

#include "vmm/lib/types.h"

#define X87_OPERAND_MAX 16

// An instruction's number: bits 2:0 of its opcode, and bits 5:3 of its ModRM byte.
#define X87_FLDCW  0x0d
#define X87_FNSTCW 0x0f
#define X87_FNSTSW 0x2f

// An unmasked exception is pending, which almost all x87 instructions and those of MMX raise as
// #MF.
bool x87_faults(void);
// Any that has an operand in memory and moves no environment: on *operand. Only if it does not
// fault.
void x87_run(unsigned number, void *operand);
// Where the last instruction was, and its operand.
void x87_pointers_set(u64 instruction, u64 operand);
