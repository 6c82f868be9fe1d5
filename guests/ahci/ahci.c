// SPDX-License-Identifier: MIT
// The disks' host adapter, driven as its specification (AHCI 1.3.1) says: a disk with a known
// pattern on port 0, a disc on port 2. Reads and writes of all kinds, errors and the way back from
// them, bad lists, resets, an interrupt.
#include "guests/lib/apic.h"
#include "guests/lib/check.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc
#define CONFIG_AHCI    0x8000fa00u // 00:1f.2
#define CONFIG_COMMAND 0x04
#define CONFIG_BAR5    0x24
#define CONFIG_MSI     0x40
#define MEMORY_MASTER  6
#define BAR            0xc1000000ull
#define HOLE           0xd0000000ull

#define GHC       0x04
#define GHC_RESET 1u
#define GHC_IE    2u
#define IS        0x08
#define PI        0x0c

#define PORT(n) (0x100u + (n)*0x80u)
#define P_CLB   0x00
#define P_FB    0x08
#define P_IS    0x10
#define P_IE    0x14
#define P_CMD   0x18
#define P_TFD   0x20
#define P_SIG   0x24
#define P_SSTS  0x28
#define P_SCTL  0x2c
#define P_SERR  0x30
#define P_SACT  0x34
#define P_CI    0x38

#define CMD_START    0x01u
#define CMD_FRE      0x10u
#define IS_HOST_BUS  BIT(29)
#define IS_TASK_FILE BIT(30)
#define TFD_BUSY     0x80u
#define TFD_GOOD     0x50u

#define DISK        0
#define DISC        2
#define LISTS       0x800000ull // 4 KiB a port: command list, then received FISes
#define TABLE       0x810000ull // 64 KiB a slot
#define BUFFER      0x900000ull
#define SECTOR      512u
#define BLOCK       2048u
#define SECTORS     4096u // of the disk, as the test makes it
#define BLOCKS      64u   // of the disc
#define FLAG_WRITE  0x40u
#define FLAG_PACKET 0x20u
#define POLLS       2000000u
#define VECTOR      0x51

static volatile u32 *const bar = (volatile u32 *)BAR;
static volatile unsigned interrupts;

static u32 rd(u32 offset)
{
    return bar[offset / 4];
}

static void wr(u32 offset, u32 value)
{
    bar[offset / 4] = value;
}

static u32 config_read(u32 offset)
{
    out32(CONFIG_ADDRESS, CONFIG_AHCI | offset);
    return in32(CONFIG_DATA);
}

static void config_write(u32 offset, u32 value)
{
    out32(CONFIG_ADDRESS, CONFIG_AHCI | offset);
    out32(CONFIG_DATA, value);
}

static void fill(u64 at, u8 byte, u64 size)
{
    for (u64 i = 0; i < size; i++)
        *(volatile u8 *)(at + i) = byte;
}

static void port_start(unsigned n)
{
    u64 list = LISTS + n * 0x1000;
    fill(list, 0, 0x1000);
    wr(PORT(n) + P_CLB, (u32)list);
    wr(PORT(n) + P_FB, (u32)list + 0x800);
    wr(PORT(n) + P_CMD, CMD_FRE);
    wr(PORT(n) + P_SERR, ~0u);
    wr(PORT(n) + P_IS, ~0u);
    wr(PORT(n) + P_CMD, CMD_FRE | CMD_START);
}

// The way back after an error ("Non-Queued Error Recovery").
static void recover(unsigned n)
{
    wr(PORT(n) + P_CMD, CMD_FRE);
    wr(PORT(n) + P_SERR, ~0u);
    wr(PORT(n) + P_IS, ~0u);
    wr(PORT(n) + P_CMD, CMD_FRE | CMD_START);
}

