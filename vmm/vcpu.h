// SPDX-License-Identifier: MIT
// What vmm/vm.c and vmm/run.c need of vmm/vcpu.c beyond vmm/vm.h.
#pragma once

#include "io/lapic.h"

extern const struct lapic_ops vcpu_lapic_ops;

struct vcpu;
struct thread;

// Make this vCPU's state the one in this CPU (in place of another's), or take it out if it is
// there.
void vcpu_load_here(struct vcpu *vcpu);
void vcpu_apic_mode(struct vcpu *vcpu); // tell the engine, if it has to know
void vcpu_unload_here(struct vcpu *vcpu);

// For a vCPU's thread that does not run: its vCPU is in no CPU.
bool vcpu_may_leave(const struct thread *thread);
