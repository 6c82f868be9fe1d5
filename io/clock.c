// SPDX-License-Identifier: MIT
// Timers on a VM's clock: one list, earliest first. A VM has a handful of them (a local APIC's per
// vCPU and one or two per timer chip), and most arm for the near future, so a walk from the front
// beats a heap.
#include "io/clock.h"

void io_clock_init(struct io_clock *clock, u64 hz, u64 (*now)(struct io_clock *))
{
    *clock = (struct io_clock){.hz = hz, .now = now, .next = ~0ull};
    list_init(&clock->timers);
}

void io_timer_init(struct io_timer *timer, void (*fire)(struct io_timer *))
{
    *timer = (struct io_timer){.deadline = ~0ull, .fire = fire};
    list_init(&timer->node);
}

static struct io_timer *timer_of(struct list *node)
{
    return container_of(node, struct io_timer, node);
}

static u64 clock_first(struct io_clock *clock)
{
    return list_empty(&clock->timers) ? ~0ull : timer_of(clock->timers.next)->deadline;
}

// Timers of one deadline fire in the order in which they were armed.
static void timer_insert(struct io_clock *clock, struct io_timer *timer)
{
    struct list *at = clock->timers.next;
    while (at != &clock->timers && timer_of(at)->deadline <= timer->deadline)
        at = at->next;
    list_insert(at, &timer->node);
}

void io_timer_arm(struct io_clock *clock, struct io_timer *timer, u64 deadline)
{
    if (io_timer_armed(timer))
        list_remove(&timer->node);
    timer->deadline = deadline;
    if (deadline != ~0ull)
        timer_insert(clock, timer);
    u64 before = clock->next;
    clock->next = clock_first(clock);
    if (clock->next < before && clock->earlier)
        clock->earlier(clock);
}

void io_timer_cancel(struct io_clock *clock, struct io_timer *timer)
{
    if (!io_timer_armed(timer))
        return;
    list_remove(&timer->node);
    timer->deadline = ~0ull;
    clock->next = clock_first(clock);
}

// Take the timers that are due off the clock.
static void clock_split(struct io_clock *clock, u64 now, struct list *due)
{
    while (clock_first(clock) <= now && !list_empty(&clock->timers)) {
        struct list *node = clock->timers.next;
        list_remove(node);
        list_append(due, node);
    }
}

// The due timers wait on a list of their own, so that one which arms itself for the past cannot
// keep the host here. One of them may cancel or re-arm another: both unlink it from whichever list
// it is on. `next` keeps its old value meanwhile: whoever waits on the clock waits for that at
// most, so a periodic timer that arms itself for its next period is not news.
void io_clock_run(struct io_clock *clock, u64 now)
{
    if (likely(clock->next > now))
        return;
    struct list due = LIST_INIT(due);
    clock_split(clock, now, &due);
    while (!list_empty(&due)) {
        struct io_timer *timer = timer_of(due.next);
        list_remove(&timer->node);
        timer->deadline = ~0ull;
        timer->fire(timer);
    }
    clock->next = clock_first(clock);
}
