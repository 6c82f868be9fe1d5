// SPDX-License-Identifier: MIT
// The timer of a guest's local APIC.
#include "tests/unit/lapic_rig.h"

// --- the timer ---

TEST(one_shot)
{
    enable_all();
    wr(0, LAPIC_LVT_TIMER, 0xec);
    wr(0, LAPIC_TIMER_DIVIDE, 0xb); // by 1
    wr(0, LAPIC_TIMER_INITIAL, 1000);
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 1000);
    u64 start = time_now;
    time_now = start + 3 * 400;
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 600);
    run_at(start + 3 * 1000 - 1);
    CHECK(!in_irr(0, 0xec));
    run_at(start + 3 * 1000 + 1);
    CHECK(in_irr(0, 0xec));
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 0);
    CHECK_EQ(rd(0, LAPIC_TIMER_INITIAL), 1000);
    take(0xec);
    run_at(start + 3 * 9000);
    CHECK(!in_irr(0, 0xec));
    wr(0, LAPIC_TIMER_INITIAL, 1000);
    wr(0, LAPIC_TIMER_INITIAL, 0); // stop
    run_at(time_now + 3 * 9000);
    CHECK(!in_irr(0, 0xec));
}

TEST(divide_configurations)
{
    static const u8 codes[] = {0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa};
    enable_all();
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        wr(0, LAPIC_LVT_TIMER, 0xec);
        wr(0, LAPIC_TIMER_DIVIDE, codes[i]);
        wr(0, LAPIC_TIMER_INITIAL, 1000);
        u64 end = time_now + (3000ull << i);
        run_at(end - 1);
        CHECK_EQ(take(0xec), 0);
        run_at(end + 1);
        CHECK_EQ(take(0xec), 1);
    }
    // A change while it counts keeps the current count.
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    wr(0, LAPIC_TIMER_INITIAL, 1000);
    time_now += 3 * 500;
    wr(0, LAPIC_TIMER_DIVIDE, 0x0);
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 500);
    u64 end = time_now + 3 * 500 * 2;
    run_at(end - 3);
    CHECK_EQ(take(0xec), 0);
    run_at(end + 3);
    CHECK_EQ(take(0xec), 1);
    // The longest: no overflow on the way.
    wr(0, LAPIC_TIMER_DIVIDE, 0xa);
    wr(0, LAPIC_TIMER_INITIAL, ~0u);
    CHECK_EQ(cpus[0].timer.deadline, time_now + 0xffffffffull * 128 * 3 + 1);
}

TEST(periodic_does_not_drift)
{
    enable_all();
    wr(0, LAPIC_LVT_TIMER, 0x200ec);
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    u64 start = time_now;
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    for (u64 i = 1; i <= 1000; i++) {
        run_at(start + i * 300000 - 1);
        CHECK_EQ(take(0xec), 0);
        run_at(start + i * 300000 + 5);
        CHECK_EQ(take(0xec), 1);
        CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 100000 - 1);
    }
    wr(0, LAPIC_LVT_TIMER, 0x300ec); // masked: counts on
    run_at(time_now + 300000);
    CHECK_EQ(take(0xec), 0);
    CHECK(rd(0, LAPIC_TIMER_CURRENT) != 0);
}

TEST(missed_periods_are_one_tick)
{
    enable_all();
    wr(0, LAPIC_LVT_TIMER, 0x200ec);
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    u64 start = time_now;
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    run_at(start + 300000 * 1000 + 150000);
    CHECK_EQ(heard[0].changed, 1);
    CHECK_EQ(take(0xec), 1);
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 50000);
    CHECK_EQ(cpus[0].timer.deadline, start + 300000 * 1001 + 1);
}

TEST(tiny_periods_cannot_flood_the_host)
{
    enable_all();
    wr(0, LAPIC_LVT_TIMER, 0x200ec);
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    wr(0, LAPIC_TIMER_INITIAL, 1);
    unsigned fired = 0;
    u64 end = time_now + CLOCK_HZ / 1000;
    while (test_clock.next <= end) {
        run_at(test_clock.next);
        fired += take(0xec);
    }
    CHECK(fired >= 49 && fired <= 50); // in a millisecond
    CHECK(rd(0, LAPIC_TIMER_CURRENT) <= 1);
}

