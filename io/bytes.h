// SPDX-License-Identifier: MIT
// Chips with an 8-bit data bus: the bridge in front of them splits a wider access into bytes,
// lowest first.
#pragma once

#include "io/device.h"

static inline u64 io_bytes_read(struct io_device *device, u64 offset, unsigned size,
                                u8 (*read)(struct io_device *device, unsigned reg))
{
    if (likely(size == 1))
        return read(device, (unsigned)offset);
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)read(device, (unsigned)offset + i) << (8 * i);
    return value;
}

static inline void io_bytes_write(struct io_device *device, u64 offset, unsigned size, u64 value,
                                  void (*write)(struct io_device *device, unsigned reg, u8 value))
{
    if (likely(size == 1)) {
        write(device, (unsigned)offset, (u8)value);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        write(device, (unsigned)offset + i, (u8)(value >> (8 * i)));
}
