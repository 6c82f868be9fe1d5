// SPDX-License-Identifier: MIT
// A port by which a test program ends its machine: a write of v is the exit code v << 1 | 1, as
// QEMU's isa-debug-exit has it.
#pragma once

#include "io/device.h"

struct debug_exit {
    struct io_device ports; // DEBUG_EXIT_PORTS
    void (*exit)(void *context, u32 code);
    void *context;
};

#define DEBUG_EXIT_PORT  0xf4
#define DEBUG_EXIT_PORTS 4

void debug_exit_init(struct debug_exit *d, void (*exit)(void *context, u32 code), void *context);