// A command with one piece of memory for each slot; what it finds there before is kept.
static void prepare(unsigned n, unsigned slot, u32 flags, const u8 *fis, u64 address, u32 bytes)
{
    volatile u32 *header = (volatile u32 *)(LISTS + n * 0x1000 + slot * 32);
    u64 table = TABLE + slot * 0x10000;
    header[0] = 5 | flags | (bytes ? 1u << 16 : 0);
    header[1] = 0;
    header[2] = (u32)table;
    header[3] = 0;
    for (unsigned i = 0; i < 20; i++)
        *(volatile u8 *)(table + i) = fis[i];
    volatile u32 *prd = (volatile u32 *)(table + 0x80);
    prd[0] = (u32)address;
    prd[1] = (u32)(address >> 32);
    prd[3] = bytes - 1;
}

// True: the slots are through without an error.
static bool issue(unsigned n, u32 slots)
{
    wr(PORT(n) + P_IS, ~0u);
    wr(PORT(n) + P_CI, slots);
    for (unsigned i = 0; i < POLLS; i++) {
        if (rd(PORT(n) + P_IS) & (IS_HOST_BUS | IS_TASK_FILE))
            return false;
        if (!((rd(PORT(n) + P_CI) | rd(PORT(n) + P_SACT)) & slots))
            return true;
    }
    return check(false, "a command ends");
}

static bool disk_command(u8 command, u64 lba, u16 count, u32 flags, u64 address, u32 bytes)
{
    const u8 fis[20] = {0x27,
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
    prepare(DISK, 0, flags, fis, address, bytes);
    return issue(DISK, 1);
}

static bool packet_command(const u8 packet[12], u32 bytes)
{
    const u8 fis[20] = {0x27, 0x80, 0xa0, 1};
    prepare(DISC, 1, FLAG_PACKET, fis, BUFFER, bytes);
    for (unsigned i = 0; i < 12; i++)
        *(volatile u8 *)(TABLE + 0x10000 + 0x40 + i) = packet[i];
    return issue(DISC, 2);
}

// The image's pattern: each word tells its place.
static bool holds_pattern(u64 at, u64 offset, u64 bytes)
{
    const volatile u32 *word = (const volatile u32 *)at;
    for (u64 i = 0; i < bytes / 4; i++)
        if (word[i] != (u32)(offset / 4 + i) * 2654435761u)
            return false;
    return true;
}

static void test_found(void)
{
    check_equal(config_read(0), 0x29228086, "an ICH9 AHCI adapter is there");
    check_equal(config_read(8) >> 8, 0x010601, "its class");
    config_write(CONFIG_BAR5, (u32)BAR);
    config_write(CONFIG_COMMAND, MEMORY_MASTER);
    check_equal(rd(PI), 1u << DISK | 1u << DISC, "ports implemented");
    port_start(DISK);
    port_start(DISC);
    check_equal(rd(PORT(DISK) + P_SIG), 0x00000101, "the disk's signature");
    check_equal(rd(PORT(DISC) + P_SIG), 0xeb140101, "the disc drive's signature");
    check_equal(rd(PORT(DISK) + P_TFD) & 0xff, TFD_GOOD, "the disk is ready");
    check_equal(rd(PORT(DISK) + P_SSTS) & 0xf0f, 0x103, "its link is up");
}

static void test_reading(void)
{
    static const struct {
        u8 command;
        const char *what;
    } ways[] = {{0x20, "READ SECTORS"},
                {0x24, "READ SECTORS EXT"},
                {0xc4, "READ MULTIPLE"},
                {0xc8, "READ DMA"},
                {0x25, "READ DMA EXT"}};
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
        fill(BUFFER, 0, 8 * SECTOR);
        check(disk_command(ways[i].command, 100 + i, 8, 0, BUFFER, 8 * SECTOR) &&
                  holds_pattern(BUFFER, (100 + i) * SECTOR, 8 * SECTOR),
              ways[i].what);
    }
    check(disk_command(0xec, 0, 0, 0, BUFFER, SECTOR), "IDENTIFY DEVICE");
    check_equal(*(volatile u32 *)(BUFFER + 200), SECTORS, "its number of sectors");
    check(disk_command(0x25, 0, SECTORS, 0, BUFFER, SECTORS * SECTOR) &&
              holds_pattern(BUFFER, 0, SECTORS * SECTOR),
          "the whole disk in one command");
}

