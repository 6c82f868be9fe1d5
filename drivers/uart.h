// SPDX-License-Identifier: MIT
// The host's 16550 UART: 115200 8N1, polled output, received bytes by interrupt or by polling.
// Absent or stuck hardware costs a bounded time and is then written off, never waited for again.
#pragma once

#include "vmm/lib/types.h"

struct uart {
    u16 base;     // I/O port; 0: none
    bool stalled; // did not take a byte in time; tried once a byte from then on, until it does
    void (*received)(u8 byte);
};

// Find out whether there is a UART at the port, and set it up. False: none; the other functions
// then do nothing.
bool uart_init(struct uart *uart, u16 base);
void uart_write(struct uart *uart, const char *bytes, size_t count);
// From now on the UART raises its interrupt for what it receives.
void uart_receive_start(struct uart *uart, void (*received)(u8 byte));
// Hand over what has been received. Called from the interrupt; or often, where there is none.
void uart_receive(struct uart *uart);
// The ISA interrupt that a UART at this port has on a PC; none where PCs have no UART: it is a
// device of PCI's then, and is to be polled.
#define UART_IRQ_NONE (~0u)
unsigned uart_isa_irq(const struct uart *uart);
