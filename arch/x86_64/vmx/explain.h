// SPDX-License-Identifier: MIT
// The entry checks of the SDM in groups, each rule a line of explain_*.c. The VMCS is current.
#pragma once

#include "arch/x86_64/vmx/capabilities.h"
#include "vmm/lib/types.h"

struct explanation {
    void (*print)(void *context, const char *format, ...);
    void *context;
    unsigned violations;
};

// As wide as the CPU takes them, whatever the mode of paging.
static inline bool canonical(u64 address)
{
    unsigned unused = 64 - vmx_capabilities.linear_bits;
    return (u64)((s64)(address << unused) >> unused) == address;
}

// Print the field, its value and the rule, unless the rule was kept.
void explain_rule(struct explanation *e, bool kept, u32 field, const char *rule);

void explain_registers(struct explanation *e);     // explain_state.c
void explain_non_registers(struct explanation *e); // explain_state.c
void explain_event(struct explanation *e);         // explain_state.c
void explain_segments(struct explanation *e);      // explain_segments.c
