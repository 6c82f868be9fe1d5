// SPDX-License-Identifier: MIT
// A parallel NOR flash chip with the Intel command set (Intel "28F640J3A" and JEDEC CFI), one byte
// wide, as UEFI firmware for virtual machines expects it: blocks of 4 KiB. While the chip is in
// array mode its bytes are memory that a guest reads without the chip's doing; every write is a
// command or a command's data.
#pragma once

#include "io/device.h"

#define FLASH_BLOCK_SIZE 0x1000u

struct flash {
    struct io_device memory; // the whole array
    u8 *bytes;               // the array; the caller's
    u32 size;
    // Another mode: may the guest read the array now?
    void (*array_mode)(void *context, bool on);
    // bytes[offset, offset + size) changed.
    void (*changed)(void *context, u32 offset, u32 size);
    void *context;
    u8 read_mode; // the command that chose what reads give
    u8 command;   // that waits for its data or its confirmation; 0: none
    u8 status;
    bool counted;    // of a buffered write: its count has come,
    u32 buffer_left; // and so many bytes have not
};

// size: a multiple of FLASH_BLOCK_SIZE. The callbacks may be null.
void flash_init(struct flash *f, u8 *bytes, u32 size);
// Array mode. The array stays.
void flash_reset(struct flash *f);
