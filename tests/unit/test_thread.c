// SPDX-License-Identifier: MIT
// vmm/thread.c: threads start, block, wake, sleep and end; slices; idling; and how they move
// between CPUs.

#include "tests/unit/thread_rig.h"

TEST(a_thread_starts_blocked_and_runs_when_it_is_woken)
{
    reset();
    struct thread *a = make("a", 0);
    CHECK(a->state == THREAD_BLOCKED);
    CHECK_STR(a->name, "a");
    thread_yield();
    CHECK(idles());
    thread_wake(a);
    CHECK(a->state == THREAD_READY);
    thread_yield();
    CHECK(runs(a));
    thread_block();
    CHECK(idles());
    CHECK(a->state == THREAD_BLOCKED);
}

TEST(who_yields_goes_to_the_end_of_the_line)
{
    reset();
    struct thread *a = make_running("a"), *b = make_running("b");
    struct thread *c = make_running("c");
    CHECK(runs(c));
    thread_yield();
    CHECK(runs(b));
    thread_yield();
    CHECK(runs(a));
    thread_yield();
    CHECK(runs(c));
    CHECK(takes > 0); // it is where host interrupts get their turn
}

TEST(who_is_woken_goes_first)
{
    reset();
    struct thread *a = make_running("a");
    thread_block();
    struct thread *b = make_running("b"), *c = make_running("c");
    run_for(10);
    CHECK(runs(b));
    now += 10;
    thread_wake(a);
    CHECK(thread_should_yield());
    CHECK_EQ(thread_next_event(), 0);
    thread_yield();
    CHECK(runs(a));
    thread_block();
    CHECK(runs(c));
    CHECK(b->state == THREAD_READY);
}

TEST(a_wake_up_that_comes_before_the_block_is_kept)
{
    reset();
    struct thread *a = make_running("a");
    thread_wake(a);
    thread_wake(a);
    thread_block();
    CHECK(runs(a));
    thread_block(); // the two were one
    CHECK(idles());
    thread_wake(a);
    thread_wake(a); // ready, not yet running
    thread_yield();
    CHECK(runs(a));
    CHECK(thread_block_until(now + 1000000));
    CHECK(runs(a));
}

TEST(threads_that_wake_each_other_do_not_starve_the_others)
{
    reset();
    struct thread *a = make_running("a");
    thread_block();
    struct thread *b = make_running("b");
    thread_block();
    struct thread *patient = make_running("patient");
    now += 1000 * slice();
    thread_wake(a);
    thread_yield(); // patient is in line now
    unsigned turns = 0;
    while (thread_self() != patient && turns++ < 1000) {
        now += slice() / 10;
        thread_wake(thread_self() == a ? b : a);
        thread_block();
    }
    CHECK(runs(patient));
    CHECK(turns >= 2 && turns <= 30); // each has a slice of credit
}

TEST(sleepers_wake_in_the_order_of_their_times)
{
    reset();
    static const u64 times[] = {300, 100, 200};
    struct thread *threads[3];
    for (unsigned i = 0; i < 3; i++) {
        threads[i] = make_running("sleeper");
        thread_block_until(1000 + times[i]);
        CHECK(idles());
    }
    CHECK_EQ(thread_next_event(), 1100);
    CHECK(!thread_should_yield());
    now = 1100;
    CHECK(thread_should_yield());
    thread_yield();
    CHECK(runs(threads[1]));
    thread_block();
    CHECK(idles());
    CHECK_EQ(thread_next_event(), 1200);
    now = 1400; // both are late: both run
    thread_yield();
    CHECK(thread_self() != &queues[0].idle);
    thread_block();
    CHECK(thread_self() != &queues[0].idle);
    thread_block();
    CHECK(idles());
    CHECK_EQ(thread_next_event(), ~0ull);
}

TEST(a_sleeper_that_is_woken_sleeps_no_more)
{
    reset();
    struct thread *a = make_running("a");
    thread_block_until(5000);
    thread_wake(a);
    CHECK_EQ(thread_next_event(), 0);
    thread_yield();
    CHECK(runs(a));
    CHECK_EQ(a->wake_at, ~0ull);
    thread_block();
    now = 6000;
    thread_yield();
    CHECK(idles()); // the old time means nothing
}

TEST(to_sleep_until_the_past_lets_the_others_run)
{
    reset();
    struct thread *a = make_running("a"), *b = make_running("b");
    CHECK(runs(b));
    takes = 0;
    thread_block_until(now);
    CHECK(runs(a));
    thread_block_until(0);
    CHECK(runs(b));
    CHECK_EQ(takes, 2);
    thread_yield();
    thread_block();
    thread_block_until(0); // nobody else: on it goes
    CHECK(runs(b));
}

TEST(a_slice_counts_only_while_others_wait)
{
    reset();
    struct thread *a = make_running("a");
    CHECK_EQ(thread_next_event(), ~0ull);
    now += 10 * slice();
    CHECK(!thread_should_yield());
    struct thread *b = make_running("b");
    CHECK(runs(b));
    CHECK_EQ(thread_next_event(), now + slice());
    now += slice() - 1;
    CHECK(!thread_should_yield());
    now++;
    CHECK(thread_should_yield());
    thread_yield();
    CHECK(runs(a));
    CHECK_EQ(b->cycles, slice());
    CHECK(!thread_should_yield());
}

