// SPDX-License-Identifier: MIT
// Carrying out what is in the command lists: fetch a command, hand it to the drive, move its data
// piece by piece through the PRD table, tell the result. One command of a port at a time, in steps
// that are bounded in bytes, pieces and time; whatever the guest put into its lists, each piece
// costs something and each table ends. A PRD's I bit has no effect.
#include "io/ahci.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/string.h"

// What one step does for a port, in bytes moved; what is not moving counts as bytes too.
#define STEP_BYTES   0x10000u
#define COST_COMMAND 0x1000u
#define COST_PIECE   0x100u
#define STEP_HZ      4000u  // no new piece after this part of a second
#define PAUSE_HZ     50000u // between two steps

// "Command List Structure".
struct command_header {
    u32 flags;
    u32 moved; // PRDBC
    u64 table;
    u32 reserved[4];
};
#define HEADER_FIS_WORDS  0x1fu
#define HEADER_PACKET     (1u << 5)
#define HEADER_PRDS_SHIFT 16
#define FIS_WORDS_MIN     5u
#define FIS_WORDS_MAX     16u
#define TABLE_MASK        0x7full

// "Command Table".
#define TABLE_PACKET 0x40u
#define TABLE_PRDS   0x80u
struct prd {
    u64 address;
    u32 reserved;
    u32 count;
};
#define PRD_COUNT 0x3fffffu // less 1; bit 0 is always 1

// "Received FIS Structure".
#define RECEIVED_PIO_SETUP   0x20u
#define RECEIVED_REGISTERS   0x40u
#define RECEIVED_DEVICE_BITS 0x58u

// Serial ATA "Frame Information Structure (FIS) types".
enum fis_type {
    FIS_HOST_REGISTERS = 0x27,
    FIS_REGISTERS = 0x34,
    FIS_PIO_SETUP = 0x5f,
    FIS_DEVICE_BITS = 0xa1,
};
#define FIS_SIZE           20u
#define FIS_COMMAND        0x80u // the command register was written, not the control register
#define FIS_TO_HOST        0x20u
#define FIS_INTERRUPT      0x40u
#define DEVICE_BITS_SIZE   8u
#define DEVICE_BITS_STATUS 0x77u

// --- results ---

static void port_fatal(struct ahci *ahci, struct ahci_port *port, u32 bits)
{
    ahci_port_abandon(port);
    port->halted = true;
    ahci_port_raise(ahci, port, bits);
}

void ahci_port_abandon(struct ahci_port *port)
{
    if (port->busy)
        port->task_file &= ~ATA_STATUS_BUSY;
    port->busy = false;
}

// False: the received-FIS area is not memory.
static bool receive(struct ahci *ahci, struct ahci_port *port, unsigned offset, const u8 *fis,
                    unsigned size)
{
    if (!(port->command & PORT_CMD_FIS_ENABLE) ||
        dma_write(&ahci->dma, port->received + offset, fis, size))
        return true;
    port_fatal(ahci, port, PORT_IS_HOST_BUS);
    return false;
}

static void fis_fill(u8 fis[FIS_SIZE], enum fis_type type, u8 flags, const struct ata_registers *r)
{
    const u8 bytes[FIS_SIZE] = {
        [0] = (u8)type,
        [1] = flags,
        [2] = r->status,
        [3] = r->error,
        [4] = (u8)r->lba,
        [5] = (u8)(r->lba >> 8),
        [6] = (u8)(r->lba >> 16),
        [7] = r->device,
        [8] = (u8)(r->lba >> 24),
        [9] = (u8)(r->lba >> 32),
        [10] = (u8)(r->lba >> 40),
        [12] = (u8)r->count,
        [13] = (u8)(r->count >> 8),
    };
    memcpy(fis, bytes, sizeof(bytes));
}

static u32 task_file(const struct ata_registers *r)
{
    return (u32)r->error << 8 | r->status;
}

void ahci_send_registers(struct ahci *ahci, struct ahci_port *port, bool interrupt)
{
    const struct ata_registers *r = &port->drive->registers;
    u8 fis[FIS_SIZE];
    fis_fill(fis, FIS_REGISTERS, interrupt ? FIS_INTERRUPT : 0, r);
    port->task_file = task_file(r);
    if (receive(ahci, port, RECEIVED_REGISTERS, fis, sizeof(fis)) && interrupt)
        ahci_port_raise(ahci, port, PORT_IS_REGISTER);
}

