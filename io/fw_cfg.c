// SPDX-License-Identifier: MIT
// Every item is a number of up to 8 bytes, low byte first; behind its end, and where there is no
// item, zeros are read.
#include "io/fw_cfg.h"

#define DATA_OFFSET   1
#define SELECTOR_SIZE 2

// Items, by the specification's names.
#define FW_CFG_SIGNATURE 0x00
#define FW_CFG_ID        0x01
#define FW_CFG_RAM_SIZE  0x03
#define FW_CFG_NOGRAPHIC 0x04
#define FW_CFG_NB_CPUS   0x05
#define FW_CFG_MAX_CPUS  0x0f

#define SIGNATURE      0x554d4551u // "QEMU"
#define ID_TRADITIONAL 1           // the ports, no DMA

static u64 item(const struct fw_cfg *f)
{
    switch (f->selector) {
    case FW_CFG_SIGNATURE:
        return SIGNATURE;
    case FW_CFG_ID:
        return ID_TRADITIONAL;
    case FW_CFG_RAM_SIZE:
        return f->memory;
    case FW_CFG_NOGRAPHIC:
        return true;
    case FW_CFG_NB_CPUS:
    case FW_CFG_MAX_CPUS:
        return f->cpus;
    default: // the file directory (0x19) with its count of 0 too
        return 0;
    }
}

static u64 fw_cfg_read(struct io_device *device, u64 offset, unsigned size)
{
    struct fw_cfg *f = container_of(device, struct fw_cfg, ports);
    if (offset != DATA_OFFSET || size != 1 || f->offset >= sizeof(u64))
        return 0;
    return item(f) >> f->offset++ * 8;
}

static void fw_cfg_write(struct io_device *device, u64 offset UNUSED, unsigned size, u64 value)
{
    struct fw_cfg *f = container_of(device, struct fw_cfg, ports);
    if (size != SELECTOR_SIZE) // the data is read-only
        return;
    f->selector = (u16)value;
    f->offset = 0;
}

static const struct io_device_ops fw_cfg_ops = {"fw-cfg", fw_cfg_read, fw_cfg_write};

void fw_cfg_init(struct fw_cfg *f, u64 memory, unsigned cpus)
{
    *f = (struct fw_cfg){.ports = {&fw_cfg_ops}, .memory = memory, .cpus = (u16)cpus};
}

void fw_cfg_reset(struct fw_cfg *f)
{
    f->selector = 0;
    f->offset = 0;
}
