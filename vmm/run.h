// SPDX-License-Identifier: MIT
// Between the run loop and the VM's life cycle.
#pragma once

#include "vmm/lib/types.h"

struct vm;
struct vcpu;

// A vCPU left its run loop. The last one carries out what was asked of the VM; true: run again (a
// reset).
bool vm_vcpu_ended(struct vm *vm, struct vcpu *vcpu);
