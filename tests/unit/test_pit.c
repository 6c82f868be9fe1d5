// SPDX-License-Identifier: MIT
#include "tests/unit/chip.h"
#include "io/pit.c"

static struct pit pit;

static void start(void)
{
    chip_clock_start();
    pit_init(&pit, &chip_clock, chip_line(0));
}

static u64 ticks(u64 n) // as nanoseconds, rounded up
{
    return n * CHIP_HZ / PIT_HZ + 1;
}

static void program(unsigned channel, unsigned mode, u16 count)
{
    chip_out(&pit.ports, 3, (u8)(channel << 6 | 3 << 4 | mode << 1));
    chip_out(&pit.ports, channel, (u8)count);
    chip_out(&pit.ports, channel, (u8)(count >> 8));
}

static u16 count_of(unsigned channel)
{
    chip_out(&pit.ports, 3, (u8)(channel << 6));
    u16 low = chip_in(&pit.ports, channel);
    return (u16)(chip_in(&pit.ports, channel) << 8 | low);
}

static u8 status_of(unsigned channel)
{
    chip_out(&pit.ports, 3, (u8)(0xe0 | 2 << channel));
    return chip_in(&pit.ports, channel);
}

static bool out2(void)
{
    return chip_in(&pit.control, 0) & 0x20;
}

TEST(rate_generator_interrupts_at_its_rate)
{
    start();
    program(0, 2, 11932); // 100 Hz
    chip_pass(SECOND + MS);
    CHECK_EQ(chip_rises[0], 100);
    program(0, 3, 11932);
    chip_pass(SECOND + MS);
    CHECK_EQ(chip_rises[0], 200);
}

TEST(count_zero_is_the_largest)
{
    start();
    program(0, 2, 0);
    chip_pass(SECOND);
    CHECK_EQ(chip_rises[0], 18); // 18.2 Hz
}

TEST(terminal_count_interrupts_once)
{
    start();
    program(0, 0, 1193);
    CHECK(!chip_level[0]);
    chip_pass(990 * US);
    CHECK(!chip_level[0]);
    CHECK_EQ(status_of(0), 0x30);
    chip_pass(20 * US);
    CHECK(chip_level[0]);
    CHECK_EQ(status_of(0), 0xb0);
    chip_pass(SECOND);
    CHECK_EQ(chip_rises[0], 1);
    program(0, 0, 1193);
    CHECK(!chip_level[0]);
}

TEST(the_first_byte_of_a_terminal_count_stops_the_counting)
{
    start();
    program(0, 0, 1193);
    chip_pass(500 * US);
    chip_out(&pit.ports, 0, 0x00);
    chip_pass(SECOND);
    CHECK_EQ(chip_rises[0], 0);
    CHECK_EQ(status_of(0), 0x70); // null count
    chip_out(&pit.ports, 0, 0x01);
    chip_pass(SECOND);
    CHECK_EQ(chip_rises[0], 1);
    program(0, 2, 1193); // others go on until the second
    chip_pass(500 * US);
    chip_out(&pit.ports, 0, 0x00);
    chip_pass(MS);
    CHECK_EQ(chip_rises[0], 2);
}

TEST(strobe_interrupts_once)
{
    start();
    program(0, 4, 100);
    chip_pass(SECOND);
    CHECK_EQ(chip_rises[0], 1);
}

TEST(hardware_triggered_modes_of_channel_0_never_start)
{
    start();
    program(0, 1, 100);
    program(0, 5, 100);
    chip_pass(SECOND);
    CHECK_EQ(chip_rises[0], 0);
    CHECK(!io_timer_armed(&pit.timer));
}

TEST(late_ticks_come_as_one)
{
    start();
    program(0, 2, 1193);
    chip_now += 50 * MS;
    io_clock_run(&chip_clock, chip_now);
    CHECK_EQ(chip_rises[0], 1);
    CHECK(chip_clock.next > chip_now);
}

