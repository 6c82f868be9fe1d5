// SPDX-License-Identifier: MIT
#include "tests/unit/chip.h"
#include "io/hpet.c"

#define TICK     (CHIP_HZ / HPET_HZ)
#define ROUTE_10 (10 << TIMER_ROUTE_SHIFT)

static struct hpet hpet;

static void start(void)
{
    chip_clock_start();
    for (unsigned i = 0; i < CHIP_LINES; i++)
        chip_line(i);
    hpet_init(&hpet, &chip_clock, chip_line(0));
}

static u64 get(u64 offset)
{
    return chip_read(&hpet.mmio, offset, 8);
}

static void set(u64 offset, u64 value)
{
    hpet.mmio.ops->write(&hpet.mmio, offset, 8, value);
}

static u64 timer_reg(unsigned timer, u64 offset)
{
    return REG_TIMERS + timer * TIMER_STRIDE + offset;
}

static void one_shot(unsigned timer, u64 config, u64 match)
{
    set(timer_reg(timer, TIMER_CONFIG), config);
    set(timer_reg(timer, TIMER_COMPARATOR), match);
}

static void periodic(u64 config, u64 period)
{
    set(timer_reg(0, TIMER_CONFIG), config | TIMER_PERIODIC | TIMER_SET_VALUE);
    set(timer_reg(0, TIMER_COMPARATOR), get(REG_COUNTER) + period);
    set(timer_reg(0, TIMER_COMPARATOR), period);
}

TEST(it_says_what_it_has)
{
    start();
    u64 capabilities = get(REG_CAPABILITIES);
    CHECK_EQ(capabilities >> 32, 10000000); // femtoseconds: 100 MHz
    CHECK_EQ((capabilities >> 8 & 0x1f) + 1, HPET_TIMERS);
    CHECK_EQ(capabilities & 0xe000, 0xa000); // 64 bits, legacy replacement
    CHECK_EQ(chip_read(&hpet.mmio, 4, 4), 10000000);
    CHECK(get(timer_reg(0, TIMER_CONFIG)) & TIMER_PERIODIC_CAP);
    CHECK(!(get(timer_reg(1, TIMER_CONFIG)) & TIMER_PERIODIC_CAP));
    CHECK_EQ(get(timer_reg(2, TIMER_CONFIG)) >> 32, ROUTES);
    CHECK_EQ(get(timer_reg(HPET_TIMERS, TIMER_CONFIG)), 0);
    set(REG_CAPABILITIES, 0);
    CHECK_EQ(get(REG_CAPABILITIES), capabilities);
}

TEST(the_counter_runs_while_it_is_enabled)
{
    start();
    set(REG_COUNTER, 1000);
    chip_pass(MS);
    CHECK_EQ(get(REG_COUNTER), 1000);
    set(REG_CONFIG, CONFIG_ENABLE);
    chip_pass(MS);
    CHECK_EQ(get(REG_COUNTER), 1000 + HPET_HZ / 1000);
    set(REG_COUNTER, 0);
    CHECK_EQ(get(REG_COUNTER), 1000 + HPET_HZ / 1000);
    set(REG_CONFIG, 0);
    chip_pass(MS);
    CHECK_EQ(get(REG_COUNTER), 1000 + HPET_HZ / 1000);
    hpet.mmio.ops->write(&hpet.mmio, REG_COUNTER + 4, 4, 7);
    CHECK_EQ(get(REG_COUNTER), (7ull << 32) + 1000 + HPET_HZ / 1000);
}

TEST(a_route_that_is_not_offered_is_not_taken)
{
    start();
    set(timer_reg(1, TIMER_CONFIG), ROUTE_10);
    set(timer_reg(1, TIMER_CONFIG), 9 << TIMER_ROUTE_SHIFT | TIMER_ENABLE);
    CHECK_EQ(get(timer_reg(1, TIMER_CONFIG)) & TIMER_WRITABLE, ROUTE_10 | TIMER_ENABLE);
    set(timer_reg(1, TIMER_CONFIG), 9 << TIMER_ROUTE_SHIFT); // the rest is
    CHECK_EQ(get(timer_reg(1, TIMER_CONFIG)) & TIMER_WRITABLE, ROUTE_10);
    set(timer_reg(1, TIMER_CONFIG), 15 << TIMER_ROUTE_SHIFT);
    CHECK_EQ(get(timer_reg(1, TIMER_CONFIG)) & TIMER_WRITABLE, 15 << TIMER_ROUTE_SHIFT);
    set(timer_reg(0, TIMER_CONFIG), TIMER_PERIODIC | TIMER_SET_VALUE); // which reads as 0
    CHECK_EQ(get(timer_reg(0, TIMER_CONFIG)) & TIMER_WRITABLE, TIMER_PERIODIC);
}

