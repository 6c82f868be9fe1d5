// SPDX-License-Identifier: MIT
// A vCPU's accesses to its machine's devices: routing to the buses, holes, and the local APIC's
// page. Each takes the VM's lock.
#pragma once

#include "vmm/lib/types.h"

struct vcpu;

// size 1, 2, 4 (and 8 for memory). False: nothing is there; a read then gave all ones.
bool vm_port_read(struct vcpu *vcpu, u16 port, unsigned size, u64 *value);
bool vm_port_write(struct vcpu *vcpu, u16 port, unsigned size, u64 value);
bool vm_mmio_read(struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 *value);
bool vm_mmio_write(struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 value);