TEST(count_goes_down_and_wraps)
{
    start();
    program(2, 0, 1000);
    CHECK_EQ(count_of(2), 1000);
    chip_out(&pit.control, 0, 1);
    CHECK_EQ(count_of(2), 1000);
    chip_pass(ticks(400));
    CHECK_EQ(count_of(2), 600);
    chip_pass(ticks(601));
    CHECK_EQ(count_of(2), 0xffff);
    program(2, 3, 1000);
    chip_pass(ticks(100));
    CHECK_EQ(count_of(2), 800); // by two
    chip_pass(ticks(450));
    CHECK_EQ(count_of(2), 900);
}

TEST(bcd_counts_in_decimal)
{
    start();
    chip_out(&pit.control, 0, 1);
    chip_out(&pit.ports, 3, 0xb1);
    chip_out(&pit.ports, 2, 0x00);
    chip_out(&pit.ports, 2, 0x10);
    chip_pass(ticks(1));
    CHECK_EQ(count_of(2), 0x0999);
    chip_pass(ticks(999));
    chip_pass(ticks(1));
    CHECK_EQ(count_of(2), 0x9999);
}

TEST(latch_holds_until_read_whole)
{
    start();
    program(0, 2, 0x1234);
    chip_out(&pit.ports, 3, 0);
    chip_pass(ticks(0x100));
    chip_out(&pit.ports, 3, 0); // ignored: latched already
    CHECK_EQ(chip_in(&pit.ports, 0), 0x34);
    CHECK_EQ(chip_in(&pit.ports, 0), 0x12);
    CHECK_EQ(chip_in(&pit.ports, 0), 0x34);
    CHECK_EQ(chip_in(&pit.ports, 0), 0x11);
}

TEST(read_back_gives_status_then_count)
{
    start();
    program(0, 2, 500);
    program(2, 3, 500);
    chip_out(&pit.ports, 3, 0xc0 | 2 | 8); // both latches of channels 0 and 2
    CHECK_EQ(chip_in(&pit.ports, 0), 0xb4);
    CHECK_EQ(chip_in(&pit.ports, 0), 500 & 0xff);
    CHECK_EQ(chip_in(&pit.ports, 0), 500 >> 8);
    CHECK_EQ(chip_in(&pit.ports, 2), 0xb6);
    chip_out(&pit.ports, 3, 0x30 | 0x04);
    CHECK_EQ(status_of(0), 0xf4); // null count
}

TEST(one_byte_accesses)
{
    start();
    chip_out(&pit.ports, 3, 0x14); // low byte only
    chip_out(&pit.ports, 0, 200);
    CHECK_EQ(chip_in(&pit.ports, 0), 200);
    CHECK_EQ(chip_in(&pit.ports, 0), 200);
    chip_out(&pit.ports, 3, 0x00);
    CHECK_EQ(chip_in(&pit.ports, 0), 200);
    chip_pass(ticks(50));
    CHECK_EQ(chip_in(&pit.ports, 0), 150); // one byte was the whole latch
    chip_out(&pit.ports, 3, 0x24);         // high byte only
    chip_out(&pit.ports, 0, 2);
    CHECK_EQ(chip_in(&pit.ports, 0), 2);
}

TEST(gate_pauses_and_resumes)
{
    start();
    chip_out(&pit.control, 0, 1);
    program(2, 0, 1000);
    chip_pass(ticks(300));
    chip_out(&pit.control, 0, 0);
    chip_pass(SECOND);
    CHECK_EQ(count_of(2), 700);
    CHECK(!out2());
    chip_out(&pit.control, 0, 1);
    chip_pass(ticks(699));
    CHECK(!out2());
    chip_pass(ticks(2));
    CHECK(out2());
}

