// SPDX-License-Identifier: MIT
// The 8259A pair: initialisation, priorities and their modes, ends of interrupt, cascade, spurious
// vectors, and a random walk whose invariants are the datasheet's.
#include "tests/unit/test.h"
#include "io/pic.c"

static struct pic pic;
static unsigned output_changes;
static bool output_now;

static void output_set(void *context, unsigned number, bool level)
{
    (void)context, (void)number;
    output_changes++;
    output_now = level;
}

static void out(u16 port, u8 value)
{
    struct io_device *d = port >= PIC_ELCR_PORT    ? &pic.elcr
                          : port >= PIC_SLAVE_PORT ? &pic.slave
                                                   : &pic.master;
    d->ops->write(d, port & 1, 1, value);
}

static u8 in(u16 port)
{
    struct io_device *d = port >= PIC_ELCR_PORT    ? &pic.elcr
                          : port >= PIC_SLAVE_PORT ? &pic.slave
                                                   : &pic.master;
    return (u8)d->ops->read(d, port & 1, 1);
}

static void program(u8 icw4_master, u8 icw4_slave)
{
    static const u16 ports[] = {0x20, 0xa0};
    u8 icw2[] = {0x20, 0x28}, icw3[] = {4, 2}, icw4[] = {icw4_master, icw4_slave};
    for (unsigned i = 0; i < 2; i++) {
        out(ports[i], 0x11);
        out(ports[i] + 1, icw2[i]);
        out(ports[i] + 1, icw3[i]);
        out(ports[i] + 1, icw4[i]);
        out(ports[i] + 1, 0);
    }
}

static void setup(void)
{
    struct irq_line line = {output_set, NULL, 0};
    pic_init(&pic, line);
    output_changes = 0;
    output_now = false;
    program(1, 1);
}

static void pulse(unsigned irq)
{
    pic_set_irq(&pic, irq, true);
    pic_set_irq(&pic, irq, false);
}

static u8 isr_of(u16 port)
{
    out(port, 0x0b);
    return in(port);
}

static u8 irr_of(u16 port)
{
    out(port, 0x0a);
    return in(port);
}

TEST(silent_until_initialised)
{
    struct irq_line none = {0};
    pic_init(&pic, none);
    pulse(0);
    CHECK(!pic_pending(&pic));
    out(0x20, 0x11);
    pulse(1);
    CHECK(!pic_pending(&pic));
    out(0x21, 0x27); // the low three bits are the line's
    out(0x21, 4);
    CHECK(!pic_pending(&pic));
    out(0x21, 1);
    CHECK(pic_pending(&pic)); // the edge that came meanwhile
    CHECK_EQ(pic_acknowledge(&pic), 0x21);
}

TEST(icw1_without_icw4_and_single)
{
    setup();
    out(0x20, 0x10 | 0x02); // single, no ICW4
    out(0x21, 0x40);
    out(0x21, 0xfe); // is the mask already
    CHECK_EQ(in(0x21), 0xfe);
    pulse(0);
    CHECK_EQ(pic_acknowledge(&pic), 0x40);
}

TEST(icw1_resets_modes_and_edges)
{
    setup();
    out(0x21, 0xff);
    pic_set_irq(&pic, 3, true);
    out(0x20, 0xc2); // lowest is 2
    out(0x20, 0x68); // special mask mode
    program(1, 1);
    CHECK_EQ(in(0x21), 0);
    CHECK_EQ(irr_of(0x20), 0); // the line is still up: no edge
    pic_set_irq(&pic, 3, false);
    pic_set_irq(&pic, 3, true);
    pulse(1);
    CHECK_EQ(pic_acknowledge(&pic), 0x21); // priorities are as after power-on
    CHECK_EQ(isr_of(0x20), 0x02);
}

TEST(fully_nested)
{
    setup();
    pulse(4);
    pulse(6);
    CHECK(output_now);
    CHECK_EQ(pic_acknowledge(&pic), 0x24);
    CHECK(!pic_pending(&pic)); // 6 is lower
    pulse(1);
    CHECK(pic_pending(&pic));
    CHECK_EQ(pic_acknowledge(&pic), 0x21);
    CHECK_EQ(isr_of(0x20), 0x12);
    CHECK_EQ(irr_of(0x20), 0x40);
    out(0x20, 0x20); // ends 1
    CHECK_EQ(isr_of(0x20), 0x10);
    CHECK(!pic_pending(&pic));
    out(0x20, 0x64); // specific: 4
    CHECK_EQ(isr_of(0x20), 0);
    CHECK_EQ(pic_acknowledge(&pic), 0x26);
    out(0x20, 0x20);
    out(0x20, 0x20); // one too many
    CHECK_EQ(isr_of(0x20), 0);
}

TEST(mask_holds_a_latched_edge)
{
    setup();
    out(0x21, 0x08);
    pulse(3);
    CHECK(!pic_pending(&pic));
    CHECK_EQ(irr_of(0x20), 0x08);
    out(0x21, 0);
    CHECK_EQ(pic_acknowledge(&pic), 0x23);
}

