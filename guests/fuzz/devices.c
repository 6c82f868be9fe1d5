// SPDX-License-Identifier: MIT
// Devices that do nothing until they are set up: the disks' host adapter (AHCI 1.3.1) gets a place,
// a started port and lists of commands; fw_cfg gets DMA requests. Both lie at the ground's start,
// for trials to spoil.
#include "guests/fuzz/fuzz.h"

#define CONFIG_ADDRESS  0xcf8
#define CONFIG_DATA     0xcfc
#define CONFIG_ADAPTER  0x8000fa00u // 00:1f.2
#define CONFIG_COMMAND  0x04
#define CONFIG_BAR5     0x24
#define MEMORY_MASTER   6
#define PORT0_CLB       (FUZZ_ADAPTER + 0x100)
#define PORT0_FB        (FUZZ_ADAPTER + 0x108)
#define PORT0_CMD       (FUZZ_ADAPTER + 0x118)
#define CMD_FRE_START   0x11
#define SLOTS           32
#define TABLES          8 // shared by the slots
#define PRDS            4
#define TABLE_FIS       0
#define TABLE_PRDT      0x80
#define TABLE_SIZE      0x100
#define FIS_REGISTERS   0x8027 // from the host, with a command
#define FIS_LENGTH      5
#define HEADER_PRDS     16 // shift
#define DEVICE_LBA      0x40
#define SECTOR          512
#define TRANSFER_MAX    0x1000 // bytes, but for a few
#define SELDOM          64
#define GROUND_LISTS    FUZZ_GROUND
#define GROUND_RECEIVED (FUZZ_GROUND + 0x400)
#define GROUND_TABLES   (FUZZ_GROUND + 0x1000)

struct header {
    u32 flags, moved;
    u64 table, reserved[2];
};

static u32 random_ground(void)
{
    return (u32)FUZZ_GROUND + random_below(GROUND_SIZE - TRANSFER_MAX);
}

static void config_write(u32 offset, u32 value)
{
    out32(CONFIG_ADDRESS, CONFIG_ADAPTER | offset);
    out32(CONFIG_DATA, value);
}

static void adapter_start(void)
{
    config_write(CONFIG_BAR5, (u32)FUZZ_ADAPTER);
    config_write(CONFIG_COMMAND, MEMORY_MASTER);
    *(volatile u32 *)PORT0_CMD = 0;
    *(volatile u32 *)PORT0_CLB = (u32)GROUND_LISTS;
    *(volatile u32 *)PORT0_FB = (u32)GROUND_RECEIVED;
    *(volatile u32 *)PORT0_CMD = CMD_FRE_START;
}

static void table_make(u64 table)
{
    static const u8 commands[] = {0x20, 0x25, 0x29, 0x2f, 0x35, 0x40, 0x47, 0x60,
                                  0x61, 0x90, 0xa1, 0xc8, 0xca, 0xe7, 0xec, 0xef};
    volatile u32 *fis = (volatile u32 *)(table + TABLE_FIS);
    fis[0] = FIS_REGISTERS | (u32)(one_in(8) ? random64() & 0xff : PICK(commands)) << 16;
    fis[1] = random_below(16) | (u32)DEVICE_LBA << 24;
    fis[2] = one_in(8) ? (u32)random64() : 0;
    fis[3] = random_below(TRANSFER_MAX / SECTOR);
    for (unsigned i = 0; i < PRDS; i++) {
        volatile u32 *prd = (volatile u32 *)(table + TABLE_PRDT + i * 16);
        prd[0] = one_in(SELDOM) ? (u32)random64() : random_ground() & ~1u;
        prd[1] = one_in(32) ? (u32)random64() : 0;
        prd[3] = one_in(8) ? (u32)random64() : random_below(TRANSFER_MAX) | 1;
    }
}

static void lists_make(void)
{
    volatile struct header *headers = (volatile struct header *)GROUND_LISTS;
    for (unsigned i = 0; i < SLOTS; i++) {
        u32 flags = FIS_LENGTH | random_below(PRDS + 1) << HEADER_PRDS;
        headers[i].flags = one_in(4) ? flags ^ (u32)BIT(random_below(32)) : flags;
        headers[i].table = GROUND_TABLES + i % TABLES * TABLE_SIZE;
    }
    for (unsigned i = 0; i < TABLES; i++)
        table_make(GROUND_TABLES + i * TABLE_SIZE);
}

// Control, length and address, big-endian.
static void requests_make(void)
{
    volatile u32 *request = (volatile u32 *)FUZZ_REQUESTS;
    for (unsigned i = 0; i < REQUESTS; i++, request += REQUEST_SIZE / sizeof(u32)) {
        u32 control = random_below(32) | random_below(0x30) << 16;
        request[0] = __builtin_bswap32(one_in(8) ? (u32)random64() : control);
        request[1] =
            __builtin_bswap32(one_in(SELDOM) ? (u32)random64() : random_below(TRANSFER_MAX));
        request[2] = one_in(16) ? (u32)random64() : 0;
        request[3] = __builtin_bswap32(one_in(SELDOM) ? (u32)random64() : random_ground());
    }
}

void devices_make(void)
{
    adapter_start();
    lists_make();
    requests_make();
}
