// SPDX-License-Identifier: MIT
// Cooperative threads on per-CPU run queues. A queue's lock is held across the context switch and
// given back by whoever runs next, so a thread is never on two CPUs and a wake-up never falls
// between "decided to block" and "blocked". A thread stays on the CPU it was made for.
#include "vmm/thread.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/format.h"
#include "arch/x86_64/cpu.h"
#include "mm/heap.h"
#include "mm/host_map.h"

#define NEVER        (~0ull)
#define OVERTAKE_MAX 16 // woken threads that go first before one that waits in line has its turn

struct run_queue {
    struct spinlock lock;
    struct list ready;
    struct list sleepers; // earliest first
    u64 first_wake;       // wake_at of the first sleeper; NEVER if none
    u32 ready_count;
    u32 overtaken;       // woken threads that went first since one in line had its turn
    u32 threads;         // that belong to this CPU
    bool preempt;        // somebody was woken: the running thread gives way soon
    struct thread *dead; // switched away from for good; freed by the next thread
    struct thread idle;
};

static struct run_queue queues[CPU_MAX];
static struct spinlock all_lock = SPINLOCK_INIT;
static struct list all_threads = LIST_INIT(all_threads);

static struct thread *node_thread(struct list *node)
{
    return container_of(node, struct thread, node);
}

static struct thread *sleep_thread(struct list *node)
{
    return container_of(node, struct thread, sleep);
}

static void thread_setup(struct thread *t, const char *name, u32 cpu)
{
    list_init(&t->node);
    list_init(&t->sleep);
    list_init(&t->all);
    t->cpu = cpu;
    t->wake_at = NEVER;
    format_text(t->name, sizeof(t->name), "%s", name);
}

void thread_init_cpu(void)
{
    struct percpu *cpu = this_cpu();
    struct run_queue *q = &queues[cpu->index];
    list_init(&q->ready);
    list_init(&q->sleepers);
    q->first_wake = NEVER;
    thread_setup(&q->idle, "idle", cpu->index);
    q->idle.state = THREAD_RUNNING;
    q->idle.started = rdtsc();
    q->idle.slice_end = NEVER;
    cpu->thread = &q->idle;
    cpu->queue = q;
}

struct thread *thread_self(void)
{
    return this_cpu()->thread;
}

static void sleeper_remove(struct run_queue *q, struct thread *t)
{
    list_remove(&t->sleep);
    t->wake_at = NEVER;
    q->first_wake = list_empty(&q->sleepers) ? NEVER : sleep_thread(q->sleepers.next)->wake_at;
}

static void sleeper_add(struct run_queue *q, struct thread *t, u64 tsc)
{
    struct list *at = q->sleepers.next;
    while (at != &q->sleepers && sleep_thread(at)->wake_at <= tsc)
        at = at->next;
    t->wake_at = tsc;
    list_insert(at, &t->sleep);
    q->first_wake = sleep_thread(q->sleepers.next)->wake_at;
}

static void ready_add(struct run_queue *q, struct thread *t, bool in_line)
{
    t->state = THREAD_READY;
    t->in_line = in_line;
    if (in_line)
        list_append(&q->ready, &t->node);
    else
        list_prepend(&q->ready, &t->node);
    q->ready_count++;
}

static struct thread *ready_take(struct run_queue *q)
{
    struct thread *t = node_thread(q->ready.next);
    list_remove(&t->node);
    q->ready_count--;
    if (t->in_line || !q->ready_count)
        q->overtaken = 0;
    return t;
}

// Queue held. A woken thread goes first: it waited for something, and waits no longer. Not for
// ever, though: threads that wake each other all the time would keep the rest from the CPU.
static void make_ready(struct run_queue *q, struct thread *t)
{
    sleeper_remove(q, t);
    bool in_line = q->overtaken >= OVERTAKE_MAX;
    if (q->ready_count && !in_line)
        q->overtaken++;
    ready_add(q, t, in_line);
    q->preempt = true;
}

static void wake_sleepers(struct run_queue *q, u64 now)
{
    while (q->first_wake <= now)
        make_ready(q, sleep_thread(q->sleepers.next));
}

static void free_dead(struct run_queue *q)
{
    struct thread *t = q->dead;
    if (!t)
        return;
    q->dead = NULL;
    spin_unlock(&q->lock);
    host_stack_free(t->stack_top, THREAD_STACK_SIZE);
    heap_free(t);
    spin_lock(&q->lock);
}

// What a thread does first on getting the CPU, its queue held since the switch began.
static void switched_in(struct run_queue *q)
{
    struct thread *self = thread_self();
    self->started = rdtsc();
    self->slice_end = self == &q->idle ? NEVER : self->started + tsc_from_us(THREAD_SLICE_US);
    free_dead(q);
    spin_unlock(&q->lock);
    if (self->switched_in)
        self->switched_in(self);
}

// Give the CPU to the first ready thread, else to the idle thread. Queue held; released on return.
static void schedule(struct run_queue *q)
{
    struct percpu *cpu = this_cpu();
    struct thread *previous = cpu->thread, *next = &q->idle;
    u64 now = rdtsc();
    wake_sleepers(q, now);
    q->preempt = false;
    if (q->ready_count)
        next = ready_take(q);
    next->state = THREAD_RUNNING;
    previous->cycles += now - previous->started;
    if (next == previous) {
        switched_in(q);
        return;
    }
    if (previous->switched_out)
        previous->switched_out(previous);
    cpu->thread = next;
    context_switch(&previous->stack_pointer, next->stack_pointer);
    switched_in(this_cpu()->queue);
}

