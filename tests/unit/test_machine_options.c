// SPDX-License-Identifier: MIT
// What a VM's machine has if its configuration asks for it: test devices, what firmware wants,
// disks and the HPET.

#include "tests/unit/machine_rig.h"

static u64 read_port(u64 port, unsigned size)
{
    u64 value;
    io_bus_read(&vm.ports, port, size, &value);
    return value;
}

TEST(test_devices_are_there_only_if_listed)
{
    static const struct {
        u32 device;
        u16 port, size;
    } ports[] = {{CONFIG_DEBUG_EXIT, 0xf4, 4}, {CONFIG_DEBUGCON, 0xe9, 1},
                 {CONFIG_DEBUGCON, 0x402, 1},  {CONFIG_TESTDEV, 0xe0, 4},
                 {CONFIG_TESTDEV, 0xe4, 4},    {CONFIG_TESTDEV, 0x2000 + 23, 1},
                 {CONFIG_FW_CFG, 0x511, 1}};
    for (u32 device = 0; device <= CONFIG_FW_CFG; device = device ? device * 2 : 1) {
        start_with(device);
        for (unsigned i = 0; i < ARRAY_SIZE(ports); i++) {
            u64 value;
            CHECK_EQ(io_bus_read(&vm.ports, ports[i].port, ports[i].size, &value),
                     ports[i].device == device);
        }
        finish();
    }
}

TEST(debug_exit_and_debug_console)
{
    start_with(TEST_DEVICES);
    out(0xe9, 'h'), out(0x402, 'i');
    CHECK_STR(printed, "hi");
    CHECK_EQ(in(0xe9), 0xe9);
    CHECK(io_bus_write(&vm.ports, 0xf4, 4, 0x21));
    CHECK_EQ(exit_code, 0x43);
    CHECK(io_bus_write(&vm.ports, 0xf4, 4, 0xffffffff));
    CHECK_EQ(exit_code, 0xffffffff);
    finish();
}

TEST(testdev)
{
    u64 value;
    start_with(TEST_DEVICES);
    CHECK(io_bus_write(&vm.ports, 0xe0, 4, 0x12345678));
    out(0xe3, 0xff);
    CHECK(io_bus_write(&vm.ports, 0xe1, 2, 0xabcd));
    CHECK_EQ(read_port(0xe0, 4), 0xffabcd78);
    CHECK_EQ(read_port(0xe2, 1), 0xab);
    CHECK(io_bus_write(&vm.mmio, 0xff00fff8, 8, 0x1122334455667788));
    CHECK(io_bus_read(&vm.mmio, 0xff00fff9, 2, &value));
    CHECK_EQ(value, 0x6677);
    CHECK(!io_bus_read(&vm.mmio, 0xff00fffc, 8, &value));
    vm.vcpu_count = 2;
    flushes = 0;
    CHECK(io_bus_write(&vm.ports, 0xe4, 4, 0x1000));
    CHECK_EQ(flushes, 2);
    machine_reset(&vm);
    CHECK_EQ(read_port(0xe0, 4), 0);
    CHECK(io_bus_read(&vm.mmio, 0xff00fff8, 8, &value));
    CHECK_EQ(value, 0);
    finish();
}

TEST(testdev_moves_lines)
{
    start_with(TEST_DEVICES);
    ioapic_route(5, VECTOR_APIC);
    out(0x2005, 1);
    CHECK_EQ(lapic_pending(&lapic), VECTOR_APIC);
    out(0x2005, 0);
    CHECK_EQ(read_port(0x2005, 1), 0);
    ioapic_route(23, VECTOR_APIC + 0x10);
    out(0x2017, 1);
    CHECK_EQ(lapic_pending(&lapic), VECTOR_APIC + 0x10);
    CHECK(!io_bus_write(&vm.ports, 0x2018, 1, 1));
    machine_reset(&vm);
    CHECK_EQ(vm.machine->ioapic.lines, 0);
    finish();
}

// The host bridge's PAM registers reach who protects the memory.
TEST(pam_registers_are_there_with_firmware_only)
{
    u64 value;
    start();
    CHECK(io_bus_write(&vm.mmio, LAYOUT_ECAM + PAM0, 4, ~0u));
    io_bus_read(&vm.mmio, LAYOUT_ECAM + PAM0, 4, &value);
    CHECK_EQ(value, 0);
    finish();
    start_with_firmware = true;
    start();
    CHECK_EQ(shadow[0], 0);
    CHECK(io_bus_write(&vm.mmio, LAYOUT_ECAM + PAM0, 8, ~0ull));
    CHECK_EQ(shadow[0], 0x30);
    CHECK_EQ(shadow[6], 0x33);
    machine_reset(&vm);
    CHECK_EQ(shadow[6], 0);
    start_with_firmware = false;
    finish();
}

static u64 fw_cfg_item(u16 key, unsigned size)
{
    u64 value = 0;
    CHECK(io_bus_write(&vm.ports, 0x510, 2, key));
    for (unsigned i = 0; i < size; i++)
        value |= (u64)in(0x511) << 8 * i;
    return value;
}

