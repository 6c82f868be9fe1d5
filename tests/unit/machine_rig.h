// SPDX-License-Identifier: MIT
// The whole PC, reached through its buses as a guest's instructions do. The chips are linked as the
// core has them.
#pragma once

#include "tests/unit/test.h"
#include "vmm/lib/format.c"
#include "vmm/machine.c"
#include "vmm/storage.c"
#include "vmm/test_devices.c"
#include "vmm/load/acpi_loader.c"
#include "vmm/load/fw_config.c"

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

void thread_yield(void)
{
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

void smbios_make(struct smbios *s UNUSED, const struct smbios_machine *m UNUSED, u32 address UNUSED)
{
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

static const struct lapic_ops lapic_ops = {nothing, nothing, nothing, nothing_startup,
                                           nothing, nothing, nothing};

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

#define TEST_DEVICES (CONFIG_DEBUG_EXIT | CONFIG_DEBUGCON | CONFIG_TESTDEV | CONFIG_FW_CFG)

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
