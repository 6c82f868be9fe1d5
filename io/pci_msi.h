// SPDX-License-Identifier: MIT
// A function's interrupt, as a message if the guest enabled MSI, else on its pin (PCI Local Bus
// Specification "Message Signaled Interrupts"): one vector, 32-bit address, no mask.
#pragma once

#include "io/pci.h"

struct apic_bus;

struct pci_msi {
    struct pci_function *function;
    struct apic_bus *apics; // where messages go
    unsigned offset;        // of the capability
    bool pending;           // a message is due, bus mastering is off
};

// Add the capability.
void pci_msi_init(struct pci_msi *msi, struct pci_function *function, struct apic_bus *apics);
// The interrupt's level; `event`: something new has happened, which is what a message says.
// To be called again when the guest wrote configuration space.
void pci_msi_set(struct pci_msi *msi, bool level, bool event);
