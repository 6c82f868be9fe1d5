// SPDX-License-Identifier: MIT
// What kvm-unit-tests expect of a PC besides its chips (QEMU's pc-testdev): a latch of 32 bits, a
// port that drops translations, ports that move interrupt lines, and memory that is a device.
#pragma once

#include "io/device.h"

#define TESTDEV_LATCH_PORT  0xe0
#define TESTDEV_LATCH_SIZE  4
#define TESTDEV_FLUSH_PORT  0xe4
#define TESTDEV_FLUSH_SIZE  4
#define TESTDEV_LINES_PORT  0x2000
#define TESTDEV_LINES       24
#define TESTDEV_MEMORY      0xff000000ull
#define TESTDEV_MEMORY_SIZE (64 * KIB)

struct testdev {
    struct io_device latch_ports, flush_ports, line_ports, memory_window;
    struct irq_line lines; // number is set to the line that moves
    void (*flush)(void *context);
    void *context;
    u32 latch;
    u8 memory[TESTDEV_MEMORY_SIZE];
};

void testdev_init(struct testdev *t, struct irq_line lines, void (*flush)(void *context),
                  void *context);
void testdev_reset(struct testdev *t);
