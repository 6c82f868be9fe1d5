// SPDX-License-Identifier: MIT
// The guest's PC for ACPI: one PCI root bus with its window and interrupt pins, the ISA devices behind its bridge, and
// the ranges that are nobody's to give away. Interrupts are described for the IOAPIC only. Processors are
// not here: there are as many as the VM is given (vmm/load/acpi_tables.c).
#include "io/acpi/platform.h"

// Pin p (0 to 3) of a slot: the chip's wiring is pci_intx_line() in io/pci.h.
#define PIN(slot, p)                                                                               \
    Package () { (slot << 16) | 0xFFFF, p, 0, ACPI_PCI_GSI_BASE + ((slot + p) & 7) }
#define SLOT(slot)  PIN (slot, 0), PIN (slot, 1), PIN (slot, 2), PIN (slot, 3)
#define SLOTS(slot) SLOT (slot), SLOT ((slot + 1)), SLOT ((slot + 2)), SLOT ((slot + 3))

DefinitionBlock ("", "DSDT", 2, "PLINTH", "PLINTHPC", 1)
{
    Name (\_S5, Package () { ACPI_SLEEP_TYPE_S5, ACPI_SLEEP_TYPE_S5, 0, 0 })

    Scope (\_SB)
    {
        // ECAM must be claimed outside the root bridge, else an operating system does not trust it.
        Device (ECAM)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, "ECAM")
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, ACPI_ECAM_BASE, ACPI_ECAM_SIZE)
            })
        }

        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                               0, 0, 0xFF, 0, 0x100)
                IO (Decode16, 0xCF8, 0xCF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                        0, 0, 0x0CF7, 0, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                        0, 0x0D00, 0xFFFF, 0, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
                             ReadWrite, 0, ACPI_PCI_BASE, ACPI_PCI_LAST, 0, ACPI_PCI_SIZE)
            })
            Name (_PRT, Package ()
            {
                SLOTS (0), SLOTS (4), SLOTS (8), SLOTS (12),
                SLOTS (16), SLOTS (20), SLOTS (24), SLOTS (28)
            })

            // Hand over the PCI Express capability structures; there is nothing to hot-plug, no PME, no AER.
            Method (_OSC, 4)
            {
                CreateDWordField (Arg3, 0, STAT)
                If (Arg0 != ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766"))
                {
                    STAT |= 0x04 // unrecognized UUID
                    Return (Arg3)
                }
                CreateDWordField (Arg3, 8, CTRL)
                Local0 = CTRL & 0x10
                If (Local0 != CTRL)
                {
                    STAT |= 0x10 // capabilities masked
                }
                CTRL = Local0
                Return (Arg3)
            }

            Device (ISA)
            {
                Name (_ADR, 0x001F0000)

                Device (PIC)
                {
                    Name (_HID, EisaId ("PNP0000"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x20, 0x20, 0, 2)
                        IO (Decode16, 0xA0, 0xA0, 0, 2)
                        IO (Decode16, 0x4D0, 0x4D0, 0, 2)
                        IRQNoFlags () { 2 }
                    })
                }

                Device (PIT)
                {
                    Name (_HID, EisaId ("PNP0100"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x40, 0x40, 0, 4)
                        IRQNoFlags () { 0 }
                    })
                }

                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x70, 0x70, 0, 2)
                        IRQNoFlags () { 8 }
                    })
                }

                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3F8, 0x3F8, 0, 8)
                        IRQNoFlags () { 4 }
                    })
                }

                Device (COM2)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 2)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x2F8, 0x2F8, 0, 8)
                        IRQNoFlags () { 3 }
                    })
                }

                Device (BRD)
                {
                    Name (_HID, EisaId ("PNP0C02"))
                    Name (_UID, "BOARD")
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x61, 0x61, 0, 1)
                        IO (Decode16, 0x80, 0x80, 0, 1)
                        IO (Decode16, 0x92, 0x92, 0, 1)
                        IO (Decode16, 0xED, 0xED, 0, 1)
                        IO (Decode16, ACPI_PM_BASE, ACPI_PM_BASE, 0, ACPI_PM_SIZE)
                    })
                }
            }
        }
    }
}
