// SPDX-License-Identifier: MIT
// The host's 16550 UART. Register names as in National Semiconductor's PC16550D data sheet, table
// II.

#include "drivers/uart.h"
#include "arch/x86_64/asm.h"

enum uart_register {
    UART_RBR = 0, // receiver buffer (read)
    UART_THR = 0, // transmitter holding (write)
    UART_DLL = 0, // divisor latch, while LCR.DLAB
    UART_IER = 1,
    UART_DLM = 1,
    UART_IIR = 2, // read
    UART_FCR = 2, // write
    UART_LCR = 3,
    UART_MCR = 4,
    UART_LSR = 5,
    UART_MSR = 6,
    UART_SCR = 7,
};

#define IER_ERBFI       0x01u // received data available
#define FCR_ENABLE      0x01u
#define FCR_CLEAR_RX    0x02u
#define FCR_CLEAR_TX    0x04u
#define FCR_TRIGGER_8   0x80u
#define LCR_8N1         0x03u
#define LCR_DLAB        0x80u
#define MCR_DTR         0x01u
#define MCR_RTS         0x02u
#define MCR_OUT2        0x08u // on a PC: lets the interrupt through
#define MCR_LOOP        0x10u
#define LSR_DR          0x01u
#define LSR_THRE        0x20u
#define LSR_TEMT        0x40u
#define MSR_CTS         0x10u // what RTS reads as in loopback
#define MSR_DCD         0x80u // what OUT2 reads as in loopback
#define MSR_LINES       0xf0u
#define DIVISOR_115200  1u
#define SCRATCH_PATTERN 0x5au
#define FIFO_SIZE       16u

// A port read takes about a microsecond on a PC; 16 bytes take 1.4 ms to leave.
#define WAIT_READS    100000u
#define RECEIVE_BOUND 256u

static u8 uart_read(const struct uart *uart, enum uart_register r)
{
    return in8((u16)(uart->base + r));
}

static void uart_set(const struct uart *uart, enum uart_register r, unsigned value)
{
    out8((u16)(uart->base + r), (u8)value);
}

static bool uart_wait(const struct uart *uart, u8 bits, unsigned reads)
{
    for (unsigned i = 0; i < reads; i++)
        if (uart_read(uart, UART_LSR) & bits)
            return true;
    return false;
}

// The scratch register must keep a value, and in loopback the modem's lines must follow what is
// set.
static bool uart_probe(const struct uart *uart)
{
    uart_set(uart, UART_SCR, SCRATCH_PATTERN);
    if (uart_read(uart, UART_SCR) != SCRATCH_PATTERN)
        return false;
    uart_set(uart, UART_MCR, MCR_LOOP | MCR_OUT2 | MCR_RTS);
    unsigned lines = uart_read(uart, UART_MSR) & MSR_LINES;
    uart_set(uart, UART_MCR, MCR_DTR | MCR_RTS);
    return lines == (MSR_CTS | MSR_DCD);
}

bool uart_init(struct uart *uart, u16 base)
{
    *uart = (struct uart){.base = base};
    if (!base)
        return false;
    if (!uart_probe(uart)) {
        uart->base = 0;
        return false;
    }
    uart_wait(uart, LSR_TEMT, WAIT_READS); // let the firmware's last words out
    uart_set(uart, UART_IER, 0);
    uart_set(uart, UART_LCR, LCR_DLAB | LCR_8N1);
    uart_set(uart, UART_DLL, DIVISOR_115200);
    uart_set(uart, UART_DLM, 0);
    uart_set(uart, UART_LCR, LCR_8N1);
    uart_set(uart, UART_FCR, FCR_ENABLE | FCR_CLEAR_RX | FCR_CLEAR_TX | FCR_TRIGGER_8);
    uart_set(uart, UART_MCR, MCR_DTR | MCR_RTS | MCR_OUT2);
    return true;
}

void uart_write(struct uart *uart, const char *bytes, size_t count)
{
    while (uart->base && count) {
        uart->stalled = !uart_wait(uart, LSR_THRE, uart->stalled ? 1 : WAIT_READS);
        size_t batch = MIN(count, FIFO_SIZE);
        for (size_t i = 0; i < batch && !uart->stalled; i++)
            uart_set(uart, UART_THR, (u8)bytes[i]);
        bytes += batch;
        count -= batch;
    }
}

void uart_receive_start(struct uart *uart, void (*received)(u8 byte))
{
    if (!uart->base)
        return;
    uart->received = received;
    uart_set(uart, UART_IER, IER_ERBFI);
    uart_receive(uart); // what came before would never raise an edge
}

void uart_receive(struct uart *uart)
{
    if (!uart->base || !uart->received)
        return;
    for (unsigned i = 0; i < RECEIVE_BOUND && uart_read(uart, UART_LSR) & LSR_DR; i++)
        uart->received(uart_read(uart, UART_RBR));
    uart_read(uart, UART_IIR);
}

unsigned uart_isa_irq(const struct uart *uart)
{
    static const struct {
        u16 base;
        u8 irq;
    } com_ports[] = {{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}};
    for (size_t i = 0; i < ARRAY_SIZE(com_ports); i++)
        if (com_ports[i].base == uart->base)
            return com_ports[i].irq;
    return UART_IRQ_NONE;
}
