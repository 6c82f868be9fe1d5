// SPDX-License-Identifier: MIT
#include "tests/unit/chip.h"
#include "io/i8042.c"

static struct i8042 kbc;

static void start(void)
{
    i8042_init(&kbc, chip_line(1), chip_line(12), chip_line(20));
}

static void command(u8 code)
{
    chip_out(&kbc.control, 0, code);
}

static u8 status(void)
{
    return chip_in(&kbc.control, 0);
}

static u8 data(void)
{
    return chip_in(&kbc.data, 0);
}

TEST(self_tests_pass)
{
    start();
    static const u8 tests[][2] = {{0xaa, 0x55}, {0xab, 0x00}, {0xa9, 0x00}};
    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++) {
        command(tests[i][0]);
        CHECK_EQ(status() & 0x23, 0x01);
        CHECK_EQ(data(), tests[i][1]);
        CHECK_EQ(status() & 1, 0);
    }
}

TEST(reset_pulse)
{
    start();
    command(0xff);
    CHECK_EQ(chip_rises[20], 0);
    command(0xfe);
    CHECK_EQ(chip_rises[20], 1);
    CHECK(!chip_level[20]);
    command(0xd1);
    chip_out(&kbc.data, 0, 0xdf);
    CHECK_EQ(chip_rises[20], 1);
    command(0xd1);
    chip_out(&kbc.data, 0, 0xde);
    CHECK_EQ(chip_rises[20], 2);
}

TEST(command_byte_and_ram)
{
    start();
    command(0x60);
    chip_out(&kbc.data, 0, 0x47);
    command(0x20);
    CHECK(chip_level[1]);
    CHECK_EQ(data(), 0x47);
    CHECK(!chip_level[1]);
    command(0xad), command(0xa7), command(0x20);
    CHECK_EQ(data(), 0x77);
    command(0xae), command(0xa8), command(0x20);
    CHECK_EQ(data(), 0x47);
    command(0x7f);
    chip_out(&kbc.data, 0, 0x99);
    command(0x3f);
    CHECK_EQ(data(), 0x99);
}

TEST(a20_reads_back)
{
    start();
    command(0xd0);
    CHECK_EQ(data() & 2, 2);
    command(0xd1);
    chip_out(&kbc.data, 0, 0xdd);
    command(0xd0);
    CHECK_EQ(data() & 2, 0);
}

TEST(nobody_answers)
{
    start();
    chip_out(&kbc.data, 0, 0xff);
    CHECK_EQ(status() & 0x61, 0x41);
    CHECK_EQ(data(), 0xfe);
    command(0x60);
    chip_out(&kbc.data, 0, 0x02);
    command(0xd4);
    chip_out(&kbc.data, 0, 0xff);
    CHECK_EQ(status() & 0x61, 0x61);
    CHECK(chip_level[12]);
    CHECK_EQ(data(), 0xfe);
    command(0xd3); // the auxiliary port's loop test
    chip_out(&kbc.data, 0, 0x5a);
    CHECK_EQ(status() & 0x21, 0x21);
    CHECK_EQ(data(), 0x5a);
}

TEST(a_keyboard_acknowledges_and_never_types)
{
    start();
    kbc.keyboard = true;
    chip_out(&kbc.data, 0, 0xff);
    CHECK_EQ(status() & 0x61, 0x01);
    CHECK_EQ(data(), 0xfa);
    CHECK_EQ(data(), 0xaa);
    CHECK_EQ(status() & 0x01, 0);
    command(0x60);
    chip_out(&kbc.data, 0, 0x01);
    unsigned rises = chip_rises[1];
    chip_out(&kbc.data, 0, 0xf2);
    CHECK_EQ(data(), 0xfa);
    CHECK_EQ(data(), 0xab);
    CHECK_EQ(data(), 0x83);
    CHECK_EQ(chip_rises[1], rises + 3);
    chip_out(&kbc.data, 0, 0xee);
    CHECK_EQ(data(), 0xee);
    chip_out(&kbc.data, 0, 0xf2);
    chip_out(&kbc.data, 0, 0xed); // forgets what was to come
    CHECK_EQ(data(), 0xfa);
    CHECK_EQ(status() & 0x01, 0);
}

TEST(a_keyboard_knows_its_scan_code_set)
{
    static const u8 bytes[] = {0xf0, 0x00, 0xf0, 0x03, 0xf0, 0x00, 0xff, 0xf0, 0x00};
    static const u8 answers[] = {0, 2, 0, 0, 0, 3, 0xaa, 0, 2}; // after the acknowledge
    start();
    kbc.keyboard = true;
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        chip_out(&kbc.data, 0, bytes[i]);
        CHECK_EQ(data(), 0xfa);
        CHECK_EQ(status() & 0x01, answers[i] != 0);
        if (answers[i])
            CHECK_EQ(data(), answers[i]);
    }
}

TEST(survives_anything)
{
    start();
    kbc.keyboard = true;
    chip_clock_start();
    const struct chip_ports ports[] = {{&kbc.data, 1}, {&kbc.control, 1}};
    chip_fuzz(ports, 2, 200000);
    i8042_reset(&kbc);
    CHECK(!chip_level[1] && !chip_level[12]);
}