TEST(timer_mode_changes)
{
    enable_all();
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    wr(0, LAPIC_LVT_TIMER, 0x200ec);
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    run_at(time_now + 300000 * 5 / 2);
    take(0xec);
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 50000);
    wr(0, LAPIC_LVT_TIMER, 0xec); // to one-shot: the count goes on
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 50000);
    run_at(time_now + 150001);
    CHECK_EQ(take(0xec), 1);
    CHECK(!io_timer_armed(&cpus[0].timer));
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    wr(0, LAPIC_LVT_TIMER, 0x400ec); // to TSC deadline: disarmed
    CHECK(!io_timer_armed(&cpus[0].timer));
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 0);
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    CHECK_EQ(rd(0, LAPIC_TIMER_INITIAL), 0); // ignored in this mode
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, time_now + 100));
    wr(0, LAPIC_LVT_TIMER, 0xec);
    CHECK(!io_timer_armed(&cpus[0].timer));
    u64 value = 1;
    CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, 0);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, time_now + 100)); // ignored in this mode
    CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, 0);
    wr(0, LAPIC_LVT_TIMER, 0x600ec); // reserved
    wr(0, LAPIC_TIMER_INITIAL, 100);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, time_now + 100));
    CHECK(!io_timer_armed(&cpus[0].timer));
}

TEST(one_shot_turned_periodic_goes_on)
{
    enable_all();
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    wr(0, LAPIC_LVT_TIMER, 0xec);
    u64 start = time_now;
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    time_now = start + 150000;
    wr(0, LAPIC_LVT_TIMER, 0x200ec);
    for (u64 i = 1; i < 5; i++) {
        run_at(start + i * 300000 - 3);
        CHECK_EQ(take(0xec), 0);
        run_at(start + i * 300000 + 3);
        CHECK_EQ(take(0xec), 1);
    }
}

TEST(tsc_deadline)
{
    x2apic_all();
    CHECK(wrx(0, LAPIC_LVT_TIMER, 0x400ec));
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 5000));
    u64 value;
    CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, 5000);
    CHECK_EQ(test_clock.next, 5000);
    run_at(4999);
    CHECK_EQ(take(0xec), 0);
    run_at(5000);
    CHECK_EQ(take(0xec), 1);
    CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, 0);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 5000)); // now: at once
    CHECK_EQ(take(0xec), 1);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 1)); // in the past: at once
    CHECK_EQ(take(0xec), 1);
    CHECK(!io_timer_armed(&cpus[0].timer));
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 6000));
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 0)); // disarm
    run_at(7000);
    CHECK_EQ(take(0xec), 0);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 8000));
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 6000)); // in the past: instead of the other
    CHECK_EQ(take(0xec), 1);
    CHECK(!io_timer_armed(&cpus[0].timer));
    CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, 0);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 8000));
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 7500)); // moves
    run_at(7500);
    CHECK_EQ(take(0xec), 1);
    CHECK(wrx(0, LAPIC_LVT_TIMER, 0x500ec)); // masked: expires in silence
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 7501));
    run_at(7501);
    CHECK_EQ(take(0xec), 0);
}

TEST(tsc_deadline_follows_the_vcpus_tsc)
{
    x2apic_all();
    CHECK(wrx(0, LAPIC_LVT_TIMER, 0x400ec));
    lapic_set_tsc_adjust(&cpus[0], 1000000);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 1005000));
    CHECK_EQ(cpus[0].timer.deadline, 5000);
    lapic_set_tsc_adjust(&cpus[0], 1001000);
    CHECK_EQ(cpus[0].timer.deadline, 4000);
    lapic_set_tsc_adjust(&cpus[0], 0 - 500ull); // behind the clock
    CHECK_EQ(cpus[0].timer.deadline, 1005500);
    lapic_set_tsc_adjust(&cpus[0], 2000000); // past now
    CHECK_EQ(take(0xec), 1);
    lapic_set_tsc_adjust(&cpus[0], 0);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, ~0ull)); // never, but kept
    CHECK(!io_timer_armed(&cpus[0].timer));
    u64 value;
    CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, ~0ull);
    lapic_set_tsc_adjust(&cpus[0], 0 - 500ull); // beyond the clock's end
    CHECK(!io_timer_armed(&cpus[0].timer));
}

TEST(an_illegal_timer_vector_is_an_error)
{
    enable_all();
    wr(0, LAPIC_LVT_TIMER, 0x0c);
    wr(0, LAPIC_TIMER_INITIAL, 10);
    run_at(time_now + 1000);
    wr(0, LAPIC_ESR, 0);
    CHECK_EQ(rd(0, LAPIC_ESR), ESR_RECEIVE_ILLEGAL_VECTOR);
}
