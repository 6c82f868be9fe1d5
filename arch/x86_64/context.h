// SPDX-License-Identifier: MIT
// What context_switch() keeps on a stack that is not running, lowest address first. A new thread's
// stack starts with one: rip is where it goes, rbp 0 ends its backtraces. context_switch() arrives
// at rip with RSP just above the structure, so place it at (top - 8 - sizeof(struct context)) with
// a zero return address above it: a function expects RSP + 8 to be a multiple of 16 (System V ABI,
// "The Stack Frame").
#pragma once

#include "vmm/lib/types.h"

struct context {
    u64 r15, r14, r13, r12, rbx, rbp;
    u64 rip;
};