TEST(gate_triggers_a_one_shot)
{
    start();
    program(2, 1, 100);
    CHECK(out2());
    chip_pass(SECOND);
    CHECK(out2());
    chip_out(&pit.control, 0, 1);
    CHECK(!out2());
    chip_pass(ticks(101));
    CHECK(out2());
    chip_out(&pit.control, 0, 0);
    chip_out(&pit.control, 0, 1);
    CHECK(!out2());
}

TEST(a_gate_that_stays_up_triggers_nothing)
{
    start();
    program(2, 1, 100);
    chip_out(&pit.control, 0, 1);
    chip_pass(ticks(50));
    chip_out(&pit.control, 0, 3); // the speaker alone
    chip_pass(ticks(51));
    CHECK(out2());
}

TEST(other_channels_leave_the_interrupt_alone)
{
    start();
    program(0, 0, 100);
    chip_pass(MS);
    CHECK(chip_level[0]);
    program(2, 0, 100);
    CHECK(chip_level[0]);
    pit_reset(&pit);
    CHECK(!chip_level[0]);
}

TEST(a_new_count_of_a_one_shot_waits_for_the_next_trigger)
{
    start();
    program(2, 1, 100);
    chip_out(&pit.control, 0, 1);
    chip_pass(ticks(50));
    chip_out(&pit.ports, 2, 200);
    chip_out(&pit.ports, 2, 0);
    CHECK_EQ(count_of(2), 50);
    chip_pass(ticks(51));
    CHECK(out2());
    chip_out(&pit.control, 0, 0);
    chip_out(&pit.control, 0, 1);
    chip_pass(ticks(150));
    CHECK(!out2());
    chip_pass(ticks(51));
    CHECK(out2());
}

static void write_count(unsigned channel, u16 count)
{
    chip_out(&pit.ports, channel, (u8)count);
    chip_out(&pit.ports, channel, (u8)(count >> 8));
}

TEST(a_new_count_of_a_rate_generator_waits_for_the_end_of_the_period)
{
    start();
    program(0, 2, 1000);
    chip_pass(ticks(300));
    write_count(0, 400);
    CHECK_EQ(count_of(0), 700);
    CHECK_EQ(status_of(0), 0xf4); // null count
    write_count(0, 500);          // the last one counts
    chip_pass(ticks(699));
    CHECK_EQ(chip_rises[0], 0);
    chip_pass(ticks(2));
    CHECK_EQ(chip_rises[0], 1);
    CHECK_EQ(status_of(0), 0xb4);
    CHECK_EQ(count_of(0), 499);
    chip_pass(ticks(499));
    CHECK_EQ(chip_rises[0], 2);
    chip_pass(ticks(5000));
    CHECK_EQ(chip_rises[0], 12);
}

TEST(a_new_count_of_a_square_wave_waits_for_the_end_of_the_half)
{
    start();
    program(0, 3, 1000);
    chip_pass(ticks(300)); // in the high half: 500 of it, then 100 low
    write_count(0, 200);
    CHECK_EQ(status_of(0), 0xf6);
    chip_pass(ticks(199));
    CHECK_EQ(status_of(0), 0xf6);
    chip_pass(ticks(2));
    CHECK_EQ(status_of(0), 0x36);
    CHECK_EQ(count_of(0), 198);
    chip_pass(ticks(98));
    CHECK_EQ(chip_rises[0], 0);
    chip_pass(ticks(2));
    CHECK_EQ(chip_rises[0], 1);
    chip_pass(ticks(149)); // in the low half
    write_count(0, 1000);
    chip_pass(ticks(48));
    CHECK_EQ(chip_rises[0], 1);
    chip_pass(ticks(4));
    CHECK_EQ(chip_rises[0], 2);
    CHECK_EQ(status_of(0), 0xb6);
    chip_pass(ticks(990));
    CHECK_EQ(chip_rises[0], 2);
    chip_pass(ticks(10));
    CHECK_EQ(chip_rises[0], 3);
}

