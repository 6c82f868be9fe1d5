// SPDX-License-Identifier: MIT
// The root bus and its two configuration mechanisms. What is not there reads all ones. Status bits
// that are cleared by writing ones are never set by our functions, so read-only serves for them.
#include "io/pci.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/error.h"

#define CONFIG_ADDRESS_ENABLE      0x80000000u
#define CONFIG_ADDRESS_DEVFN_SHIFT 8
#define CONFIG_ADDRESS_BUS_SHIFT   16
#define CONFIG_ADDRESS_REGISTER    0xfcu
#define CONFIG_ADDRESS_RESERVED    0x7f000003u
#define RESET_CONTROL_OFFSET       1

#define ECAM_FUNCTION_SHIFT 12
#define ECAM_BUS_SHIFT      20

#define BAR_IO           0x1u
#define BAR_MEMORY64     0x4u
#define BAR_SIZE         4u
#define BAR_IO_FLAGS     0x3u
#define BAR_MEMORY_FLAGS 0xfu
#define BAR_IO_SIZE_MIN  4u
#define BAR_MEM_SIZE_MIN 16u
#define COMMAND_WRITABLE                                                                           \
    (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)
#define INTERRUPT_LINE_WRITABLE 0xffu

// --- a function's configuration space ---

static bool config_holds(unsigned offset, unsigned size)
{
    return size <= PCI_CONFIG_SIZE && offset <= PCI_CONFIG_SIZE - size;
}

void pci_config_set(struct pci_function *f, unsigned offset, unsigned size, u32 value)
{
    assert(config_holds(offset, size) && size <= sizeof(value));
    for (unsigned i = 0; i < size; i++)
        f->config[offset + i] = (u8)(value >> (8 * i));
}

u32 pci_config_get(const struct pci_function *f, unsigned offset, unsigned size)
{
    assert(config_holds(offset, size) && size <= sizeof(u32));
    u32 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u32)f->config[offset + i] << (8 * i);
    return value;
}

void pci_config_allow(struct pci_function *f, unsigned offset, unsigned size, u32 mask)
{
    assert(config_holds(offset, size) && size <= sizeof(mask));
    for (unsigned i = 0; i < size; i++)
        f->writable[offset + i] = (u8)(mask >> (8 * i));
}

void pci_function_init(struct pci_function *f, const struct pci_identity *identity)
{
    *f = (struct pci_function){.capability_free = PCI_HEADER_END};
    pci_config_set(f, PCI_VENDOR_ID, 2, identity->vendor);
    pci_config_set(f, PCI_DEVICE_ID, 2, identity->device);
    pci_config_set(f, PCI_REVISION, 1, identity->revision);
    pci_config_set(f, PCI_CLASS, 3, identity->class_code);
    pci_config_set(f, PCI_SUBSYSTEM_VENDOR_ID, 2, identity->subsystem_vendor);
    pci_config_set(f, PCI_SUBSYSTEM_ID, 2, identity->subsystem);
    pci_config_allow(f, PCI_COMMAND, 2, COMMAND_WRITABLE);
    pci_config_allow(f, PCI_INTERRUPT_LINE, 1, INTERRUPT_LINE_WRITABLE);
}

unsigned pci_capability_add(struct pci_function *f, u8 id, unsigned size)
{
    unsigned offset = ALIGN_UP(f->capability_free, 4u);
    if (size < 2 || size > PCI_LEGACY_CONFIG_SIZE || offset > PCI_LEGACY_CONFIG_SIZE - size)
        return 0;
    unsigned link = f->capability_last ? f->capability_last + 1 : PCI_CAPABILITIES;
    f->config[link] = (u8)offset;
    f->config[offset] = id;
    f->config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    f->capability_last = offset;
    f->capability_free = offset + size;
    return offset;
}

// --- BARs ---

