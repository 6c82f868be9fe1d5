// SPDX-License-Identifier: MIT
// Registers, resets and interrupts. Registers are 32 bits wide; narrower and wider accesses are
// made of those: bytes that are not written stay, or are zeros where ones do something. Left out:
// port multipliers, hot plug, power states of the link, staggered spin-up, enclosure management,
// command completion coalescing.
#include "io/ahci.h"
#include "vmm/lib/bits.h"

#define AHCI_BAR      5
#define AHCI_BAR_SIZE 0x1000u
#define INTERRUPT_PIN 1

// "HBA Memory Registers".
enum hba_register {
    HBA_CAP = 0x00,
    HBA_GHC = 0x04,
    HBA_IS = 0x08,
    HBA_PI = 0x0c,
    HBA_VS = 0x10,
    HBA_PORTS = 0x100,
};
#define PORT_SIZE_SHIFT 7

#define CAP_PORTS_SHIFT 0
#define CAP_SLOTS_SHIFT 8
#define CAP_PIO_BLOCKS  (1u << 15) // a PIO command may have several
#define CAP_AHCI_ONLY   (1u << 18)
#define CAP_GEN2_SHIFT  20
#define CAP_CLO         (1u << 24)
#define CAP_NCQ         (1u << 30)
#define CAP_64          (1u << 31)
#define CAP_VALUE                                                                                  \
    ((AHCI_PORTS - 1) << CAP_PORTS_SHIFT | (AHCI_SLOTS - 1) << CAP_SLOTS_SHIFT | CAP_PIO_BLOCKS |  \
     CAP_AHCI_ONLY | 2u << CAP_GEN2_SHIFT | CAP_CLO | CAP_NCQ | CAP_64)
#define VERSION_1_3 0x00010300u

#define GHC_RESET     (1u << 0)
#define GHC_INTERRUPT (1u << 1)
#define GHC_AHCI      (1u << 31)

enum port_register {
    PORT_CLB = 0x00,
    PORT_CLBU = 0x04,
    PORT_FB = 0x08,
    PORT_FBU = 0x0c,
    PORT_IS = 0x10,
    PORT_IE = 0x14,
    PORT_CMD = 0x18,
    PORT_TFD = 0x20,
    PORT_SIG = 0x24,
    PORT_SSTS = 0x28,
    PORT_SCTL = 0x2c,
    PORT_SERR = 0x30,
    PORT_SACT = 0x34,
    PORT_CI = 0x38,
};

#define PORT_LIST_MASK     0xfffffc00u
#define PORT_RECEIVED_MASK 0xffffff00u
#define PORT_IE_MASK       0xfdc000ffu
#define PORT_IS_FROM_ERROR (PORT_IS_CONNECT | PORT_IS_PHY_READY) // cleared in PxSERR

#define PORT_CMD_SPIN_UP    (1u << 1)
#define PORT_CMD_POWER_ON   (1u << 2)
#define PORT_CMD_OVERRIDE   (1u << 3)
#define PORT_CMD_SLOT_SHIFT 8
#define PORT_CMD_FIS_RUNS   (1u << 14)
#define PORT_CMD_LIST_RUNS  (1u << 15)
#define PORT_CMD_ATAPI      (1u << 24)
#define PORT_CMD_LED        (1u << 25)
#define PORT_CMD_WRITABLE   (PORT_CMD_START | PORT_CMD_FIS_ENABLE | PORT_CMD_ATAPI | PORT_CMD_LED)

#define TASK_FILE_RESET 0x7fu
#define SIGNATURE_RESET 0xffffffffu

#define SCTL_DETECT      0xfu
#define SCTL_INITIALIZE  1u
#define SCTL_OFFLINE     4u
#define SCTL_SPEED_SHIFT 4 // the highest generation; 0: any
#define SPEED_WIDTH      4
#define SPEED_MAX        2u
#define SCTL_MASK        0xfffu
#define SSTS_ESTABLISHED 0x103u // active, device and link there
#define SSTS_SPEED_SHIFT 4
#define SERR_PHY_READY   (1u << 16)
#define SERR_EXCHANGED   (1u << 26)

static const struct pci_identity identity = {
    .vendor = 0x8086, .device = 0x2922, .revision = 2, .class_code = 0x010601};

