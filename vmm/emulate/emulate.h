// SPDX-License-Identifier: MIT
// Instructions that the hardware could not finish because they touch a device: fetched, decoded and
// performed here, with the faults and flags that the CPU would give.
#pragma once

#include "vmm/exit.h"

struct vcpu;

// EXIT_MEMORY on an address that no RAM backs. Performs the instruction at CS:RIP; sets
// exit->length.
enum exit_action emulate_mmio(struct vcpu *vcpu, struct vm_exit *exit);
// EXIT_IO of INS or OUTS, with or without REP.
enum exit_action emulate_string_io(struct vcpu *vcpu, struct vm_exit *exit);
void emulate_destroy(struct vcpu *vcpu); // frees the decode cache
