// SPDX-License-Identifier: MIT
// Private to arch/x86_64/insn*.c.
#pragma once

#include "vmm/lib/types.h"

struct ZydisDecodedInstruction_;
struct ZydisDecodedOperand_;

// size: of a string instruction's element, or of a vector's; of a lane without a number, which;
// else 0.
struct insn_operation {
    u8 op, size;
};

extern const struct insn_operation insn_operations[]; // by ZydisMnemonic

// arch/x86_64/insn_native.c: the operand in memory, if the instruction can be run on another one;
// and its bytes for that, 0 if they are too many.
const struct ZydisDecodedOperand_ *insn_native_memory(const struct ZydisDecodedInstruction_ *z,
                                                      const struct ZydisDecodedOperand_ *operands);
unsigned insn_native_bytes(const struct ZydisDecodedInstruction_ *z,
                           const struct ZydisDecodedOperand_ *operands, const u8 *bytes,
                           u32 displacement, u8 *to);
