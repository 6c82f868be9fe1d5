// SPDX-License-Identifier: MIT
// The adapter with a disk and a CD-ROM drive, driven as a guest does: lists and tables in memory
// that is an array.
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
    disk_image_destroy(&disk_content);
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

static void packet_with(const u8 packet[12], u32 room)
{
    u8 fis[20] = {0x27, 0x80, 0xa0, 1};
    const struct piece piece = {DATA, room};
    prepare(1, 0, fis, packet, &piece, room ? 1 : 0);
    issue(1, 1);
}

static void check_sense(u8 key, u8 code)
{
    recover(1);
    packet_with((const u8[12]){0x03, 0, 0, 0, 18}, 18);
    CHECK_EQ(memory[DATA] & 0x7f, 0x70);
    CHECK_EQ(memory[DATA + 2], key);
    CHECK_EQ(memory[DATA + 12], code);
}

TEST(ports_show_their_drives)
{
    start();
    CHECK_EQ(rd(HBA_PI), 3);
    CHECK_EQ(rd(PORT(0) + PORT_SIG), 0x00000101);
    CHECK_EQ(rd(PORT(1) + PORT_SIG), 0xeb140101);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), 0x150);
    CHECK_EQ(rd(PORT(0) + PORT_SSTS), 0x123);
    CHECK_EQ(received(0, 0x40), 0x34);
    CHECK_EQ(rd(PORT(2) + PORT_SSTS), 0);
}

TEST(dma_read_and_its_interrupt)
{
    start();
    command(0x25, 10, 4, 2048);
    CHECK_EQ(memcmp(memory + DATA, disk_file + 10 * 512, 2048), 0);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_REGISTER);
    CHECK_EQ(rd(HBA_IS), 1);
    CHECK_EQ(moved(0), 2048);
    CHECK_EQ(received(0, 0x42), 0x50);
    unsigned line = 16 + pci_intx_line(PCI_DEVFN(0x1f, 2), 1);
    CHECK(chip_level[line]);
    wr(PORT(0) + PORT_IS, ~0u);
    wr(HBA_IS, 1);
    CHECK(!chip_level[line]);
}

TEST(pio_read_sends_a_setup_fis)
{
    start();
    command(0x20, 1, 1, 512);
    CHECK_EQ(memcmp(memory + DATA, disk_file + 512, 512), 0);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_PIO_SETUP);
    CHECK_EQ(received(0, 0x20), 0x5f);
    CHECK_EQ(received(0, 0x20 + 15), 0x50);
}

TEST(a_write_is_read_back_and_leaves_the_file)
{
    start();
    memset(memory + DATA, 0xab, 1024);
    command(0x35, 20, 2, 1024);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    memset(memory + DATA, 0, 2048);
    command(0xc8, 19, 4, 2048);
    CHECK_EQ(memory[DATA + 511], disk_file[19 * 512 + 511]);
    CHECK_EQ(memory[DATA + 512], 0xab);
    CHECK_EQ(memory[DATA + 1535], 0xab);
    CHECK_EQ(memory[DATA + 1536], disk_file[22 * 512]);
    CHECK_EQ(disk_file[20 * 512], (u8)(20 * 7 + 20 * 512));
}

TEST(a_transfer_is_cut_into_steps)
{
    u8 fis[20];
    const struct piece piece = {DATA, 400 * 512};
    start();
    ata_fis(fis, 0x25, 0, 400);
    prepare(0, 0, fis, NULL, &piece, 1);
    wr(PORT(0) + PORT_CI, 1);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 1);
    CHECK(rd(PORT(0) + PORT_TFD) & ATA_STATUS_BUSY);
    CHECK(ahci.ports[0].moved <= STEP_BYTES);
    chip_pass(SECOND);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK_EQ(memcmp(memory + DATA, disk_file, 400 * 512), 0);
}

TEST(a_step_ends_when_its_time_is_up)
{
    u8 fis[20];
    struct piece pieces[600];
    start();
    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
        pieces[i] = (struct piece){DATA + 2 * i, 2};
    ata_fis(fis, 0x25, 5, 2);
    prepare(0, 0, fis, NULL, pieces, ARRAY_SIZE(pieces));
    wr(PORT(0) + PORT_CI, 1);
    CHECK(ahci.ports[0].moved < 1024); // small pieces cost more than their bytes
    chip_pass(SECOND);
    CHECK_EQ(memcmp(memory + DATA, disk_file + 5 * 512, 1024), 0);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_REGISTER);
}

