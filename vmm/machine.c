// SPDX-License-Identifier: MIT
// The machine: machine_init() makes the chips and their wires, machine_map() says where they are.
// The local APICs' page is not on the bus: each vCPU has its own there.
#include "vmm/machine.h"
#include "drivers/rtc.h"
#include "io/acpi/platform.h"
#include "io/acpi_pm.h"
#include "io/hpet.h"
#include "io/i8042.h"
#include "io/ioapic.h"
#include "io/pci.h"
#include "io/pic.h"
#include "io/pit.h"
#include "io/rtc.h"
#include "io/serial.h"
#include "io/system_ports.h"
#include "mm/heap.h"
#include "vmm/console/console.h"
#include "vmm/load/firmware.h"
#include "vmm/load/fw_config.h"
#include "vmm/layout.h"
#include "vmm/lib/error.h"
#include "vmm/storage.h"
#include "vmm/test_devices.h"
#include "vmm/vm.h"

enum isa_irq {
    IRQ_PIT = 0,
    IRQ_KEYBOARD = 1,
    IRQ_COM2 = 3,
    IRQ_COM1 = 4,
    IRQ_RTC = 8,
    IRQ_AUX = 12,
};
#define PIT_GSI 2 // the IOAPIC has the PIT where the PICs have their cascade

// Intel Q35 host bridge and ICH9 LPC bridge.
#define HOST_BRIDGE_DEVFN PCI_DEVFN(0, 0)
#define LPC_BRIDGE_DEVFN  PCI_DEVFN(0x1f, 0)
#define STORAGE_DEVFN     PCI_DEVFN(0x1f, 2)
#define PCIEXBAR          0x60 // host bridge: where ECAM is
#define PCIEXBAR_ENABLE   1u   // for 256 buses
#define PAM0              0x90 // host bridge: what is under C0000 to FFFFF
#define PAM0_WRITABLE     0x30u
#define PAM_WRITABLE      0x33u
#define LPC_PMBASE        0x40 // LPC bridge: where the ACPI ports are
#define LPC_PMBASE_IO     1u
#define LPC_ACPI_CNTL     0x44
#define LPC_ACPI_ENABLE   0x80u

static const struct pci_identity host_bridge_identity = {
    .vendor = 0x8086, .device = 0x29c0, .class_code = 0x060000};
static const struct pci_identity lpc_bridge_identity = {
    .vendor = 0x8086, .device = 0x2918, .revision = 2, .class_code = 0x060100};

struct machine {
    struct vm *vm;
    struct pic pic;
    struct ioapic ioapic;
    struct pit pit;
    struct rtc rtc;
    struct hpet hpet; // on the bus if the configuration lists it
    struct serial com1, com2;
    struct i8042 i8042;
    struct acpi_pm acpi_pm;
    struct system_ports system_ports;
    struct pci_host pci;
    struct pci_function host_bridge, lpc_bridge;
    struct storage *storage;           // null: no disk
    struct test_devices *test_devices; // null: none
    struct fw_config *fw_config;       // null: none
    u32 lines;                         // bit n: line n is up
};

// --- wires ---

// An ISA line goes to the PICs and to the IOAPIC; a line from 16 on only to the IOAPIC.
static void machine_irq(void *context, unsigned number, bool level)
{
    struct machine *m = context;
    if ((m->lines >> number & 1) == level) // chips say it after every access
        return;
    m->lines ^= 1u << number;
    if (number < PIC_LINES)
        pic_set_irq(&m->pic, number, level);
    ioapic_set_irq(&m->ioapic, number == IRQ_PIT ? PIT_GSI : number, level);
}

// The HPET's legacy replacement route takes these lines from the PIT and the RTC.
static void machine_legacy_irq(void *context, unsigned number, bool level)
{
    struct machine *m = context;
    if (!hpet_replaces_legacy(&m->hpet))
        machine_irq(m, number, level);
}

// The PICs' INTR goes to the first CPU's local APIC.
static void machine_intr(void *context, unsigned number UNUSED, bool level)
{
    struct vm *vm = context;
    if (vm->apics.count)
        lapic_lint0(vm->apics.lapics[0], level);
}

// The reset and power lines; the number is the reason.
static void machine_stop(void *context, unsigned number, bool level)
{
    if (level)
        vm_request_stop(context, (enum vm_stop_reason)number);
}

static void machine_console_output(void *context, const u8 *bytes, unsigned n)
{
    struct vm *vm = context;
    if (vm->console)
        console_output(vm->console, bytes, n);
}