// One for the whole transfer.
static void send_pio_setup(struct ahci *ahci, struct ahci_port *port)
{
    const struct ata_registers *r = &port->drive->registers;
    u8 fis[FIS_SIZE];
    fis_fill(fis, FIS_PIO_SETUP, FIS_INTERRUPT | FIS_TO_HOST, r);
    fis[2] |= ATA_STATUS_DRQ;
    fis[15] = r->status;
    fis[16] = (u8)port->moved;
    fis[17] = (u8)(port->moved >> 8);
    port->task_file = task_file(r);
    if (receive(ahci, port, RECEIVED_PIO_SETUP, fis, sizeof(fis)))
        ahci_port_raise(ahci, port, PORT_IS_PIO_SETUP);
}

static void send_device_bits(struct ahci *ahci, struct ahci_port *port, u32 finished)
{
    const struct ata_registers *r = &port->drive->registers;
    const u8 fis[DEVICE_BITS_SIZE] = {
        FIS_DEVICE_BITS, FIS_INTERRUPT,       r->status & DEVICE_BITS_STATUS, r->error,
        (u8)finished,    (u8)(finished >> 8), (u8)(finished >> 16),           (u8)(finished >> 24),
    };
    port->task_file = task_file(r);
    port->active &= ~finished;
    if (receive(ahci, port, RECEIVED_DEVICE_BITS, fis, sizeof(fis)))
        ahci_port_raise(ahci, port, PORT_IS_DEVICE_BITS);
}

// A queued command leaves PxCI when the drive has taken it, and PxSACT only if it went well; any
// other that failed stays where it is until the port is stopped.
static void port_complete(struct ahci *ahci, struct ahci_port *port)
{
    struct ata_drive *drive = port->drive;
    bool failed = drive->registers.status & ATA_STATUS_ERROR;
    bool queued = drive->protocol == ATA_QUEUED;
    bool pio_in = drive->protocol == ATA_PIO && !drive->to_drive && !failed;
    u64 header = port->list + port->slot * sizeof(struct command_header);
    if (!dma_write(&ahci->dma, header + offsetof(struct command_header, moved), &port->moved,
                   sizeof(port->moved))) {
        port_fatal(ahci, port, PORT_IS_HOST_BUS);
        return;
    }
    port->busy = false;
    port->halted = failed;
    if (queued || !failed)
        port->issued &= ~(1u << port->slot);
    if (queued && failed)
        ata_note_failed(drive, (u8)port->slot);
    if (queued)
        send_device_bits(ahci, port, failed ? 0 : 1u << port->slot);
    if (pio_in && port->moved)
        send_pio_setup(ahci, port);
    if (!queued && (!pio_in || drive->packet))
        ahci_send_registers(ahci, port, true);
    if (failed)
        ahci_port_raise(ahci, port, PORT_IS_TASK_FILE);
}

// --- a command ---

// The control register was written: a software reset begins or ends.
static void control_written(struct ahci *ahci, struct ahci_port *port, u8 control)
{
    bool ends = port->resetting && !(control & ATA_CONTROL_RESET);
    port->resetting = control & ATA_CONTROL_RESET;
    port->issued &= ~(1u << port->slot);
    if (ends) {
        ata_reset(port->drive);
        ahci_port_greet(ahci, port);
    }
}

static struct ata_registers registers_of(const u8 *fis)
{
    return (struct ata_registers){
        .command = fis[2],
        .device = fis[7],
        .features = (u16)(fis[3] | fis[11] << 8),
        .count = (u16)(fis[12] | fis[13] << 8),
        .lba = fis[4] | (u64)fis[5] << 8 | (u64)fis[6] << 16 | (u64)fis[8] << 24 |
               (u64)fis[9] << 32 | (u64)fis[10] << 40,
    };
}

static void port_execute(struct ahci *ahci, struct ahci_port *port, const u8 *fis, const u8 *packet)
{
    const struct ata_registers registers = registers_of(fis);
    port->busy = true;
    port->task_file = ATA_STATUS_BUSY | ATA_STATUS_READY;
    port->prd = port->piece = port->moved = 0;
    ata_execute(port->drive, &registers, packet);
    if (!port->drive->left)
        port_complete(ahci, port);
}

// The slots in turn from 0 on, so that none waits for ever.
static unsigned slot_next(struct ahci_port *port)
{
    u32 later = port->issued & ~0u << port->next;
    unsigned slot = bit_lowest(later ? later : port->issued);
    port->next = (slot + 1) % AHCI_SLOTS;
    return slot;
}

