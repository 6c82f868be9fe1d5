// SPDX-License-Identifier: MIT
// What the tests of disks share: the adapter with a disk on port 0 and a CD-ROM drive on port 1,
// driven as a guest does, with lists and tables in memory that is an array.
#pragma once

#include "tests/unit/chip.h"

#include "io/bus.c"
#include "io/dma.c"
#include "io/pci.c"
#include "io/pci_msi.c"
#include "io/disk_image.c"
#include "io/ata.c"
#include "io/ata_identify.c"
#include "io/atapi.c"
#include "io/ahci.c"
#include "io/ahci_command.c"

#define MEMORY    (1 * MIB)
#define LIST      0x1000u // port 0; port 1 is a page behind
#define RECEIVED  0x3000u
#define TABLES    0x10000u // 4 KiB for each slot
#define DATA      0x80000u
#define SECTORS   1000u
#define DISC_SIZE (64 * 2048u)
#define BASE      0xc0000000u
#define PORT(n)   (0x100u + (n)*0x80u)

static u8 memory[MEMORY];
static u8 disk_file[SECTORS * 512], disc_file[DISC_SIZE];
static struct disk_image disk_content, disc_content;
static struct ata_drive disk, disc;
static struct ahci ahci;
static struct pci_host host;
static struct io_bus ports, mmio;
static unsigned messages;
static bool no_memory;

void *heap_alloc(size_t size)
{
    return no_memory ? NULL : calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

void apic_bus_msi(struct apic_bus *bus UNUSED, u64 address, u32 data)
{
    CHECK_EQ(address, 0xfee00000);
    CHECK_EQ(data, 0x55);
    messages++;
}

// The upper half of memory can be written, the last page of the lower one not.
static void *map(void *context UNUSED, u64 gpa, bool write, u64 *length)
{
    if (gpa >= MEMORY || (write && gpa / PAGE_SIZE == DATA / PAGE_SIZE - 1))
        return NULL;
    u64 rest = PAGE_SIZE - gpa % PAGE_SIZE;
    *length = MIN(*length, rest);
    return memory + gpa;
}

static void wr(u32 offset, u32 value)
{
    ahci.registers.ops->write(&ahci.registers, offset, 4, value);
}

static u32 rd(u32 offset)
{
    return (u32)chip_read(&ahci.registers, offset, 4);
}

static void put(u32 at, const void *bytes, u32 size)
{
    memcpy(memory + at, bytes, size);
}

static void start_port(unsigned n)
{
    wr(PORT(n) + PORT_CLB, LIST + n * 0x1000);
    wr(PORT(n) + PORT_FB, RECEIVED + n * 0x1000);
    wr(PORT(n) + PORT_CMD, PORT_CMD_FIS_ENABLE);
    wr(PORT(n) + PORT_SERR, ~0u);
    wr(PORT(n) + PORT_IS, ~0u);
    wr(PORT(n) + PORT_IE, ~0u);
    wr(PORT(n) + PORT_CMD, PORT_CMD_FIS_ENABLE | PORT_CMD_START);
    wr(HBA_IS, ~0u);
}

static void start(void)
{
    for (unsigned i = 0; i < sizeof(disk_file); i++)
        disk_file[i] = (u8)(i / 512 * 7 + i);
    for (unsigned i = 0; i < sizeof(disc_file); i++)
        disc_file[i] = (u8)(i / 2048 * 3 + i);
    memset(memory, 0, sizeof(memory));
    messages = 0;
    no_memory = false;
    chip_clock_start();
    io_bus_destroy(&mmio);
    io_bus_init(&mmio, "memory", 1ull << 46);
    io_bus_init(&ports, "port", 0x10000);
    for (unsigned i = 0; i < PCI_INTX_LINES; i++)
        chip_line(16 + i);
    pci_host_init(&host, &ports, &mmio, chip_line(16));
    while (!disk_image_destroy(&disk_content))
        ;
    CHECK_EQ(disk_image_init(&disk_content, disk_file, sizeof(disk_file), true), OK);
    CHECK_EQ(disk_image_init(&disc_content, disc_file, sizeof(disc_file), false), OK);
    ahci_init(&ahci, &chip_clock, (struct io_dma){map, NULL}, NULL);
    ata_drive_init(&disk, &disk_content, false, 0);
    ata_drive_init(&disc, &disc_content, true, 1);
    ahci_attach(&ahci, 0, &disk);
    ahci_attach(&ahci, 1, &disc);
    CHECK_EQ(pci_host_add(&host, &ahci.pci, PCI_DEVFN(0x1f, 2)), OK);
    host.ecam.ops->write(&host.ecam, 0xfa000 + PCI_BAR0 + 20, 4, BASE);
    host.ecam.ops->write(&host.ecam, 0xfa000 + PCI_COMMAND, 2,
                         PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    wr(HBA_GHC, GHC_INTERRUPT);
    start_port(0);
    start_port(1);
}

struct piece {
    u64 address;
    u32 size;
};

// A command in a slot, not yet issued.
static void prepare(unsigned port, unsigned slot, const u8 *fis, const u8 *packet,
                    const struct piece *pieces, unsigned count)
{
    u32 table = TABLES + slot * 0x1000;
    struct command_header header = {
        .flags = 5 | (packet ? HEADER_PACKET : 0) | count << HEADER_PRDS_SHIFT, .table = table};
    put(LIST + port * 0x1000 + slot * sizeof(header), &header, sizeof(header));
    put(table, fis, 20);
    if (packet)
        put(table + TABLE_PACKET, packet, 12);
    for (unsigned i = 0; i < count; i++) {
        struct prd prd = {.address = pieces[i].address, .count = pieces[i].size - 1};
        put(table + TABLE_PRDS + i * sizeof(prd), &prd, sizeof(prd));
    }
}

static void ata_fis(u8 fis[20], u8 command, u64 lba, u16 count)
{
    const u8 bytes[20] = {0x27,
                          0x80,
                          command,
                          0,
                          (u8)lba,
                          (u8)(lba >> 8),
                          (u8)(lba >> 16),
                          0x40,
                          (u8)(lba >> 24),
                          0,
                          0,
                          0,
                          (u8)count,
                          (u8)(count >> 8)};
    memcpy(fis, bytes, 20);
}

static void issue(unsigned port, u32 slots)
{
    wr(PORT(port) + PORT_CI, slots);
    chip_pass(SECOND);
}

// A command of the disk in slot 0 with one piece of memory.
static void command(u8 code, u64 lba, u16 count, u32 bytes)
{
    u8 fis[20];
    const struct piece piece = {DATA, bytes};
    ata_fis(fis, code, lba, count);
    prepare(0, 0, fis, NULL, &piece, bytes ? 1 : 0);
    issue(0, 1);
}

static u8 received(unsigned port, unsigned offset)
{
    return memory[RECEIVED + port * 0x1000 + offset];
}

static u32 moved(unsigned port)
{
    u32 value;
    memcpy(&value, memory + LIST + port * 0x1000 + 4, 4);
    return value;
}

// Stop and start the port, as software does after an error.
static void recover(unsigned port)
{
    wr(PORT(port) + PORT_CMD, PORT_CMD_FIS_ENABLE);
    wr(PORT(port) + PORT_SERR, ~0u);
    wr(PORT(port) + PORT_IS, ~0u);
    wr(PORT(port) + PORT_CMD, PORT_CMD_FIS_ENABLE | PORT_CMD_START);
}
