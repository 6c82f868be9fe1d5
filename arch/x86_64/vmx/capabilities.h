// SPDX-License-Identifier: MIT
// What this machine's VT-x can do, and the five control words made from it. SDM volume 3, "VMX
// Capability Reporting Facility".
#pragma once

#include "vmm/lib/types.h"

enum vmx_control_word {
    CONTROLS_PIN,
    CONTROLS_PROC,
    CONTROLS_PROC2,
    CONTROLS_EXIT,
    CONTROLS_ENTRY,
    CONTROLS_COUNT
};

struct vmx_capabilities {
    u32 revision; // of the VMCS and the VMXON region
    u32 controls[CONTROLS_COUNT];
    u32 allowed[CONTROLS_COUNT]; // the bits that may be set
    u64 ept_vpid;                // IA32_VMX_EPT_VPID_CAP
    unsigned timer_shift;
    u64 cr0_fixed0, cr0_fixed1;
    u64 cr4_fixed0, cr4_fixed1;
    unsigned physical_bits; // width of a physical address
    unsigned linear_bits;   // and of a linear one: 48, or 57 if there is 5-level paging
    bool vpid;
    bool accessed_dirty;
    bool vectoring_stale; // virtual-interrupt delivery has the errors of Bochs: docs/testing.md
    bool tsc_aux;         // IA32_TSC_AUX exists
};

// Read by vmx_probe(), constant from then on.
extern struct vmx_capabilities vmx_capabilities;

// struct cpu_ops.probe, .apic_missing, .describe, .stage2_max_leaf
const char *vmx_probe(void);
// Whether this CPU's VT-x has all that vmx_probe() saw on its CPU: a VMCS goes to any of them.
bool vmx_as_first(void);
const char *vmx_apic_missing(void);
bool vmx_apic_sound(void);
void vmx_describe(char *to, size_t size);
unsigned vmx_stage2_max_leaf(void);
