// SPDX-License-Identifier: MIT
// Fair shares by virtual time. It only ever grows; comparisons are of differences, so that it may
// wrap.
#include "vmm/run_queue.h"
#include "arch/x86_64/cpu.h"

static struct thread *node_thread(struct list *node)
{
    return container_of(node, struct thread, node);
}

static struct thread *sleep_thread(struct list *node)
{
    return container_of(node, struct thread, sleep);
}

static bool before(u64 a, u64 b)
{
    return (s64)(a - b) < 0;
}

void run_queue_init(struct run_queue *q)
{
    list_init(&q->ready);
    list_init(&q->sleepers);
    q->first_wake = NEVER;
    q->running = &q->idle;
}

// Up to where the one that is least ahead is.
static void raise_floor(struct run_queue *q)
{
    const struct thread *first = q->running;
    if (q->ready_count && (first == &q->idle ||
                           before(node_thread(q->ready.next)->virtual_time, first->virtual_time)))
        first = node_thread(q->ready.next);
    if (first != &q->idle && before(q->floor, first->virtual_time))
        q->floor = first->virtual_time;
}

void run_queue_charge(struct run_queue *q, u64 now)
{
    struct thread *t = q->running;
    if (t->started >= now) // another CPU's TSC may be a little ahead
        return;
    u64 used = now - t->started;
    t->started = now;
    t->cycles += used;
    if (t == &q->idle)
        return;
    q->busy += used;
    t->virtual_time += used * THREAD_WEIGHT_DEFAULT / t->weight; // years without a charge fit
    raise_floor(q);
}

void run_queue_add(struct run_queue *q, struct thread *t)
{
    struct list *at = &q->ready; // most go to the end
    while (at->prev != &q->ready && before(t->virtual_time, node_thread(at->prev)->virtual_time))
        at = at->prev;
    t->state = THREAD_READY;
    list_insert(at, &t->node);
    q->ready_count++;
}

static void ready_remove(struct run_queue *q, struct thread *t)
{
    list_remove(&t->node);
    q->ready_count--;
}

struct thread *run_queue_take(struct run_queue *q)
{
    struct thread *t = node_thread(q->ready.next);
    ready_remove(q, t);
    return t;
}

// --- sleepers ---

static void sleeper_remove(struct run_queue *q, struct thread *t)
{
    list_remove(&t->sleep);
    t->wake_at = NEVER;
    q->first_wake = list_empty(&q->sleepers) ? NEVER : sleep_thread(q->sleepers.next)->wake_at;
}

void run_queue_sleep(struct run_queue *q, struct thread *t, u64 tsc)
{
    struct list *at = q->sleepers.next;
    while (at != &q->sleepers && sleep_thread(at)->wake_at <= tsc)
        at = at->next;
    t->wake_at = tsc;
    list_insert(at, &t->sleep);
    q->first_wake = sleep_thread(q->sleepers.next)->wake_at;
}

// --- waking ---

static void insert(struct run_queue *q, struct thread *t)
{
    run_queue_add(q, t);
    if (q->running == &q->idle || before(t->virtual_time, q->running->virtual_time))
        q->preempt = true;
}

// Who slept long is behind by a slice at most: that much it may run before the others, no more.
static void bound_credit(const struct run_queue *q, struct thread *t, u64 credit)
{
    if (before(t->virtual_time, q->floor - credit))
        t->virtual_time = q->floor - credit;
}

void run_queue_wake(struct run_queue *q, struct thread *t)
{
    sleeper_remove(q, t);
    raise_floor(q);
    bound_credit(q, t, run_queue_slices(1));
    insert(q, t);
}

void run_queue_wake_sleepers(struct run_queue *q, u64 now)
{
    while (q->first_wake <= now)
        run_queue_wake(q, sleep_thread(q->sleepers.next));
}

void run_queue_renounce(struct run_queue *q, struct thread *t)
{
    u64 next = q->ready_count ? node_thread(q->ready.next)->virtual_time : t->virtual_time;
    if (before(t->virtual_time, next))
        t->virtual_time = next;
}

// --- going to another CPU ---

#define MOVE_SLICES  2 // so far a thread must be behind another CPU's to go there,
#define BOUND_SLICES 4 // and of what it is behind or ahead this much counts there

static bool is_empty(const struct run_queue *q)
{
    return q->running == &q->idle && !q->ready_count;
}

void run_queue_leave(struct run_queue *q, struct thread *t)
{
    if (t->state == THREAD_READY) {
        ready_remove(q, t);
    } else {
        sleeper_remove(q, t);
        bound_credit(q, t, run_queue_slices(1));
    }
    t->state = THREAD_READY;
}

void run_queue_arrive(struct run_queue *q, struct thread *t, u64 now)
{
    run_queue_charge(q, now);
    if (is_empty(q) && before(q->floor, t->virtual_time))
        q->floor = t->virtual_time;
    raise_floor(q);
    bound_credit(q, t, run_queue_slices(BOUND_SLICES));
    u64 debt = q->floor + run_queue_slices(BOUND_SLICES);
    if (before(debt, t->virtual_time))
        t->virtual_time = debt;
    insert(q, t);
}

// Is there one who shares this CPU and could have another?
static bool holds_movable(const struct run_queue *q)
{
    if (q->ready_count && q->running->movable)
        return true;
    list_for_each (node, &q->ready)
        if (node_thread(node)->movable)
            return true;
    return false;
}

// Those who cannot go elsewhere get all that they can, and are owed no more than that.
static void forgive(struct run_queue *q, u64 floor)
{
    u64 lag = floor - run_queue_slices(BOUND_SLICES) - q->floor;
    if ((s64)lag <= 0 || holds_movable(q))
        return;
    q->floor += lag;
    q->running->virtual_time += lag;
    list_for_each (node, &q->ready)
        node_thread(node)->virtual_time += lag;
}

bool run_queue_is_ahead(struct run_queue *q, u64 virtual_time, u64 floor, u64 now)
{
    run_queue_charge(q, now);
    forgive(q, floor);
    return is_empty(q) || before(virtual_time + run_queue_slices(MOVE_SLICES), q->floor);
}

struct thread *run_queue_find_movable(struct run_queue *q)
{
    list_for_each (node, &q->ready)
        if (thread_may_move(node_thread(node)))
            return node_thread(node);
    return NULL;
}
