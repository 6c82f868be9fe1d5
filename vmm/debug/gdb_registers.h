// SPDX-License-Identifier: MIT
// A vCPU's registers as GDB numbers them, and the description of the target that says so: one table
// makes both. The PC is the linear address of the code, in every mode. The VM is held.
#pragma once

#include "vmm/debug/gdb_packet.h"
#include "vmm/vm.h"

#define GDB_REGISTER_MAX 16 // bytes

extern const unsigned gdb_register_count;
extern const unsigned
    gdb_general_count; // the first ones: what 'g' shows; others are asked for singly

// Bytes of a register, in the guest's order; 0: there is no such register.
unsigned gdb_register_read(struct vcpu *vcpu, unsigned number, u8 to[GDB_REGISTER_MAX]);
unsigned gdb_register_size(unsigned number);
// False: it cannot be written, or not with this value.
bool gdb_register_write(struct vcpu *vcpu, unsigned number, const u8 from[GDB_REGISTER_MAX]);
// A part of the description, as much as fits; false: there is nothing behind it.
bool gdb_description(struct gdb_reply *reply, u64 offset, u64 length);
