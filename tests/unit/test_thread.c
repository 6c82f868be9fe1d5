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

// Woken and run, so that it waits in line with the others that were made this way.
static struct thread *make_running(const char *name)
{
    struct thread *t = make(name, 0);
    thread_wake(t);
    thread_yield();
    return t;
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
    CHECK(runs(a));
    thread_yield();
    CHECK(runs(b));
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
    thread_wake(a);
    CHECK(thread_should_yield());
    CHECK_EQ(thread_next_event(), 0);
    thread_yield();
    CHECK(runs(a));
    thread_block();
    CHECK(runs(b));
    CHECK(c->state == THREAD_READY);
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
    thread_wake(a);
    thread_yield(); // patient is in line now
    unsigned turns = 0;
    while (thread_self() != patient && turns++ < 1000) {
        thread_wake(thread_self() == a ? b : a);
        thread_block();
    }
    CHECK(runs(patient));
    CHECK(turns >= 2 && turns <= OVERTAKE_MAX + 2);
    CHECK_EQ(queues[0].overtaken, 0);
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

static unsigned switches_in, switches_out;

static void count_in(struct thread *thread)
{
    CHECK(thread == thread_self());
    switches_in++;
}

static void count_out(struct thread *thread)
{
    CHECK(thread == thread_self());
    switches_out++;
}

TEST(a_thread_is_told_of_switches)
{
    reset();
    struct thread *a = make("a", 0);
    a->switched_in = count_in;
    a->switched_out = count_out;
    thread_wake(a);
    thread_yield();
    CHECK_EQ(switches_in, 1);
    CHECK_EQ(switches_out, 0);
    thread_block();
    CHECK_EQ(switches_in, 1);
    CHECK_EQ(switches_out, 1);
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