static void port_begin(struct ahci *ahci, struct ahci_port *port)
{
    struct command_header header;
    u8 fis[FIS_SIZE], packet[ATA_PACKET_SIZE];
    port->slot = slot_next(port);
    if (!dma_read(&ahci->dma, port->list + port->slot * sizeof(header), &header, sizeof(header))) {
        port_fatal(ahci, port, PORT_IS_HOST_BUS);
        return;
    }
    bool has_packet = header.flags & HEADER_PACKET;
    u32 words = header.flags & HEADER_FIS_WORDS;
    port->table = header.table & ~TABLE_MASK;
    port->prds = header.flags >> HEADER_PRDS_SHIFT;
    if (!dma_read(&ahci->dma, port->table, fis, sizeof(fis)) ||
        (has_packet && !dma_read(&ahci->dma, port->table + TABLE_PACKET, packet, sizeof(packet))))
        port_fatal(ahci, port, PORT_IS_HOST_BUS);
    else if (words < FIS_WORDS_MIN || words > FIS_WORDS_MAX || fis[0] != FIS_HOST_REGISTERS)
        port_fatal(ahci, port, PORT_IS_INTERFACE);
    else if (fis[1] & FIS_COMMAND)
        port_execute(ahci, port, fis, has_packet ? packet : NULL);
    else
        control_written(ahci, port, fis[15]);
}

// --- its data ---

// The next entry of the PRD table. False: the command is over.
static bool prd_next(struct ahci *ahci, struct ahci_port *port)
{
    struct prd prd;
    if (port->prd == port->prds) { // the guest wants no more of it
        ata_finish(port->drive);
        port_complete(ahci, port);
        ahci_port_raise(ahci, port, PORT_IS_OVERFLOW);
        return false;
    }
    u64 at = port->table + TABLE_PRDS + port->prd * sizeof(prd);
    if (!dma_read(&ahci->dma, at, &prd, sizeof(prd))) {
        port_fatal(ahci, port, PORT_IS_HOST_BUS);
        return false;
    }
    port->prd++;
    port->address = prd.address & ~1ull;
    port->piece = ((prd.count & PRD_COUNT) | 1) + 1;
    return true;
}

// Move some bytes, `limit` at most; returns how many.
static u32 port_move(struct ahci *ahci, struct ahci_port *port, u32 limit)
{
    struct ata_drive *drive = port->drive;
    if (!port->piece && !prd_next(ahci, port))
        return 0;
    u64 length = MIN(port->piece, limit);
    void *data = ata_data(drive, &length);
    if (!data) {
        port_complete(ahci, port);
        return 0;
    }
    void *memory = dma_map(&ahci->dma, port->address, !drive->to_drive, &length);
    if (!memory) {
        port_fatal(ahci, port, PORT_IS_HOST_BUS);
        return 0;
    }
    memcpy(drive->to_drive ? data : memory, drive->to_drive ? memory : data, length);
    port->address += length;
    port->piece -= (u32)length;
    port->moved += (u32)length;
    ata_data_moved(drive, length);
    if (!drive->left)
        port_complete(ahci, port);
    return (u32)length;
}

// --- steps ---

static bool port_has_work(const struct ahci *ahci, const struct ahci_port *port)
{
    return port->linked && !port->halted && (port->command & PORT_CMD_START) &&
           (port->busy || port->issued) &&
           pci_config_get(&ahci->pci, PCI_COMMAND, 2) & PCI_COMMAND_MASTER;
}

// True: there is more to do.
static bool port_work(struct ahci *ahci, struct ahci_port *port, u64 until)
{
    for (u32 left = STEP_BYTES; port_has_work(ahci, port);) {
        if (!left || ahci->clock->now(ahci->clock) >= until)
            return true;
        u32 cost = COST_COMMAND;
        if (port->busy)
            cost = COST_PIECE + port_move(ahci, port, left);
        else
            port_begin(ahci, port);
        left -= MIN(left, cost);
    }
    return false;
}

void ahci_work(struct ahci *ahci)
{
    struct io_clock *clock = ahci->clock;
    u64 until = clock->now(clock) + io_clock_from(clock, 1, STEP_HZ);
    bool more = false;
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        more |= port_work(ahci, &ahci->ports[i], until);
    if (more)
        io_timer_arm(clock, &ahci->step, clock->now(clock) + io_clock_from(clock, 1, PAUSE_HZ));
}
