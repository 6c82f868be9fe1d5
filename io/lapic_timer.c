// SPDX-License-Identifier: MIT
// The local APIC's timer: one-shot, periodic, TSC deadline (Intel SDM volume 3, "APIC Timer").
// Nothing counts: the current count is computed from the clock, and one io_timer stands for the end
// of the count. A period that a host could not serve is stretched to TIMER_PERIOD_MIN, and ticks
// that were missed are one tick.
#include "io/lapic_regs.h"

#define TIMER_PERIOD_MIN_HZ 50000 // 20 us

static enum lapic_timer_mode timer_mode(const struct lapic *lapic)
{
    return (enum lapic_timer_mode)((lapic->lvt[LVT_TIMER] & LVT_MODE) >> LVT_MODE_SHIFT);
}

// Divide Configuration: bits 3, 1, 0 are a number n: divide by 2^(n + 1), and 7 is by 1.
static unsigned divide_shift(const struct lapic *lapic)
{
    u32 n = (lapic->timer_divide & 3) | (lapic->timer_divide & 8) >> 1;
    return (n + 1) & 7;
}

static u64 period_ns(const struct lapic *lapic)
{
    return (u64)lapic->timer_initial << divide_shift(lapic);
}

static u64 elapsed_ns(const struct lapic *lapic)
{
    u64 ticks = lapic->clock->now(lapic->clock) - lapic->timer_start;
    return io_clock_to(lapic->clock, ticks, LAPIC_TIMER_HZ);
}

// Arm for the end of the period that runs now, counted from timer_start so that rounding does not
// add up. One tick more than the quotient, or the period would not be quite over when the timer
// fires.
static void count_arm(struct lapic *lapic)
{
    struct io_clock *clock = lapic->clock;
    u64 period = period_ns(lapic);
    u64 end = period, earliest = 0;
    if (timer_mode(lapic) == TIMER_PERIODIC) {
        end = (elapsed_ns(lapic) / period + 1) * period;
        earliest = clock->now(clock) + clock->hz / TIMER_PERIOD_MIN_HZ;
    }
    u64 deadline = lapic->timer_start + io_clock_from(clock, end, LAPIC_TIMER_HZ) + 1;
    io_timer_arm(clock, &lapic->timer, MAX(deadline, earliest));
}

// Make the current count `current` as of now.
static void count_rebase(struct lapic *lapic, u32 current)
{
    u64 done = (u64)(lapic->timer_initial - current) << divide_shift(lapic);
    lapic->timer_start =
        lapic->clock->now(lapic->clock) - io_clock_from(lapic->clock, done, LAPIC_TIMER_HZ);
    count_arm(lapic);
}

u32 lapic_timer_current(const struct lapic *lapic)
{
    if (!lapic->timer_initial || !io_timer_armed(&lapic->timer))
        return 0;
    u64 counted = elapsed_ns(lapic) >> divide_shift(lapic);
    if (timer_mode(lapic) == TIMER_PERIODIC)
        counted %= lapic->timer_initial;
    return counted >= lapic->timer_initial ? 0 : lapic->timer_initial - (u32)counted;
}

void lapic_timer_initial_write(struct lapic *lapic, u32 value)
{
    if (timer_mode(lapic) >= TIMER_TSC_DEADLINE)
        return;
    lapic->timer_initial = value;
    if (value)
        count_rebase(lapic, value);
    else
        io_timer_cancel(lapic->clock, &lapic->timer);
}

static bool is_counting(const struct lapic *lapic)
{
    return timer_mode(lapic) < TIMER_TSC_DEADLINE && lapic->timer_initial &&
           io_timer_armed(&lapic->timer);
}

void lapic_timer_divide_write(struct lapic *lapic, u32 value)
{
    u32 current = lapic_timer_current(lapic);
    lapic->timer_divide = value;
    if (is_counting(lapic))
        count_rebase(lapic, current);
}

// To and from TSC-deadline mode disarms; between the counting modes the count goes on.
void lapic_timer_mode_change(struct lapic *lapic, enum lapic_timer_mode mode)
{
    enum lapic_timer_mode old = timer_mode(lapic);
    if (mode == old)
        return;
    if (mode >= TIMER_TSC_DEADLINE || old >= TIMER_TSC_DEADLINE) {
        io_timer_cancel(lapic->clock, &lapic->timer);
        lapic->timer_initial = 0;
        lapic->tsc_deadline = 0;
    } else if (is_counting(lapic)) {
        count_rebase(lapic, lapic_timer_current(lapic));
    }
}

// A deadline that has passed fires at once.
static void deadline_arm(struct lapic *lapic)
{
    u64 now = lapic->clock->now(lapic->clock);
    u64 tsc = now + lapic->tsc_adjust;
    u64 deadline = lapic->tsc_deadline;
    if (unlikely(deadline <= tsc)) {
        lapic->tsc_deadline = 0;
        io_timer_cancel(lapic->clock, &lapic->timer);
        lapic_lvt_deliver(lapic, LVT_TIMER);
        return;
    }
    u64 ticks = deadline - lapic->tsc_adjust; // below now: past the end of the clock
    io_timer_arm(lapic->clock, &lapic->timer, ticks < now ? ~0ull : ticks);
}

void lapic_timer_deadline_write(struct lapic *lapic, u64 value)
{
    if (timer_mode(lapic) != TIMER_TSC_DEADLINE)
        return;
    lapic->tsc_deadline = value;
    if (value)
        deadline_arm(lapic);
    else
        io_timer_cancel(lapic->clock, &lapic->timer);
}

void lapic_set_tsc_adjust(struct lapic *lapic, u64 adjust)
{
    lapic->tsc_adjust = adjust;
    if (lapic->tsc_deadline)
        deadline_arm(lapic);
}

static void timer_fire(struct io_timer *timer)
{
    struct lapic *lapic = container_of(timer, struct lapic, timer);
    lapic->tsc_deadline = 0;
    if (timer_mode(lapic) == TIMER_PERIODIC && lapic->timer_initial)
        count_arm(lapic);
    lapic_lvt_deliver(lapic, LVT_TIMER);
}

void lapic_timer_init(struct lapic *lapic)
{
    io_timer_init(&lapic->timer, timer_fire);
}

void lapic_timer_reset(struct lapic *lapic)
{
    io_timer_cancel(lapic->clock, &lapic->timer);
    lapic->timer_divide = lapic->timer_initial = 0;
    lapic->timer_start = lapic->tsc_deadline = 0;
}
