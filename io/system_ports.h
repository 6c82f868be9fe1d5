// SPDX-License-Identifier: MIT
// Ports of a PC that hold a byte or nothing: the POST code at 0x80, system control port A at 0x92
// (A20, fast reset), and 0xed, which some kernels write to for a short wait.
#pragma once

#include "io/device.h"

struct system_ports {
    struct io_device post, control, delay; // one port each
    struct irq_line reset;                 // pulsed
    u8 post_code, control_bits;
};

void system_ports_init(struct system_ports *ports, struct irq_line reset);
void system_ports_reset(struct system_ports *ports);
