// SPDX-License-Identifier: MIT
#include "tests/unit/chip.h"
#include "io/rtc.c"
#include "vmm/lib/calendar.c"

static struct rtc rtc;
#define NOON 1709208000ull // 2024-02-29 12:00:00, a Thursday

static u8 get(unsigned reg)
{
    chip_out(&rtc.ports, 0, (u8)reg);
    return chip_in(&rtc.ports, 1);
}

static void set(unsigned reg, u8 value)
{
    chip_out(&rtc.ports, 0, (u8)reg);
    chip_out(&rtc.ports, 1, value);
}

static void start(void)
{
    chip_clock_start();
    rtc_init(&rtc, &chip_clock, chip_line(8));
    rtc_set_wall_clock(&rtc, NOON * SECOND);
}

TEST(shows_the_wall_clock)
{
    start();
    static const u8 expected[][2] = {{0, 0}, {2, 0},    {4, 0x12},    {6, 5},      {7, 0x29},
                                     {8, 2}, {9, 0x24}, {0x32, 0x20}, {0x0d, 0x80}};
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++)
        CHECK_EQ(get(expected[i][0]), expected[i][1]);
    chip_pass(13 * 3600 * SECOND + 59 * SECOND + MS);
    CHECK_EQ(get(0), 0x59);
    CHECK_EQ(get(4), 0x01);
    CHECK_EQ(get(7), 0x01);
    CHECK_EQ(get(8), 0x03);
    CHECK_EQ(get(0x8d), 0x80); // bit 7 of the index is the NMI mask
    CHECK_EQ(chip_in(&rtc.ports, 0), 0xff);
}

TEST(formats)
{
    start();
    set(0x0b, 0x06);
    CHECK_EQ(get(9), 24);
    CHECK_EQ(get(4), 12);
    set(0x0b, 0x04); // 12 hours, binary
    CHECK_EQ(get(4), 0x80 | 12);
    chip_pass(3600 * SECOND);
    CHECK_EQ(get(4), 0x80 | 1);
    chip_pass(11 * 3600 * SECOND);
    CHECK_EQ(get(4), 12);
    set(0x0b, 0x00); // 12 hours, BCD
    CHECK_EQ(get(4), 0x12);
    set(4, 0x91);
    set(0x0b, 0x02);
    CHECK_EQ(get(4), 0x23);
}

TEST(twelve_is_the_first_hour_of_each_half)
{
    start();
    set(0x0b, 0x00); // 12 hours, BCD
    set(4, 0x12);
    set(0x0b, 0x02);
    CHECK_EQ(get(4), 0x00);
    set(0x0b, 0x00);
    set(4, 0x92);
    set(0x0b, 0x02);
    CHECK_EQ(get(4), 0x12);
    set(0x0b, 0x04); // 12 hours, binary
    set(4, 0x8b);
    set(0x0b, 0x02);
    CHECK_EQ(get(4), 0x23);
}

TEST(the_guest_sets_the_time)
{
    start();
    set(0x0b, 0x82);
    set(0x0a, 0x76);
    chip_pass(10 * SECOND);
    CHECK_EQ(get(0), 0); // stands still
    set(0, 0x58), set(2, 0x59), set(4, 0x23), set(7, 0x31), set(8, 0x12), set(9, 0x99);
    set(0x32, 0x19);
    set(0x0a, 0x26);
    set(0x0b, 0x02);
    CHECK_EQ(get(0), 0x58);
    CHECK_EQ(get(6), 6); // a Friday
    chip_pass(2 * SECOND + MS);
    CHECK_EQ(get(9), 0x00);
    CHECK_EQ(get(0x32), 0x20);
    CHECK_EQ(get(7), 0x01);
    set(2, 0x30); // without SET
    CHECK_EQ(get(2), 0x30);
    rtc_reset(&rtc);
    rtc_set_wall_clock(&rtc, (NOON + 13) * SECOND);
    CHECK_EQ(get(0x32), 0x20); // the setting outlives a reset
    CHECK_EQ(get(9), 0x00);
}

TEST(setting_begins_at_the_time_that_it_is)
{
    start();
    chip_pass(5 * SECOND + MS);
    set(0x0b, 0x82);
    CHECK_EQ(get(0), 5);
    set(2, 0x44);
    set(0x0b, 0x82); // still
    CHECK_EQ(get(2), 0x44);
    set(0x0a, 0xa6); // the update's bit is the chip's
    CHECK_EQ(get(0x0a), 0x26);
}

// Many programs stop the time so, and not by SET; each register is then as it was written.
TEST(a_divider_in_reset_holds_the_time)
{
    start();
    set(0x0a, 0x76);
    set(9, 0x23); // with the month and the day that are there yet, no date
    set(7, 0x28);
    chip_pass(3 * SECOND);
    CHECK_EQ(get(0x0a), 0x76);
    CHECK_EQ(get(0x0c), 0); // neither updates nor periods
    CHECK_EQ(get(0), 0);
    set(0x0a, 0x26);
    CHECK_EQ(get(9), 0x23);
    CHECK_EQ(get(8), 0x02);
    CHECK_EQ(get(7), 0x28);
    chip_pass(499 * MS);
    CHECK_EQ(get(0), 0);
    chip_pass(2 * MS);
    CHECK_EQ(get(0), 1);
}

