// SPDX-License-Identifier: MIT
// Integer arithmetic as the CPU does it, with the status flags (Intel SDM volume 1, "Status Flags";
// volume 2 for each instruction). Pure. What the manual leaves undefined is as CPUs have it: AF is
// cleared by logic.
#pragma once

#include "arch/x86_64/insn.h"
#include "arch/x86_64/regs.h"

#define ALU_STATUS_FLAGS (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

// Twice an operand's size, in two registers; or quotient (low) and remainder.
struct alu_pair {
    u64 low, high;
};

// op: one of ADD OR ADC SBB AND SUB XOR CMP TEST INC DEC NOT NEG (one operand: `a`). size: 1, 2, 4
// or 8 bytes; a and b are taken modulo that. *flags: RFLAGS, in (CF counts) and out. Returns the
// result, zero-extended; of CMP and TEST, what is not stored.
u64 alu(enum insn_op op, unsigned size, u64 a, u64 b, u64 *flags);
// op: ROL ROR RCL RCR SHL SHR SAR, SHLD SHRD (b: where the bits come from). count as in the
// instruction; 0 changes nothing. OF is as after a shift by 1.
u64 alu_shift(enum insn_op op, unsigned size, u64 a, u64 b, u64 count, u64 *flags);
bool alu_knows(enum insn_op op);
// vmm/emulate/alu_multiply.c. op: MUL IMUL.
struct alu_pair alu_multiply(enum insn_op op, unsigned size, u64 a, u64 b, u64 *flags);
// op: DIV IDIV. False: #DE.
MUST_CHECK bool alu_divide(enum insn_op op, unsigned size, struct alu_pair dividend, u64 divisor,
                           struct alu_pair *result);
// op: BSF BSR TZCNT LZCNT POPCNT. old: what BSF and BSR leave if there is no bit.
u64 alu_count(enum insn_op op, unsigned size, u64 value, u64 old, u64 *flags);
// condition: bits 3:0 of the opcodes of Jcc, CMOVcc, SETcc.
bool alu_condition(unsigned condition, u64 flags);
