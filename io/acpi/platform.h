// SPDX-License-Identifier: MIT
// Numbers that the chips and the ACPI tables must agree on. Read by the C compiler and,
// preprocessed, by iasl: nothing but plain numbers.
#pragma once

// Fixed hardware, in I/O ports; offsets are from ACPI_PM_BASE.
#define ACPI_PM_BASE 0x600
#define ACPI_PM_SIZE                                                                               \
    0x80 // what the LPC bridge of this chip set decodes, and Linux therefore reserves
#define ACPI_PM1_STATUS    0x00
#define ACPI_PM1_ENABLE    0x02
#define ACPI_PM1_CONTROL   0x04
#define ACPI_PM_TIMER      0x08
#define ACPI_GPE0_STATUS   0x20
#define ACPI_GPE0_ENABLE   0x24
#define ACPI_SCI_IRQ       9
#define ACPI_SLEEP_TYPE_S5 7
#define ACPI_RESET_PORT    0xcf9
#define ACPI_RESET_VALUE   0x06

// Memory: ECAM, and the window for PCI BARs by first byte, last byte and length.
#define ACPI_ECAM_BASE 0xb0000000
#define ACPI_ECAM_SIZE 0x10000000
#define ACPI_PCI_BASE  0xc0000000
#define ACPI_PCI_LAST  0xfebfffff
#define ACPI_PCI_SIZE  0x3ec00000

// PCI interrupt pins arrive at the IOAPIC's pins from here on.
#define ACPI_PCI_GSI_BASE 16