NORETURN static void thread_start(void)
{
    switched_in(this_cpu()->queue);
    struct thread *self = thread_self();
    self->entry(self->argument);
    thread_exit();
}

NORETURN void thread_exit(void)
{
    struct run_queue *q = this_cpu()->queue;
    struct thread *self = thread_self();
    spin_lock(&all_lock);
    list_remove(&self->all);
    spin_unlock(&all_lock);
    spin_lock(&q->lock);
    self->state = THREAD_DEAD;
    q->dead = self;
    q->threads--;
    schedule(q);
    panic("a dead thread runs: %s", self->name);
}

// A CPU has its queue before it has an engine: one that is still on its way up is not taken.
static u32 least_busy_cpu(void)
{
    u32 best = 0;
    for (u32 i = 0; i < cpu_count; i++)
        if (__atomic_load_n(&percpus[i].engine_on, __ATOMIC_ACQUIRE) &&
            queues[i].threads < queues[best].threads)
            best = i;
    return best;
}

// The stack of a thread that has not run: what context_switch pops, then thread_start as the return
// address.
static u64 first_stack(void *top)
{
    enum { CALLEE_SAVED = 6 };
    u64 *sp = top;
    *--sp = 0; // keeps the stack aligned as after a call, and ends backtraces
    *--sp = (u64)thread_start;
    for (unsigned i = 0; i < CALLEE_SAVED; i++)
        *--sp = 0;
    return (u64)sp;
}

struct thread *thread_create(const char *name, u32 cpu, void (*entry)(void *), void *argument)
{
    struct thread *t = heap_alloc(sizeof(*t));
    void *top = t ? host_stack_alloc(THREAD_STACK_SIZE) : NULL;
    if (!top) {
        heap_free(t);
        return NULL;
    }
    thread_setup(t, name, cpu == THREAD_ANY_CPU ? least_busy_cpu() : cpu);
    t->stack_top = top;
    t->stack_pointer = first_stack(top);
    t->entry = entry;
    t->argument = argument;
    t->state = THREAD_BLOCKED;
    struct run_queue *q = &queues[t->cpu];
    spin_lock(&q->lock);
    q->threads++;
    spin_unlock(&q->lock);
    spin_lock(&all_lock);
    list_append(&all_threads, &t->all);
    spin_unlock(&all_lock);
    return t;
}

void thread_destroy(struct thread *t)
{
    struct run_queue *q = &queues[t->cpu];
    spin_lock(&q->lock);
    q->threads--;
    spin_unlock(&q->lock);
    spin_lock(&all_lock);
    list_remove(&t->all);
    spin_unlock(&all_lock);
    host_stack_free(t->stack_top, THREAD_STACK_SIZE);
    heap_free(t);
}

void thread_wake(struct thread *t)
{
    u32 cpu = t->cpu; // once awake, it may end and be freed
    struct run_queue *q = &queues[cpu];
    spin_lock(&q->lock);
    bool was_blocked = t->state == THREAD_BLOCKED;
    if (was_blocked)
        make_ready(q, t);
    else
        t->wake_pending = true;
    spin_unlock(&q->lock);
    if (was_blocked && cpu != this_cpu()->index)
        apic_send_ipi(percpus[cpu].apic_id, HOST_VECTOR_WAKE);
}

void thread_yield(void)
{
    struct run_queue *q = this_cpu()->queue;
    struct thread *self = thread_self();
    interrupts_take();
    spin_lock(&q->lock);
    if (self != &q->idle)
        ready_add(q, self, true);
    schedule(q);
}

bool thread_block_until(u64 tsc)
{
    struct run_queue *q = this_cpu()->queue;
    struct thread *self = thread_self();
    spin_lock(&q->lock);
    if (self->wake_pending) {
        self->wake_pending = false;
        spin_unlock(&q->lock);
        return true;
    }
    if (tsc <=
        rdtsc()) { // as a sleeper it would be the first to be woken: others would wait for ever
        spin_unlock(&q->lock);
        thread_yield();
        return false;
    }
    self->state = THREAD_BLOCKED;
    if (tsc != NEVER)
        sleeper_add(q, self, tsc);
    schedule(q);
    return rdtsc() < tsc;
}

void thread_block(void)
{
    thread_block_until(NEVER);
}

void thread_sleep_us(u64 us)
{
    u64 until = rdtsc() + tsc_from_us(us);
    while (rdtsc() < until)
        thread_block_until(until);
}

bool thread_should_yield(void)
{
    struct run_queue *q = this_cpu()->queue;
    u64 now = rdtsc();
    if (q->first_wake <= now)
        return true;
    return q->ready_count && (q->preempt || now >= thread_self()->slice_end);
}

u64 thread_next_event(void)
{
    struct run_queue *q = this_cpu()->queue;
    u64 slice = q->ready_count ? (q->preempt ? 0 : thread_self()->slice_end) : NEVER;
    return MIN(slice, q->first_wake);
}

NORETURN void thread_idle_loop(void)
{
    struct percpu *cpu = this_cpu();
    struct run_queue *q = cpu->queue;
    for (;;) {
        if (q->ready_count || q->first_wake <= rdtsc()) {
            thread_yield();
            continue;
        }
        u64 before = rdtsc();
        apic_timer_arm(q->first_wake);
        interrupts_wait();
        cpu->idle_cycles += rdtsc() - before;
    }
}

void thread_for_each(void (*visit)(const struct thread *thread, void *context), void *context)
{
    spin_lock(&all_lock);
    list_for_each (node, &all_threads)
        visit(container_of(node, struct thread, all), context);
    spin_unlock(&all_lock);
}
