// SPDX-License-Identifier: MIT
// Which device has which ports is one table, as for the machine's chips.
#include "vmm/test_devices.h"
#include "io/debug_exit.h"
#include "io/debugcon.h"
#include "io/testdev.h"
#include "mm/heap.h"
#include "vmm/console/console.h"
#include "vmm/lib/error.h"
#include "vmm/vm.h"

struct test_devices {
    struct debug_exit debug_exit;
    struct debugcon debugcon;
    struct testdev testdev;
};

static void console_write(void *context, const u8 *bytes, unsigned n)
{
    struct vm *vm = context;
    if (vm->console)
        console_output(vm->console, bytes, n);
}

static void flush(void *context)
{
    struct vm *vm = context;
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_request(&vm->vcpus[i], VCPU_REQUEST_FLUSH);
}

static void debug_exit(void *context, u32 code)
{
    vm_debug_exit(context, code);
}

static int map(struct test_devices *t, struct vm *vm)
{
    struct io_bus *port = &vm->ports, *memory = &vm->mmio;
    const struct {
        u32 device; // enum config_device
        struct io_bus *bus;
        u64 base, size;
        struct io_device *at;
    } places[] = {
        {CONFIG_DEBUG_EXIT, port, DEBUG_EXIT_PORT, DEBUG_EXIT_PORTS, &t->debug_exit.ports},
        {CONFIG_DEBUGCON, port, DEBUGCON_PORT, 1, &t->debugcon.port},
        {CONFIG_DEBUGCON, port, DEBUGCON_PORT_OTHER, 1, &t->debugcon.port},
        {CONFIG_TESTDEV, port, TESTDEV_LATCH_PORT, TESTDEV_LATCH_SIZE, &t->testdev.latch_ports},
        {CONFIG_TESTDEV, port, TESTDEV_FLUSH_PORT, TESTDEV_FLUSH_SIZE, &t->testdev.flush_ports},
        {CONFIG_TESTDEV, port, TESTDEV_LINES_PORT, TESTDEV_LINES, &t->testdev.line_ports},
        {CONFIG_TESTDEV, memory, TESTDEV_MEMORY, TESTDEV_MEMORY_SIZE, &t->testdev.memory_window},
    };
    int error = OK;
    for (unsigned i = 0; error == OK && i < ARRAY_SIZE(places); i++)
        if (vm->config.devices & places[i].device)
            error = io_bus_add(places[i].bus, places[i].base, places[i].size, places[i].at);
    return error;
}

int test_devices_create(struct vm *vm, struct irq_line lines, struct test_devices **out)
{
    if (!(vm->config.devices & ~(u32)CONFIG_HPET))
        return OK;
    struct test_devices *t = *out = heap_alloc(sizeof(*t));
    if (!t)
        return ERR_NO_MEMORY;
    debug_exit_init(&t->debug_exit, debug_exit, vm);
    debugcon_init(&t->debugcon, console_write, vm);
    testdev_init(&t->testdev, lines, flush, vm);
    return map(t, vm);
}

void test_devices_destroy(struct test_devices *t)
{
    heap_free(t);
}

void test_devices_reset(struct test_devices *t)
{
    if (t)
        testdev_reset(&t->testdev);
}