static unsigned machine_console_input(void *context, const u8 *bytes, unsigned n)
{
    struct vm *vm = context;
    spin_lock(&vm->lock);
    // What is typed at a paused VM waits: its clock stands still.
    unsigned taken = vm->machine && !vm->paused ? serial_input(&vm->machine->com1, bytes, n) : 0;
    spin_unlock(&vm->lock);
    return taken;
}

void *machine_dma_map(void *context, u64 gpa, bool write, u64 *length)
{
    struct vm *vm = context;
    if (guest_memory_is_device(&vm->memory, gpa, write ? PAGE_WRITE : PAGE_READ))
        return NULL;
    return guest_memory_hva(&vm->memory, gpa, length);
}

// --- the machine ---

static void host_bridge_reset(struct pci_function *f)
{
    firmware_shadow(container_of(f, struct machine, host_bridge)->vm, &f->config[PAM0]);
}

static void host_bridge_written(struct pci_function *f, unsigned offset, unsigned size)
{
    if (offset < PAM0 + FIRMWARE_PAM_SIZE && offset + size > PAM0)
        host_bridge_reset(f);
}

static void machine_init_pam(struct machine *m)
{
    pci_config_allow(&m->host_bridge, PAM0, 1, PAM0_WRITABLE);
    for (unsigned i = 1; i < FIRMWARE_PAM_SIZE; i++)
        pci_config_allow(&m->host_bridge, PAM0 + i, 1, PAM_WRITABLE);
    m->host_bridge.written = host_bridge_written;
    m->host_bridge.reset = host_bridge_reset;
}

static void machine_init_bridges(struct machine *m)
{
    pci_function_init(&m->host_bridge, &host_bridge_identity);
    if (m->vm->firmware)
        machine_init_pam(m);
    pci_config_set(&m->host_bridge, PCIEXBAR, 4, (u32)LAYOUT_ECAM | PCIEXBAR_ENABLE);
    pci_function_init(&m->lpc_bridge, &lpc_bridge_identity);
    pci_config_set(&m->lpc_bridge, PCI_HEADER_TYPE, 1, PCI_HEADER_MULTIFUNCTION);
    pci_config_set(&m->lpc_bridge, LPC_PMBASE, 4, ACPI_PM_BASE | LPC_PMBASE_IO);
    pci_config_set(&m->lpc_bridge, LPC_ACPI_CNTL, 1, LPC_ACPI_ENABLE);
}

static void machine_init(struct machine *m, struct vm *vm)
{
    struct io_clock *clock = &vm->clock;
    const struct irq_line reset = {machine_stop, vm, VM_STOP_RESET};
    const struct irq_line poweroff = {machine_stop, vm, VM_STOP_POWEROFF};
    m->vm = vm;
#define IRQ(number) ((struct irq_line){machine_irq, m, number})
    pic_init(&m->pic, (struct irq_line){machine_intr, vm, 0});
    ioapic_init(&m->ioapic, &vm->apics);
    pit_init(&m->pit, clock, (struct irq_line){machine_legacy_irq, m, IRQ_PIT});
    rtc_init(&m->rtc, clock, (struct irq_line){machine_legacy_irq, m, IRQ_RTC});
    hpet_init(&m->hpet, clock, IRQ(0));
    serial_init(&m->com1, IRQ(IRQ_COM1), machine_console_output, vm);
    serial_init(&m->com2, IRQ(IRQ_COM2), NULL, NULL);
    i8042_init(&m->i8042, IRQ(IRQ_KEYBOARD), IRQ(IRQ_AUX), reset);
    m->i8042.keyboard = vm->firmware; // which waits for one for seconds
    acpi_pm_init(&m->acpi_pm, clock, IRQ(ACPI_SCI_IRQ), poweroff, reset);
    system_ports_init(&m->system_ports, reset);
    pci_host_init(&m->pci, &vm->ports, &vm->mmio, IRQ(ACPI_PCI_GSI_BASE));
#undef IRQ
    m->pci.reset_control = &m->acpi_pm.reset_control;
    machine_init_bridges(m);
}

