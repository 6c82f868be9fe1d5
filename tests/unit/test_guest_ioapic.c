// SPDX-License-Identifier: MIT
// The I/O APIC that a guest sees (test_ioapic.c is about the host's): registers, edges and levels,
// Remote IRR, EOI, and a random walk.
#include "tests/unit/test.h"
#include "io/ioapic.c"

static struct apic_message last;
static unsigned sent;
static void (*on_message)(const struct apic_message *message);

void apic_bus_deliver(struct apic_bus *bus, const struct apic_message *message)
{
    (void)bus;
    last = *message;
    sent++;
    if (on_message)
        on_message(message);
}

static struct ioapic chip;
static struct apic_bus bus;

static void write_register(u8 reg, u32 value)
{
    chip.mmio.ops->write(&chip.mmio, IOREGSEL, 4, reg);
    chip.mmio.ops->write(&chip.mmio, IOWIN, 4, value);
}

static u32 read_register(u8 reg)
{
    chip.mmio.ops->write(&chip.mmio, IOREGSEL, 4, reg);
    return (u32)chip.mmio.ops->read(&chip.mmio, IOWIN, 4);
}

static void route(unsigned pin, u32 low, u8 destination)
{
    write_register((u8)(0x11 + pin * 2), (u32)destination << 24);
    write_register((u8)(0x10 + pin * 2), low);
}

static void setup(void)
{
    ioapic_init(&chip, &bus);
    sent = 0;
    on_message = NULL;
}

TEST(power_on)
{
    setup();
    CHECK_EQ(read_register(IOAPICVER), 0x00170020);
    CHECK_EQ(read_register(IOAPICID), 0);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        CHECK_EQ(read_register((u8)(0x10 + pin * 2)), 0x10000);
        CHECK_EQ(read_register((u8)(0x11 + pin * 2)), 0);
        ioapic_set_irq(&chip, pin, true);
    }
    CHECK_EQ(sent, 0);
    CHECK(bus.eoi == ioapic_eoi && bus.context == &chip);
}

TEST(registers_keep_their_bits)
{
    setup();
    write_register(IOAPICID, ~0u);
    CHECK_EQ(read_register(IOAPICID), 0x0f000000);
    CHECK_EQ(read_register(IOAPICARB), 0x0f000000);
    write_register(IOAPICVER, ~0u);
    CHECK_EQ(read_register(IOAPICVER), 0x00170020);
    route(23, ~0u, 0xff);
    CHECK_EQ(read_register(0x3e), 0x1afff); // not the status, not Remote IRR
    CHECK_EQ(read_register(0x3f), 0xff000000);
    write_register(0x40, ~0u);
    CHECK_EQ(read_register(0x40), 0);
    CHECK_EQ(read_register(0xff), 0);
    CHECK_EQ(read_register(0x0f), 0);
}

TEST(other_widths_and_offsets)
{
    setup();
    chip.mmio.ops->write(&chip.mmio, IOREGSEL, 1, 0x10);
    CHECK_EQ(chip.mmio.ops->read(&chip.mmio, IOREGSEL, 4), 0x10);
    chip.mmio.ops->write(&chip.mmio, IOWIN, 1, 0);
    chip.mmio.ops->write(&chip.mmio, IOWIN + 1, 1, 0);
    chip.mmio.ops->write(&chip.mmio, 0x20, 4, 0);
    CHECK_EQ(read_register(0x10), 0x10000);
    CHECK_EQ(chip.mmio.ops->read(&chip.mmio, IOAPICEOI, 4), 0);
    CHECK_EQ(chip.mmio.ops->read(&chip.mmio, 0xffc, 4), 0);
}

TEST(an_edge_is_sent_once_and_not_remembered)
{
    setup();
    route(4, 0x834, 3);
    ioapic_set_irq(&chip, 4, true);
    CHECK_EQ(sent, 1);
    CHECK_EQ(last.vector, 0x34);
    CHECK_EQ(last.destination, 3);
    CHECK(last.logical && !last.level && !last.x2apic_format);
    CHECK_EQ(last.delivery, APIC_FIXED);
    ioapic_set_irq(&chip, 4, true);
    CHECK_EQ(sent, 1);
    ioapic_set_irq(&chip, 4, false);
    ioapic_set_irq(&chip, 4, true);
    CHECK_EQ(sent, 2);
    ioapic_set_irq(&chip, 4, false);
    route(4, 0x10034, 3);
    ioapic_set_irq(&chip, 4, true);
    route(4, 0x34, 3); // unmasked while it is up: too late
    CHECK_EQ(sent, 2);
    CHECK_EQ(read_register(0x18), 0x34);
    ioapic_set_irq(&chip, 24, true);
    ioapic_set_irq(&chip, ~0u, true);
    CHECK_EQ(sent, 2);
}