static void test_queue(void)
{
    u32 slots = 0;
    for (unsigned slot = 0; slot < 8; slot++) {
        u64 lba = slot * 37;
        const u8 fis[20] = {0x27, 0x80, 0x60, 16, (u8)lba, (u8)(lba >> 8), 0,
                            0x40, 0,    0,    0,  0,       (u8)(slot << 3)};
        prepare(DISK, slot, 0, fis, BUFFER + slot * 0x10000, 16 * SECTOR);
        slots |= 1u << slot;
    }
    wr(PORT(DISK) + P_SACT, slots);
    check(issue(DISK, slots), "eight queued commands");
    for (unsigned slot = 0; slot < 8; slot++)
        check(holds_pattern(BUFFER + slot * 0x10000, slot * 37 * SECTOR, 16 * SECTOR),
              "what a queued command read");
}

static void test_writing(void)
{
    fill(BUFFER, 0xa5, 2 * SECTOR);
    check(disk_command(0x35, 701, 2, FLAG_WRITE, BUFFER, 2 * SECTOR), "WRITE DMA EXT");
    check(disk_command(0xea, 0, 0, 0, 0, 0), "FLUSH CACHE EXT");
    fill(BUFFER, 0, 4 * SECTOR);
    check(disk_command(0x25, 700, 4, 0, BUFFER, 4 * SECTOR), "reading it back");
    check(holds_pattern(BUFFER, 700 * SECTOR, SECTOR) &&
              holds_pattern(BUFFER + 3 * SECTOR, 703 * SECTOR, SECTOR),
          "its neighbours are untouched");
    check_equal(*(volatile u32 *)(BUFFER + SECTOR), 0xa5a5a5a5, "its first bytes");
    check_equal(*(volatile u32 *)(BUFFER + 3 * SECTOR - 4), 0xa5a5a5a5, "its last bytes");
}

static void test_errors(void)
{
    check(!disk_command(0x25, SECTORS, 1, 0, BUFFER, SECTOR), "a sector past the end fails");
    check_equal(rd(PORT(DISK) + P_TFD), 0x1051, "IDNF in the task file");
    check_equal(rd(PORT(DISK) + P_CI), 1, "the command stays");
    recover(DISK);
    check_equal(rd(PORT(DISK) + P_CI), 0, "stopping the port clears it");
    check(!disk_command(0xb0, 0, 0, 0, 0, 0), "SMART is refused");
    check_equal(rd(PORT(DISK) + P_TFD), 0x0451, "ABRT in the task file");
    recover(DISK);
    check(!disk_command(0x25, 0, 1, 0, HOLE, SECTOR), "data to a hole fails");
    check(rd(PORT(DISK) + P_IS) & IS_HOST_BUS, "as a host bus error");
    recover(DISK);
    check(!disk_command(0x25, 0, 1, 0, BAR, SECTOR), "data to the adapter itself fails");
    recover(DISK);
    check(!disk_command(0x25, 0, 1, 0, ~0ull - 255, SECTOR), "data that wraps fails");
    recover(DISK);
    wr(PORT(DISK) + P_CLB, (u32)HOLE);
    check(!issue(DISK, 1), "a command list in a hole fails");
    port_start(DISK);
    check(disk_command(0x25, 3, 1, 0, BUFFER, SECTOR) && holds_pattern(BUFFER, 3 * SECTOR, SECTOR),
          "reading works after all that");
}

// A PRD table of two-byte pieces, each of which leads to the head of that table.
static void test_long_table(void)
{
    const u8 fis[20] = {0x27, 0x80, 0x25, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 1};
    volatile u32 *header = (volatile u32 *)(LISTS + DISK * 0x1000);
    prepare(DISK, 0, 0, fis, TABLE, 2);
    header[0] |= 0xffffu << 16;
    for (unsigned i = 1; i < 3000; i++)
        for (unsigned word = 0; word < 4; word++)
            ((volatile u32 *)(TABLE + 0x80))[i * 4 + word] = ((volatile u32 *)(TABLE + 0x80))[word];
    issue(DISK, 1);
    recover(DISK);
    check(disk_command(0x25, 9, 1, 0, BUFFER, SECTOR) && holds_pattern(BUFFER, 9 * SECTOR, SECTOR),
          "reading works after a table of many pieces");
}

