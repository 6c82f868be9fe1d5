// SPDX-License-Identifier: MIT
// vmm/run_queue.c: busy threads have the shares of a CPU, and of all CPUs, that their weights say.

#include "tests/unit/thread_rig.h"

// --- one CPU ---

// As the run loop does it: whoever runs goes on until it should yield. Cycles of each in percent.
static void run_all(u64 ticks)
{
    for (u64 end = now + ticks; now < end;) {
        now += slice() / 10;
        if (thread_should_yield())
            thread_yield();
    }
}

static u64 percent(const struct thread *t, u64 of)
{
    return (thread_cycles(t) * 100 + of / 2) / of;
}

TEST(weights_are_shares)
{
    reset();
    struct thread *threads[3];
    for (unsigned i = 0; i < 3; i++) {
        threads[i] = make_running("busy");
        threads[i]->weight = 100 * (i + 1);
    }
    run_all(600 * slice());
    CHECK_EQ(percent(threads[0], 600 * slice()), 17);
    CHECK_EQ(percent(threads[1], 600 * slice()), 33);
    CHECK_EQ(percent(threads[2], 600 * slice()), 50);
    CHECK_EQ(thread_cpu_busy(0), 600 * slice());
}

TEST(the_extreme_weights_both_run)
{
    reset();
    struct thread *light = make_running("light"), *heavy = make_running("heavy");
    light->weight = THREAD_WEIGHT_MIN;
    heavy->weight = THREAD_WEIGHT_MAX;
    run_all(30000 * slice());
    CHECK(light->cycles >= slice() && light->cycles <= 5 * slice());
    CHECK(heavy->cycles > 29000 * slice());
}

TEST(who_slept_long_gets_a_slice_of_credit_and_no_more)
{
    reset();
    struct thread *sleeper = make_running("sleeper");
    thread_block();
    struct thread *busy = make_running("busy");
    run_all(1000 * slice());
    thread_wake(sleeper);
    CHECK(thread_should_yield());
    u64 before_it = sleeper->cycles;
    run_all(100 * slice());
    u64 got = sleeper->cycles - before_it;
    CHECK(got >= 49 * slice() && got <= 52 * slice());
    CHECK(busy->state == THREAD_READY || busy->state == THREAD_RUNNING);
}

TEST(a_thread_that_wakes_often_waits_for_nobody)
{
    reset();
    make_running("busy");
    struct thread *waker = make_running("waker");
    u64 longest = 0;
    for (unsigned i = 0; i < 1000; i++) {
        now += slice() / 50; // what it does each time
        thread_block_until(now + slice() / 2);
        u64 due = waker->wake_at;
        while (thread_self() != waker) {
            now += slice() / 100;
            if (thread_should_yield())
                thread_yield();
        }
        longest = MAX(longest, now - due);
    }
    CHECK(longest <= slice() / 50);
}

TEST(who_gives_way_is_behind_the_next_whatever_is_due_to_it)
{
    reset();
    struct thread *a = make_running("a"), *b = make_running("b");
    run_for(10 * slice());
    CHECK(runs(a)); // ten slices are due to it
    thread_yield();
    CHECK(runs(a));
    thread_give_way();
    CHECK(thread_should_yield());
    thread_yield();
    CHECK(runs(b));
    thread_block();
    thread_give_way(); // to nobody
    CHECK(!thread_should_yield());
    CHECK(runs(a));
}

// --- several CPUs at once ---

// As vCPUs have it: who ran last on a CPU cannot leave it.
static bool not_loaded(const struct thread *t)
{
    return loaded[t->cpu] != t;
}

static void run_cpus(u64 ticks)
{
    for (u64 end = now + ticks; now < end;) {
        now += slice() / 10;
        for (u32 i = 0; i < cpu_count; i++) {
            here = &percpus[i];
            bool idle = thread_self() == &queues[i].idle;
            if (idle ? queues[i].ready_count || take_over(i) : thread_should_yield())
                thread_yield();
            if (thread_self() != &queues[i].idle)
                loaded[i] = thread_self();
        }
    }
}

static struct thread *make_busy(u32 cpu, u32 weight)
{
    struct thread *t = make("busy", cpu);
    t->may_leave = not_loaded;
    t->weight = weight;
    t->movable = cpu == THREAD_ANY_CPU;
    thread_wake(t);
    return t;
}

