// SPDX-License-Identifier: MIT
// PCI as a guest sees it: one root bus of functions with 4 KiB of configuration space each, reached
// through the ports at 0xcf8 (PCI Local Bus Specification "Configuration Mechanism #1") and through
// ECAM (PCI Express Base Specification "Enhanced Configuration Access Mechanism"). A byte of
// configuration space and the bits of it that the guest may write are all a function needs; BARs
// with a device behind them follow the guest's writes.
#pragma once

#include "io/device.h"
#include "io/bus.h"

#define PCI_CONFIG_SIZE             4096
#define PCI_LEGACY_CONFIG_SIZE      256
#define PCI_BARS                    6
#define PCI_FUNCTIONS               256 // on a bus: 32 devices of 8 functions
#define PCI_INTX_LINES              8
#define PCI_DEVFN(device, function) ((device) << 3 | (function))

#define PCI_VENDOR_ID           0x00
#define PCI_DEVICE_ID           0x02
#define PCI_COMMAND             0x04
#define PCI_STATUS              0x06
#define PCI_REVISION            0x08
#define PCI_CLASS               0x09 // three bytes: interface, subclass, class
#define PCI_HEADER_TYPE         0x0e
#define PCI_BAR0                0x10
#define PCI_SUBSYSTEM_VENDOR_ID 0x2c
#define PCI_SUBSYSTEM_ID        0x2e
#define PCI_CAPABILITIES        0x34
#define PCI_INTERRUPT_LINE      0x3c
#define PCI_INTERRUPT_PIN       0x3d
#define PCI_HEADER_END          0x40

#define PCI_COMMAND_IO           0x0001
#define PCI_COMMAND_MEMORY       0x0002
#define PCI_COMMAND_MASTER       0x0004
#define PCI_COMMAND_INTX_DISABLE 0x0400
#define PCI_STATUS_INTERRUPT     0x0008
#define PCI_STATUS_CAPABILITIES  0x0010
#define PCI_HEADER_MULTIFUNCTION 0x80

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEMORY32, PCI_BAR_MEMORY64 };

struct pci_bar {
    enum pci_bar_kind kind;
    u64 size;
    struct io_device *device; // null: nobody is put on a bus for it
    bool mapped;
    u64 base; // where it is mapped
};

struct pci_host;

struct pci_function {
    struct pci_host *host; // null until pci_host_add()
    u8 devfn;
    // After the guest wrote [offset, offset + size) of configuration space. May be null.
    void (*written)(struct pci_function *function, unsigned offset, unsigned size);
    void (*reset)(struct pci_function *function); // may be null
    bool intx;                // what the device drives, before the command register's mask
    bool intx_driven;         // what reaches the line
    unsigned capability_last; // offset of the last capability; 0: none yet
    unsigned capability_free; // first unused byte after the header
    struct pci_bar bars[PCI_BARS];
    u8 config[PCI_CONFIG_SIZE];
    u8 writable[PCI_CONFIG_SIZE]; // a mask for each byte
};

struct pci_host {
    struct io_device address_port;   // 4 ports from 0xcf8
    struct io_device data_port;      // 4 ports from 0xcfc
    struct io_device ecam;           // 1 MiB for each bus
    struct io_device *reset_control; // gets byte accesses to 0xcf9; null: nobody
    struct io_bus *ports, *mmio;     // where BARs are mapped
    struct irq_line intx;            // number: added to the line 0 to PCI_INTX_LINES - 1
    unsigned intx_users[PCI_INTX_LINES];
    u32 address;
    struct pci_function *functions[PCI_FUNCTIONS];
};

struct pci_identity {
    u16 vendor, device;
    u8 revision;
    u32 class_code; // class, subclass, interface in 24 bits
    u16 subsystem_vendor, subsystem;
};

void pci_host_init(struct pci_host *host, struct io_bus *ports, struct io_bus *mmio,
                   struct irq_line intx);
// Power-on values: every bit that a guest can write is 0, no BAR is mapped.
void pci_host_reset(struct pci_host *host);
// ERR_EXISTS if the place is taken.
MUST_CHECK int pci_host_add(struct pci_host *host, struct pci_function *function, u8 devfn);

void pci_function_init(struct pci_function *function, const struct pci_identity *identity);
void pci_config_set(struct pci_function *function, unsigned offset, unsigned size, u32 value);
u32 pci_config_get(const struct pci_function *function, unsigned offset, unsigned size);
// Let the guest write these bits.
void pci_config_allow(struct pci_function *function, unsigned offset, unsigned size, u32 mask);
// size: a power of two, at least 4 (I/O) or 16. A 64-bit BAR takes index + 1 too.
void pci_bar_init(struct pci_function *function, unsigned index, enum pci_bar_kind kind, u64 size,
                  struct io_device *device);
// Append a capability of `size` bytes, its id and link included; its offset, or 0 if there is no
// room.
unsigned pci_capability_add(struct pci_function *function, u8 id, unsigned size);
// Use pin INTA# to INTD# (1 to 4), and drive it.
void pci_intx_init(struct pci_function *function, unsigned pin);
void pci_intx_set(struct pci_function *function, bool level);
// Which of the PCI_INTX_LINES lines a pin is wired to; the DSDT's _PRT says the same.
static inline unsigned pci_intx_line(unsigned devfn, unsigned pin)
{
    return ((devfn >> 3) + pin - 1) % PCI_INTX_LINES;
}
