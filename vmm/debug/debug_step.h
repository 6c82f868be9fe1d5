// SPDX-License-Identifier: MIT
// What a single step has to know of the instruction that it is for, so that neither the guest sees
// the trap flag nor the debugger loses the guest.
#pragma once

#include "vmm/debug/debug.h"

enum step_kind {
    STEP_PLAIN,
    STEP_STORES_FLAGS, // PUSHF: the flag would be on the guest's stack
    STEP_LOADS_FLAGS,  // POPF, IRET, SYSRET: the guest's new flag replaces ours
    STEP_SYSCALL,      // clears the flag by its mask, and keeps it in R11
    STEP_INTERRUPT,    // INT n: is delivered as an event
};

struct step {
    enum step_kind kind;
    u8 length, vector; // INT n
    bool trap_flag;    // the guest's own
    u64 mask;          // of SYSCALL
};

void step_look(struct vcpu *vcpu, struct step *step);
void step_arm(struct vcpu *vcpu, struct step *step); // before the run
// After it. done: the instruction was executed.
void step_disarm(struct vcpu *vcpu, const struct step *step, bool done);
