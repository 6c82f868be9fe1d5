// SPDX-License-Identifier: MIT
#include "tests/unit/chip.h"
#include "io/serial.c"

static struct serial serial;
static u8 sent[8192];
static unsigned sent_count;

static void take(void *context, const u8 *bytes, unsigned n)
{
    CHECK(context == sent);
    for (unsigned i = 0; i < n; i++)
        sent[sent_count++ % sizeof(sent)] = bytes[i];
}

static void start(void)
{
    sent_count = 0;
    serial_init(&serial, chip_line(4), take, sent);
    chip_out(&serial.ports, 4, 0x0b);
}

static u8 get(unsigned reg)
{
    return chip_in(&serial.ports, reg);
}

static void set(unsigned reg, u8 value)
{
    chip_out(&serial.ports, reg, value);
}

TEST(transmits)
{
    start();
    set(0, 'o'), set(0, 'k');
    CHECK_EQ(sent_count, 2);
    CHECK(memcmp(sent, "ok", 2) == 0);
    CHECK_EQ(get(5), 0x60);
    CHECK(!chip_level[4]);
}

TEST(empty_transmitter_interrupts)
{
    start();
    set(1, 0x02);
    CHECK(chip_level[4]);
    CHECK_EQ(get(2), 0x02);
    CHECK(!chip_level[4]); // seen
    CHECK_EQ(get(2), 0x01);
    set(0, 'x');
    CHECK(chip_level[4]);
    set(1, 0x00);
    CHECK(!chip_level[4]);
    get(2);
    set(1, 0x02); // enabling again tells again
    CHECK_EQ(get(2), 0x02);
}

TEST(a_byte_sent_after_a_look_at_lsr_alone_is_an_edge)
{
    start();
    set(1, 0x02);
    CHECK_EQ(chip_rises[4], 1);
    CHECK_EQ(get(5), 0x60);
    set(0, 'x');
    CHECK_EQ(chip_rises[4], 2);
    set(0, 'y'); // the rest of a burst
    CHECK_EQ(chip_rises[4], 2);
    CHECK(chip_level[4]);
    CHECK_EQ(get(2), 0x02);
}

TEST(out2_gates_the_interrupt)
{
    start();
    set(4, 0x03);
    set(1, 0x02);
    CHECK(!chip_level[4]);
    set(4, 0x0b);
    CHECK(chip_level[4]);
}

TEST(receives_by_trigger_level_and_timeout)
{
    start();
    set(2, 0x81); // FIFO on, trigger at 8
    set(1, 0x01);
    CHECK_EQ(get(2), 0xc1);
    CHECK_EQ(serial_input(&serial, (const u8 *)"1234567", 7), 7);
    CHECK_EQ(get(2), 0xcc);
    CHECK(chip_level[4]);
    serial_input(&serial, (const u8 *)"8", 1);
    CHECK_EQ(get(2), 0xc4);
    CHECK_EQ(get(5), 0x61);
    for (u8 c = '1'; c <= '8'; c++)
        CHECK_EQ(get(0), c);
    CHECK(!chip_level[4]);
    CHECK_EQ(get(5), 0x60);
    CHECK_EQ(get(0), 0);
}

TEST(works_without_a_fifo)
{
    start();
    set(1, 0x01);
    serial_input(&serial, (const u8 *)"ab", 2);
    CHECK_EQ(get(2), 0x04);
    CHECK_EQ(get(0), 'a');
    CHECK(chip_level[4]);
    CHECK_EQ(get(0), 'b');
    CHECK(!chip_level[4]);
}

TEST(pasted_text_is_not_lost)
{
    start();
    static u8 text[SERIAL_BACKLOG * 2];
    for (unsigned i = 0; i < sizeof(text); i++)
        text[i] = (u8)(i * 7);
    set(2, 0x01);
    unsigned given = serial_input(&serial, text, sizeof(text));
    CHECK_EQ(given, SERIAL_BACKLOG);
    for (unsigned i = 0; i < sizeof(text); i++) {
        CHECK_EQ(get(5), 0x61); // never an overrun
        CHECK_EQ(get(0), text[i]);
        given += serial_input(&serial, text + given, (unsigned)sizeof(text) - given);
    }
    CHECK_EQ(given, sizeof(text));
    CHECK_EQ(get(5), 0x60);
}