TEST(fw_cfg)
{
    start_with(TEST_DEVICES);
    CHECK_EQ(fw_cfg_item(0, 4), 0x554d4551);
    CHECK_EQ(fw_cfg_item(1, 4), 3);
    CHECK_EQ(fw_cfg_item(3, 8), 4 * GIB);
    CHECK_EQ(fw_cfg_item(5, 2), 3);
    CHECK_EQ(fw_cfg_item(0x0f, 2), 3);
    CHECK_EQ(fw_cfg_item(0x19, 4), 7u << 24);
    CHECK_EQ(fw_cfg_item(FW_CFG_IRQ0_OVERRIDE, 4), 1);
    CHECK_EQ(fw_cfg_item(0xffff, 4), 0);
    for (unsigned i = 0; i < 20; i++)
        fw_cfg_item(0, 7);
    for (unsigned i = 0; i < 100; i++)
        in(0x511);
    CHECK_EQ(in(0x511), 0);
    finish();
}

TEST(firmware_boots_from_disks_and_then_from_the_cd)
{
    static const char order[] = "/pci@i0cf8/pci8086,2922@1f,2/drive@0/disk@0\n"
                                "/pci@i0cf8/pci8086,2922@1f,2/drive@2/disk@0";
    char got[sizeof(order)];
    start_with_disks(CONFIG_FW_CFG);
    CHECK_EQ(fw_cfg_item(FW_CFG_FILE_DIR, 4), 8u << 24);
    fw_cfg_item(FW_CFG_FILE_FIRST, 0);
    for (unsigned i = 0; i < sizeof(got); i++)
        got[i] = (char)in(0x511);
    CHECK_STR(got, order);
    finish();
    storage_close(&vm);
}

static u32 storage_config(unsigned reg)
{
    u64 value;
    io_bus_read(&vm.mmio, LAYOUT_ECAM + (STORAGE_DEVFN << 12) + reg, 4, &value);
    return (u32)value;
}

TEST(disks_are_behind_a_pci_function)
{
    start();
    CHECK_EQ(storage_config(0), 0xffffffff);
    finish();
    start_with_disks(0);
    CHECK_EQ(storage_config(0), 0x29228086);
    CHECK_EQ(storage_config(8) >> 8, 0x010601);
    finish();
    storage_close(&vm);
}

TEST(a_disk_keeps_what_was_written_while_its_machine_is_gone)
{
    const struct config_file *file;
    u64 size, written, length = 1;
    start_with_disks(0);
    u8 *byte = disk_image_write(&vm.disks->images[0], 5, &length);
    CHECK(byte != NULL);
    *byte = 0x77;
    finish();
    CHECK_EQ(machine_create(&vm), OK);
    CHECK_EQ(*(const u8 *)disk_image_read(&vm.disks->images[0], 5, &length), 0x77);
    CHECK(storage_describe(&vm, 0, &file, &size, &written));
    CHECK_STR(file->name, "\\one");
    CHECK_EQ(size, sizeof(disk_bytes));
    CHECK_EQ(written, PAGE_SIZE);
    finish();
    storage_close(&vm);
    CHECK(!storage_describe(&vm, 0, &file, &size, &written));
}

TEST(an_image_of_an_odd_size_is_refused_with_its_line)
{
    char why[CONFIG_ERROR_MAX];
    memset(&vm, 0, sizeof(vm));
    vm.config.cdrom = (struct config_file){"\\disc", 7};
    disk_size = 3 * 512;
    CHECK_EQ(storage_open(&vm, why), ERR_FORMAT);
    CHECK_STR(why, "plinth.ini:7: cdrom \\disc has 1536 bytes: an image is whole sectors of 2048 "
                   "bytes, one at least");
    CHECK(vm.disks == NULL);
    disk_size = 0; // as a file that is not there
    CHECK_EQ(storage_open(&vm, why), ERR_NOT_FOUND);
    CHECK(vm.disks == NULL);
}

// --- the HPET ---

#define HPET_CONFIG          (LAYOUT_HPET + 0x10)
#define HPET_TIMER0          (LAYOUT_HPET + 0x100)
#define HPET_TIMER0_MATCH    (LAYOUT_HPET + 0x108)
#define HPET_ENABLE_LEGACY   3
#define HPET_TIMER_INTERRUPT 4

static void hpet_out(u64 address, u64 value)
{
    CHECK(io_bus_write(&vm.mmio, address, 8, value));
}

TEST(hpet_is_there_if_it_is_listed)
{
    u64 value;
    start();
    CHECK(!io_bus_read(&vm.mmio, LAYOUT_HPET, 8, &value));
    finish();
    start_with(CONFIG_HPET);
    CHECK(!vm.machine->test_devices);
    CHECK(io_bus_read(&vm.mmio, LAYOUT_HPET, 8, &value));
    CHECK_EQ((u32)value, HPET_BLOCK_ID);
    finish();
}

TEST(hpet_takes_the_timer_line_from_the_pit)
{
    start_with(CONFIG_HPET);
    pic_start(0);
    hpet_out(HPET_CONFIG, HPET_ENABLE_LEGACY);
    out(0x43, 0x34), out(0x40, 0), out(0x40, 0x10);
    pass(20000000);
    CHECK(!machine_pic_pending(&vm)); // the PIT ticks unheard
    hpet_out(HPET_TIMER0, HPET_TIMER_INTERRUPT);
    hpet_out(HPET_TIMER0_MATCH, 3000000);
    pass(20000000);
    CHECK(machine_pic_pending(&vm));
    CHECK_EQ(machine_pic_acknowledge(&vm), 0x20);
    out(0x20, 0x20);
    hpet_out(HPET_CONFIG, 0);
    pass(20000000);
    CHECK_EQ(machine_pic_acknowledge(&vm), 0x20); // the PIT again
    finish();
}
