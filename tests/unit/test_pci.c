// SPDX-License-Identifier: MIT
#include "tests/unit/chip.h"

#include "io/bus.c"
#include "io/pci.c"

void *heap_alloc(size_t size)
{
    return calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

static struct io_bus ports, mmio;
static struct pci_host host;
static struct pci_function bridge, card;
static struct io_device window; // behind the card's BARs
static unsigned written_offset, written_size;

static u64 window_read(struct io_device *device UNUSED, u64 offset, unsigned size UNUSED)
{
    return offset;
}

static void window_write(struct io_device *device UNUSED, u64 offset UNUSED, unsigned size UNUSED,
                         u64 value UNUSED)
{
}

static const struct io_device_ops window_ops = {"window", window_read, window_write};
static struct io_device io_window;

static void card_written(struct pci_function *f UNUSED, unsigned offset, unsigned size)
{
    written_offset = offset;
    written_size = size;
}

static void start(void)
{
    io_bus_destroy(&ports);
    io_bus_destroy(&mmio);
    io_bus_init(&ports, "port", 0x10000);
    io_bus_init(&mmio, "memory", 1ull << 46);
    for (unsigned i = 0; i < PCI_INTX_LINES; i++)
        chip_line(16 + i);
    pci_host_init(&host, &ports, &mmio, chip_line(16));
    window.ops = io_window.ops = &window_ops;
    CHECK_EQ(io_bus_add(&ports, 0xcf8, 4, &host.address_port), OK);
    CHECK_EQ(io_bus_add(&ports, 0xcfc, 4, &host.data_port), OK);
    CHECK_EQ(io_bus_add(&mmio, 0xe0000000, 256 * MIB, &host.ecam), OK);
    static const struct pci_identity identity = {0x1234, 0x5678, 0x9a, 0x020000, 0xaaaa, 0xbbbb};
    pci_function_init(&bridge, &identity);
    pci_function_init(&card, &identity);
    pci_bar_init(&card, 0, PCI_BAR_MEMORY32, 0x1000, NULL);
    pci_bar_init(&card, 1, PCI_BAR_IO, 0x20, &io_window);
    pci_bar_init(&card, 2, PCI_BAR_MEMORY64, 8 * GIB, &window);
    pci_intx_init(&card, 2);
    card.written = card_written;
    CHECK_EQ(pci_host_add(&host, &bridge, 0), OK);
    CHECK_EQ(pci_host_add(&host, &card, PCI_DEVFN(3, 1)), OK);
    CHECK_EQ(pci_host_add(&host, &bridge, PCI_DEVFN(3, 1)), ERR_EXISTS);
}

static u64 in(u64 port, unsigned size)
{
    u64 value;
    io_bus_read(&ports, port, size, &value);
    return value;
}

static void select_register(unsigned devfn, unsigned reg)
{
    io_bus_write(&ports, 0xcf8, 4, 0x80000000u | devfn << 8 | reg);
}

static u32 get(unsigned reg)
{
    select_register(PCI_DEVFN(3, 1), reg);
    return (u32)in(0xcfc, 4);
}

static void set(unsigned reg, u32 value)
{
    select_register(PCI_DEVFN(3, 1), reg);
    io_bus_write(&ports, 0xcfc, 4, value);
}

TEST(configuration_ports)
{
    start();
    CHECK_EQ(get(0), 0x56781234);
    CHECK_EQ(in(0xcfe, 2), 0x5678);
    CHECK_EQ(in(0xcfd, 1), 0x12);
    CHECK_EQ(in(0xcfd, 2), 0x7812); // unaligned, within the register
    CHECK_EQ(in(0xcff, 2), 0xffff); // across its end
    CHECK_EQ(get(8), 0x0200009a);
    CHECK_EQ(get(0x2c), 0xbbbbaaaa);
    CHECK_EQ(in(0xcf8, 4), 0x80000000 | PCI_DEVFN(3, 1) << 8 | 0x2c);
    select_register(PCI_DEVFN(4, 0), 0);
    CHECK_EQ(in(0xcfc, 4), 0xffffffff);
    io_bus_write(&ports, 0xcf8, 4, 0x80010000); // bus 1
    CHECK_EQ(in(0xcfc, 2), 0xffff);
    io_bus_write(&ports, 0xcf8, 4, 0); // not enabled
    CHECK_EQ(in(0xcfc, 4), 0xffffffff);
}

TEST(ecam)
{
    start();
    u64 value, base = 0xe0000000 + (PCI_DEVFN(3, 1) << 12);
    io_bus_read(&mmio, base, 8, &value);
    CHECK_EQ(value, 0x0000000056781234ull);
    io_bus_read(&mmio, base + 0xfff, 2, &value);
    CHECK_EQ(value, 0xffff); // across a function's end
    io_bus_read(&mmio, base + (1 << 20), 4, &value);
    CHECK_EQ(value, 0xffffffff);
    io_bus_write(&mmio, base + 4, 2, 0xffff);
    io_bus_read(&mmio, base + 4, 2, &value);
    CHECK_EQ(value, 0x0407);
    CHECK_EQ(written_offset, 4);
    CHECK_EQ(written_size, 2);
    io_bus_write(&mmio, base, 4, 0);
    CHECK_EQ(get(0), 0x56781234);
}

TEST(bars_are_sized)
{
    start();
    for (unsigned reg = 0x10; reg < 0x28; reg += 4)
        set(reg, ~0u);
    CHECK_EQ(get(0x10), 0xfffff000);
    CHECK_EQ(get(0x14), 0xffffffe1);
    CHECK_EQ(get(0x18), 0x00000004);
    CHECK_EQ(get(0x1c), 0xfffffffe);
    CHECK_EQ(get(0x20), 0);
    CHECK_EQ(get(0x24), 0);
}

TEST(bars_are_mapped_where_the_guest_says)
{
    start();
    u64 value;
    set(0x14, 0xc000);
    set(0x18, 0), set(0x1c, 0x10);
    CHECK(!io_bus_read(&ports, 0xc010, 1, &value));
    set(4, 3);
    CHECK(io_bus_read(&ports, 0xc010, 1, &value));
    CHECK_EQ(value, 0x10);
    CHECK(io_bus_read(&mmio, 0x1000000042, 1, &value));
    CHECK_EQ(value, 0x42);
    set(0x14, 0xd000);
    CHECK(!io_bus_read(&ports, 0xc010, 1, &value));
    CHECK(io_bus_read(&ports, 0xd01f, 1, &value));
    set(0x14, 0xce0); // collides with the configuration ports: nowhere
    CHECK(!io_bus_read(&ports, 0xce0, 1, &value));
    CHECK_EQ(get(0x14), 0xce1);
    set(0x14, 0xd000);
    set(4, 0);
    CHECK(!io_bus_read(&ports, 0xd000, 1, &value));
    set(4, 3);
    CHECK(io_bus_read(&ports, 0xd000, 1, &value));
    pci_host_reset(&host);
    CHECK(!io_bus_read(&ports, 0xd000, 1, &value));
    CHECK_EQ(get(4), 0);
    CHECK_EQ(get(0x14), 1);
    CHECK_EQ(mmio.count, 1);
}

TEST(capabilities)
{
    start();
    unsigned first = pci_capability_add(&card, 0x05, 14);
    unsigned second = pci_capability_add(&card, 0x11, 12);
    CHECK_EQ(first, 0x40);
    CHECK_EQ(second, 0x50);
    CHECK_EQ(get(4) >> 16, 0x10);
    CHECK_EQ(get(0x34) & 0xff, 0x40);
    CHECK_EQ(get(0x40) & 0xffff, 0x5005);
    CHECK_EQ(get(0x50) & 0xffff, 0x0011);
    CHECK_EQ(pci_capability_add(&card, 9, 0xa4), 0x5c);
    CHECK_EQ(pci_capability_add(&card, 9, 4), 0);
    CHECK_EQ(pci_capability_add(&card, 9, 1), 0);
}

TEST(interrupt_pins_share_lines)
{
    start();
    static struct pci_function other;
    static const struct pci_identity identity = {.vendor = 1};
    pci_function_init(&other, &identity);
    pci_intx_init(&other, 1);
    CHECK_EQ(pci_host_add(&host, &other, PCI_DEVFN(4, 0)), OK);
    pci_intx_set(&card, true); // device 3, INTB#
    CHECK(chip_level[16 + 4]);
    pci_intx_set(&other, true); // device 4, INTA#
    pci_intx_set(&card, false);
    CHECK(chip_level[16 + 4]);
    pci_intx_set(&other, false);
    CHECK(!chip_level[16 + 4]);
    CHECK_EQ(chip_rises[16 + 4], 1);
    pci_intx_set(&card, true);
    set(4, PCI_COMMAND_INTX_DISABLE);
    CHECK(!chip_level[16 + 4]);
    CHECK_EQ(get(4) >> 16, PCI_STATUS_INTERRUPT);
    set(4, 0);
    CHECK(chip_level[16 + 4]);
    pci_host_reset(&host);
    CHECK(!chip_level[16 + 4]);
}

static struct io_device reset_control;
static unsigned resets;

static void reset_written(struct io_device *device UNUSED, u64 offset, unsigned size, u64 value)
{
    resets += offset == 0 && size == 1 && value == 6;
}

static const struct io_device_ops reset_ops = {"reset", window_read, reset_written};

TEST(reset_control_lies_in_the_address_port)
{
    start();
    io_bus_write(&ports, 0xcf9, 1, 6);
    CHECK_EQ(in(0xcf9, 1), 0xff);
    reset_control.ops = &reset_ops;
    host.reset_control = &reset_control;
    io_bus_write(&ports, 0xcf9, 1, 6);
    io_bus_write(&ports, 0xcf9, 2, 6);
    CHECK_EQ(resets, 1);
    CHECK_EQ(in(0xcf9, 1), 0);
    CHECK_EQ(in(0xcf8, 2), 0xffff);
}

TEST(survives_anything)
{
    start();
    chip_clock_start();
    const struct chip_ports devices[] = {
        {&host.address_port, 4}, {&host.data_port, 4}, {&host.ecam, 256 * MIB}};
    for (unsigned i = 0; i < 50000; i++) {
        u64 offset = (PCI_DEVFN(3, 1) << 12) + chip_random() % 0x48;
        host.ecam.ops->write(&host.ecam, offset, 4, chip_random());
        select_register(PCI_DEVFN(3, 1), (unsigned)(chip_random() % 256));
        chip_fuzz(devices, 3, 5);
        CHECK(ports.count <= 3 && mmio.count <= 2);
    }
    pci_host_reset(&host);
    CHECK_EQ(ports.count, 2);
    CHECK_EQ(mmio.count, 1);
}