// --- interrupts ---

// A bit of IS is set as long as its port has something enabled to say; writing it clears what no
// port says any more.
void ahci_update(struct ahci *ahci)
{
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        if (ahci->ports[i].status & ahci->ports[i].enable)
            ahci->interrupt |= 1u << i;
    bool level = (ahci->control & GHC_INTERRUPT) && ahci->interrupt;
    pci_msi_set(&ahci->msi, level, ahci->interrupt & ~ahci->announced);
    ahci->announced = level ? ahci->interrupt : 0;
}

void ahci_port_raise(struct ahci *ahci, struct ahci_port *port, u32 bits)
{
    u32 news = bits & port->enable & ~port->status;
    port->status |= bits;
    if (news) // another event of a port whose bit in IS is set still: a message of its own
        ahci->announced &= ~(1u << (port - ahci->ports));
    ahci_update(ahci);
}

// --- the link ---

void ahci_port_greet(struct ahci *ahci, struct ahci_port *port)
{
    port->greeting = !(port->command & PORT_CMD_FIS_ENABLE);
    if (port->greeting)
        return;
    const struct ata_registers *r = &port->drive->registers;
    port->signature = (u32)(r->lba << 8) | (u8)r->count;
    ahci_send_registers(ahci, port, false);
}

static void port_connect(struct ahci *ahci, struct ahci_port *port)
{
    if (!port->drive)
        return;
    ata_reset(port->drive);
    u32 limit = (u32)bits_get(port->sata_control, SCTL_SPEED_SHIFT, SPEED_WIDTH);
    port->speed = limit ? MIN(limit, SPEED_MAX) : SPEED_MAX;
    port->linked = true;
    port->resetting = false;
    port->sata_error |= SERR_EXCHANGED | SERR_PHY_READY;
    ahci_port_raise(ahci, port, PORT_IS_CONNECT | PORT_IS_PHY_READY);
    ahci_port_greet(ahci, port);
}

static void port_disconnect(struct ahci_port *port)
{
    ahci_port_abandon(port);
    port->halted = port->command & PORT_CMD_START; // only its next edge starts the list again
    port->linked = port->greeting = false;
    port->task_file = TASK_FILE_RESET;
    port->signature = SIGNATURE_RESET;
}

// PxSCTL.DET: 1 holds the link in reset, 4 switches it off, 0 lets it come up.
static void port_control_link(struct ahci *ahci, struct ahci_port *port, u32 value)
{
    u32 before = port->sata_control & SCTL_DETECT, now = value & SCTL_DETECT;
    port->sata_control = value & SCTL_MASK;
    if (now == SCTL_INITIALIZE || now == SCTL_OFFLINE)
        port_disconnect(port);
    else if (now == 0 && before != 0 && !port->linked)
        port_connect(ahci, port);
}

static u32 port_link_status(const struct ahci_port *port)
{
    if (port->linked)
        return SSTS_ESTABLISHED | port->speed << SSTS_SPEED_SHIFT;
    return (port->sata_control & SCTL_DETECT) == SCTL_OFFLINE ? SCTL_OFFLINE : 0;
}

// --- a port's registers ---

static void port_write_command(struct ahci *ahci, struct ahci_port *port, u32 value)
{
    bool changes = (port->command ^ value) & PORT_CMD_START;
    port->command = value & PORT_CMD_WRITABLE;
    if (changes) {
        ahci_port_abandon(port);
        port->active = port->issued = 0;
        port->slot = port->next = 0;
        port->halted = false;
    }
    if (value & PORT_CMD_OVERRIDE)
        port->task_file &= ~(ATA_STATUS_BUSY | ATA_STATUS_DRQ);
    if (port->greeting)
        ahci_port_greet(ahci, port);
}

static u32 port_read_command(const struct ahci_port *port)
{
    u32 value = port->command | PORT_CMD_SPIN_UP | PORT_CMD_POWER_ON;
    if (value & PORT_CMD_START)
        value |= PORT_CMD_LIST_RUNS | (u32)port->slot << PORT_CMD_SLOT_SHIFT;
    return value & PORT_CMD_FIS_ENABLE ? value | PORT_CMD_FIS_RUNS : value;
}