TEST(cascade)
{
    setup();
    pulse(12);
    CHECK(pic_pending(&pic));
    CHECK_EQ(irr_of(0x20), 0x04);
    CHECK_EQ(pic_acknowledge(&pic), 0x2c);
    CHECK_EQ(isr_of(0x20), 0x04);
    CHECK_EQ(isr_of(0xa0), 0x10);
    CHECK(!pic_pending(&pic));
    pulse(8); // higher in the slave, but the master's 2 is in service
    CHECK(!pic_pending(&pic));
    out(0x20, 0x20);
    CHECK(pic_pending(&pic));
    CHECK_EQ(pic_acknowledge(&pic), 0x28);
    out(0xa0, 0x20);
    out(0x20, 0x20);
    CHECK_EQ(isr_of(0xa0), 0x10);
    pulse(2); // leads nowhere
    pulse(16);
    CHECK(!pic_pending(&pic));
}

TEST(a_second_slave_request_is_not_missed)
{
    setup();
    pulse(12);
    pulse(9);
    CHECK_EQ(pic_acknowledge(&pic), 0x29);
    out(0xa0, 0x20);
    out(0x20, 0x20);
    CHECK(pic_pending(&pic));
    CHECK_EQ(pic_acknowledge(&pic), 0x2c);
}

TEST(reprogramming_the_master_keeps_the_slaves_request)
{
    setup();
    pulse(10);
    out(0x20, 0x11);
    out(0x21, 0x60);
    out(0x21, 4);
    out(0x21, 1);
    CHECK(pic_pending(&pic));
    CHECK_EQ(pic_acknowledge(&pic), 0x2a);
}

TEST(special_fully_nested_mode_lets_the_slave_ask_again)
{
    setup();
    program(0x11, 1);
    pulse(12);
    CHECK_EQ(pic_acknowledge(&pic), 0x2c);
    pulse(14);
    CHECK(!pic_pending(&pic));
    pulse(8);
    CHECK_EQ(pic_acknowledge(&pic), 0x28);
    pulse(5);
    CHECK(!pic_pending(&pic)); // lower than the cascade
}

TEST(spurious_when_the_request_goes_away)
{
    setup();
    CHECK_EQ(pic_acknowledge(&pic), 0x27);
    CHECK_EQ(isr_of(0x20), 0);
    out(PIC_ELCR_PORT + 1, 0x04);
    pic_set_irq(&pic, 10, true);
    CHECK(pic_pending(&pic));
    pic.chips[SLAVE].irr = 0; // between the two acknowledge cycles
    CHECK_EQ(pic_acknowledge(&pic), 0x2f);
    CHECK_EQ(isr_of(0x20), 0x04); // software must end the master's
    CHECK_EQ(isr_of(0xa0), 0);
}

TEST(elcr_levels)
{
    setup();
    out(PIC_ELCR_PORT, 0xff);
    out(PIC_ELCR_PORT + 1, 0xff);
    CHECK_EQ(in(PIC_ELCR_PORT), 0xf8);
    CHECK_EQ(in(PIC_ELCR_PORT + 1), 0xde);
    pic_set_irq(&pic, 5, true);
    CHECK_EQ(pic_acknowledge(&pic), 0x25);
    out(0x20, 0x20);
    CHECK(pic_pending(&pic)); // still up
    pic_set_irq(&pic, 5, false);
    CHECK(!pic_pending(&pic));
    CHECK(!output_now);
    pic_set_irq(&pic, 11, true);
    out(PIC_ELCR_PORT + 1, 0);
    CHECK_EQ(pic_acknowledge(&pic), 0x2b);
    out(0xa0, 0x20);
    out(0x20, 0x20);
    CHECK(!pic_pending(&pic)); // edges now
    out(PIC_ELCR_PORT + 1, 0x08);
    CHECK(pic_pending(&pic)); // levels again
}

TEST(automatic_eoi_and_its_rotation)
{
    setup();
    program(3, 3);
    pulse(3);
    CHECK_EQ(pic_acknowledge(&pic), 0x23);
    CHECK_EQ(isr_of(0x20), 0);
    out(0x20, 0x80); // rotate
    pulse(3);
    pic_acknowledge(&pic);
    pulse(3);
    pulse(4);
    CHECK_EQ(pic_acknowledge(&pic), 0x24);
    CHECK_EQ(pic_acknowledge(&pic), 0x23);
    out(0x20, 0x00); // stop rotating: lowest stays 3
    pulse(4);
    pic_acknowledge(&pic);
    CHECK_EQ(pic.chips[MASTER].lowest, 3);
}

