// SPDX-License-Identifier: MIT
// What trap_stubs.asm, traps.c, trap_report.c and panic.c share.
#pragma once

#include "vmm/lib/types.h"

struct trap_frame;

// An instruction that may meet #GP, and where to go on if it does. core.ld collects them.
struct fixup {
    u64 instruction, resume;
};
extern const struct fixup core_fixups_start[], core_fixups_end[];

// For inline assembly: two labels, as text.
#define FIXUP(instruction, resume)                                                                 \
    "\n\t.pushsection .fixups, \"a\"\n\t.quad " instruction ", " resume "\n\t.popsection"

void trap_dispatch(struct trap_frame *frame); // trap_stubs.asm calls it
u64 trap_nmi_count(void);                     // NMIs taken and ignored, all CPUs

// One line: what happened, where, with the error code in words.
void trap_headline_print(const struct trap_frame *frame, void (*print)(const char *format, ...));