void pci_bar_init(struct pci_function *f, unsigned index, enum pci_bar_kind kind, u64 size,
                  struct io_device *device)
{
    unsigned offset = PCI_BAR0 + index * BAR_SIZE;
    bool wide = kind == PCI_BAR_MEMORY64;
    assert(index + (wide ? 1u : 0u) < PCI_BARS && (size & (size - 1)) == 0);
    assert(size >= (kind == PCI_BAR_IO ? BAR_IO_SIZE_MIN : BAR_MEM_SIZE_MIN));
    assert(wide || size <= GIB);
    f->bars[index] = (struct pci_bar){.kind = kind, .size = size, .device = device};
    pci_config_set(f, offset, BAR_SIZE, kind == PCI_BAR_IO ? BAR_IO : wide ? BAR_MEMORY64 : 0);
    pci_config_allow(f, offset, BAR_SIZE, (u32) ~(size - 1));
    if (wide)
        pci_config_allow(f, offset + BAR_SIZE, BAR_SIZE, (u32)(~(size - 1) >> 32));
}

static u64 bar_base(const struct pci_function *f, unsigned index)
{
    unsigned offset = PCI_BAR0 + index * BAR_SIZE;
    u32 low = pci_config_get(f, offset, BAR_SIZE);
    switch (f->bars[index].kind) {
    case PCI_BAR_IO:
        return low & ~BAR_IO_FLAGS;
    case PCI_BAR_MEMORY64:
        return (u64)pci_config_get(f, offset + BAR_SIZE, BAR_SIZE) << 32 |
               (low & ~BAR_MEMORY_FLAGS);
    default:
        return low & ~BAR_MEMORY_FLAGS;
    }
}

static void bar_unmap(struct pci_function *f, struct pci_bar *bar)
{
    if (!bar->mapped)
        return;
    io_bus_remove(bar->kind == PCI_BAR_IO ? f->host->ports : f->host->mmio, bar->device);
    bar->mapped = false;
}

// A base that collides with another device, or 0, is where a guest sizing BARs puts them: not
// mapped.
static void bar_update(struct pci_function *f, unsigned index)
{
    struct pci_bar *bar = &f->bars[index];
    if (bar->kind == PCI_BAR_NONE || !bar->device || !f->host)
        return;
    bool io = bar->kind == PCI_BAR_IO;
    bool decoded = pci_config_get(f, PCI_COMMAND, 2) & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
    u64 base = bar_base(f, index);
    if (bar->mapped && decoded && base == bar->base)
        return;
    bar_unmap(f, bar);
    if (!decoded || base == 0)
        return;
    if (io_bus_add(io ? f->host->ports : f->host->mmio, base, bar->size, bar->device) != OK)
        return;
    bar->mapped = true;
    bar->base = base;
}

// --- interrupt pins ---

void pci_intx_init(struct pci_function *f, unsigned pin)
{
    assert(pin >= 1 && pin <= 4);
    pci_config_set(f, PCI_INTERRUPT_PIN, 1, pin);
}

// Several pins share a line: it is up while any of them is.
static void intx_update(struct pci_function *f)
{
    unsigned pin = f->config[PCI_INTERRUPT_PIN];
    bool masked = pci_config_get(f, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE;
    bool drive = f->intx && !masked && f->host && pin;
    f->config[PCI_STATUS] = (u8)((f->config[PCI_STATUS] & ~PCI_STATUS_INTERRUPT) |
                                 (f->intx ? PCI_STATUS_INTERRUPT : 0));
    if (drive == f->intx_driven)
        return;
    f->intx_driven = drive;
    unsigned number = pci_intx_line(f->devfn, pin);
    unsigned *users = &f->host->intx_users[number];
    *users = drive ? *users + 1 : *users - 1;
    struct irq_line line = f->host->intx;
    line.number += number;
    irq_line_set(&line, *users > 0);
}

void pci_intx_set(struct pci_function *f, bool level)
{
    f->intx = level;
    intx_update(f);
}

// --- accesses ---

static u64 function_read(const struct pci_function *f, unsigned offset, unsigned size)
{
    if (!f || !config_holds(offset, size))
        return ~0ull;
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)f->config[offset + i] << (8 * i);
    return value;
}

