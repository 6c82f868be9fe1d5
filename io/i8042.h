// SPDX-License-Identifier: MIT
// The keyboard controller (Intel 8042 as in the PC/AT and PS/2), ports 0x60 and 0x64, with nothing
// plugged in, or a keyboard that nobody types on: its self-tests pass, a byte sent to a mouse times
// out. It is here for its A20 bit and its reset line.
#pragma once

#include "io/device.h"

#define I8042_QUEUE 2

struct i8042 {
    struct io_device data, control; // one port each: 0x60, 0x64
    struct irq_line keyboard_irq, aux_irq;
    struct irq_line reset; // pulsed to reset the machine
    u8 status, command_byte, output_port;
    u8 output;                     // the output buffer
    u8 command;                    // one that waits for its parameter; 0: none
    bool keyboard;                 // one is plugged in. Nobody ever types on it
    bool choosing_set;             // the keyboard's next byte is the parameter of "scan code set"
    u8 set;                        // of scan codes, 1 to 3
    u8 queue[I8042_QUEUE], queued; // what it says after the byte in `output`
    u8 ram[32];                    // byte 0 is the command byte's place
};

void i8042_init(struct i8042 *i8042, struct irq_line keyboard_irq, struct irq_line aux_irq,
                struct irq_line reset);
void i8042_reset(struct i8042 *i8042);