static int machine_map(struct machine *m, struct vm *vm)
{
    struct io_bus *port = &vm->ports, *memory = &vm->mmio;
    const struct io_place {
        struct io_bus *bus;
        u64 base, size;
        struct io_device *device;
    } places[] = {
        {port, PIC_MASTER_PORT, PIC_PORTS, &m->pic.master},
        {port, 0x40, 4, &m->pit.ports},
        {port, 0x60, 1, &m->i8042.data},
        {port, 0x61, 1, &m->pit.control},
        {port, 0x64, 1, &m->i8042.control},
        {port, 0x70, 2, &m->rtc.ports},
        {port, 0x80, 1, &m->system_ports.post},
        {port, 0x92, 1, &m->system_ports.control},
        {port, PIC_SLAVE_PORT, PIC_PORTS, &m->pic.slave},
        {port, 0xed, 1, &m->system_ports.delay},
        {port, 0x2f8, 8, &m->com2.ports},
        {port, 0x3f8, 8, &m->com1.ports},
        {port, PIC_ELCR_PORT, PIC_PORTS, &m->pic.elcr},
        {port, ACPI_PM_BASE, ACPI_PM_SIZE, &m->acpi_pm.ports},
        {port, 0xcf8, 4, &m->pci.address_port}, // with the reset control at 0xcf9
        {port, 0xcfc, 4, &m->pci.data_port},
        {memory, LAYOUT_ECAM, LAYOUT_ECAM_SIZE, &m->pci.ecam},
        {memory, LAYOUT_IOAPIC, IOAPIC_SIZE, &m->ioapic.mmio},
    };
    int error = OK;
    for (unsigned i = 0; error == OK && i < ARRAY_SIZE(places); i++)
        error = io_bus_add(places[i].bus, places[i].base, places[i].size, places[i].device);
    if (error == OK && (vm->config.devices & CONFIG_HPET))
        error = io_bus_add(memory, LAYOUT_HPET, HPET_SIZE, &m->hpet.mmio);
    if (error == OK)
        error = pci_host_add(&m->pci, &m->host_bridge, HOST_BRIDGE_DEVFN);
    if (error == OK)
        error = pci_host_add(&m->pci, &m->lpc_bridge, LPC_BRIDGE_DEVFN);
    return error;
}

int machine_create(struct vm *vm)
{
    struct machine *m = heap_alloc(sizeof(*m));
    if (!m)
        return ERR_NO_MEMORY;
    machine_init(m, vm);
    int error = machine_map(m, vm);
    if (error == OK)
        error = storage_create(vm, &m->pci, STORAGE_DEVFN, &m->storage);
    if (error == OK)
        error = test_devices_create(vm, (struct irq_line){machine_irq, m, 0}, &m->test_devices);
    if (error == OK)
        error = firmware_map(vm);
    if (error == OK && (vm->firmware || vm->config.devices & CONFIG_FW_CFG))
        error = fw_config_create(vm, &m->fw_config);
    if (error != OK) {
        test_devices_destroy(m->test_devices);
        fw_config_destroy(m->fw_config);
        storage_destroy(m->storage);
        heap_free(m); // the buses may hold its devices: the caller destroys them
        return error;
    }
    vm->machine = m;
    if (vm->console) {
        vm->console->input = machine_console_input;
        vm->console->context = vm;
    }
    machine_reset(vm);
    return OK;
}

void machine_destroy(struct vm *vm)
{
    spin_lock(&vm->lock);
    struct machine *m = vm->machine;
    vm->machine = NULL;
    spin_unlock(&vm->lock);
    if (m) {
        test_devices_destroy(m->test_devices);
        fw_config_destroy(m->fw_config);
        storage_destroy(m->storage);
    }
    heap_free(m);
}

void machine_reset(struct vm *vm)
{
    struct machine *m = vm->machine;
    pic_reset(&m->pic);
    ioapic_reset(&m->ioapic);
    pit_reset(&m->pit);
    rtc_reset(&m->rtc);
    hpet_reset(&m->hpet);
    rtc_set_wall_clock(&m->rtc, rtc_wall_clock_ns());
    rtc_set_memory(&m->rtc, layout_below_4g(vm->config.memory), layout_above_4g(vm->config.memory));
    serial_reset(&m->com1);
    serial_reset(&m->com2);
    i8042_reset(&m->i8042);
    acpi_pm_reset(&m->acpi_pm);
    system_ports_reset(&m->system_ports);
    pci_host_reset(&m->pci);
    test_devices_reset(m->test_devices);
    fw_config_reset(m->fw_config);
    firmware_power_on(vm);
}

bool machine_pic_pending(struct vm *vm)
{
    return pic_pending(&vm->machine->pic);
}

u8 machine_pic_acknowledge(struct vm *vm)
{
    return (u8)pic_acknowledge(&vm->machine->pic);
}

void machine_power_button(struct vm *vm)
{
    spin_lock(&vm->lock);
    if (vm->machine)
        acpi_pm_power_button(&vm->machine->acpi_pm);
    spin_unlock(&vm->lock);
}