TEST(rotation_by_eoi_and_set_priority)
{
    setup();
    pulse(4);
    pic_acknowledge(&pic);
    out(0x20, 0xa0); // rotate on non-specific EOI
    pulse(4);
    pulse(5);
    CHECK_EQ(pic_acknowledge(&pic), 0x25);
    out(0x20, 0xe5); // rotate on specific EOI
    CHECK_EQ(pic_acknowledge(&pic), 0x24);
    out(0x20, 0x20);
    out(0x20, 0xc0); // lowest is 0, highest is 1
    pulse(0);
    pulse(7);
    CHECK_EQ(pic_acknowledge(&pic), 0x27);
    out(0x20, 0x20);
    CHECK_EQ(pic_acknowledge(&pic), 0x20);
    out(0x20, 0x40); // nothing
    CHECK_EQ(isr_of(0x20), 1);
}

TEST(special_mask_mode)
{
    setup();
    pulse(1);
    pic_acknowledge(&pic);
    pulse(6);
    CHECK(!pic_pending(&pic));
    out(0x21, 0x02);
    CHECK(!pic_pending(&pic));
    out(0x20, 0x68); // ESMM, SMM
    CHECK_EQ(pic_acknowledge(&pic), 0x26);
    out(0x20, 0x20); // ends 6: 1 is masked
    CHECK_EQ(isr_of(0x20), 0x02);
    out(0x20, 0x28); // SMM without ESMM: as it was
    CHECK(pic.chips[MASTER].special_mask);
    out(0x20, 0x48);
    CHECK(!pic.chips[MASTER].special_mask);
}

TEST(poll_command)
{
    setup();
    out(0x20, 0x0c);
    CHECK_EQ(in(0x20), 0);
    pulse(3);
    out(0x20, 0x0c);
    CHECK_EQ(in(0x20), 0x83);
    CHECK(!pic_pending(&pic));
    CHECK_EQ(isr_of(0x20), 0x08);
    out(0x20, 0x20);
    pulse(13);
    out(0x20, 0x0c);
    CHECK_EQ(in(0x20), 0x82);
    out(0xa0, 0x0c);
    CHECK_EQ(in(0xa1), 0x85); // either port
    CHECK_EQ(in(0xa1), 0);    // once
}

TEST(word_access_reaches_both_ports)
{
    setup();
    pic.master.ops->write(&pic.master, 0, 2, 0x5a0b);
    CHECK_EQ(in(0x21), 0x5a);
    CHECK_EQ(pic.master.ops->read(&pic.master, 0, 2), 0x5a00);
    pic.elcr.ops->write(&pic.elcr, 0, 2, 0x2010);
    CHECK_EQ(pic.elcr.ops->read(&pic.elcr, 0, 2), 0x0010);
    CHECK_EQ(pic.elcr.ops->read(&pic.elcr, 1, 8), 0x00);
}

TEST(reset_keeps_the_lines)
{
    setup();
    pic_set_irq(&pic, 3, true);
    CHECK(output_now);
    pic_reset(&pic);
    CHECK(!output_now);
    program(1, 1);
    CHECK(!pic_pending(&pic));
    pic_set_irq(&pic, 3, true); // no edge
    CHECK(!pic_pending(&pic));
    out(PIC_ELCR_PORT, 0x08);
    CHECK(pic_pending(&pic));
}

static void check_invariants(void)
{
    CHECK_EQ(pic.output_level, output_now);
    CHECK_EQ(chip_request(&pic.chips[MASTER]) != NO_LINE, output_now);
    CHECK_EQ(pic.chips[MASTER].lines >> CASCADE & 1, chip_request(&pic.chips[SLAVE]) != NO_LINE);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(pic.chips[i].lowest <= 7);
        CHECK_EQ(pic.chips[i].vector_base & 7, 0);
        CHECK_EQ(pic.chips[i].irr & chip_levels(&pic.chips[i]),
                 pic.chips[i].lines & chip_levels(&pic.chips[i]));
    }
}

TEST(random_walk)
{
    setup();
    srand(3);
    for (unsigned step = 0; step < 1000000 && !test_failed; step++) {
        struct io_device *devices[] = {&pic.master, &pic.slave, &pic.elcr};
        struct io_device *d = devices[rand() % 3];
        unsigned size = 1u << rand() % 2;
        u64 offset = size == 2 ? 0 : (u64)(rand() % 2);
        switch (rand() % 4) {
        case 0:
            d->ops->write(d, offset, size, (u64)rand());
            break;
        case 1:
            CHECK(d->ops->read(d, offset, size) <= 0xffff);
            break;
        case 2:
            pic_set_irq(&pic, (unsigned)rand() % 18, rand() % 2);
            break;
        default: {
            bool was_pending = pic_pending(&pic);
            u8 base[2] = {pic.chips[0].vector_base, pic.chips[1].vector_base};
            int vector = pic_acknowledge(&pic);
            CHECK((vector & 0xf8) == base[0] || (vector & 0xf8) == base[1]);
            if (!was_pending)
                CHECK_EQ(vector, base[0] + 7);
        }
        }
        if (rand() % 1000 == 0)
            program(1, 1);
        check_invariants();
    }
}