TEST(queued_commands_finish_by_device_bits)
{
    u8 fis[20];
    start();
    for (unsigned slot = 0; slot < 32; slot++) {
        const struct piece piece = {DATA + slot * 512, 512};
        ata_fis(fis, 0x60, slot * 3, 0);
        fis[3] = 1;
        fis[12] = (u8)(slot << 3);
        prepare(0, slot, fis, NULL, &piece, 1);
    }
    wr(PORT(0) + PORT_SACT, ~0u);
    issue(0, ~0u);
    CHECK_EQ(rd(PORT(0) + PORT_SACT), 0);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_DEVICE_BITS);
    CHECK_EQ(received(0, 0x58), 0xa1);
    for (unsigned slot = 0; slot < 32; slot++)
        CHECK_EQ(memcmp(memory + DATA + slot * 512, disk_file + slot * 3 * 512, 512), 0);
}

TEST(a_queued_command_that_fails_is_in_the_log)
{
    u8 fis[20];
    start();
    ata_fis(fis, 0x60, SECTORS, 0);
    fis[3] = 1;
    prepare(0, 5, fis, NULL, NULL, 0);
    wr(PORT(0) + PORT_SACT, 1 << 5);
    issue(0, 1 << 5);
    CHECK_EQ(rd(PORT(0) + PORT_SACT), 1 << 5);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_TASK_FILE);
    recover(0);
    CHECK_EQ(rd(PORT(0) + PORT_SACT), 0);
    command(0x2f, 0x10, 1, 512);
    CHECK_EQ(memory[DATA], 5);
    CHECK_EQ(memory[DATA + 3], ATA_ERROR_NOT_FOUND);
    u8 sum = 0;
    for (unsigned i = 0; i < 512; i++)
        sum = (u8)(sum + memory[DATA + i]);
    CHECK_EQ(sum, 0);
}

TEST(a_sector_past_the_end_halts_the_port_until_it_is_restarted)
{
    start();
    command(0x25, SECTORS - 1, 2, 1024);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), ATA_ERROR_NOT_FOUND << 8 | 0x51);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_TASK_FILE);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 1);
    command(0x25, 0, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 1);
    recover(0);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    command(0x25, SECTORS - 1, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_REGISTER);
}

TEST(an_unknown_command_is_aborted)
{
    start();
    command(0xb0, 0, 1, 0); // SMART
    CHECK_EQ(rd(PORT(0) + PORT_TFD), ATA_ERROR_ABORT << 8 | 0x51);
}

TEST(addresses_that_are_no_memory_are_a_host_bus_error)
{
    u8 fis[20];
    const struct piece wild = {MEMORY - 512, 1024}, rom = {DATA - PAGE_SIZE, 512};
    start();
    ata_fis(fis, 0x25, 0, 2);
    prepare(0, 0, fis, NULL, &wild, 1);
    issue(0, 1);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_HOST_BUS);
    recover(0);
    prepare(0, 0, fis, NULL, &rom, 1);
    issue(0, 1);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_HOST_BUS);
    recover(0);
    wr(PORT(0) + PORT_CLBU, 1);
    issue(0, 1);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_HOST_BUS);
    wr(PORT(0) + PORT_CLBU, 0);
    recover(0);
    command(0x25, 0, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
}

TEST(a_table_that_is_too_short_ends_the_command)
{
    start();
    command(0x25, 0, 4, 512);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_OVERFLOW);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK_EQ(moved(0), 512);
}

TEST(a_bad_fis_is_an_interface_error)
{
    u8 fis[20];
    start();
    ata_fis(fis, 0x25, 0, 1);
    fis[0] = 0x41;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_INTERFACE);
}

TEST(a_write_without_host_memory_fails)
{
    start();
    no_memory = true;
    command(0x35, 0, 1, 512);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_TASK_FILE);
    no_memory = false;
    recover(0);
    command(0x35, 0, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_REGISTER);
}

