// SPDX-License-Identifier: MIT
// The I/O APIC (Intel 82093AA and the ICH's, version 0x20 with its EOI register): 24 pins, each
// with a redirection entry that makes a message on the APIC bus of it. The caller holds the VM's
// device lock.
#pragma once

#include "io/device.h"
#include "io/lapic.h"

#define IOAPIC_BASE_DEFAULT 0xfec00000ull
#define IOAPIC_SIZE         0x1000ull
#define IOAPIC_PINS         24

struct ioapic {
    struct io_device mmio;
    struct apic_bus *bus;
    u32 id;
    u8 select;
    u64 entries[IOAPIC_PINS];
    u32 lines; // bit n: pin n is asserted, whatever its polarity bit says
};

// All pins masked. Hooks itself into the bus as the one that wants to know of EOIs.
void ioapic_init(struct ioapic *ioapic, struct apic_bus *bus);
// Power-on; the lines keep their levels.
void ioapic_reset(struct ioapic *ioapic);
// Of type irq_line.set: the context is the struct ioapic, the number is the pin.
void ioapic_set_irq(void *ioapic, unsigned pin, bool level);
// Of type apic_bus.eoi.
void ioapic_eoi(void *ioapic, u8 vector);
