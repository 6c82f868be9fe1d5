// SPDX-License-Identifier: MIT
// The PC that every VM has: addresses and wires, ways to stop and to reset; and whatever a guest
// does with all of it.

#include "tests/unit/machine_rig.h"

TEST(console)
{
    start();
    out(0x3f8, 'h'), out(0x3f8, 'i');
    out(0x2f8, 'x'); // leads nowhere
    CHECK_STR(printed, "hi");
    CHECK_EQ(console.input(console.context, (const u8 *)"yo", 2), 2);
    CHECK_EQ(in(0x3fd), 0x61);
    CHECK_EQ(in(0x3f8), 'y');
    finish();
    CHECK_EQ(console.input(console.context, (const u8 *)"yo", 2), 0);
}

TEST(timer_reaches_the_pic)
{
    start();
    pic_start(0xfe);
    out(0x43, 0x34), out(0x40, 0xa9), out(0x40, 0x04); // 1000 Hz
    CHECK(!machine_pic_pending(&vm));
    pass(1100000);
    CHECK(machine_pic_pending(&vm));
    CHECK_EQ(machine_pic_acknowledge(&vm), 0x20);
    CHECK(!machine_pic_pending(&vm));
    finish();
}

TEST(timer_reaches_pin_2_of_the_ioapic)
{
    start();
    ioapic_route(2, VECTOR_APIC);
    out(0x43, 0x34), out(0x40, 0xa9), out(0x40, 0x04);
    CHECK_EQ(lapic_pending(&lapic), -1);
    pass(1100000);
    CHECK_EQ(lapic_pending(&lapic), VECTOR_APIC);
    finish();
}

TEST(serial_reaches_pin_4)
{
    start();
    ioapic_route(4, VECTOR_APIC);
    out(0x3fc, 0x0b), out(0x3f9, 0x01);
    CHECK_EQ(lapic_pending(&lapic), -1);
    console.input(console.context, (const u8 *)"x", 1);
    CHECK_EQ(lapic_pending(&lapic), VECTOR_APIC);
    finish();
}

TEST(power_button_raises_the_sci)
{
    start();
    pic_start(0xfb);
    CHECK(io_bus_write(&vm.ports, 0x602, 2, 0x100));
    machine_power_button(&vm);
    CHECK(machine_pic_pending(&vm));
    CHECK_EQ(machine_pic_acknowledge(&vm), 0x29);
    finish();
}

TEST(ways_to_stop)
{
    static const struct {
        u16 port, value;
        u8 size;
        enum vm_stop_reason reason;
    } ways[] = {{ACPI_PM1_CONTROL_PORT, ACPI_PM1_S5, 2, VM_STOP_POWEROFF},
                {0xcf9, 0x06, 1, VM_STOP_RESET},
                {0x64, 0xfe, 1, VM_STOP_RESET},
                {0x92, 0x01, 1, VM_STOP_RESET}};
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
        start();
        CHECK(io_bus_write(&vm.ports, ways[i].port, ways[i].size, ways[i].value));
        CHECK_EQ(vm.stop_reason, ways[i].reason);
        finish();
    }
}

TEST(clock_and_memory_size)
{
    start();
    out(0x70, 0x04);
    CHECK_EQ(in(0x71), 0x12);
    out(0x70, 0x5c);
    CHECK_EQ(in(0x71), layout_above_4g(4 * GIB) / (64 * KIB) >> 8);
    pass(1000000000ull * 3600);
    out(0x70, 0x04);
    CHECK_EQ(in(0x71), 0x13);
    finish();
}

TEST(bridges)
{
    start();
    u64 value;
    io_bus_write(&vm.ports, 0xcf8, 4, 0x80000000);
    io_bus_read(&vm.ports, 0xcfc, 4, &value);
    CHECK_EQ(value, 0x29c08086);
    io_bus_read(&vm.mmio, LAYOUT_ECAM + (0x1f << 15), 4, &value);
    CHECK_EQ(value, 0x29188086);
    io_bus_read(&vm.mmio, LAYOUT_ECAM + (0x1f << 15) + 0x40, 4, &value);
    CHECK_EQ(value, ACPI_PM_BASE | 1);
    io_bus_read(&vm.mmio, LAYOUT_ECAM + (0x1f << 15) + 0x44, 1, &value);
    CHECK_EQ(value, 0x80); // the ports are decoded
    io_bus_read(&vm.mmio, LAYOUT_ECAM + (0x1e << 15), 4, &value);
    CHECK_EQ(value, 0xffffffff);
    finish();
}

TEST(holes)
{
    start();
    u64 value;
    CHECK(!io_bus_read(&vm.ports, 0x1f0, 2, &value));
    CHECK_EQ(value, 0xffff);
    CHECK(!io_bus_read(&vm.mmio, LAYOUT_LAPIC, 4, &value));
    CHECK(!io_bus_write(&vm.ports, 0x3d4, 1, 0));
    finish();
}

TEST(reset_is_power_on)
{
    start();
    out(0x43, 0x34), out(0x40, 0xa9), out(0x40, 0x04);
    out(0x80, 0x42);
    out(0x3ff, 0x42);
    pass(5000000);
    now = 0; // a reset starts the VM's clock over
    machine_reset(&vm);
    CHECK_EQ(vm.clock.next, ~0ull);
    CHECK_EQ(in(0x80), 0);
    CHECK_EQ(in(0x3ff), 0);
    finish();
}

static u64 random_state = 88172645463325252ull;

static u64 random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

TEST(survives_anything)
{
    start_with_disks(TEST_DEVICES);
    for (unsigned i = 0; i < 500000; i++) {
        struct io_bus *bus = random_next() % 4 ? &vm.ports : &vm.mmio;
        const struct io_region *region = &bus->regions[random_next() % bus->count];
        u64 address = region->base + random_next() % region->size;
        u64 value;
        unsigned size = 1u << random_next() % 4;
        if (random_next() & 1)
            io_bus_write(bus, address, size, random_next());
        else
            io_bus_read(bus, address, size, &value);
        if (random_next() % 8 == 0)
            pass(random_next() % (1ull << random_next() % 36));
        if (machine_pic_pending(&vm) && random_next() & 1)
            machine_pic_acknowledge(&vm);
        int vector = lapic_pending(&lapic);
        if (vector >= 0) {
            lapic_accept(&lapic, (u8)vector);
            lapic_eoi(&lapic);
        }
    }
    machine_reset(&vm);
    finish();
    storage_close(&vm);
}
