// SPDX-License-Identifier: MIT
// QEMU's firmware configuration device: items of bytes, chosen by a number; some have names too,
// which item FW_CFG_FILE_DIR lists. They are read byte by byte through a port, or by DMA. QEMU's
// docs/specs/fw_cfg. Items are read-only here.
#pragma once

#include "io/device.h"
#include "io/dma.h"

#define FW_CFG_PORT      0x510 // the selector; the data is the port behind it
#define FW_CFG_PORTS     2
#define FW_CFG_DMA_PORT  0x514
#define FW_CFG_DMA_PORTS 8

// Items, by the specification's names.
#define FW_CFG_SIGNATURE     0x00
#define FW_CFG_ID            0x01
#define FW_CFG_RAM_SIZE      0x03
#define FW_CFG_NOGRAPHIC     0x04
#define FW_CFG_NB_CPUS       0x05
#define FW_CFG_MAX_CPUS      0x0f
#define FW_CFG_FILE_DIR      0x19
#define FW_CFG_FILE_FIRST    0x20
#define FW_CFG_IRQ0_OVERRIDE 0x8002

#define FW_CFG_ITEMS_MAX 24
#define FW_CFG_FILES_MAX 12
#define FW_CFG_NAME_SIZE 56

struct fw_cfg_file { // numbers are big-endian
    u32 size;
    u16 select, reserved;
    char name[FW_CFG_NAME_SIZE];
} PACKED;

struct fw_cfg_item {
    u16 key;
    u32 size;
    const void *bytes;
};

struct fw_cfg {
    struct io_device ports, dma_ports;
    struct io_dma memory;
    u32 dma_high; // of the address that is being written
    u16 selector;
    u32 offset; // of the next byte
    unsigned item_count;
    struct fw_cfg_item items[FW_CFG_ITEMS_MAX];
    struct {
        u32 count; // big-endian
        struct fw_cfg_file files[FW_CFG_FILES_MAX];
    } PACKED directory;
};

void fw_cfg_init(struct fw_cfg *f, const struct io_dma *memory);
// The bytes are the caller's and stay where they are.
void fw_cfg_add(struct fw_cfg *f, u16 key, const void *bytes, u32 size);
void fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *bytes, u32 size);
void fw_cfg_reset(struct fw_cfg *f);
