// SPDX-License-Identifier: MIT
#include "tests/unit/chip.h"
#include "io/flash.c"

#define SIZE (8 * FLASH_BLOCK_SIZE)

static u8 bytes[SIZE];
static struct flash flash;
static unsigned switches, changes;
static bool array;
static u32 changed_offset, changed_size;

static void note_mode(void *context UNUSED, bool on)
{
    switches++;
    array = on;
}

static void note_change(void *context UNUSED, u32 offset, u32 size)
{
    CHECK(offset < SIZE && size <= SIZE - offset);
    changes++;
    changed_offset = offset;
    changed_size = size;
}

static void start(void)
{
    memset(bytes, 0xff, sizeof(bytes));
    flash_init(&flash, bytes, SIZE);
    flash.array_mode = note_mode;
    flash.changed = note_change;
    switches = changes = 0;
    array = true;
}

static u8 in(u64 offset)
{
    return chip_in(&flash.memory, offset);
}

static void out(u64 offset, u8 value)
{
    chip_out(&flash.memory, offset, value);
}

TEST(programming_clears_bits_and_erasing_sets_them)
{
    start();
    out(0x1234, PROGRAM_OTHER);
    out(0x1234, 0x5a);
    CHECK_EQ(in(0x1234), STATUS_READY);
    CHECK_EQ(changed_offset, 0x1234);
    CHECK_EQ(changed_size, 1);
    out(0x1234, PROGRAM);
    out(0x1234, 0xf0);
    CHECK(!array);
    out(0, READ_ARRAY);
    CHECK(array);
    CHECK_EQ(in(0x1234), 0x50);
    out(0x1fff, ERASE);
    out(0x1fff, CONFIRM);
    CHECK_EQ(changed_offset, 0x1000);
    CHECK_EQ(changed_size, FLASH_BLOCK_SIZE);
    out(0, READ_ARRAY);
    CHECK_EQ(in(0x1234), 0xff);
    CHECK_EQ(switches, 4);
}

// The sequence by which UEFI firmware tells flash from RAM and ROM.
TEST(cleared_status_reads_zero)
{
    start();
    bytes[0] = 0x41;
    out(0, CLEAR_STATUS);
    CHECK_EQ(in(0), 0x41);
    out(0, READ_STATUS);
    CHECK_EQ(in(0), 0);
    out(0, READ_ARRAY);
    CHECK_EQ(in(0), 0x41);
    CHECK_EQ(changes, 0);
}

TEST(an_erase_without_confirmation_is_an_error)
{
    start();
    bytes[0x1000] = 0;
    out(0x1000, ERASE);
    out(0x1000, READ_ARRAY);
    CHECK_EQ(in(0), STATUS_READY | STATUS_SEQUENCE);
    CHECK_EQ(bytes[0x1000], 0);
    out(0, CLEAR_STATUS);
    CHECK_EQ(in(0x1000), 0);
}

TEST(a_buffered_write_programs_what_was_counted)
{
    start();
    out(0x2000, BUFFERED_PROGRAM);
    CHECK_EQ(in(0x2000), STATUS_READY);
    out(0x2000, 3);
    for (u8 i = 0; i < 4; i++)
        out(0x2000 + i, i);
    out(0x2000, CONFIRM);
    CHECK_EQ(in(0), STATUS_READY);
    out(0, READ_ARRAY);
    CHECK_EQ(chip_read(&flash.memory, 0x2000, 8), 0xffffffff03020100);
}

TEST(query_and_identifier)
{
    start();
    out(0x55, READ_QUERY);
    CHECK_EQ(in(0x10), 'Q');
    CHECK_EQ(in(0x11), 'R');
    CHECK_EQ(in(0x12), 'Y');
    CHECK_EQ(1u << in(0x27), SIZE);
    CHECK_EQ((in(0x2d) + 1u) * (in(0x2f) + 256u * in(0x30)) * 256, SIZE);
    CHECK_EQ(in(0xfff), 0);
    out(0, READ_IDENTIFIER);
    CHECK_EQ(in(0), MANUFACTURER_INTEL);
    CHECK_EQ(in(1), DEVICE_CODE);
    CHECK_EQ(in(2), 0);
    out(0, 0x33); // no command
    CHECK(array);
}

TEST(reset_forgets_a_half_command_and_keeps_the_array)
{
    start();
    bytes[7] = 7;
    out(7, ERASE);
    flash_reset(&flash);
    CHECK(array);
    out(7, CONFIRM);
    CHECK_EQ(in(7), 7);
}

TEST(survives_anything)
{
    start();
    const struct chip_ports ports = {&flash.memory, SIZE};
    chip_clock_start();
    chip_fuzz(&ports, 1, 200000);
}
