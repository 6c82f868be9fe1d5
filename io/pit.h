// SPDX-License-Identifier: MIT
// The programmable interval timer (Intel 8254) and the port at 0x61 that gates its channel 2.
// Channel 0 is the PC's timer interrupt, channel 1 runs free, channel 2 is the speaker's tone and
// what boot code calibrates with.
#pragma once

#include "io/device.h"
#include "io/clock.h"

#define PIT_HZ       1193182
#define PIT_CHANNELS 3

struct pit_channel {
    u32 initial;   // count in use; 0 written stands for the modulus
    u32 next;      // the last one written
    bool pending;  // that one is not in use yet, but
    u64 switch_at; // will be at this PIT time
    u64 start;     // PIT time when it was loaded or triggered; wraps below 0
    u64 held;      // ticks that had gone by when the gate went down
    u8 mode, access;
    bool bcd, gate;
    bool loaded;                // a whole count was written since the control word
    bool triggered;             // the gate went up since then
    bool write_high, read_high; // the next byte of a two-byte access is the high one
    u8 write_low;
    bool count_latched, status_latched;
    u16 count_latch;
    u8 status_latch;
};

struct pit {
    struct io_device ports;   // 4 ports: three channels and the control word
    struct io_device control; // 1 port: system control port B
    struct io_clock *clock;
    struct irq_line irq;
    struct io_timer timer; // channel 0's next rising edge
    struct pit_channel channels[PIT_CHANNELS];
    u8 control_bits; // what was written to port B and reads back
};

void pit_init(struct pit *pit, struct io_clock *clock, struct irq_line irq);
void pit_reset(struct pit *pit);