static void port_write_error(struct ahci_port *port, u32 value)
{
    port->sata_error &= ~value;
    if (!(port->sata_error & SERR_EXCHANGED))
        port->status &= ~PORT_IS_CONNECT;
    if (!(port->sata_error & SERR_PHY_READY))
        port->status &= ~PORT_IS_PHY_READY;
}

static u32 port_read(const struct ahci_port *port, unsigned reg)
{
    switch (reg) {
    case PORT_CLB:
        return (u32)port->list;
    case PORT_CLBU:
        return (u32)(port->list >> 32);
    case PORT_FB:
        return (u32)port->received;
    case PORT_FBU:
        return (u32)(port->received >> 32);
    case PORT_IS:
        return port->status;
    case PORT_IE:
        return port->enable;
    case PORT_CMD:
        return port_read_command(port);
    case PORT_TFD:
        return port->task_file;
    case PORT_SIG:
        return port->signature;
    case PORT_SSTS:
        return port_link_status(port);
    case PORT_SCTL:
        return port->sata_control;
    case PORT_SERR:
        return port->sata_error;
    case PORT_SACT:
        return port->active;
    case PORT_CI:
        return port->issued;
    default:
        return 0;
    }
}

static void set_low(u64 *address, u32 value)
{
    *address = ALIGN_DOWN(*address, BIT(32)) | value;
}

static void set_high(u64 *address, u32 value)
{
    *address = (u32)*address | (u64)value << 32;
}

static void port_write(struct ahci *ahci, struct ahci_port *port, unsigned reg, u32 value)
{
    switch (reg) {
    case PORT_CLB:
        set_low(&port->list, value & PORT_LIST_MASK);
        break;
    case PORT_CLBU:
        set_high(&port->list, value);
        break;
    case PORT_FB:
        set_low(&port->received, value & PORT_RECEIVED_MASK);
        break;
    case PORT_FBU:
        set_high(&port->received, value);
        break;
    case PORT_IS:
        port->status &= ~value | PORT_IS_FROM_ERROR;
        break;
    case PORT_IE:
        port->enable = value & PORT_IE_MASK;
        break;
    case PORT_CMD:
        port_write_command(ahci, port, value);
        break;
    case PORT_SCTL:
        port_control_link(ahci, port, value);
        break;
    case PORT_SERR:
        port_write_error(port, value);
        break;
    case PORT_SACT:
        port->active |= port->command & PORT_CMD_START ? value : 0;
        break;
    case PORT_CI:
        port->issued |= port->command & PORT_CMD_START ? value : 0;
        break;
    default:
        break;
    }
}

// --- the adapter's ---

static void adapter_reset(struct ahci *ahci)
{
    io_timer_cancel(ahci->clock, &ahci->step);
    ahci->control = GHC_AHCI;
    ahci->interrupt = ahci->announced = 0;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        struct ahci_port *port = &ahci->ports[i];
        ahci_port_abandon(port);
        *port = (struct ahci_port){
            .drive = port->drive, .list = port->list, .received = port->received};
        port_disconnect(port);
        port_connect(ahci, port);
    }
    ahci_update(ahci);
}

static void write_control(struct ahci *ahci, u32 value)
{
    ahci->control = GHC_AHCI | (value & GHC_INTERRUPT);
    if (value & GHC_RESET)
        adapter_reset(ahci);
}

static u32 ports_implemented(const struct ahci *ahci)
{
    u32 ports = 0;
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        ports |= ahci->ports[i].drive ? 1u << i : 0;
    return ports;
}

static u32 adapter_read(const struct ahci *ahci, unsigned reg)
{
    switch (reg) {
    case HBA_CAP:
        return CAP_VALUE;
    case HBA_GHC:
        return ahci->control;
    case HBA_IS:
        return ahci->interrupt;
    case HBA_PI:
        return ports_implemented(ahci);
    case HBA_VS:
        return VERSION_1_3;
    default:
        return 0;
    }
}

// The port that an offset belongs to; null: none that is implemented.
static struct ahci_port *register_port(struct ahci *ahci, u64 offset)
{
    u64 number = (offset - HBA_PORTS) >> PORT_SIZE_SHIFT;
    if (offset < HBA_PORTS || number >= AHCI_PORTS || !ahci->ports[number].drive)
        return NULL;
    return &ahci->ports[number];
}

