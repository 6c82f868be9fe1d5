// SPDX-License-Identifier: MIT
// What the panic path leans on. panic() itself is in vmm/lib/assert.h. It takes no lock: whoever
// sets a hook here promises that it takes none either.
#pragma once

#include "vmm/lib/types.h"

struct trap_frame;

// Where a panic's text goes (pieces of lines; each line ends with "\n"); null: COM1, by raw port
// writes.
extern void (*panic_print_sink)(const char *text);
// Prints what the VMs were doing; null: nothing.
extern void (*panic_state_hook)(void (*print)(const char *format, ...));
// At the end: leave the emulator with a failing code (QEMU's isa-debug-exit, Bochs' shutdown port)
// instead of halting.
extern bool panic_debug_exit;

// For the hook: one formatted piece of the report.
void panic_print(const char *format, ...) PRINTF(1, 2);

// --- between panic.c and traps.c ---
// Panic because of a trap that nothing expects.
NORETURN void panic_trap(const struct trap_frame *frame);
// What a CPU does that is told to stop (NMI or HOST_VECTOR_PANIC): returns if no panic is in
// progress.
void panic_stop_point(void);
