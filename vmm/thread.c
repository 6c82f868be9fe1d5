// SPDX-License-Identifier: MIT
// Cooperative threads on per-CPU run queues. A queue's lock is held across the context switch and
// given back by whoever runs next, so a thread is never on two CPUs and a wake-up never falls
// between "decided to block" and "blocked". A thread that waits may move to a CPU that idles, or
// whose threads got more than it did, if nothing of it is left in the old one; two queues are never
// locked at once.
#include "vmm/run_queue.h"
#include "vmm/thread.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/format.h"
#include "arch/x86_64/cpu.h"
#include "mm/heap.h"
#include "mm/host_map.h"

static struct run_queue queues[CPU_MAX];
static struct spinlock all_lock = SPINLOCK_INIT;
static struct list all_threads = LIST_INIT(all_threads);

static void thread_setup(struct thread *t, const char *name, u32 cpu)
{
    list_init(&t->node);
    list_init(&t->sleep);
    list_init(&t->all);
    t->cpu = cpu;
    t->wake_at = NEVER;
    t->weight = THREAD_WEIGHT_DEFAULT;
    format_text(t->name, sizeof(t->name), "%s", name);
}

void thread_init_cpu(void)
{
    struct percpu *cpu = this_cpu();
    struct run_queue *q = &queues[cpu->index];
    run_queue_init(q);
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

// The queue of a thread, locked. The thread may be on its way to another CPU meanwhile.
static struct run_queue *queue_lock(const struct thread *t)
{
    for (;;) {
        u32 cpu = __atomic_load_n(&t->cpu, __ATOMIC_RELAXED);
        struct run_queue *q = &queues[cpu];
        spin_lock(&q->lock);
        if (__atomic_load_n(&t->cpu, __ATOMIC_RELAXED) == cpu)
            return q;
        spin_unlock(&q->lock);
    }
}

static void thread_count(struct run_queue *q, int change)
{
    __atomic_fetch_add(&q->threads, (u32)change, __ATOMIC_RELAXED);
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

// What a thread does first on getting the CPU, its queue held since the switch began. Not inlined:
// the CPU may be another than before the switch, so which one it is must be looked up anew.
static __attribute__((noinline)) void switched_in(void)
{
    struct run_queue *q = this_cpu()->queue;
    struct thread *self = thread_self();
    self->started = rdtsc();
    self->slice_end = self == &q->idle ? NEVER : self->started + run_queue_slices(1);
    free_dead(q);
    spin_unlock(&q->lock);
}

// Give the CPU to the first ready thread, else to the idle thread. Queue held, and its running
// thread charged; released on return.
static void schedule(struct run_queue *q)
{
    struct percpu *cpu = this_cpu();
    struct thread *previous = cpu->thread, *next = &q->idle;
    u64 now = rdtsc();
    run_queue_wake_sleepers(q, now);
    q->preempt = false;
    if (q->ready_count)
        next = run_queue_take(q);
    next->state = THREAD_RUNNING;
    q->running = next;
    cpu->thread = next;
    if (next != previous)
        context_switch(&previous->stack_pointer, next->stack_pointer);
    switched_in();
}

NORETURN static void thread_start(void)
{
    switched_in();
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
    run_queue_charge(q, rdtsc());
    thread_count(q, -1);
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
    t->movable = cpu == THREAD_ANY_CPU;
    thread_count(&queues[t->cpu], 1);
    spin_lock(&all_lock);
    list_append(&all_threads, &t->all);
    spin_unlock(&all_lock);
    return t;
}

void thread_destroy(struct thread *t)
{
    thread_count(&queues[t->cpu], -1);
    spin_lock(&all_lock);
    list_remove(&t->all);
    spin_unlock(&all_lock);
    host_stack_free(t->stack_top, THREAD_STACK_SIZE);
    heap_free(t);
}

// --- moving ---

bool thread_may_move(const struct thread *t)
{
    return t->movable && (!t->may_leave || t->may_leave(t));
}

static bool is_idle(u32 cpu)
{
    const struct run_queue *q = &queues[cpu];
    return __atomic_load_n(&percpus[cpu].engine_on, __ATOMIC_ACQUIRE) && q->running == &q->idle &&
           !q->ready_count;
}

// Where a thread that is woken should run: where it was, unless that CPU is busy and another idles.
static u32 wake_cpu(const struct thread *t)
{
    if (is_idle(t->cpu) || !thread_may_move(t))
        return t->cpu;
    for (u32 i = 0; i < cpu_count; i++)
        if (is_idle(i))
            return i;
    return t->cpu;
}

// The thread's queue is held, and given back.
static void move(struct run_queue *from, struct thread *t, u32 cpu)
{
    struct run_queue *to = &queues[cpu];
    run_queue_leave(from, t);
    thread_count(from, -1);
    thread_count(to, 1);
    __atomic_store_n(&t->cpu, cpu, __ATOMIC_RELAXED);
    spin_unlock(&from->lock);
    spin_lock(&to->lock);
    run_queue_arrive(to, t, rdtsc());
    spin_unlock(&to->lock);
}

// The first that waits here and may, to another CPU. False: there is none.
static bool give(struct run_queue *q, u32 cpu)
{
    spin_lock(&q->lock);
    struct thread *t = run_queue_find_movable(q);
    if (t)
        move(q, t, cpu);
    else
        spin_unlock(&q->lock);
    return t;
}

// For a CPU with nothing to do: a thread that waits for another CPU. False: there is none.
static bool take_over(u32 cpu)
{
    if (!percpus[cpu].engine_on)
        return false;
    for (u32 i = 0; i < cpu_count; i++) {
        if (i != cpu && __atomic_load_n(&queues[i].ready_count, __ATOMIC_RELAXED) &&
            give(&queues[i], cpu))
            return true;
    }
    return false;
}

// At the end of a slice, with others waiting: does one of them get its due sooner elsewhere? One
// CPU is looked at each time, in turn.
static void balance(struct run_queue *q)
{
    u32 other = (q->neighbour + 1) % cpu_count;
    struct run_queue *to = &queues[other];
    q->neighbour = other;
    if (to == q || !__atomic_load_n(&percpus[other].engine_on, __ATOMIC_ACQUIRE))
        return;
    spin_lock(&q->lock);
    const struct thread *waiting = run_queue_find_movable(q);
    u64 virtual_time = waiting ? waiting->virtual_time : 0, floor = q->floor;
    spin_unlock(&q->lock);
    if (!waiting)
        return;
    spin_lock(&to->lock);
    bool ahead = run_queue_is_ahead(to, virtual_time, floor, rdtsc());
    spin_unlock(&to->lock);
    if (ahead && give(q, other))
        apic_send_ipi(percpus[other].apic_id, HOST_VECTOR_WAKE);
}

// --- waking, yielding, blocking ---

void thread_wake(struct thread *t)
{
    struct run_queue *q = queue_lock(t);
    if (t->state != THREAD_BLOCKED) {
        t->wake_pending = true;
        spin_unlock(&q->lock);
        return;
    }
    u32 cpu = wake_cpu(t); // once awake, it may end and be freed
    if (cpu != t->cpu) {
        move(q, t, cpu);
    } else {
        run_queue_charge(q, rdtsc());
        run_queue_wake(q, t);
        spin_unlock(&q->lock);
    }
    if (cpu != this_cpu()->index)
        apic_send_ipi(percpus[cpu].apic_id, HOST_VECTOR_WAKE);
}

void thread_give_way(void)
{
    thread_self()->gives_way = this_cpu()->queue->ready_count;
}

void thread_yield(void)
{
    struct run_queue *q = this_cpu()->queue;
    struct thread *self = thread_self();
    interrupts_take();
    if (q->ready_count && rdtsc() >= self->slice_end)
        balance(q);
    spin_lock(&q->lock);
    run_queue_charge(q, rdtsc());
    if (self->gives_way)
        run_queue_renounce(q, self);
    self->gives_way = false;
    if (self != &q->idle)
        run_queue_add(q, self);
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
    if (tsc <= rdtsc()) { // as a sleeper it would be woken at once: others would wait for ever
        spin_unlock(&q->lock);
        thread_give_way();
        thread_yield();
        return false;
    }
    run_queue_charge(q, rdtsc());
    self->state = THREAD_BLOCKED;
    if (tsc != NEVER)
        run_queue_sleep(q, self, tsc);
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
    const struct thread *self = thread_self();
    u64 now = rdtsc();
    if (q->first_wake <= now)
        return true;
    return q->ready_count && (q->preempt || self->gives_way || now >= self->slice_end);
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
        if (take_over(cpu->index))
            continue;
        cpu->idle_since = rdtsc();
        apic_timer_arm(q->first_wake);
        interrupts_wait();
        cpu->idle_cycles += rdtsc() - cpu->idle_since;
        cpu->idle_since = 0;
    }
}

// --- figures ---

void thread_for_each(void (*visit)(struct thread *thread, void *context), void *context)
{
    spin_lock(&all_lock);
    list_for_each (node, &all_threads)
        visit(container_of(node, struct thread, all), context);
    spin_unlock(&all_lock);
}

u64 thread_cycles(const struct thread *t)
{
    struct run_queue *q = queue_lock(t);
    run_queue_charge(q, rdtsc());
    u64 cycles = t->cycles;
    spin_unlock(&q->lock);
    return cycles;
}

u64 thread_cpu_busy(u32 cpu)
{
    struct run_queue *q = &queues[cpu];
    spin_lock(&q->lock);
    run_queue_charge(q, rdtsc());
    u64 busy = q->busy;
    spin_unlock(&q->lock);
    return busy;
}