TEST(set_and_the_divider_hold_the_time_together)
{
    start();
    set(0x0b, 0x82);
    set(0x0a, 0x66);
    set(0, 0x30);
    set(0x0b, 0x02);
    chip_pass(2 * SECOND);
    CHECK_EQ(get(0), 0x30);
    set(0x0a, 0x26);
    chip_pass(501 * MS);
    CHECK_EQ(get(0), 0x31);
}

TEST(update_in_progress_comes_before_the_second)
{
    start();
    CHECK_EQ(get(0x0a), 0x26);
    chip_pass(SECOND - 3 * MS);
    CHECK_EQ(get(0x0a), 0x26);
    chip_pass(2 * MS);
    CHECK_EQ(get(0x0a), 0xa6);
    chip_pass(2 * MS);
    CHECK_EQ(get(0x0a), 0x26);
}

TEST(periodic_interrupt)
{
    start();
    set(0x0b, 0x42);
    unsigned interrupts = 0;
    for (unsigned i = 0; i < 10000; i++) {
        chip_pass(100 * US);
        if (chip_level[8]) {
            CHECK_EQ(get(0x0c) & 0xc0, 0xc0);
            interrupts++;
        }
    }
    CHECK(interrupts >= 1023 && interrupts <= 1025);
    CHECK(!chip_level[8]);
    set(0x0a, 0x20); // rate 0: none
    get(0x0c);
    chip_pass(SECOND);
    CHECK(!chip_level[8]);
    CHECK_EQ(get(0x0c) & 0x40, 0);
}

TEST(update_interrupt)
{
    start();
    set(0x0b, 0x12);
    chip_pass(SECOND / 2);
    CHECK(!chip_level[8]);
    chip_pass(SECOND / 2 + MS);
    CHECK(chip_level[8]);
    CHECK_EQ(get(0x0c) & 0xb0, 0x90);
    CHECK(!chip_level[8]);
    chip_pass(SECOND);
    CHECK_EQ(chip_rises[8], 2);
    get(0x0c);
    set(0x0b, 0x92); // SET clears the enable
    CHECK_EQ(get(0x0b), 0x82);
    chip_pass(5 * SECOND);
    CHECK_EQ(chip_rises[8], 2);
}

TEST(flags_are_there_without_interrupts)
{
    start();
    set(0x0a, 0x26);
    get(0x0c);
    chip_pass(SECOND + MS);
    CHECK_EQ(get(0x0c), 0x50);
    CHECK_EQ(get(0x0c), 0);
    CHECK_EQ(chip_clock.next, ~0ull); // and cost no timer
}

TEST(alarm)
{
    start();
    set(1, 0x05), set(3, 0x01), set(5, 0xff);
    set(0x0b, 0x22);
    chip_pass(64 * SECOND + MS);
    CHECK(!chip_level[8]);
    chip_pass(SECOND);
    CHECK(chip_level[8]);
    CHECK_EQ(get(0x0c) & 0xa0, 0xa0);
    chip_pass(3599 * SECOND);
    CHECK(!chip_level[8]);
    chip_pass(SECOND);
    CHECK(chip_level[8]);
    get(0x0c);
    set(0x0b, 0x02);
    chip_pass(100 * SECOND);
    chip_now += 1000000 * SECOND; // a look after eleven days still finds it
    CHECK_EQ(get(0x0c) & 0x20, 0x20);
}

TEST(memory_sizes)
{
    start();
    rtc_set_memory(&rtc, 3 * GIB, 5 * GIB);
    CHECK_EQ(get(0x15) | get(0x16) << 8, 640);
    CHECK_EQ(get(0x17) | get(0x18) << 8, 0xffff);
    CHECK_EQ(get(0x30) | get(0x31) << 8, 0xffff);
    CHECK_EQ(get(0x34) | get(0x35) << 8, (3 * GIB - 16 * MIB) / (64 * KIB));
    CHECK_EQ(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 5 * GIB / (64 * KIB));
    rtc_set_memory(&rtc, 8 * MIB, 0);
    CHECK_EQ(get(0x17) | get(0x18) << 8, 7 * 1024);
    CHECK_EQ(get(0x34) | get(0x35), 0);
    unsigned sum = 0;
    for (unsigned i = 0x10; i <= 0x2d; i++)
        sum += get(i);
    CHECK_EQ(get(0x2e) << 8 | get(0x2f), sum);
    set(0x40, 0x5a);
    CHECK_EQ(get(0x40), 0x5a);
}

TEST(survives_anything)
{
    for (unsigned i = 0; i < 20; i++) {
        start();
        const struct chip_ports ports[] = {{&rtc.ports, 2}};
        for (unsigned j = 0; j < 3000; j++) {
            chip_fuzz(ports, 1, 2);
            set((unsigned)(chip_random() % 0x33), (u8)chip_random());
            get((unsigned)(chip_random() % 0x33));
        }
        rtc_reset(&rtc);
        CHECK_EQ(chip_clock.next, ~0ull);
    }
}