TEST(a_long_square_wave_may_follow_a_short_one_at_power_on)
{
    start();
    program(0, 3, 4);
    write_count(0, 0); // its high half would have begun before time did
    chip_pass(ticks(5));
    CHECK_EQ(status_of(0), 0x36);
    chip_pass(ticks(32768));
    CHECK_EQ(status_of(0), 0xb6);
    CHECK_EQ(chip_rises[0], 1);
}

TEST(a_gate_brings_a_new_count_into_use_at_once)
{
    start();
    chip_out(&pit.control, 0, 1);
    program(2, 2, 1000);
    chip_pass(ticks(100));
    write_count(2, 500);
    chip_out(&pit.control, 0, 0);
    chip_pass(ticks(5000));
    CHECK_EQ(status_of(2), 0xf4);
    chip_out(&pit.control, 0, 1);
    CHECK_EQ(status_of(2), 0xb4);
    CHECK_EQ(count_of(2), 500);
    chip_pass(ticks(100));
    chip_out(&pit.control, 0, 0);
    write_count(2, 300); // while nothing counts
    chip_pass(ticks(5000));
    CHECK_EQ(status_of(2), 0xf4);
    chip_out(&pit.control, 0, 1);
    CHECK_EQ(count_of(2), 300);
}

TEST(the_null_count_of_a_one_shot_ends_with_its_trigger)
{
    start();
    program(2, 1, 100);
    CHECK_EQ(status_of(2), 0xf2);
    chip_out(&pit.control, 0, 1);
    CHECK_EQ(status_of(2), 0x32);
    write_count(2, 200);
    CHECK_EQ(status_of(2), 0x72);
    chip_pass(SECOND);
    CHECK_EQ(status_of(2), 0xf2);
    chip_out(&pit.control, 0, 0);
    chip_out(&pit.control, 0, 1);
    CHECK_EQ(status_of(2), 0x32);
}

TEST(a_trigger_before_the_count_is_none)
{
    start();
    chip_out(&pit.ports, 3, 2 << 6 | 3 << 4 | 1 << 1);
    chip_out(&pit.control, 0, 1);
    chip_out(&pit.ports, 2, 100);
    chip_out(&pit.ports, 2, 0);
    CHECK(out2());
    chip_out(&pit.control, 0, 0);
    chip_out(&pit.control, 0, 1);
    CHECK(!out2());
}

TEST(square_wave_of_an_odd_count)
{
    start();
    chip_out(&pit.control, 0, 1);
    program(2, 3, 5);
    unsigned high = 0;
    for (unsigned i = 0; i < 500; i++) {
        chip_now = (i + 1) * CHIP_HZ / PIT_HZ;
        high += out2();
    }
    CHECK(high >= 298 && high <= 302);
}

TEST(refresh_bit_toggles)
{
    start();
    unsigned toggles = 0;
    u8 last = chip_in(&pit.control, 0);
    for (unsigned i = 0; i < 1000; i++) {
        chip_pass(US);
        u8 now = chip_in(&pit.control, 0);
        toggles += (now ^ last) >> 4 & 1;
        last = now;
    }
    CHECK_EQ(toggles, 66); // one in 15.085 us
    chip_out(&pit.control, 0, 0xff);
    CHECK_EQ(chip_in(&pit.control, 0) & 0xcf, 0x0f);
}

TEST(illegal_count_of_one_is_slowed)
{
    start();
    program(0, 2, 1);
    chip_pass(MS);
    CHECK(chip_rises[0] < 600);
}

TEST(survives_anything)
{
    start();
    const struct chip_ports ports[] = {{&pit.ports, 4}, {&pit.control, 1}};
    for (unsigned i = 0; i < 20; i++) {
        chip_fuzz(ports, ARRAY_SIZE(ports), 20000);
        pit_reset(&pit);
        CHECK(!io_timer_armed(&pit.timer));
    }
}