static u32 register_read(struct ahci *ahci, u64 offset)
{
    if (offset < HBA_PORTS)
        return adapter_read(ahci, (unsigned)offset);
    const struct ahci_port *port = register_port(ahci, offset);
    return port ? port_read(port, (unsigned)bits_get(offset, 0, PORT_SIZE_SHIFT)) : 0;
}

static void register_write(struct ahci *ahci, u64 offset, u32 value)
{
    struct ahci_port *port = register_port(ahci, offset);
    if (port) {
        port_write(ahci, port, (unsigned)bits_get(offset, 0, PORT_SIZE_SHIFT), value);
    } else if (offset == HBA_GHC) {
        write_control(ahci, value);
    } else if (offset == HBA_IS) {
        ahci->interrupt &= ~value;
        ahci->announced &= ~value;
    }
}

static u64 ahci_read(struct io_device *device, u64 offset, unsigned size)
{
    struct ahci *ahci = container_of(device, struct ahci, registers);
    u64 base = ALIGN_DOWN(offset, 4), value = register_read(ahci, base);
    if (offset - base + size > 4)
        value |= (u64)register_read(ahci, base + 4) << 32;
    return value >> (8 * (offset - base));
}

// In which ones do something and zeros nothing.
static bool is_of_ones(u64 offset)
{
    u64 reg = bits_get(offset, 0, PORT_SIZE_SHIFT);
    if (offset < HBA_PORTS)
        return offset == HBA_IS;
    return reg == PORT_IS || reg == PORT_SERR || reg == PORT_SACT || reg == PORT_CI;
}

static void bytes_write(struct ahci *ahci, u64 base, u32 lanes, u32 value)
{
    u32 kept = is_of_ones(base) || lanes == ~0u ? 0 : register_read(ahci, base) & ~lanes;
    register_write(ahci, base, kept | (value & lanes));
}

// Across two registers: not taken, but for a pair in 64 bits.
static void ahci_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct ahci *ahci = container_of(device, struct ahci, registers);
    unsigned shift = offset % 4 * 8;
    u64 lanes = bytes_mask(size);
    if (offset % MIN(size, 4))
        return;
    bytes_write(ahci, offset - offset % 4, (u32)lanes << shift, (u32)value << shift);
    if (size == 8)
        register_write(ahci, offset + 4, (u32)(value >> 32));
    ahci_update(ahci);
    ahci_work(ahci);
}

static const struct io_device_ops ops = {"ahci", ahci_read, ahci_write};

// --- life ---

// Bus mastering or MSI may be on now.
static void ahci_configured(struct pci_function *function, unsigned offset UNUSED,
                            unsigned size UNUSED)
{
    struct ahci *ahci = container_of(function, struct ahci, pci);
    ahci_update(ahci);
    ahci_work(ahci);
}

static void ahci_reset(struct pci_function *function)
{
    struct ahci *ahci = container_of(function, struct ahci, pci);
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        ahci->ports[i].list = ahci->ports[i].received = 0;
        if (ahci->ports[i].drive)
            ata_power_on(ahci->ports[i].drive);
    }
    adapter_reset(ahci);
}

static void step_due(struct io_timer *timer)
{
    ahci_work(container_of(timer, struct ahci, step));
}

void ahci_init(struct ahci *ahci, struct io_clock *clock, struct io_dma dma, struct apic_bus *apics)
{
    *ahci = (struct ahci){.registers = {&ops}, .clock = clock, .dma = dma};
    io_timer_init(&ahci->step, step_due);
    pci_function_init(&ahci->pci, &identity);
    ahci->pci.written = ahci_configured;
    ahci->pci.reset = ahci_reset;
    pci_bar_init(&ahci->pci, AHCI_BAR, PCI_BAR_MEMORY32, AHCI_BAR_SIZE, &ahci->registers);
    pci_intx_init(&ahci->pci, INTERRUPT_PIN);
    pci_msi_init(&ahci->msi, &ahci->pci, apics);
    adapter_reset(ahci);
}

void ahci_attach(struct ahci *ahci, unsigned port, struct ata_drive *drive)
{
    ahci->ports[port].drive = drive;
    adapter_reset(ahci);
}

void ahci_destroy(struct ahci *ahci)
{
    io_timer_cancel(ahci->clock, &ahci->step);
}
