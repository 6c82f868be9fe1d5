// SPDX-License-Identifier: MIT
// Timers: order, re-arming, cancelling from a callback, and that no timer can keep io_clock_run()
// from returning.
#include "tests/unit/test.h"
#include "io/clock.c"

static u64 time_now;
static unsigned earlier_calls;
static u64 log_times[64];
static unsigned log_ids[64], log_count;

static u64 clock_now(struct io_clock *clock)
{
    (void)clock;
    return time_now;
}

static void clock_earlier(struct io_clock *clock)
{
    (void)clock;
    earlier_calls++;
}

static struct io_clock test_clock;
static struct io_timer timers[8];
static void (*on_fire)(unsigned id);

static void fire(struct io_timer *timer)
{
    unsigned id = (unsigned)(timer - timers);
    CHECK(!io_timer_armed(timer));
    if (log_count < ARRAY_SIZE(log_ids)) {
        log_ids[log_count] = id;
        log_times[log_count++] = time_now;
    }
    if (on_fire)
        on_fire(id);
}

static void setup(void)
{
    io_clock_init(&test_clock, 2000000000, clock_now);
    test_clock.earlier = clock_earlier;
    for (unsigned i = 0; i < ARRAY_SIZE(timers); i++)
        io_timer_init(&timers[i], fire);
    time_now = earlier_calls = log_count = 0;
    on_fire = NULL;
}

static void run_at(u64 now)
{
    time_now = now;
    io_clock_run(&test_clock, now);
}

TEST(fires_in_order_and_not_before_time)
{
    setup();
    io_timer_arm(&test_clock, &timers[0], 300);
    io_timer_arm(&test_clock, &timers[1], 100);
    io_timer_arm(&test_clock, &timers[2], 200);
    io_timer_arm(&test_clock, &timers[3], 200);
    CHECK_EQ(test_clock.next, 100);
    run_at(99);
    CHECK_EQ(log_count, 0);
    run_at(200);
    CHECK_EQ(log_count, 3);
    CHECK_EQ(log_ids[0], 1);
    CHECK_EQ(log_ids[1], 2);
    CHECK_EQ(log_ids[2], 3);
    CHECK_EQ(test_clock.next, 300);
    run_at(~0ull - 1);
    CHECK_EQ(log_count, 4);
    CHECK_EQ(test_clock.next, ~0ull);
    run_at(~0ull);
    CHECK_EQ(log_count, 4);
}

TEST(earlier_is_called_only_when_the_first_moves_forward)
{
    setup();
    io_timer_arm(&test_clock, &timers[0], 100);
    CHECK_EQ(earlier_calls, 1);
    io_timer_arm(&test_clock, &timers[1], 200);
    io_timer_arm(&test_clock, &timers[1], 100);
    CHECK_EQ(earlier_calls, 1);
    io_timer_arm(&test_clock, &timers[1], 99);
    CHECK_EQ(earlier_calls, 2);
    io_timer_arm(&test_clock, &timers[1], 150);
    CHECK_EQ(earlier_calls, 2);
    CHECK_EQ(test_clock.next, 100);
    io_timer_cancel(&test_clock, &timers[0]);
    CHECK_EQ(earlier_calls, 2);
    CHECK_EQ(test_clock.next, 150);
}

TEST(a_clock_without_a_listener_works)
{
    setup();
    test_clock.earlier = NULL;
    io_timer_arm(&test_clock, &timers[0], 1);
    run_at(1);
    CHECK_EQ(log_count, 1);
}

TEST(cancel_and_never)
{
    setup();
    io_timer_cancel(&test_clock, &timers[0]);
    io_timer_arm(&test_clock, &timers[0], 10);
    io_timer_arm(&test_clock, &timers[0], ~0ull);
    CHECK(!io_timer_armed(&timers[0]));
    CHECK_EQ(test_clock.next, ~0ull);
    io_timer_arm(&test_clock, &timers[0], 10);
    io_timer_cancel(&test_clock, &timers[0]);
    io_timer_cancel(&test_clock, &timers[0]);
    run_at(100);
    CHECK_EQ(log_count, 0);
}

static void rearm_in_the_past(unsigned id)
{
    io_timer_arm(&test_clock, &timers[id], 5);
}

TEST(a_timer_that_arms_itself_for_the_past_fires_once_a_run)
{
    setup();
    on_fire = rearm_in_the_past;
    io_timer_arm(&test_clock, &timers[0], 10);
    io_timer_arm(&test_clock, &timers[1], 20);
    run_at(100);
    CHECK_EQ(log_count, 2); // the second was not starved
    CHECK_EQ(test_clock.next, 5);
    run_at(101);
    CHECK_EQ(log_count, 4);
}

static void periodic(unsigned id)
{
    io_timer_arm(&test_clock, &timers[id], time_now + 10);
}

TEST(arming_for_the_next_period_is_not_news)
{
    setup();
    io_timer_arm(&test_clock, &timers[0], 10);
    on_fire = periodic;
    run_at(10);
    run_at(20);
    CHECK_EQ(log_count, 2);
    CHECK_EQ(earlier_calls, 1);
    CHECK_EQ(test_clock.next, 30);
}

static void meddle(unsigned id)
{
    if (id != 0)
        return;
    io_timer_cancel(&test_clock, &timers[1]);
    io_timer_arm(&test_clock, &timers[2], 1000);
}

TEST(a_callback_may_cancel_and_move_timers_that_are_due)
{
    setup();
    for (unsigned i = 0; i < 4; i++)
        io_timer_arm(&test_clock, &timers[i], 10 + i);
    on_fire = meddle;
    run_at(100);
    CHECK_EQ(log_count, 2);
    CHECK_EQ(log_ids[1], 3);
    CHECK_EQ(test_clock.next, 1000);
    CHECK(!io_timer_armed(&timers[1]));
    run_at(1000);
    CHECK_EQ(log_ids[2], 2);
}

TEST(ticks_convert_both_ways)
{
    setup();
    CHECK_EQ(io_clock_to(&test_clock, 2000, 1000000000), 1000);
    CHECK_EQ(io_clock_from(&test_clock, 1193182, 1193182), 2000000000);
    CHECK_EQ(io_clock_to(&test_clock, 1ull << 62, 2000000000), 1ull << 62);
}

static void random_rearm(unsigned id)
{
    if (rand() % 2)
        io_timer_arm(&test_clock, &timers[id], time_now - 5 + (u64)(rand() % 50));
    if (rand() % 4 == 0)
        io_timer_cancel(&test_clock, &timers[rand() % 8]);
}

TEST(random_walk_keeps_the_list_sorted)
{
    setup();
    on_fire = random_rearm;
    srand(2);
    time_now = 100;
    for (unsigned step = 0; step < 1000000 && !test_failed; step++) {
        struct io_timer *t = &timers[rand() % 8];
        unsigned what = (unsigned)rand() % 4;
        if (what == 0)
            io_timer_cancel(&test_clock, t);
        else if (what == 1)
            run_at(time_now + (u64)(rand() % 20));
        else
            io_timer_arm(&test_clock, t, time_now - 10 + (u64)(rand() % 100));
        u64 last = 0;
        list_for_each (node, &test_clock.timers) {
            CHECK(timer_of(node)->deadline >= last);
            last = timer_of(node)->deadline;
        }
        CHECK_EQ(test_clock.next, clock_first(&test_clock));
    }
}
