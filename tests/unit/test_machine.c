// SPDX-License-Identifier: MIT
// The whole PC, reached through its buses as a guest's instructions do: addresses and wires. The
// chips are linked as the core has them.
#include "tests/unit/test.h"
#include "vmm/machine.c"
#include "vmm/storage.c"
#include "vmm/test_devices.c"
#include "vmm/acpi_loader.c"
#include "vmm/fw_config.c"

#define VECTOR_APIC      0x61
#define LAPIC_SVR_OFFSET 0xf0
#define LAPIC_SVR_ON     0x1ff

static struct vm vm;
static struct console console;
static struct lapic lapic;
static u64 now;
static char printed[64];
static unsigned printed_count;

void *heap_alloc(size_t size)
{
    return calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

u64 rtc_wall_clock_ns(void)
{
    return 1709208000ull * 1000000000;
}

void vm_request_stop(struct vm *asked, enum vm_stop_reason reason)
{
    asked->stop_reason = reason;
}

// --- firmware, without an image ---

int acpi_tables_make(struct acpi_tables *t UNUSED, unsigned cpus UNUSED, bool hpet UNUSED,
                     gpa_t base UNUSED)
{
    return OK;
}

int firmware_map(struct vm *of UNUSED)
{
    return OK;
}

void firmware_power_on(struct vm *of UNUSED)
{
}

static u8 shadow[FIRMWARE_PAM_SIZE];

void firmware_shadow(struct vm *of, const u8 pam[FIRMWARE_PAM_SIZE])
{
    CHECK(of == &vm);
    memcpy(shadow, pam, sizeof(shadow));
}

// The files that its disks are made of, and memory that its devices reach.
static u8 disk_bytes[0x10000], guest_bytes[PAGE_SIZE];
static u64 disk_size;

const void *boot_file_bytes(const char *what UNUSED, const char *name UNUSED, unsigned line UNUSED,
                            u64 *size, char *why UNUSED)
{
    *size = disk_size;
    return disk_size ? disk_bytes : NULL;
}

void *guest_memory_hva(struct guest_memory *gm UNUSED, gpa_t gpa, u64 *length)
{
    u64 rest = PAGE_SIZE - gpa % PAGE_SIZE;
    *length = MIN(*length, rest);
    return guest_bytes + gpa % PAGE_SIZE;
}

int format_text(char *buffer, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(buffer, size, format, arguments);
    va_end(arguments);
    return length;
}

static u32 exit_code;

void vm_debug_exit(struct vm *asked UNUSED, u32 code)
{
    exit_code = code;
}

static unsigned flushes;

void vcpu_request(struct vcpu *vcpu UNUSED, u32 requests)
{
    flushes += requests == VCPU_REQUEST_FLUSH;
}

void console_output(struct console *to, const u8 *bytes, unsigned count)
{
    CHECK(to == &console);
    for (unsigned i = 0; i < count && printed_count < sizeof(printed) - 1; i++)
        printed[printed_count++] = (char)bytes[i];
}

static u64 clock_now(struct io_clock *clock UNUSED)
{
    return now;
}

static void nothing(struct lapic *l UNUSED)
{
}

static void nothing_startup(struct lapic *l UNUSED, u8 page UNUSED)
{
}

static const struct lapic_ops lapic_ops = {nothing,         nothing, nothing,
                                           nothing_startup, nothing, nothing};

static bool start_with_firmware;

static void start_with(u32 devices)
{
    now = 0;
    printed_count = 0;
    memset(printed, 0, sizeof(printed));
    memset(&vm, 0, sizeof(vm));
    vm.console = &console;
    vm.config.memory = 4 * GIB;
    vm.config.cpus = 3;
    vm.config.devices = devices;
    vm.firmware = start_with_firmware ? (void *)&vm : NULL; // it is opaque
    io_bus_init(&vm.ports, "port", 0x10000);
    io_bus_init(&vm.mmio, "memory", 1ull << 46);
    io_clock_init(&vm.clock, 1000000000, clock_now);
    lapic_init(&lapic, 0, true, &vm.apics, &vm.clock, &lapic_ops);
    lapic_reset(&lapic);
    CHECK_EQ(machine_create(&vm), OK);
}

static void start(void)
{
    start_with(0);
}

static void finish(void)
{
    machine_destroy(&vm);
    CHECK(vm.machine == NULL);
    machine_destroy(&vm); // harmless
    io_bus_destroy(&vm.ports);
    io_bus_destroy(&vm.mmio);
}

static void out(u64 port, u8 value)
{
    CHECK(io_bus_write(&vm.ports, port, 1, value));
}

static u8 in(u64 port)
{
    u64 value;
    CHECK(io_bus_read(&vm.ports, port, 1, &value));
    return (u8)value;
}

static void pass(u64 ns)
{
    now += ns;
    io_clock_run(&vm.clock, now);
}

static void pic_start(u8 mask)
{
    out(0x20, 0x11), out(0x21, 0x20), out(0x21, 0x04), out(0x21, 0x01);
    out(0xa0, 0x11), out(0xa1, 0x28), out(0xa1, 0x02), out(0xa1, 0x01);
    out(0x21, mask), out(0xa1, 0);
}

static void ioapic_route(unsigned pin, u8 vector)
{
    io_bus_write(&vm.mmio, LAYOUT_IOAPIC, 4, 0x10 + pin * 2);
    io_bus_write(&vm.mmio, LAYOUT_IOAPIC + 0x10, 4, vector);
    lapic.mmio.ops->write(&lapic.mmio, LAPIC_SVR_OFFSET, 4, LAPIC_SVR_ON);
}

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

static u64 read_port(u64 port, unsigned size)
{
    u64 value;
    io_bus_read(&vm.ports, port, size, &value);
    return value;
}

#define TEST_DEVICES (CONFIG_DEBUG_EXIT | CONFIG_DEBUGCON | CONFIG_TESTDEV | CONFIG_FW_CFG)

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
    CHECK_EQ(fw_cfg_item(0x19, 4), 5u << 24);
    CHECK_EQ(fw_cfg_item(0xffff, 4), 0);
    for (unsigned i = 0; i < 20; i++)
        fw_cfg_item(0, 7);
    for (unsigned i = 0; i < 100; i++)
        in(0x511);
    CHECK_EQ(in(0x511), 0);
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

// As vm_start() does it, but for the order.
static void start_with_disks(u32 devices)
{
    char why[CONFIG_ERROR_MAX];
    disk_size = sizeof(disk_bytes);
    memset(disk_bytes, 0x11, sizeof(disk_bytes));
    start_with(devices);
    machine_destroy(&vm);
    io_bus_destroy(&vm.ports);
    io_bus_destroy(&vm.mmio);
    CHECK(snprintf(vm.config.disk[0].name, BOOT_NAME_MAX, "\\one") > 0);
    CHECK(snprintf(vm.config.cdrom.name, BOOT_NAME_MAX, "\\disc") > 0);
    CHECK_EQ(storage_open(&vm, why), OK);
    CHECK_EQ(machine_create(&vm), OK);
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