static void test_resets(void)
{
    wr(PORT(DISK) + P_CMD, CMD_FRE);
    wr(PORT(DISK) + P_SCTL, 1);
    check_equal(rd(PORT(DISK) + P_SSTS) & 0xf, 0, "COMRESET takes the link down");
    wr(PORT(DISK) + P_SCTL, 0);
    check_equal(rd(PORT(DISK) + P_SSTS) & 0xf, 3, "and up again");
    check_equal(rd(PORT(DISK) + P_TFD), 0x0150, "the disk has passed its diagnostics");
    wr(GHC, GHC_RESET);
    check_equal(rd(GHC), 0x80000000, "the adapter's reset ends");
    port_start(DISK);
    port_start(DISC);
    check(disk_command(0x25, 701, 1, 0, BUFFER, SECTOR), "reading after a reset");
    check_equal(*(volatile u32 *)BUFFER, 0xa5a5a5a5, "what was written outlives it");
}

static bool disc_fails(const u8 packet[12], u8 key, u8 code, const char *what)
{
    bool failed = !packet_command(packet, BLOCK);
    check_equal(rd(PORT(DISC) + P_TFD) >> 12, key, what);
    recover(DISC);
    packet_command((const u8[12]){0x03, 0, 0, 0, 18}, 18);
    check_equal(*(volatile u8 *)(BUFFER + 12), code, what);
    return check(failed, what);
}

static void test_disc(void)
{
    disc_fails((const u8[12]){0x00}, 6, 0x29, "the first command hears of the reset");
    check(packet_command((const u8[12]){0x00}, 0), "TEST UNIT READY");
    check(packet_command((const u8[12]){0x25}, 8), "READ CAPACITY");
    check_equal(*(volatile u32 *)BUFFER, (BLOCKS - 1) << 24, "the last block");
    check(packet_command((const u8[12]){0x28, 0, 0, 0, 0, 7, 0, 0, 4}, 4 * BLOCK) &&
              holds_pattern(BUFFER, 7 * BLOCK, 4 * BLOCK),
          "READ (10)");
    disc_fails((const u8[12]){0x28, 0, 0, 0, 0, BLOCKS, 0, 0, 1}, 5, 0x21, "a block past the end");
    disc_fails((const u8[12]){0x2a}, 5, 0x20, "WRITE (10)");
}

static bool count_interrupt(u64 vector, u64 error UNUSED, u64 *frame UNUSED)
{
    interrupts++;
    apic_write(APIC_EOI, 0);
    return vector == VECTOR;
}

static void test_interrupt(void)
{
    interrupt_hook = count_interrupt;
    check_equal(config_read(CONFIG_MSI) & 0xff, 5, "an MSI capability");
    config_write(CONFIG_MSI + 4, (u32)APIC_PAGE);
    config_write(CONFIG_MSI + 8, VECTOR);
    config_write(CONFIG_MSI, 1u << 16);
    apic_write(APIC_SVR, APIC_SVR_ENABLE | 0xff);
    wr(IS, ~0u);
    wr(PORT(DISK) + P_IS, ~0u);
    wr(PORT(DISK) + P_IE, 1);
    wr(GHC, GHC_IE);
    for (unsigned i = 1; i <= 3; i++) {
        disk_command(0x25, 5, 1, 0, BUFFER, SECTOR);
        __asm__ volatile("sti; nop; cli");
        check_equal(interrupts, i, "a message for each command");
        wr(PORT(DISK) + P_IS, ~0u);
        wr(IS, ~0u);
    }
}

void guest_main(const u8 *boot_params UNUSED)
{
    check_setup();
    test_found();
    test_reading();
    test_queue();
    test_writing();
    test_errors();
    test_long_table();
    test_resets();
    test_disc();
    test_interrupt();
    check_finish();
}
