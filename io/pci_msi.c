// SPDX-License-Identifier: MIT
// The capability is plain configuration space; it is looked at when an interrupt is due. A message
// is a write to memory: without bus mastering it waits, as long as there is a reason for it.
#include "io/pci_msi.h"
#include "io/lapic.h"
#include "vmm/lib/assert.h"

#define CAPABILITY_MSI 0x05u
#define MSI_SIZE       10u
#define MSI_CONTROL    2u
#define MSI_ADDRESS    4u
#define MSI_DATA       8u
#define MSI_ENABLE     0x0001u
#define MSI_ADDRESS_RW 0xfffffffcu
#define MSI_DATA_RW    0xffffu

void pci_msi_init(struct pci_msi *msi, struct pci_function *function, struct apic_bus *apics)
{
    unsigned offset = pci_capability_add(function, CAPABILITY_MSI, MSI_SIZE);
    assert(offset);
    *msi = (struct pci_msi){.function = function, .apics = apics, .offset = offset};
    pci_config_allow(function, offset + MSI_CONTROL, 2, MSI_ENABLE);
    pci_config_allow(function, offset + MSI_ADDRESS, 4, MSI_ADDRESS_RW);
    pci_config_allow(function, offset + MSI_DATA, 2, MSI_DATA_RW);
}

void pci_msi_set(struct pci_msi *msi, bool level, bool event)
{
    struct pci_function *f = msi->function;
    bool enabled = pci_config_get(f, msi->offset + MSI_CONTROL, 2) & MSI_ENABLE;
    pci_intx_set(f, level && !enabled);
    msi->pending = enabled && level && (event || msi->pending);
    if (!msi->pending || !(pci_config_get(f, PCI_COMMAND, 2) & PCI_COMMAND_MASTER))
        return;
    msi->pending = false;
    apic_bus_msi(msi->apics, pci_config_get(f, msi->offset + MSI_ADDRESS, 4),
                 pci_config_get(f, msi->offset + MSI_DATA, 2));
}
