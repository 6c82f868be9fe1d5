// SPDX-License-Identifier: MIT
// drivers/uart.c on a chip of which only the registers that its set-up looks at are there.

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

static u8 fake_in8(u16 port)
{
    unsigned r = port - present;
    if (r >= ARRAY_SIZE(registers))
        return 0xff;
    if (r == UART_LSR)
        return LSR_THRE | LSR_TEMT;
    if (r == UART_MSR && (registers[UART_MCR] & MCR_LOOP))
        return MSR_CTS | MSR_DCD;
    return registers[r];
}

static void fake_out8(u16 port, u8 value)
{
    unsigned r = port - present;
    if (r < ARRAY_SIZE(registers))
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
