// SPDX-License-Identifier: MIT
// Private to arch/x86_64/insn*.c.
#pragma once

#include "vmm/lib/types.h"

// size: of a string instruction's element, or of a vector's; of a lane without a number, which;
// else 0.
struct insn_operation {
    u8 op, size;
};

extern const struct insn_operation insn_operations[]; // by ZydisMnemonic
