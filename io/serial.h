// SPDX-License-Identifier: MIT
// A guest's serial port: the National Semiconductor PC16550D UART with its modem lines tied to
// "connected". Bytes go out in no time; bytes that come in wait in a backlog until the receive FIFO
// has room.
#pragma once

#include "io/device.h"

#define SERIAL_FIFO    16
#define SERIAL_BACKLOG 4096 // a power of two

struct serial {
    struct io_device ports; // 8 ports
    struct irq_line irq;
    bool irq_level;                                             // as last told
    void (*output)(void *context, const u8 *bytes, unsigned n); // may be null
    void *context;
    u8 ier, fcr, lcr, mcr, msr, scr;
    u8 lsr;        // error bits only
    bool breaking; // a break has been received, and lasts
    u16 divisor;
    bool thre_pending; // the transmitter-empty interrupt has not been seen yet
    bool lsr_seen;     // since the last byte that was sent
    u8 fifo[SERIAL_FIFO];
    unsigned fifo_first, fifo_count;
    u8 backlog[SERIAL_BACKLOG];
    unsigned backlog_read, backlog_written; // free-running
};

void serial_init(struct serial *serial, struct irq_line irq,
                 void (*output)(void *context, const u8 *bytes, unsigned n), void *context);
void serial_reset(struct serial *serial);
// Bytes from the outside; returns how many were taken.
unsigned serial_input(struct serial *serial, const u8 *bytes, unsigned n);
