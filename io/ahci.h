// SPDX-License-Identifier: MIT
// A SATA host adapter (Serial ATA Advanced Host Controller Interface 1.3.1) as the one of Intel's
// ICH9: six ports, 32 command slots each, queued commands, MSI. The work of commands is cut into
// steps on the VM's clock. Ports without a drive are not implemented.
#pragma once

#include "io/ata.h"
#include "io/clock.h"
#include "io/dma.h"
#include "io/pci.h"
#include "io/pci_msi.h"

#define AHCI_PORTS 6
#define AHCI_SLOTS 32

struct ahci;

struct ahci_port {
    struct ata_drive *drive; // null: none
    u64 list, received;      // addresses of the command list and of the received-FIS area
    u32 status, enable;      // PxIS, PxIE
    u32 command;             // PxCMD
    u32 task_file, signature;
    u32 sata_control, sata_error, speed;
    u32 active, issued; // PxSACT, PxCI
    bool linked;        // the drive answers
    bool greeting;      // its signature FIS waits for FIS receive to be enabled
    bool resetting;     // SRST is set
    bool halted;        // after a fatal error or a link reset, until ST is cleared
    bool busy;          // with the command in `slot`:
    unsigned slot;
    unsigned next; // the slot that comes first when several are issued
    u64 table;     // address of its PRD table
    u32 prds, prd; // entries of it, and the next one
    u64 address;   // where the piece at hand goes,
    u32 piece;     // and what is left of it
    u32 moved;     // bytes, so far
};

struct ahci {
    struct pci_function pci;
    struct pci_msi msi;
    struct io_device registers;
    struct io_clock *clock;
    struct io_timer step;
    struct io_dma dma;
    u32 control;   // GHC
    u32 interrupt; // IS
    u32 announced; // bits of IS that a message was sent for
    struct ahci_port ports[AHCI_PORTS];
};

void ahci_init(struct ahci *ahci, struct io_clock *clock, struct io_dma dma,
               struct apic_bus *apics);
// Before the VM runs; the drive stays the caller's.
void ahci_attach(struct ahci *ahci, unsigned port, struct ata_drive *drive);
// Off its clock, for good.
void ahci_destroy(struct ahci *ahci);

// --- between io/ahci.c and io/ahci_command.c ---

// PxIS.
#define PORT_IS_REGISTER    (1u << 0) // D2H Register FIS
#define PORT_IS_PIO_SETUP   (1u << 1)
#define PORT_IS_DEVICE_BITS (1u << 3) // Set Device Bits FIS
#define PORT_IS_CONNECT     (1u << 6)
#define PORT_IS_PHY_READY   (1u << 22)
#define PORT_IS_OVERFLOW    (1u << 24)
#define PORT_IS_INTERFACE   (1u << 27) // interface fatal error
#define PORT_IS_HOST_BUS    (1u << 29) // host bus fatal error
#define PORT_IS_TASK_FILE   (1u << 30)

// PxCMD.
#define PORT_CMD_START      (1u << 0)
#define PORT_CMD_FIS_ENABLE (1u << 4)

// What there is to do, as far as one step may go, and the rest by the timer.
void ahci_work(struct ahci *ahci);
// The command at hand is given up.
void ahci_port_abandon(struct ahci_port *port);
// PxIS, and what follows from it.
void ahci_port_raise(struct ahci *ahci, struct ahci_port *port, u32 bits);
void ahci_update(struct ahci *ahci);
// The drive has been reset: its signature, now or once FISes can be received.
void ahci_port_greet(struct ahci *ahci, struct ahci_port *port);
// Send the drive's registers: a D2H Register FIS.
void ahci_send_registers(struct ahci *ahci, struct ahci_port *port, bool interrupt);