TEST(a_break_in_loopback_is_received_once)
{
    start();
    set(4, 0x1b);
    set(1, 0x04);
    set(3, 0x43);
    CHECK(chip_level[4]);
    CHECK_EQ(get(2), 0x06);
    CHECK_EQ(get(5), 0x79);
    CHECK(!chip_level[4]);
    CHECK_EQ(get(5), 0x61);
    CHECK_EQ(get(0), 0);
    set(0, 'x'); // lost
    set(3, 0x43);
    CHECK_EQ(get(5), 0x60);
    set(3, 0x03);
    set(0, 'y');
    CHECK_EQ(get(0), 'y');
    set(3, 0x43); // another
    CHECK_EQ(get(5), 0x79);
    CHECK_EQ(sent_count, 0);
}

TEST(a_break_begins_with_the_loop_and_marks_a_fifo)
{
    start();
    set(2, 0x01);
    set(3, 0x43);
    CHECK_EQ(get(5), 0x60); // nobody at the other end of the wire
    set(4, 0x1b);
    CHECK_EQ(get(5), 0xf9);
    CHECK_EQ(get(5), 0x61);
    set(4, 0x0b);
    set(4, 0x1b);
    CHECK_EQ(get(5), 0xf9);
    serial_reset(&serial);
    CHECK_EQ(get(5), 0x60);
}

TEST(loopback)
{
    start();
    get(6);
    set(4, 0x1f);
    CHECK_EQ(get(6), 0xf0); // all four lines: none of them changed but RI, which rose
    set(4, 0x10);
    CHECK_EQ(get(6), 0x0f);
    CHECK_EQ(get(6), 0x00);
    set(4, 0x1a);
    CHECK_EQ(get(6), 0x99);
    set(0, 0x5a);
    CHECK_EQ(sent_count, 0);
    CHECK_EQ(get(0), 0x5a);
    set(0, 1), set(0, 2); // one byte of room
    CHECK_EQ(get(5), 0x63);
    CHECK_EQ(get(5), 0x61);
    serial_input(&serial, (const u8 *)"q", 1);
    CHECK_EQ(get(0), 1);
    CHECK_EQ(get(5), 0x60); // what comes from outside waits
    set(4, 0x0b);
    CHECK_EQ(get(0), 'q');
}

TEST(interrupts_in_order_of_priority)
{
    start();
    set(4, 0x18);
    set(1, 0x0f);
    set(0, 1), set(0, 2);
    set(4, 0x1b);
    CHECK_EQ(get(2), 0x06);
    get(5);
    CHECK_EQ(get(2), 0x04);
    get(0);
    CHECK_EQ(get(2), 0x02);
    CHECK_EQ(get(2), 0x00);
    CHECK(chip_level[4]);
    get(6);
    CHECK_EQ(get(2), 0x01);
    CHECK(!chip_level[4]);
}

TEST(registers_hold)
{
    start();
    set(7, 0xa5);
    CHECK_EQ(get(7), 0xa5);
    set(3, 0x83);
    set(0, 0x34), set(1, 0x12);
    CHECK_EQ(get(0), 0x34);
    CHECK_EQ(get(1), 0x12);
    set(3, 0x03);
    CHECK_EQ(sent_count, 0);
    set(1, 0xff);
    CHECK_EQ(get(1), 0x0f);
    set(4, 0xff);
    CHECK_EQ(get(4), 0x1f);
    set(2, 0x01);
    serial_input(&serial, (const u8 *)"xyz", 3);
    set(2, 0x03); // clears the FIFO
    CHECK_EQ(get(5) & 1, 0);
}

TEST(no_output_is_fine)
{
    serial_init(&serial, chip_line(4), NULL, NULL);
    set(0, 'x');
    CHECK_EQ(get(5), 0x60);
}

TEST(survives_anything)
{
    start();
    chip_clock_start();
    const struct chip_ports ports[] = {{&serial.ports, 8}};
    for (unsigned i = 0; i < 20000; i++) {
        u8 bytes[64] = {0};
        chip_fuzz(ports, 1, 10);
        serial_input(&serial, bytes, (unsigned)(chip_random() % sizeof(bytes)) & 0x21);
        CHECK(serial.fifo_count <= SERIAL_FIFO && serial.fifo_first < SERIAL_FIFO);
    }
}