TEST(one_shot_fires_at_its_match_once)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE);
    one_shot(2, TIMER_ENABLE | ROUTE_10, 5000);
    chip_pass(4999 * TICK);
    CHECK_EQ(chip_rises[10], 0);
    chip_pass(2 * TICK);
    CHECK_EQ(chip_rises[10], 1);
    CHECK(!chip_level[10]); // an edge
    CHECK_EQ(get(REG_STATUS), 0);
    chip_pass(100 * SECOND);
    CHECK_EQ(chip_rises[10], 1);
    one_shot(2, TIMER_ENABLE | ROUTE_10 | TIMER_32BIT, get(REG_COUNTER) + 100);
    chip_pass(50 * SECOND); // the low half wraps after 43 s
    CHECK_EQ(chip_rises[10], 3);
}

TEST(a_match_is_counted_from_where_the_counter_begins)
{
    start();
    set(REG_COUNTER, 1000000);
    set(REG_CONFIG, CONFIG_ENABLE);
    one_shot(2, TIMER_ENABLE | ROUTE_10, 1005000);
    chip_pass(4999 * TICK);
    CHECK_EQ(chip_rises[10], 0);
    chip_pass(2 * TICK);
    CHECK_EQ(chip_rises[10], 1);
}

TEST(periodic_fires_at_each_period)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE);
    chip_pass(MS);
    periodic(TIMER_ENABLE | ROUTE_10, HPET_HZ / 1000);
    chip_pass(10 * MS + MS / 2);
    CHECK_EQ(chip_rises[10], 10);
    CHECK_EQ(get(timer_reg(0, TIMER_COMPARATOR)), 12 * HPET_HZ / 1000);
    set(timer_reg(0, TIMER_CONFIG), TIMER_PERIODIC | ROUTE_10);
    chip_pass(10 * MS);
    CHECK_EQ(chip_rises[10], 10);
    CHECK_EQ(get(timer_reg(0, TIMER_COMPARATOR)), 22 * HPET_HZ / 1000); // it goes on
}

TEST(a_new_period_leaves_the_comparator)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE);
    set(timer_reg(0, TIMER_CONFIG), ROUTE_10 | TIMER_PERIODIC | TIMER_SET_VALUE);
    set(timer_reg(0, TIMER_COMPARATOR), 12345);
    set(timer_reg(0, TIMER_COMPARATOR), 1000);
    CHECK_EQ(get(timer_reg(0, TIMER_COMPARATOR)), 12345);
    chip_pass(12345 * TICK);
    CHECK_EQ(get(timer_reg(0, TIMER_COMPARATOR)), 13345);
}

TEST(periods_that_were_missed_are_one_interrupt)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE);
    periodic(TIMER_ENABLE | ROUTE_10, HPET_HZ / 1000);
    chip_now += 50 * MS + MS / 2;
    io_clock_run(&chip_clock, chip_now);
    CHECK_EQ(chip_rises[10], 1);
    CHECK(chip_clock.next > chip_now && chip_clock.next <= chip_now + MS);
}

TEST(a_period_too_short_for_the_host_is_stretched)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE);
    periodic(TIMER_ENABLE | ROUTE_10, 1);
    chip_pass(MS);
    CHECK(chip_rises[10] > 0 && chip_rises[10] <= 50);
}

TEST(only_the_first_timer_is_periodic)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE);
    set(timer_reg(1, TIMER_CONFIG), TIMER_PERIODIC | TIMER_SET_VALUE);
    CHECK_EQ(get(timer_reg(1, TIMER_CONFIG)) & (TIMER_PERIODIC | TIMER_SET_VALUE), 0);
}

TEST(a_level_stays_until_its_status_is_cleared)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE);
    one_shot(0, TIMER_ENABLE | TIMER_LEVEL | ROUTE_10, 1000);
    one_shot(1, TIMER_ENABLE | TIMER_LEVEL | ROUTE_10, 2000);
    chip_pass(MS);
    CHECK(chip_level[10]);
    CHECK_EQ(get(REG_STATUS), 3);
    set(REG_STATUS, 1);
    CHECK(chip_level[10]); // the other's
    CHECK_EQ(get(REG_STATUS), 2);
    set(REG_STATUS, 2);
    CHECK(!chip_level[10]);
    CHECK_EQ(get(REG_STATUS), 0);
}

