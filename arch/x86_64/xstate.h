// SPDX-License-Identifier: MIT
// Extended processor state (Intel SDM volume 1, "Managing State Using the XSAVE Feature Set"):
// which components the host has and guests may use, the sizes of areas, and switching a vCPU's
// state in and out. The host itself uses none of it.
#pragma once

#include "vmm/lib/types.h"

#define XCR0_OPMASK    BIT(5)
#define XCR0_ZMM_HI256 BIT(6)
#define XCR0_HI16_ZMM  BIT(7)
#define XCR0_AVX512    (XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM)

#define XSTATE_LEGACY_SIZE 512
#define XSTATE_HEADER_SIZE 64
#define XSTATE_COMPONENTS  8 // those that are offered are below

struct xstate_component {
    u32 size, offset; // in the standard format; size 0: there is none
    bool aligned;     // to 64 bytes in the compacted format
};

// Once, before any vCPU is made: what this machine has.
void xstate_init(void);
bool xstate_has_xsave(void);
u64 xstate_offered(void); // the XCR0 bits that guests may set
const struct xstate_component *xstate_component(unsigned index);
// Bytes of an area with these components, computed from theirs.
u32 xstate_size(u64 components);
u32 xstate_compacted_size(u64 components);
// Whether XSAVEC and XRSTOR keep the compacted format as CPUID describes it.
bool xstate_compacts(void);
// A value that XSETBV takes for XCR0.
bool xstate_valid(u64 xcr0);

// --- a vCPU's state: vmm/guest_cpu/guest_xstate.c ---
struct vcpu;
MUST_CHECK int xstate_create(struct vcpu *vcpu); // ERR_NO_MEMORY
void xstate_destroy(struct vcpu *vcpu);
void xstate_reset(struct vcpu *vcpu); // as after power-up; while it is in no CPU
// Into this CPU, XCR0 included; and back to vcpu->xstate.
void xstate_load(struct vcpu *vcpu);
void xstate_save(struct vcpu *vcpu);
// XSETBV of the vCPU that is in this CPU. False: #GP(0).
MUST_CHECK bool xstate_set_xcr0(struct vcpu *vcpu, u64 value);