static void function_write(struct pci_function *f, unsigned offset, unsigned size, u64 value)
{
    if (!f || !config_holds(offset, size))
        return;
    for (unsigned i = 0; i < size; i++) {
        u8 mask = f->writable[offset + i];
        u8 byte = (u8)(value >> (8 * i));
        f->config[offset + i] = (u8)((f->config[offset + i] & ~mask) | (byte & mask));
    }
    if (offset < PCI_HEADER_END) {
        for (unsigned i = 0; i < PCI_BARS; i++)
            bar_update(f, i);
        intx_update(f);
    }
    if (f->written)
        f->written(f, offset, size);
}

static u64 address_read(struct io_device *device, u64 offset, unsigned size)
{
    struct pci_host *host = container_of(device, struct pci_host, address_port);
    if (offset == 0 && size == 4)
        return host->address;
    if (offset == RESET_CONTROL_OFFSET && size == 1 && host->reset_control)
        return host->reset_control->ops->read(host->reset_control, 0, 1);
    return ~0ull;
}

static void address_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct pci_host *host = container_of(device, struct pci_host, address_port);
    if (offset == 0 && size == 4)
        host->address = (u32)value & ~CONFIG_ADDRESS_RESERVED;
    else if (offset == RESET_CONTROL_OFFSET && size == 1 && host->reset_control)
        host->reset_control->ops->write(host->reset_control, 0, 1, value);
}

// The function that the address register selects, or null.
static struct pci_function *address_function(const struct pci_host *host)
{
    if (!(host->address & CONFIG_ADDRESS_ENABLE) ||
        bits_get(host->address, CONFIG_ADDRESS_BUS_SHIFT, 8) != 0)
        return NULL;
    return host->functions[bits_get(host->address, CONFIG_ADDRESS_DEVFN_SHIFT, 8)];
}

static u64 data_read(struct io_device *device, u64 offset, unsigned size)
{
    struct pci_host *host = container_of(device, struct pci_host, data_port);
    return function_read(address_function(host),
                         (host->address & CONFIG_ADDRESS_REGISTER) + (unsigned)offset, size);
}

static void data_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct pci_host *host = container_of(device, struct pci_host, data_port);
    function_write(address_function(host),
                   (host->address & CONFIG_ADDRESS_REGISTER) + (unsigned)offset, size, value);
}

static struct pci_function *ecam_function(const struct pci_host *host, u64 offset)
{
    if (offset >> ECAM_BUS_SHIFT != 0)
        return NULL;
    return host->functions[bits_get(offset, ECAM_FUNCTION_SHIFT, 8)];
}

static u64 ecam_read(struct io_device *device, u64 offset, unsigned size)
{
    struct pci_host *host = container_of(device, struct pci_host, ecam);
    return function_read(ecam_function(host, offset), (unsigned)(offset % PCI_CONFIG_SIZE), size);
}

static void ecam_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct pci_host *host = container_of(device, struct pci_host, ecam);
    function_write(ecam_function(host, offset), (unsigned)(offset % PCI_CONFIG_SIZE), size, value);
}

static const struct io_device_ops address_ops = {"pci-address", address_read, address_write};
static const struct io_device_ops data_ops = {"pci-data", data_read, data_write};
static const struct io_device_ops ecam_ops = {"pci-ecam", ecam_read, ecam_write};

void pci_host_init(struct pci_host *host, struct io_bus *ports, struct io_bus *mmio,
                   struct irq_line intx)
{
    *host = (struct pci_host){
        .address_port = {&address_ops},
        .data_port = {&data_ops},
        .ecam = {&ecam_ops},
        .ports = ports,
        .mmio = mmio,
        .intx = intx,
    };
}

int pci_host_add(struct pci_host *host, struct pci_function *f, u8 devfn)
{
    if (host->functions[devfn])
        return ERR_EXISTS;
    host->functions[devfn] = f;
    f->host = host;
    f->devfn = devfn;
    return OK;
}

static void function_reset(struct pci_function *f)
{
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
        f->config[i] &= (u8)~f->writable[i];
    for (unsigned i = 0; i < PCI_BARS; i++)
        bar_update(f, i);
    pci_intx_set(f, false);
    if (f->reset)
        f->reset(f);
}

void pci_host_reset(struct pci_host *host)
{
    host->address = 0;
    for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
        if (host->functions[i])
            function_reset(host->functions[i]);
}
