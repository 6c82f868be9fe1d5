// SPDX-License-Identifier: MIT
// The rows of GDB's table of packets (vmm/debug/gdb.c) that are in vmm/debug/gdb_state.c. Each
// takes the packet's arguments, leaves its reply in gdb.reply, and says whether there is one to be
// sent.
#pragma once

#include "vmm/debug/gdb_packet.h"

bool gdb_command_registers_read(struct gdb_scan *scan);
bool gdb_command_registers_write(struct gdb_scan *scan);
bool gdb_command_register_read(struct gdb_scan *scan);
bool gdb_command_register_write(struct gdb_scan *scan);
bool gdb_command_memory_read(struct gdb_scan *scan);
bool gdb_command_memory_write(struct gdb_scan *scan);
bool gdb_command_memory_write_binary(struct gdb_scan *scan);
bool gdb_command_breakpoint_set(struct gdb_scan *scan);
bool gdb_command_breakpoint_clear(struct gdb_scan *scan);
