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
#define IER_ETBEI       0x02u // transmitter holding register empty
#define IIR_NONE        0x01u // no interrupt is pending
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

static void interrupts_set(struct uart *uart, u8 interrupts)
{
    if (uart->interrupts != interrupts)
        uart_set(uart, UART_IER, interrupts);
    uart->interrupts = interrupts;
}

// --- output ---

static bool wait_for_room(struct uart *uart)
{
    uart->stalled = !uart_wait(uart, LSR_THRE, uart->stalled ? 1 : WAIT_READS);
    return !uart->stalled;
}

static void write_polled(struct uart *uart, const char *bytes, size_t count)
{
    while (count) {
        bool room = wait_for_room(uart);
        size_t batch = MIN(count, FIFO_SIZE);
        for (size_t i = 0; i < batch && room; i++)
            uart_set(uart, UART_THR, (u8)bytes[i]);
        bytes += batch;
        count -= batch;
    }
}

// From the queue into the FIFO, which is empty.
static void send_batch(struct uart *uart)
{
    for (unsigned i = 0; i < FIFO_SIZE && uart_waiting(uart); i++)
        uart_set(uart, UART_THR, (u8)uart->queue[uart->sent++ % UART_QUEUE]);
}

// One batch leaves the queue, even if the UART does not take it.
static void send_polled(struct uart *uart)
{
    if (wait_for_room(uart))
        send_batch(uart);
    else
        uart->sent += MIN(uart_waiting(uart), FIFO_SIZE);
}

void uart_write(struct uart *uart, const char *bytes, size_t count)
{
    if (!uart->base)
        return;
    if (!uart->queue) {
        write_polled(uart, bytes, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (uart_waiting(uart) == UART_QUEUE)
            send_polled(uart);
        uart->queue[uart->queued++ % UART_QUEUE] = bytes[i];
    }
    uart_send(uart);
}

void uart_queue_start(struct uart *uart, char *queue)
{
    uart->queue = queue;
}

void uart_send(struct uart *uart)
{
    if (!uart->queue)
        return;
    if (uart_waiting(uart) && uart_read(uart, UART_LSR) & LSR_THRE)
        send_batch(uart);
    u8 others = uart->interrupts & (u8)~IER_ETBEI;
    interrupts_set(uart, uart_waiting(uart) ? others | IER_ETBEI : others);
}

void uart_send_all(struct uart *uart)
{
    while (uart_waiting(uart))
        send_polled(uart);
    uart_send(uart);
}

// --- input ---

void uart_receive_start(struct uart *uart, void (*received)(u8 byte))
{
    if (!uart->base)
        return;
    uart->received = received;
    interrupts_set(uart, IER_ERBFI);
    uart_receive(uart); // what came before would never raise an edge
}

bool uart_receive(struct uart *uart)
{
    unsigned count = 0;
    if (!uart->base || !uart->received)
        return false;
    for (; count < RECEIVE_BOUND && uart_read(uart, UART_LSR) & LSR_DR; count++)
        uart->received(uart_read(uart, UART_RBR));
    uart_read(uart, UART_IIR);
    return count;
}

bool uart_interrupting(const struct uart *uart)
{
    return !(uart_read(uart, UART_IIR) & IIR_NONE);
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
