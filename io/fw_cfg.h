// SPDX-License-Identifier: MIT
// QEMU's firmware configuration device, by its ports and without DMA: items of bytes, chosen by a
// number. There are no files. QEMU's docs/specs/fw_cfg.
#pragma once

#include "io/device.h"

#define FW_CFG_PORT  0x510 // the selector; the data is the port behind it
#define FW_CFG_PORTS 2

struct fw_cfg {
    struct io_device ports;
    u64 memory; // bytes
    u16 cpus;
    u16 selector;
    u32 offset; // of the next byte
};

void fw_cfg_init(struct fw_cfg *f, u64 memory, unsigned cpus);
void fw_cfg_reset(struct fw_cfg *f);
