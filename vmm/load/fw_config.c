// SPDX-License-Identifier: MIT
// Items and files by QEMU's names (QEMU's docs/specs/fw_cfg; SeaBIOS' docs/Runtime_config.md). What
// is not here, firmware takes for "no": no boot menu, no sleep states.
#include "vmm/load/fw_config.h"
#include "io/fw_cfg.h"
#include "mm/heap.h"
#include "vmm/load/acpi_loader.h"
#include "vmm/layout.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"
#include "vmm/machine.h"
#include "vmm/load/smbios.h"
#include "vmm/storage.h"
#include "vmm/vm.h"

#define COM1_PORT 0x3f8

struct fw_config {
    struct fw_cfg device;
    u64 memory, console_port;
    u16 cpus, no_graphics;
    u32 irq0_override;
    struct e820_entry e820[2];
    char boot_order[STORAGE_BOOT_ORDER_SIZE];
    struct smbios smbios;
    struct acpi_tables acpi;
    struct acpi_loader_command loader[ACPI_LOADER_COMMANDS];
};

// RAM alone: what is reserved in it is the firmware's business.
static u32 e820_make(struct fw_config *c)
{
    u64 above = layout_above_4g(c->memory);
    c->e820[0] = (struct e820_entry){0, layout_below_4g(c->memory), E820_RAM};
    c->e820[1] = (struct e820_entry){LAYOUT_ABOVE_4G, above, E820_RAM};
    return (above ? 2 : 1) * sizeof(c->e820[0]);
}

// Files in the order of their names, as others have them.
static int fill(struct fw_config *c, bool hpet)
{
    struct fw_cfg *f = &c->device;
    int error = acpi_tables_make(&c->acpi, c->cpus, hpet, 0);
    if (error != OK)
        return error;
    unsigned commands = acpi_loader_make(&c->acpi, c->loader);
    fw_cfg_add(f, FW_CFG_RAM_SIZE, &c->memory, sizeof(c->memory));
    fw_cfg_add(f, FW_CFG_NOGRAPHIC, &c->no_graphics, sizeof(c->no_graphics));
    fw_cfg_add(f, FW_CFG_NB_CPUS, &c->cpus, sizeof(c->cpus));
    fw_cfg_add(f, FW_CFG_MAX_CPUS, &c->cpus, sizeof(c->cpus));
    fw_cfg_add(f, FW_CFG_IRQ0_OVERRIDE, &c->irq0_override, sizeof(c->irq0_override));
    if (c->boot_order[0])
        fw_cfg_add_file(f, "bootorder", c->boot_order, (u32)strlen(c->boot_order) + 1);
    fw_cfg_add_file(f, ACPI_LOADER_RSDP, c->acpi.rsdp, sizeof(c->acpi.rsdp));
    fw_cfg_add_file(f, ACPI_LOADER_TABLES, c->acpi.bytes, c->acpi.size);
    fw_cfg_add_file(f, "etc/e820", c->e820, e820_make(c));
    fw_cfg_add_file(f, "etc/sercon-port", &c->console_port, sizeof(c->console_port));
    fw_cfg_add_file(f, "etc/smbios/smbios-anchor", c->smbios.anchor, sizeof(c->smbios.anchor));
    fw_cfg_add_file(f, "etc/smbios/smbios-tables", c->smbios.tables, c->smbios.size);
    fw_cfg_add_file(f, "etc/table-loader", c->loader, commands * (u32)sizeof(c->loader[0]));
    return OK;
}

int fw_config_create(struct vm *vm, struct fw_config **out)
{
    struct fw_config *c = *out = heap_alloc(sizeof(*c));
    if (!c)
        return ERR_NO_MEMORY;
    fw_cfg_init(&c->device, &(struct io_dma){machine_dma_map, vm});
    c->memory = vm->config.memory;
    c->cpus = (u16)vm->config.cpus;
    c->no_graphics = true;
    c->console_port = COM1_PORT;
    c->irq0_override = true; // the PIT is at another pin of the IOAPIC: for the MP table
    storage_boot_order(vm, c->boot_order);
    smbios_make(
        &c->smbios,
        &(struct smbios_machine){.name = vm->config.name, .memory = c->memory, .cpus = c->cpus}, 0);
    int error = fill(c, vm->config.devices & CONFIG_HPET);
    if (error == OK)
        error = io_bus_add(&vm->ports, FW_CFG_PORT, FW_CFG_PORTS, &c->device.ports);
    if (error == OK)
        error = io_bus_add(&vm->ports, FW_CFG_DMA_PORT, FW_CFG_DMA_PORTS, &c->device.dma_ports);
    return error;
}

void fw_config_destroy(struct fw_config *c)
{
    heap_free(c);
}

void fw_config_reset(struct fw_config *c)
{
    if (c)
        fw_cfg_reset(&c->device);
}
