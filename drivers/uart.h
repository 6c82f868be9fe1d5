// SPDX-License-Identifier: MIT
// The host's 16550 UART: 115200 8N1, both ways by interrupt or by polling. What one CPU writes or
// sends is to be kept apart from what others do by the caller.
// Absent or stuck hardware costs a bounded time and is then written off, never waited for again.
#pragma once

#include "vmm/lib/types.h"

#define UART_QUEUE (16 * KIB)

struct uart {
    u16 base;     // I/O port; 0: none
    bool stalled; // did not take a byte in time; tried once a byte from then on, until it does
    void (*received)(u8 byte);
    char *queue; // UART_QUEUE bytes that wait to be sent; null: nothing waits, output is polled
    u32 queued, sent; // bytes so far, free-running
    u8 interrupts;    // that are enabled
};

// Find out whether there is a UART at the port, and set it up. False: none; the other functions
// then do nothing.
bool uart_init(struct uart *uart, u16 base);
// Sends the bytes, or queues them. A full queue is sent on by polling.
void uart_write(struct uart *uart, const char *bytes, size_t count);
// From now on what is written waits in `queue`, of UART_QUEUE bytes, and the UART raises its
// interrupt when it can take more: uart_send() then.
void uart_queue_start(struct uart *uart, char *queue);
void uart_send(struct uart *uart);
void uart_send_all(struct uart *uart); // by polling, until the queue is empty
static inline u32 uart_waiting(const struct uart *uart)
{
    return uart->queued - uart->sent;
}
// From now on the UART raises its interrupt for what it receives.
void uart_receive_start(struct uart *uart, void (*received)(u8 byte));
// Hand over what has been received; false: nothing. Called from the interrupt; or often, where
// there is none.
bool uart_receive(struct uart *uart);
// To be asked at the end of the handler: true: there is more to do, and no further interrupt comes
// until it is done.
bool uart_interrupting(const struct uart *uart);
// The ISA interrupt that a UART at this port has on a PC; none where PCs have no UART: it is a
// device of PCI's then, and is to be polled.
#define UART_IRQ_NONE (~0u)
unsigned uart_isa_irq(const struct uart *uart);
