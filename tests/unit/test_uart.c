// SPDX-License-Identifier: MIT
// drivers/uart.c on a chip of which only what it looks at is there: registers for its set-up, a
// FIFO that is sent when the test says so.

#include "tests/unit/test.h"
#include "arch/x86_64/asm.h"
#define in8  fake_in8
#define out8 fake_out8
static u8 fake_in8(u16 port);
static void fake_out8(u16 port, u8 value);
#include "drivers/uart.c"

#define COM1 0x3f8
#define SOL  0xf0a0 // of a management engine: a device of PCI's

static u16 present; // port of the chip that is there
static u8 registers[8];
static char fifo[FIFO_SIZE], line[3 * UART_QUEUE];
static unsigned in_fifo, on_line;
static bool fast; // the FIFO is empty whenever it is looked at

static void fifo_send(void)
{
    memcpy(line + on_line, fifo, in_fifo);
    on_line += in_fifo;
    in_fifo = 0;
    CHECK(on_line + FIFO_SIZE < sizeof(line));
    line[on_line] = 0;
}

static u8 fake_in8(u16 port)
{
    unsigned r = port - present;
    if (r >= ARRAY_SIZE(registers))
        return 0xff;
    if (r == UART_LSR && fast)
        fifo_send();
    if (r == UART_LSR)
        return in_fifo ? 0 : LSR_THRE | LSR_TEMT;
    if (r == UART_IIR)
        return !in_fifo && registers[UART_IER] & IER_ETBEI ? 2 : IIR_NONE;
    if (r == UART_MSR && (registers[UART_MCR] & MCR_LOOP))
        return MSR_CTS | MSR_DCD;
    return registers[r];
}

static void fake_out8(u16 port, u8 value)
{
    unsigned r = port - present;
    if (r == UART_THR && !(registers[UART_LCR] & LCR_DLAB)) {
        CHECK(in_fifo < FIFO_SIZE);
        fifo[in_fifo++] = (char)value;
    } else if (r < ARRAY_SIZE(registers))
        registers[r] = value;
}

TEST(a_port_without_a_chip_is_none)
{
    struct uart uart;
    present = SOL;
    CHECK(!uart_init(&uart, COM1));
    CHECK_EQ(uart.base, 0);
    CHECK(!uart_init(&uart, 0));
}

TEST(ports_of_a_pc_have_its_interrupts)
{
    static const struct {
        u16 base;
        u8 irq;
    } ports[] = {{COM1, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}};
    for (unsigned i = 0; i < ARRAY_SIZE(ports); i++) {
        struct uart uart;
        present = ports[i].base;
        CHECK(uart_init(&uart, present));
        CHECK_EQ(uart_isa_irq(&uart), ports[i].irq);
    }
}

// An interrupt that never comes would leave what is typed unread.
TEST(a_port_elsewhere_has_no_isa_interrupt)
{
    struct uart uart;
    present = SOL;
    CHECK(uart_init(&uart, SOL));
    CHECK_EQ(uart_isa_irq(&uart), UART_IRQ_NONE);
}

static char queue[UART_QUEUE];
static struct uart uart;

static void received(u8 byte UNUSED)
{
}

static void setup(void)
{
    present = COM1;
    in_fifo = on_line = 0;
    fast = true;
    CHECK(uart_init(&uart, COM1));
    uart_receive_start(&uart, received);
    line[0] = 0;
    fast = false;
}

TEST(without_a_queue_the_line_is_waited_for)
{
    setup();
    fast = true;
    uart_write(&uart, "a text that is longer than the FIFO\n", 36);
    fifo_send();
    CHECK_STR(line, "a text that is longer than the FIFO\n");
    CHECK_EQ(registers[UART_IER], IER_ERBFI);
}

TEST(what_the_fifo_cannot_take_is_sent_by_interrupt)
{
    setup();
    uart_queue_start(&uart, queue);
    uart_write(&uart, "a text that is ", 15);
    CHECK_EQ(registers[UART_IER], IER_ERBFI); // all of it is in the FIFO
    uart_write(&uart, "longer than the FIFO", 20);
    CHECK_EQ(on_line, 0);
    CHECK_EQ(uart_waiting(&uart), 20);
    CHECK_EQ(registers[UART_IER], IER_ERBFI | IER_ETBEI);
    CHECK(!uart_interrupting(&uart));
    for (unsigned interrupts = 0; interrupts < 2; interrupts++) {
        fifo_send();
        CHECK(uart_interrupting(&uart));
        CHECK(!uart_receive(&uart));
        uart_send(&uart);
        CHECK(!uart_interrupting(&uart));
    }
    CHECK_EQ(uart_waiting(&uart), 0);
    CHECK_EQ(registers[UART_IER], IER_ERBFI);
    fifo_send();
    CHECK(!uart_interrupting(&uart));
    CHECK_STR(line, "a text that is longer than the FIFO");
}

// In order, over the queue's end, and no more waiting than that there is room.
TEST(a_full_queue_is_sent_by_polling)
{
    static char text[2 * UART_QUEUE + 100];
    setup();
    uart_queue_start(&uart, queue);
    for (unsigned i = 0; i < sizeof(text); i++)
        text[i] = (char)('!' + i % 89);
    uart_write(&uart, text, 1000);
    fast = true;
    uart_write(&uart, text + 1000, sizeof(text) - 1000);
    CHECK(uart_waiting(&uart) > UART_QUEUE - 2 * FIFO_SIZE);
    uart_send_all(&uart);
    CHECK_EQ(uart_waiting(&uart), 0);
    fifo_send();
    CHECK_EQ(on_line, sizeof(text));
    CHECK(memcmp(line, text, sizeof(text)) == 0);
    CHECK_EQ(registers[UART_IER], IER_ERBFI);
}

TEST(a_line_that_stands_still_is_not_waited_for_again)
{
    static char text[UART_QUEUE + FIFO_SIZE];
    setup();
    uart_queue_start(&uart, queue);
    memset(text, 'a', sizeof(text));
    uart_write(&uart, text, sizeof(text)); // the FIFO and the queue are full
    CHECK_EQ(uart_waiting(&uart), UART_QUEUE);
    CHECK(!uart.stalled);
    uart_write(&uart, "b", 1);
    CHECK(uart.stalled);
    CHECK_EQ(uart_waiting(&uart), UART_QUEUE - FIFO_SIZE + 1); // a batch is lost
    uart_send_all(&uart);
    CHECK_EQ(uart_waiting(&uart), 0);
    fifo_send();
    CHECK_EQ(on_line, FIFO_SIZE);
    uart_write(&uart, "c", 1);
    fifo_send();
    CHECK_EQ(line[on_line - 1], 'c');
}
