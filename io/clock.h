// SPDX-License-Identifier: MIT
// A VM's time, in ticks of the guest's TSC since the VM was started, and the timers that wait on
// it. The caller holds the VM's device lock.
#pragma once

#include "vmm/lib/list.h"
#include "vmm/lib/bits.h"

struct io_clock {
    u64 hz;
    u64 (*now)(struct io_clock *clock);
    struct list timers; // armed, earliest first
    u64 next;           // deadline of the first; ~0 if none is armed
    // Called when `next` became earlier; may be null.
    void (*earlier)(struct io_clock *clock);
};

struct io_timer {
    struct list node;
    u64 deadline;                         // in ticks; ~0 while not armed
    void (*fire)(struct io_timer *timer); // may arm it again
};

void io_clock_init(struct io_clock *clock, u64 hz, u64 (*now)(struct io_clock *));
void io_timer_init(struct io_timer *timer, void (*fire)(struct io_timer *));
void io_timer_arm(struct io_clock *clock, struct io_timer *timer, u64 deadline); // re-arms if armed
void io_timer_cancel(struct io_clock *clock, struct io_timer *timer);
static inline bool io_timer_armed(const struct io_timer *timer)
{
    return timer->deadline != ~0ull;
}
// Fire every timer whose deadline is not after `now`, in order and once: one that is armed again
// meanwhile waits for the next call, even if it is due, so `next` may be in the past afterwards.
void io_clock_run(struct io_clock *clock, u64 now);

// ticks of a frequency `hz` <-> ticks of the clock. Both round down.
static inline u64 io_clock_to(const struct io_clock *clock, u64 ticks, u64 hz)
{
    return mul_div(ticks, hz, clock->hz);
}
static inline u64 io_clock_from(const struct io_clock *clock, u64 ticks, u64 hz)
{
    return mul_div(ticks, clock->hz, hz);
}
