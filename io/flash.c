// SPDX-License-Identifier: MIT
// Programming and erasing take no time, so the chip is never busy. What is programmed can only
// clear bits, what is erased is all ones. A buffered write goes straight into the array. Sources:
// Intel "28F640J3A" data sheet, "Command Definitions"; JEDEC JEP137 and JESD68 (CFI). The status
// register is 0 after "clear status", as in QEMU's chip: UEFI firmware tells flash from RAM and ROM
// by that.
#include "io/flash.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/string.h"

enum flash_command {
    READ_ARRAY = 0xff,
    READ_IDENTIFIER = 0x90,
    READ_QUERY = 0x98,
    READ_STATUS = 0x70,
    CLEAR_STATUS = 0x50,
    PROGRAM = 0x40,
    PROGRAM_OTHER = 0x10,
    ERASE = 0x20,
    BUFFERED_PROGRAM = 0xe8,
    LOCK = 0x60,
    CONFIRM = 0xd0,
};

#define STATUS_READY         0x80
#define STATUS_ERASE_ERROR   0x20
#define STATUS_PROGRAM_ERROR 0x10
#define STATUS_SEQUENCE      (STATUS_ERASE_ERROR | STATUS_PROGRAM_ERROR)

#define MANUFACTURER_INTEL 0x89
#define DEVICE_CODE        0x18
#define BUFFER_SIZE_LOG2   5
#define BUFFER_SIZE        (1u << BUFFER_SIZE_LOG2)

// The CFI query structure from QUERY_FIRST on; the sizes are filled in when it is read.
#define QUERY_FIRST          0x10
#define QUERY_SIZE_LOG2      0x27
#define QUERY_BLOCKS_LOW     0x2d
#define QUERY_BLOCKS_HIGH    0x2e
#define QUERY_COMMANDS_INTEL 1
static const u8 query[] = {
    [0x10 - QUERY_FIRST] = 'Q',
    [0x11 - QUERY_FIRST] = 'R',
    [0x12 - QUERY_FIRST] = 'Y',
    [0x13 - QUERY_FIRST] = QUERY_COMMANDS_INTEL,
    [0x1b - QUERY_FIRST] = 0x45, // Vcc 4.5 to 5.5 V
    [0x1c - QUERY_FIRST] = 0x55,
    [0x1f - QUERY_FIRST] = 7, // typical times, as powers of two
    [0x20 - QUERY_FIRST] = 7,
    [0x21 - QUERY_FIRST] = 10,
    [0x23 - QUERY_FIRST] = 4,
    [0x24 - QUERY_FIRST] = 4,
    [0x25 - QUERY_FIRST] = 4,
    [0x2a - QUERY_FIRST] = BUFFER_SIZE_LOG2,
    [0x2c - QUERY_FIRST] = 1,                            // one region of blocks, of 256-byte units:
    [0x2f - QUERY_FIRST] = FLASH_BLOCK_SIZE / 256 % 256, // low byte
    [0x30 - QUERY_FIRST] = FLASH_BLOCK_SIZE / 256 / 256,
};

// --- reading ---

static u8 query_byte(const struct flash *f, u32 offset)
{
    u32 blocks = f->size / FLASH_BLOCK_SIZE - 1;
    switch (offset) {
    case QUERY_SIZE_LOG2:
        return (u8)bit_highest(f->size);
    case QUERY_BLOCKS_LOW:
        return (u8)blocks;
    case QUERY_BLOCKS_HIGH:
        return (u8)(blocks >> 8);
    default:
        return offset - QUERY_FIRST < sizeof(query) ? query[offset - QUERY_FIRST] : 0;
    }
}

static u8 identifier_byte(u32 offset)
{
    static const u8 identifiers[] = {MANUFACTURER_INTEL, DEVICE_CODE};
    return offset < sizeof(identifiers) ? identifiers[offset] : 0;
}