TEST(identify_tells_the_size_and_sums_up)
{
    start();
    command(0xec, 0, 0, 512);
    CHECK_EQ(memory[DATA + 120] | memory[DATA + 121] << 8, SECTORS);
    CHECK_EQ(memory[DATA + 200] | memory[DATA + 201] << 8, SECTORS);
    CHECK_EQ(memory[DATA + 54], 'l'); // a word's high byte comes first
    CHECK_EQ(memory[DATA + 55], 'P');
    u8 sum = 0;
    for (unsigned i = 0; i < 512; i++)
        sum = (u8)(sum + memory[DATA + i]);
    CHECK_EQ(sum, 0);
}

TEST(features_show_in_identify)
{
    u8 fis[20];
    start();
    ata_fis(fis, 0xef, 0, 0x46);
    fis[3] = TRANSFER_MODE;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    fis[3] = WRITE_CACHE_OFF;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    command(0xec, 0, 0, 512);
    CHECK_EQ(memory[DATA + 177], 0x40); // word 88
    CHECK_EQ(memory[DATA + 170] & 0x20, 0);
}

TEST(a_link_reset_brings_the_signature_again)
{
    start();
    wr(PORT(0) + PORT_CMD, PORT_CMD_FIS_ENABLE);
    wr(PORT(0) + PORT_SCTL, 1);
    CHECK_EQ(rd(PORT(0) + PORT_SSTS), 0);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), 0x7f);
    wr(PORT(0) + PORT_SCTL, 0);
    CHECK_EQ(rd(PORT(0) + PORT_SSTS), 0x123);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), 0x150);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_CONNECT);
    wr(PORT(0) + PORT_IS, ~0u);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_CONNECT);
    wr(PORT(0) + PORT_SERR, ~0u);
    CHECK(!(rd(PORT(0) + PORT_IS) & PORT_IS_CONNECT));
}

TEST(a_software_reset_brings_the_signature_again)
{
    u8 fis[20] = {0x27};
    start();
    command(0x25, 7, 1, 512);
    fis[15] = ATA_CONTROL_RESET;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    fis[15] = 0;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK_EQ(received(0, 0x44), 1);
    CHECK_EQ(received(0, 0x4c), 1);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), 0x150);
}

TEST(an_adapter_reset_gives_up_what_goes_on)
{
    u8 fis[20];
    const struct piece piece = {DATA, 400 * 512};
    start();
    ata_fis(fis, 0x25, 0, 400);
    prepare(0, 0, fis, NULL, &piece, 1);
    wr(PORT(0) + PORT_CI, 1);
    wr(HBA_GHC, GHC_RESET);
    CHECK_EQ(rd(HBA_GHC), GHC_AHCI);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK(!io_timer_armed(&ahci.step));
    CHECK_EQ(rd(PORT(0) + PORT_CLB), LIST);
}

