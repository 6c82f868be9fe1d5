// SPDX-License-Identifier: MIT
// vmm/thread.c without stacks: context_switch() returns at once, so that a call which gives up the
// CPU comes back as whoever runs next. The test acts for the running thread of the CPU that is
// `here`, and time is a variable.

#include "tests/unit/test.h"
#define this_cpu real_this_cpu
#include "arch/x86_64/percpu.h"
#undef this_cpu
#define rdtsc           real_rdtsc
#define interrupts_take real_interrupts_take
#define interrupts_wait real_interrupts_wait
#include "arch/x86_64/asm.h"
#undef rdtsc
#undef interrupts_take
#undef interrupts_wait

static struct percpu *here;
static u64 now;
static unsigned takes;

static struct percpu *this_cpu(void)
{
    return here;
}

static u64 rdtsc(void)
{
    return now;
}

static void interrupts_take(void)
{
    takes++;
}

static void interrupts_wait(void)
{
    panic("idle"); // ends the idle loop: CHECK_PANICS
}

#include "vmm/run_queue.c"
#include "vmm/thread.c"
#include <string.h>

struct percpu percpus[CPU_MAX];
u32 cpu_count = 2;
u64 tsc_hz = 1000000; // a tick is a microsecond

int format_text(char *to, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(to, size, format, arguments);
    va_end(arguments);
    return length;
}

static unsigned allocated;

void *heap_alloc(size_t size)
{
    allocated++;
    return calloc(1, size);
}

void heap_free(void *object)
{
    allocated -= object != NULL;
    free(object);
}

void *host_stack_alloc(u64 size)
{
    return (u8 *)heap_alloc(size) + size;
}

void host_stack_free(void *top, u64 size)
{
    heap_free((u8 *)top - size);
}

static unsigned ipis;
static u32 ipi_to;

void apic_send_ipi(u32 apic_id, u8 vector)
{
    CHECK_EQ(vector, HOST_VECTOR_WAKE);
    ipi_to = apic_id;
    ipis++;
}

static u64 armed;

void apic_timer_arm(u64 deadline)
{
    armed = deadline;
}

void context_switch(u64 *from, u64 to)
{
    (void)from;
    (void)to;
}

static u64 slice(void)
{
    return tsc_from_us(THREAD_SLICE_US);
}

static void nothing(void *argument)
{
    (void)argument;
}

static void cpu_reset(unsigned index)
{
    here = &percpus[index];
    here->index = index;
    here->apic_id = 4 + index;
    here->online = here->engine_on = true;
    thread_init_cpu();
}

static const struct thread *loaded[CPU_MAX]; // who ran last

static void reset(void)
{
    while (!list_empty(&all_threads)) {
        struct thread *t = container_of(all_threads.next, struct thread, all);
        list_remove(&t->all);
        host_stack_free(t->stack_top, THREAD_STACK_SIZE);
        heap_free(t);
    }
    memset(queues, 0, sizeof(queues));
    memset(percpus, 0, sizeof(percpus));
    memset(loaded, 0, sizeof(loaded));
    now = 1000;
    takes = ipis = 0;
    armed = 0;
    cpu_reset(1);
    cpu_reset(0);
}

static struct thread *make(const char *name, u32 cpu)
{
    return thread_create(name, cpu, nothing, NULL);
}

static struct thread *make_running(const char *name)
{
    struct thread *t = make(name, 0);
    thread_wake(t);
    while (thread_self() != t)
        thread_yield();
    return t;
}

static void run_for(u64 ticks)
{
    now += ticks;
    thread_yield();
}

static bool runs(const struct thread *t)
{
    return thread_self() == t && t->state == THREAD_RUNNING && !spin_is_locked(&queues[0].lock);
}

static bool idles(void)
{
    return thread_self() == &queues[0].idle;
}

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

// --- shares ---

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