static u8 read_byte(const struct flash *f, u32 offset)
{
    switch (f->read_mode) {
    case READ_STATUS:
        return f->status;
    case READ_IDENTIFIER:
        return identifier_byte(offset % FLASH_BLOCK_SIZE);
    case READ_QUERY:
        return query_byte(f, offset % FLASH_BLOCK_SIZE);
    default:
        return f->bytes[offset];
    }
}

static u64 flash_read(struct io_device *device, u64 offset, unsigned size)
{
    const struct flash *f = container_of(device, struct flash, memory);
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)read_byte(f, (u32)offset + i) << 8 * i;
    return value;
}

// --- commands ---

static void read_mode_set(struct flash *f, u8 mode)
{
    bool was_array = f->read_mode == READ_ARRAY;
    f->read_mode = mode;
    if (was_array != (mode == READ_ARRAY) && f->array_mode)
        f->array_mode(f->context, mode == READ_ARRAY);
}

static void report(struct flash *f, u32 offset, u32 size)
{
    if (f->changed)
        f->changed(f->context, offset, size);
}

static void program(struct flash *f, u32 offset, unsigned size, u64 value)
{
    for (unsigned i = 0; i < size; i++)
        f->bytes[offset + i] &= (u8)(value >> 8 * i);
    report(f, offset, size);
}

static void erase(struct flash *f, u32 offset)
{
    u32 block = offset - offset % FLASH_BLOCK_SIZE;
    memset(f->bytes + block, ~0, FLASH_BLOCK_SIZE);
    report(f, block, FLASH_BLOCK_SIZE);
}

// The later writes of a command.
static void buffered_program(struct flash *f, u32 offset, unsigned size, u64 value)
{
    if (!f->counted) {
        f->counted = true;
        f->buffer_left = MIN((u32)(u8)value + 1, BUFFER_SIZE);
    } else if (f->buffer_left) {
        program(f, offset, size, value);
        f->buffer_left -= MIN(f->buffer_left, size);
    } else {
        f->command = 0;
        f->status |= STATUS_READY | ((u8)value == CONFIRM ? 0 : STATUS_SEQUENCE);
    }
}

static void continue_command(struct flash *f, u32 offset, unsigned size, u64 value)
{
    u8 command = f->command;
    if (command == BUFFERED_PROGRAM) {
        buffered_program(f, offset, size, value);
        return;
    }
    f->command = 0;
    f->status |= STATUS_READY;
    if (command == PROGRAM)
        program(f, offset, size, value);
    else if (command == ERASE && (u8)value == CONFIRM)
        erase(f, offset);
    else if (command == ERASE)
        f->status |= STATUS_SEQUENCE;
}

static void start_command(struct flash *f, u8 command)
{
    switch (command) {
    case PROGRAM:
    case PROGRAM_OTHER:
        f->command = PROGRAM;
        break;
    case BUFFERED_PROGRAM:
        f->counted = false;
        f->status |= STATUS_READY; // the buffer is free
        f->command = command;
        break;
    case ERASE:
    case LOCK:
        f->command = command;
        break;
    case CLEAR_STATUS:
        f->status = 0;
        read_mode_set(f, READ_ARRAY);
        return;
    case READ_IDENTIFIER:
    case READ_QUERY:
        read_mode_set(f, command);
        return;
    case READ_STATUS:
        break;
    default: // "read array", and what is no command
        read_mode_set(f, READ_ARRAY);
        return;
    }
    read_mode_set(f, READ_STATUS);
}

static void flash_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct flash *f = container_of(device, struct flash, memory);
    if (f->command)
        continue_command(f, (u32)offset, size, value);
    else
        start_command(f, (u8)value);
}

static const struct io_device_ops flash_ops = {"flash", flash_read, flash_write};

void flash_init(struct flash *f, u8 *bytes, u32 size)
{
    *f = (struct flash){.memory = {&flash_ops}, .bytes = bytes, .size = size};
    flash_reset(f);
}

void flash_reset(struct flash *f)
{
    f->command = 0;
    f->status = STATUS_READY;
    read_mode_set(f, READ_ARRAY);
}