TEST(a_wake_up_on_another_cpu_is_an_interrupt)
{
    reset();
    struct thread *a = make("a", 1);
    thread_wake(a);
    CHECK_EQ(ipis, 1);
    CHECK_EQ(ipi_to, 5);
    thread_wake(a); // is ready already
    CHECK_EQ(ipis, 1);
    thread_yield();
    CHECK(idles()); // it belongs to the other
    here = &percpus[1];
    thread_yield();
    CHECK(thread_self() == a);
}

TEST(the_least_busy_cpu_that_runs_guests_is_taken)
{
    reset();
    CHECK_EQ(make("a", THREAD_ANY_CPU)->cpu, 0);
    CHECK_EQ(make("b", THREAD_ANY_CPU)->cpu, 1);
    make("c", 0);
    CHECK_EQ(make("d", THREAD_ANY_CPU)->cpu, 1);
    percpus[1].engine_on = false; // or on its way up still
    make("e", 0);
    CHECK_EQ(make("f", THREAD_ANY_CPU)->cpu, 0);
}

TEST(an_ended_thread_is_given_back_by_the_next)
{
    reset();
    unsigned before = allocated;
    make_running("a");
    CHECK_EQ(allocated, before + 2);
    CHECK_EQ(queues[0].threads, 1);
    CHECK_PANICS(thread_exit()); // its last words, if it were run again
    CHECK(idles());
    CHECK_EQ(allocated, before);
    CHECK_EQ(queues[0].threads, 0);
    CHECK(!spin_is_locked(&queues[0].lock));
    CHECK(list_empty(&all_threads));
}

TEST(a_thread_that_never_ran_can_be_destroyed)
{
    reset();
    unsigned before = allocated;
    thread_destroy(make("a", 1));
    CHECK_EQ(allocated, before);
    CHECK_EQ(queues[1].threads, 0);
    CHECK(list_empty(&all_threads));
}

// --- moving ---

static bool stays(const struct thread *t)
{
    return !t;
}

TEST(who_is_woken_goes_to_a_cpu_that_idles)
{
    reset();
    struct thread *a = make("a", THREAD_ANY_CPU);
    CHECK_EQ(a->cpu, 0);
    make_running("busy");
    thread_wake(a);
    CHECK_EQ(a->cpu, 1);
    CHECK_EQ(ipi_to, 5);
    CHECK_EQ(queues[0].threads, 1);
    CHECK_EQ(queues[1].threads, 1);
    here = &percpus[1];
    thread_yield();
    CHECK(thread_self() == a);
    thread_block();
    thread_wake(a); // both idle or not: it stays where it was
    CHECK_EQ(a->cpu, 1);
}

TEST(who_belongs_to_a_cpu_stays_there)
{
    reset();
    struct thread *pinned = make("pinned", 0), *loaded = make("loaded", THREAD_ANY_CPU);
    loaded->may_leave = stays;
    loaded->movable = true;
    thread_wake(pinned);
    thread_yield();
    CHECK(runs(pinned));
    struct thread *other = make("other", 0);
    thread_wake(other);
    CHECK_EQ(other->cpu, 0);
    u32 cpu = loaded->cpu;
    here = &percpus[cpu];
    thread_wake(loaded);
    CHECK_EQ(loaded->cpu, cpu);
    percpus[1].engine_on = false; // it cannot run guests
    struct thread *movable = make("movable", THREAD_ANY_CPU);
    here = &percpus[0];
    thread_wake(movable);
    CHECK_EQ(movable->cpu, 0);
}

TEST(an_idle_cpu_takes_over_who_waits_for_another)
{
    reset();
    struct thread *pinned = make_running("pinned"), *movable = make_running("movable");
    movable->movable = true;
    thread_yield();
    CHECK(runs(pinned));
    here = &percpus[1];
    movable->may_leave = stays;
    CHECK_PANICS(thread_idle_loop());
    CHECK_EQ(movable->cpu, 0);
    movable->may_leave = NULL;
    percpus[1].engine_on = false;
    CHECK_PANICS(thread_idle_loop());
    CHECK_EQ(movable->cpu, 0);
    percpus[1].engine_on = true;
    CHECK(take_over(1));
    CHECK_EQ(movable->cpu, 1);
    CHECK_EQ(queues[0].ready_count, 0);
    thread_yield();
    CHECK(thread_self() == movable);
    CHECK(!take_over(1));
    CHECK(pinned->state == THREAD_RUNNING);
}

TEST(what_a_thread_used_moves_with_it)
{
    reset();
    struct thread *greedy = make_running("greedy"), *poor = make_running("poor");
    run_for(1);
    CHECK(runs(greedy));
    greedy->movable = true;
    run_for(3 * slice());
    CHECK(runs(poor));
    here = &percpus[1];
    struct thread *local = make("local", 1);
    thread_wake(local);
    CHECK(take_over(1));
    thread_yield();
    CHECK(thread_self() == local); // three slices are due to it first
}

TEST(an_idle_cpu_waits_for_the_first_sleeper)
{
    reset();
    CHECK_PANICS(thread_idle_loop());
    CHECK_EQ(armed, ~0ull);
    make_running("a");
    thread_block_until(7000);
    CHECK_PANICS(thread_idle_loop());
    CHECK_EQ(armed, 7000);
}
