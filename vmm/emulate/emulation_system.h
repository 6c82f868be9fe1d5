// SPDX-License-Identifier: MIT
// Private to vmm/emulate/emulate_system.c and vmm/emulate/emulate_far.c: an instruction that loads
// or stores what segmentation is made of.
#pragma once

#include "arch/x86_64/regs.h"
#include "vmm/emulate/emulation.h"
#include "vmm/emulate/task.h"

#define SYSTEM_REAL_SHIFT 4 // from a selector to a base, without descriptors

struct system {
    struct emulation *e;
    struct task task;
    struct emulation_operand m;
    u64 top, mask; // if it is on the stack: where RSP ends, and in which bits
    unsigned cpl;
    bool real; // or virtual-8086 mode: no descriptors
    enum exit_action action;
};

struct system_pointer {
    u64 offset;
    u16 selector;
};

bool system_fault(struct system *s, u8 vector); // with error code 0; always false
struct system_pointer system_pointer_read(struct system *s);

static inline bool system_in_long_mode(const struct system *s)
{
    return s->task.paging.efer & EFER_LMA;
}

// vmm/emulate/emulate_far.c
MUST_CHECK bool system_far_branch(struct system *s); // JMP and CALL
MUST_CHECK bool system_far_return(struct system *s);