TEST(without_bus_mastering_commands_wait)
{
    start();
    host.ecam.ops->write(&host.ecam, 0xfa000 + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    command(0x25, 0, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 1);
    host.ecam.ops->write(&host.ecam, 0xfa000 + PCI_COMMAND, 2,
                         PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
}

TEST(each_event_is_a_message)
{
    start();
    u64 msi = 0xfa000 + ahci.msi.offset;
    host.ecam.ops->write(&host.ecam, msi + MSI_ADDRESS, 4, 0xfee00000);
    host.ecam.ops->write(&host.ecam, msi + MSI_DATA, 2, 0x55);
    host.ecam.ops->write(&host.ecam, msi + MSI_CONTROL, 2, MSI_ENABLE);
    command(0x25, 0, 1, 512);
    CHECK_EQ(messages, 1);
    CHECK(!chip_level[16 + pci_intx_line(PCI_DEVFN(0x1f, 2), 1)]);
    wr(PORT(0) + PORT_IS, ~0u);
    wr(HBA_IS, 1);
    CHECK_EQ(messages, 1);
    command(0x25, 0, 1, 512);
    CHECK_EQ(messages, 2);
    wr(HBA_IS, 1); // while the port still has something to say
    CHECK_EQ(messages, 3);
}

TEST(the_first_packet_hears_of_the_reset)
{
    start();
    packet_with((const u8[12]){0x00}, 0);
    CHECK_EQ(rd(PORT(1) + PORT_TFD), 0x6451);
    check_sense(6, 0x29);
    check_sense(0, 0);
    packet_with((const u8[12]){0x00}, 0);
    CHECK_EQ(rd(PORT(1) + PORT_TFD), 0x50);
}

static void start_disc(void)
{
    start();
    packet_with((const u8[12]){0x03, 0, 0, 0, 18}, 18); // takes the unit attention
}

TEST(packets_read_the_disc)
{
    start_disc();
    packet_with((const u8[12]){0x28, 0, 0, 0, 0, 3, 0, 0, 2}, 4096);
    CHECK_EQ(memcmp(memory + DATA, disc_file + 3 * 2048, 4096), 0);
    CHECK_EQ(moved(1), 4096);
    packet_with((const u8[12]){0xa8, 0, 0, 0, 0, 63, 0, 0, 0, 1}, 2048);
    CHECK_EQ(memcmp(memory + DATA, disc_file + 63 * 2048, 2048), 0);
    packet_with((const u8[12]){0x28, 0, 0, 0, 0, 63, 0, 0, 2}, 4096);
    CHECK_EQ(rd(PORT(1) + PORT_TFD) >> 12, 5);
    check_sense(5, 0x21);
}

TEST(the_disc_has_a_size_and_a_track)
{
    start_disc();
    packet_with((const u8[12]){0x25}, 8);
    CHECK_EQ(memcmp(memory + DATA, "\0\0\0\77\0\0\10\0", 8), 0);
    packet_with((const u8[12]){0x43, 0, 0, 0, 0, 0, 0, 0, 20}, 20);
    CHECK_EQ(memcmp(memory + DATA, "\0\22\1\1\0\24\1\0\0\0\0\0\0\24\252\0\0\0\0\100", 20), 0);
    packet_with((const u8[12]){0x12, 0, 0, 0, 36}, 36);
    CHECK_EQ(memory[DATA], 5);
    CHECK_EQ(memory[DATA + 4], 31);
    CHECK_EQ(memcmp(memory + DATA + 8, "PLINTH  CD-ROM          1.0 ", 28), 0);
}

TEST(an_unknown_packet_is_illegal)
{
    start_disc();
    packet_with((const u8[12]){0x2a}, 0); // WRITE (10)
    CHECK_EQ(rd(PORT(1) + PORT_TFD), 0x5451);
    check_sense(5, 0x20);
}

TEST(a_disc_drive_is_no_disk)
{
    u8 fis[20];
    start_disc();
    ata_fis(fis, 0xec, 0, 0);
    prepare(1, 0, fis, NULL, NULL, 0);
    issue(1, 1);
    CHECK_EQ(rd(PORT(1) + PORT_TFD), ATA_ERROR_ABORT << 8 | 0x51);
    CHECK_EQ(received(1, 0x45), 0x14);
    CHECK_EQ(received(1, 0x46), 0xeb);
}

TEST(random_registers_and_lists_do_no_harm)
{
    start();
    for (unsigned round = 0; round < 3000; round++) {
        const struct piece pieces[2] = {
            {chip_random() % (2 * MEMORY), (u32)chip_random() % 4096 + 1},
            {chip_random() % MEMORY, (u32)chip_random() + 1}};
        u8 fis[20], packet[12];
        unsigned n = chip_random() % 2, slot = chip_random() % 32;
        ata_fis(fis, (u8)chip_random(), chip_random() % (SECTORS + 10), (u16)chip_random());
        for (unsigned i = 0; i < 12; i++)
            packet[i] = (u8)(chip_random() & (i % 3 ? 0x3f : 0xff));
        if (n && chip_random() % 4)
            fis[2] = 0xa0;
        prepare(n, slot, fis, n ? packet : NULL, pieces, 2);
        wr(PORT(n) + PORT_CI, 1u << slot);
        chip_pass(chip_random() % MS);
        wr((u32)(chip_random() % 0x240) & ~3u, (u32)chip_random());
        if (round % 8 == 0) {
            start_port(0);
            start_port(1);
        }
    }
    ahci_destroy(&ahci);
    CHECK(!io_timer_armed(&ahci.step));
}