TEST(a_disabled_level_timer_shows_its_status_only)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE);
    one_shot(0, TIMER_LEVEL | ROUTE_10, 1000);
    chip_pass(MS);
    CHECK_EQ(get(REG_STATUS), 1);
    CHECK(!chip_level[10]);
    set(timer_reg(0, TIMER_CONFIG), TIMER_LEVEL | TIMER_ENABLE | ROUTE_10);
    CHECK(chip_level[10]);
    set(REG_CONFIG, 0);
    CHECK(!chip_level[10]);
    set(REG_CONFIG, CONFIG_ENABLE);
    CHECK(chip_level[10]);
    set(timer_reg(0, TIMER_CONFIG), TIMER_ENABLE | ROUTE_10); // an edge has no status
    CHECK_EQ(get(REG_STATUS), 0);
}

TEST(legacy_replacement_takes_the_lines_of_pit_and_rtc)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE | CONFIG_LEGACY);
    CHECK(hpet_replaces_legacy(&hpet));
    one_shot(0, TIMER_ENABLE | ROUTE_10, 1000);
    one_shot(1, TIMER_ENABLE | ROUTE_10, 1000);
    one_shot(2, TIMER_ENABLE | ROUTE_10, 1000);
    chip_pass(MS);
    CHECK_EQ(chip_rises[0], 1);
    CHECK_EQ(chip_rises[8], 1);
    CHECK_EQ(chip_rises[10], 1);
    set(REG_CONFIG, CONFIG_ENABLE);
    CHECK(!hpet_replaces_legacy(&hpet));
}

TEST(a_route_to_no_pin_goes_nowhere)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE);
    one_shot(0, TIMER_ENABLE | 9 << TIMER_ROUTE_SHIFT, 1000);
    one_shot(1, TIMER_ENABLE | TIMER_LEVEL | 31 << TIMER_ROUTE_SHIFT, 1000);
    chip_pass(MS);
    for (unsigned i = 0; i < CHIP_LINES; i++)
        CHECK_EQ(chip_rises[i], 0);
}

TEST(a_timer_that_changes_lets_go_of_its_line)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE);
    one_shot(1, TIMER_ENABLE | TIMER_LEVEL | ROUTE_10, 1000);
    chip_pass(MS);
    CHECK(chip_level[10]);
    set(timer_reg(1, TIMER_CONFIG), TIMER_ENABLE | TIMER_LEVEL | 11 << TIMER_ROUTE_SHIFT);
    CHECK(!chip_level[10]);
    CHECK(chip_level[11]);
    set(REG_CONFIG, CONFIG_ENABLE | CONFIG_LEGACY);
    CHECK(!chip_level[11]);
    CHECK(chip_level[8]);
}

TEST(nothing_fires_while_the_counter_stands)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE);
    one_shot(1, TIMER_ENABLE | ROUTE_10, 1000);
    set(REG_CONFIG, 0);
    chip_pass(MS);
    CHECK_EQ(chip_rises[10], 0);
    CHECK_EQ(chip_clock.next, ~0ull);
    set(REG_CONFIG, CONFIG_ENABLE);
    chip_pass(MS);
    CHECK_EQ(chip_rises[10], 1);
}

TEST(a_reset_stops_all)
{
    start();
    set(REG_CONFIG, CONFIG_ENABLE | CONFIG_LEGACY);
    one_shot(0, TIMER_ENABLE | TIMER_LEVEL, 1000);
    chip_pass(MS);
    CHECK(chip_level[0]);
    hpet_reset(&hpet);
    CHECK(!chip_level[0]);
    CHECK(!hpet_replaces_legacy(&hpet));
    CHECK_EQ(get(REG_COUNTER), 0);
    CHECK_EQ(get(timer_reg(0, TIMER_COMPARATOR)), ~0ull);
    CHECK_EQ(chip_clock.next, ~0ull);
}

TEST(no_register_value_breaks_it)
{
    start();
    chip_fuzz(&(struct chip_ports){&hpet.mmio, HPET_SIZE}, 1, 200000);
    CHECK(chip_clock.next > 0);
}