// What each got of a CPU, in percent, from here on.
static void check_shares(struct thread *const *threads, const unsigned *percents, unsigned count)
{
    const u64 ticks = 3000 * slice();
    u64 got[8], busy = 0;
    for (unsigned i = 0; i < count; i++)
        got[i] = thread_cycles(threads[i]);
    run_cpus(ticks);
    for (unsigned i = 0; i < count; i++) {
        got[i] = (thread_cycles(threads[i]) - got[i]) * 100 / ticks;
        busy += got[i];
        if (got[i] + 1 < percents[i] || got[i] > percents[i] + 1)
            printf("thread %u: %llu percent\n", i, (unsigned long long)got[i]);
        CHECK(got[i] + 1 >= percents[i] && got[i] <= percents[i] + 1);
    }
    CHECK(busy + count >= 100 * cpu_count);
}

static void check_weights(const u32 *weights, const unsigned *percents, unsigned count)
{
    struct thread *threads[8];
    reset();
    for (unsigned i = 0; i < count; i++)
        threads[i] = make_busy(THREAD_ANY_CPU, weights[i]);
    run_cpus(100 * slice()); // until they have settled
    check_shares(threads, percents, count);
}

TEST(three_busy_threads_have_two_thirds_of_a_cpu_each)
{
    check_weights((u32[]){100, 100, 100}, (unsigned[]){66, 66, 66}, 3);
    check_weights((u32[]){100, 100, 100, 100, 100}, (unsigned[]){40, 40, 40, 40, 40}, 5);
}

TEST(weights_are_shares_of_all_cpus)
{
    check_weights((u32[]){100, 100, 150}, (unsigned[]){57, 57, 85}, 3);
    check_weights((u32[]){100, 200, 300, 100}, (unsigned[]){28, 57, 85, 28}, 4);
}

TEST(who_is_due_more_than_a_cpu_has_one_and_the_others_share_the_rest)
{
    check_weights((u32[]){10000, 100, 100}, (unsigned[]){100, 50, 50}, 3);
    check_weights((u32[]){1000, 200, 100}, (unsigned[]){100, 66, 33}, 3);
    check_weights((u32[]){1, 100}, (unsigned[]){100, 100}, 2);
}

TEST(those_that_may_move_make_up_for_those_that_may_not)
{
    reset();
    struct thread *threads[] = {make_busy(0, 100), make_busy(0, 100),
                                make_busy(THREAD_ANY_CPU, 100), make_busy(THREAD_ANY_CPU, 100),
                                make_busy(THREAD_ANY_CPU, 100)};
    check_shares(threads, (unsigned[]){40, 40, 40, 40, 40}, 5);
    CHECK_EQ(threads[0]->cpu, 0);
    CHECK_EQ(threads[1]->cpu, 0);
}

// However long a CPU was slower than another, it is not made up for once threads can move.
TEST(what_pinned_threads_did_not_get_is_forgotten)
{
    reset();
    struct thread *pinned[] = {make_busy(0, 100), make_busy(0, 100), make_busy(0, 100)};
    struct thread *lone = make_busy(1, 100);
    run_cpus(1000 * slice());
    CHECK_EQ(percent(lone, 1000 * slice()), 100);
    lone->movable = true;
    struct thread *threads[] = {pinned[0], pinned[1], pinned[2], lone,
                                make_busy(THREAD_ANY_CPU, 100)};
    run_cpus(100 * slice());
    check_shares(threads, (unsigned[]){33, 33, 33, 50, 50}, 5);
}

TEST(threads_that_have_their_shares_stay_where_they_are)
{
    reset();
    struct thread *threads[4];
    for (unsigned i = 0; i < 4; i++)
        threads[i] = make_busy(THREAD_ANY_CPU, 100);
    run_cpus(10 * slice());
    u32 cpus[4];
    for (unsigned i = 0; i < 4; i++)
        cpus[i] = threads[i]->cpu;
    for (unsigned n = 0; n < 1000; n++) {
        run_cpus(slice());
        for (unsigned i = 0; i < 4; i++)
            CHECK_EQ(threads[i]->cpu, cpus[i]);
    }
}

// However the others move, nobody waits long.
TEST(nobody_waits_longer_than_a_few_slices)
{
    reset();
    struct thread *threads[3];
    u64 since[3], cycles[3] = {0}, longest = 0;
    for (unsigned i = 0; i < 3; i++) {
        threads[i] = make_busy(THREAD_ANY_CPU, 100);
        since[i] = now;
    }
    for (unsigned n = 0; n < 20000; n++) {
        run_cpus(slice() / 10);
        for (unsigned i = 0; i < 3; i++) {
            u64 used = thread_cycles(threads[i]);
            if (used != cycles[i])
                since[i] = now;
            cycles[i] = used;
            longest = MAX(longest, now - since[i]);
        }
    }
    CHECK(longest <= 4 * slice());
}