TEST(a_level_is_sent_until_it_is_gone)
{
    setup();
    route(10, 0x8000 | 0x51, 1);
    ioapic_set_irq(&chip, 10, true);
    CHECK_EQ(sent, 1);
    CHECK(last.level);
    CHECK_EQ(read_register(0x24), 0xc051);
    ioapic_set_irq(&chip, 10, false);
    ioapic_set_irq(&chip, 10, true);
    CHECK_EQ(sent, 1); // Remote IRR holds it
    ioapic_eoi(&chip, 0x52);
    CHECK_EQ(sent, 1);
    ioapic_eoi(&chip, 0x51);
    CHECK_EQ(sent, 2); // still up
    ioapic_set_irq(&chip, 10, false);
    chip.mmio.ops->write(&chip.mmio, IOAPICEOI, 4, 0x51);
    CHECK_EQ(sent, 2);
    CHECK_EQ(read_register(0x24), 0x8051);
}

TEST(a_masked_level_is_sent_on_unmasking)
{
    setup();
    route(16, 0x18060, 0);
    ioapic_set_irq(&chip, 16, true);
    CHECK_EQ(sent, 0);
    route(16, 0x8060, 0);
    CHECK_EQ(sent, 1);
    route(16, 0x18060, 0); // masked in service
    CHECK_EQ(read_register(0x30), 0x1c060);
    ioapic_eoi(&chip, 0x60);
    CHECK_EQ(sent, 1);
    CHECK_EQ(read_register(0x30), 0x18060);
}

TEST(edge_mode_frees_a_stuck_remote_irr)
{
    setup();
    route(9, 0x8070, 0);
    ioapic_set_irq(&chip, 9, true);
    route(9, 0x10070, 0);
    CHECK_EQ(read_register(0x22), 0x10070);
    route(9, 0x8070, 0);
    CHECK_EQ(sent, 2);
}

TEST(other_delivery_modes_are_edges)
{
    setup();
    static const u8 modes[] = {APIC_SMI, APIC_NMI, APIC_INIT, APIC_EXTINT};
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        route(1, 0x8000 | (u32)modes[i] << 8, 0);
        ioapic_set_irq(&chip, 1, true);
        CHECK_EQ(sent, i + 1);
        CHECK_EQ(last.delivery, modes[i]);
        CHECK_EQ(read_register(0x12) & 0x4000, 0);
        ioapic_set_irq(&chip, 1, false);
    }
    route(1, 0x8100 | 0x33, 0);
    ioapic_set_irq(&chip, 1, true);
    CHECK_EQ(read_register(0x12), 0xc133); // lowest priority is a level
}

TEST(one_eoi_serves_all_pins_of_a_vector)
{
    setup();
    route(5, 0x8080, 0);
    route(6, 0x8080, 0);
    ioapic_set_irq(&chip, 5, true);
    ioapic_set_irq(&chip, 6, true);
    CHECK_EQ(sent, 2);
    ioapic_set_irq(&chip, 5, false);
    ioapic_eoi(&chip, 0x80);
    CHECK_EQ(sent, 3);
    CHECK_EQ(read_register(0x1a), 0x8080);
    CHECK_EQ(read_register(0x1c), 0xc080);
}

static void lower_pin_7(const struct apic_message *message)
{
    (void)message;
    ioapic_set_irq(&chip, 7, false);
    ioapic_eoi(&chip, 0x90);
}

TEST(a_receiver_may_come_back_at_once)
{
    setup();
    route(7, 0x8090, 0);
    on_message = lower_pin_7;
    ioapic_set_irq(&chip, 7, true);
    CHECK_EQ(sent, 1);
    CHECK_EQ(read_register(0x1e), 0x8090);
}

TEST(reset_masks_and_keeps_the_lines)
{
    setup();
    route(8, 0x8091, 0);
    ioapic_set_irq(&chip, 8, true);
    ioapic_reset(&chip);
    CHECK_EQ(read_register(0x20), 0x10000);
    route(8, 0x8091, 0);
    CHECK_EQ(sent, 2);
}

TEST(random_walk)
{
    setup();
    srand(4);
    for (unsigned step = 0; step < 1000000 && !test_failed; step++) {
        static const u16 offsets[] = {0, 0x10, 0x40, 0x20, 0xffc};
        unsigned size = 1u << rand() % 4;
        switch (rand() % 4) {
        case 0:
            chip.mmio.ops->write(&chip.mmio, offsets[rand() % 5], size,
                                 (u64)rand() << 16 ^ (u64)rand());
            break;
        case 1:
            chip.mmio.ops->read(&chip.mmio, offsets[rand() % 5], size);
            break;
        case 2:
            ioapic_set_irq(&chip, (unsigned)rand() % 26, rand() % 2);
            break;
        default:
            write_register((u8)(0x10 + rand() % 48), (u32)rand() & ~0x10000u);
            ioapic_eoi(&chip, (u8)rand());
        }
        for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
            u64 entry = chip.entries[pin];
            CHECK_EQ(entry & ENTRY_STATUS, 0);
            CHECK_EQ(entry >> 17 & 0x7fffffffff, 0);
            if (entry & ENTRY_REMOTE_IRR)
                CHECK(entry_is_level(entry));
            else if (entry_is_level(entry) && !(entry & ENTRY_MASKED))
                CHECK(!(chip.lines & BIT(pin)));
        }
    }
    CHECK(sent > 10000);
}
