// SPDX-License-Identifier: MIT
// Nothing counts: the counter follows from the time since it was started, and each timer waits for
// its next match. Left out: interrupts as messages ("FSB"), periodic modes but of timer 0, writes
// to the counter while it runs. Periods that were missed are one interrupt.
#include "io/hpet.h"
#include "vmm/lib/bits.h"

// "Memory Map"
#define REG_CAPABILITIES 0x000
#define REG_CONFIG       0x010
#define REG_STATUS       0x020
#define REG_COUNTER      0x0f0
#define REG_TIMERS       0x100
#define TIMER_STRIDE     0x20
#define TIMER_CONFIG     0x00
#define TIMER_COMPARATOR 0x08
#define REG_SIZE         8

#define FEMTOSECONDS     1000000000000000ull
#define CAP_PERIOD_SHIFT 32

#define CONFIG_ENABLE 0x1u
#define CONFIG_LEGACY 0x2u

#define TIMER_LEVEL        0x0002u
#define TIMER_ENABLE       0x0004u
#define TIMER_PERIODIC     0x0008u
#define TIMER_PERIODIC_CAP 0x0010u
#define TIMER_SIZE_CAP     0x0020u
#define TIMER_SET_VALUE    0x0040u
#define TIMER_32BIT        0x0100u
#define TIMER_ROUTE_SHIFT  9
#define TIMER_ROUTE_WIDTH  5
#define TIMER_ROUTE        0x3e00u
#define TIMER_ROUTES_SHIFT 32
#define TIMER_WRITABLE                                                                             \
    (TIMER_LEVEL | TIMER_ENABLE | TIMER_PERIODIC | TIMER_SET_VALUE | TIMER_32BIT | TIMER_ROUTE)

// Pins of the IOAPIC that a timer may be routed to: no other device of the machine has them.
#define ROUTES (BIT(10) | BIT(11) | BIT(14) | BIT(15))

static const u8 legacy_lines[] = {0, 8}; // of timers 0 and 1: those of the PIT and the RTC

bool hpet_replaces_legacy(const struct hpet *hpet)
{
    return (hpet->config & CONFIG_ENABLE) && (hpet->config & CONFIG_LEGACY);
}

static u64 counter_at(const struct hpet *hpet, u64 now)
{
    if (!(hpet->config & CONFIG_ENABLE))
        return hpet->counter;
    return hpet->counter + io_clock_to(hpet->clock, now - hpet->start, HPET_HZ);
}

static u64 counter_now(const struct hpet *hpet)
{
    return counter_at(hpet, hpet->clock->now(hpet->clock));
}

static unsigned timer_index(const struct hpet_timer *t)
{
    return (unsigned)(t - t->hpet->timers);
}

static u64 timer_mask(const struct hpet_timer *t)
{
    return t->config & TIMER_32BIT ? bytes_mask(4) : ~0ull;
}

static bool is_periodic(const struct hpet_timer *t)
{
    return (t->config & TIMER_PERIODIC) && t->period;
}

// --- interrupts ---

static unsigned timer_line(const struct hpet_timer *t)
{
    unsigned index = timer_index(t);
    if ((t->hpet->config & CONFIG_LEGACY) && index < ARRAY_SIZE(legacy_lines))
        return legacy_lines[index];
    return (unsigned)bits_get(t->config, TIMER_ROUTE_SHIFT, TIMER_ROUTE_WIDTH);
}

static bool has_line(const struct hpet_timer *t)
{
    unsigned line = timer_line(t);
    bool legacy = (t->hpet->config & CONFIG_LEGACY) && timer_index(t) < ARRAY_SIZE(legacy_lines);
    return (t->config & TIMER_ENABLE) && (legacy || (ROUTES >> line & 1));
}

static void line_set(struct hpet *hpet, unsigned number, bool level)
{
    struct irq_line line = hpet->lines;
    line.number = number;
    irq_line_set(&line, level);
}

static bool is_asserted(const struct hpet_timer *t)
{
    return (t->config & TIMER_LEVEL) && (t->hpet->status >> timer_index(t) & 1) &&
           (t->hpet->config & CONFIG_ENABLE);
}

// The level of a timer's line: timers may share one.
static void timer_update(const struct hpet_timer *t)
{
    bool level = false;
    if (!has_line(t))
        return;
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        const struct hpet_timer *other = &t->hpet->timers[i];
        if (has_line(other) && timer_line(other) == timer_line(t))
            level |= is_asserted(other);
    }
    line_set(t->hpet, timer_line(t), level);
}

static void update_all(struct hpet *hpet)
{
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        timer_update(&hpet->timers[i]);
}

// Before its configuration changes, a timer lets go of its line.
static void release(struct hpet_timer *t)
{
    if (has_line(t))
        line_set(t->hpet, timer_line(t), false);
}

static void timer_interrupt(struct hpet_timer *t)
{
    if (t->config & TIMER_LEVEL)
        t->hpet->status |= BIT(timer_index(t));
    else if (has_line(t))
        line_set(t->hpet, timer_line(t), true);
    timer_update(t);
}

// --- matches ---

// A periodic comparator is always ahead of the counter.
static void timer_advance(struct hpet_timer *t, u64 counter)
{
    u64 passed = (counter - t->comparator) & timer_mask(t);
    if (!is_periodic(t) || passed > timer_mask(t) / 2) // it lies ahead
        return;
    t->comparator = (t->comparator + (passed / t->period + 1) * t->period) & timer_mask(t);
}

// What lies further ahead than this is taken as never: the clock would run over.
#define AHEAD_MAX BIT(56)

static void timer_schedule(struct hpet_timer *t)
{
    struct hpet *hpet = t->hpet;
    u64 now = hpet->clock->now(hpet->clock), counter = counter_at(hpet, now);
    timer_advance(t, counter);
    u64 ahead = (t->comparator - counter - 1) & timer_mask(t); // after the next tick
    if (!(hpet->config & CONFIG_ENABLE) || ahead >= AHEAD_MAX) {
        io_timer_cancel(hpet->clock, &t->timer);
        return;
    }
    u64 ticks = counter - hpet->counter + ahead + 1;
    u64 earliest = now + io_clock_from(hpet->clock, HPET_TICKS_MIN, HPET_HZ);
    u64 match = hpet->start + io_clock_from(hpet->clock, ticks, HPET_HZ) + 1;
    io_timer_arm(hpet->clock, &t->timer, is_periodic(t) ? MAX(match, earliest) : match);
}

static void timer_fire(struct io_timer *timer)
{
    struct hpet_timer *t = container_of(timer, struct hpet_timer, timer);
    timer_schedule(t);
    timer_interrupt(t);
}

static void schedule_all(struct hpet *hpet)
{
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        timer_schedule(&hpet->timers[i]);
}

// --- registers ---

static u64 timer_config(const struct hpet_timer *t)
{
    u64 capabilities = TIMER_SIZE_CAP | (ROUTES << TIMER_ROUTES_SHIFT);
    return (t->config & ~(u64)TIMER_SET_VALUE) | capabilities |
           (timer_index(t) ? 0 : TIMER_PERIODIC_CAP);
}

static u64 timer_read(struct hpet_timer *t, u64 offset)
{
    if (offset == TIMER_CONFIG)
        return timer_config(t);
    if (offset != TIMER_COMPARATOR)
        return 0;
    timer_advance(t, counter_now(t->hpet));
    return t->comparator;
}

static u64 register_read(struct hpet *hpet, u64 offset)
{
    switch (offset) {
    case REG_CAPABILITIES:
        return (FEMTOSECONDS / HPET_HZ) << CAP_PERIOD_SHIFT | HPET_BLOCK_ID;
    case REG_CONFIG:
        return hpet->config;
    case REG_STATUS:
        return hpet->status;
    case REG_COUNTER:
        return counter_now(hpet);
    }
    u64 index = (offset - REG_TIMERS) / TIMER_STRIDE;
    if (offset < REG_TIMERS || index >= HPET_TIMERS)
        return 0;
    return timer_read(&hpet->timers[index], offset % TIMER_STRIDE);
}

static void config_write(struct hpet *hpet, u64 value)
{
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        release(&hpet->timers[i]);
    hpet->counter = counter_now(hpet);
    hpet->start = hpet->clock->now(hpet->clock);
    hpet->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
    update_all(hpet);
    schedule_all(hpet);
}

static void timer_config_write(struct hpet_timer *t, u64 value)
{
    if (!(ROUTES >> bits_get(value, TIMER_ROUTE_SHIFT, TIMER_ROUTE_WIDTH) & 1))
        value = (value & ~(u64)TIMER_ROUTE) | (t->config & TIMER_ROUTE); // it stays as it was
    release(t);
    t->config = value & TIMER_WRITABLE;
    if (timer_index(t))
        t->config &= ~(u64)(TIMER_PERIODIC | TIMER_SET_VALUE);
    if (!(t->config & TIMER_LEVEL)) // an edge has no status
        t->hpet->status &= ~BIT(timer_index(t));
    t->comparator &= timer_mask(t);
    t->period &= timer_mask(t);
    update_all(t->hpet);
    timer_schedule(t);
}

static u64 merge(u64 old, u64 value, u64 mask)
{
    return (old & ~mask) | (value & mask);
}

// In periodic mode a write sets the period, and the comparator only after SET_VALUE.
static void comparator_write(struct hpet_timer *t, u64 value, u64 mask)
{
    mask &= timer_mask(t);
    if (!(t->config & TIMER_PERIODIC) || (t->config & TIMER_SET_VALUE))
        t->comparator = merge(t->comparator, value, mask);
    if (t->config & TIMER_PERIODIC)
        t->period = merge(t->period, value, mask);
    t->config &= ~(u64)TIMER_SET_VALUE;
    timer_schedule(t);
}

static void timer_write(struct hpet_timer *t, u64 offset, u64 value, u64 mask)
{
    if (offset == TIMER_CONFIG)
        timer_config_write(t, merge(t->config, value, mask));
    else if (offset == TIMER_COMPARATOR)
        comparator_write(t, value, mask);
}

// A write of a part of a register leaves the rest as it was.
static void register_write(struct hpet *hpet, u64 offset, u64 value, u64 mask)
{
    switch (offset) {
    case REG_CONFIG:
        config_write(hpet, merge(hpet->config, value, mask));
        return;
    case REG_STATUS: // ones clear
        hpet->status &= ~(value & mask);
        update_all(hpet);
        return;
    case REG_COUNTER:
        if (!(hpet->config & CONFIG_ENABLE))
            hpet->counter = merge(hpet->counter, value, mask);
        return;
    }
    u64 index = (offset - REG_TIMERS) / TIMER_STRIDE;
    if (offset >= REG_TIMERS && index < HPET_TIMERS)
        timer_write(&hpet->timers[index], offset % TIMER_STRIDE, value, mask);
}

static u64 hpet_read(struct io_device *device, u64 offset, unsigned size UNUSED)
{
    struct hpet *hpet = container_of(device, struct hpet, mmio);
    return register_read(hpet, ALIGN_DOWN(offset, REG_SIZE)) >> offset % REG_SIZE * 8;
}

static void hpet_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct hpet *hpet = container_of(device, struct hpet, mmio);
    u64 shift = offset % REG_SIZE * 8;
    register_write(hpet, ALIGN_DOWN(offset, REG_SIZE), value << shift, bytes_mask(size) << shift);
}

static const struct io_device_ops hpet_ops = {"hpet", hpet_read, hpet_write};

void hpet_init(struct hpet *hpet, struct io_clock *clock, struct irq_line lines)
{
    *hpet = (struct hpet){.mmio = {&hpet_ops}, .clock = clock, .lines = lines};
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        hpet->timers[i].hpet = hpet;
        io_timer_init(&hpet->timers[i].timer, timer_fire);
    }
    hpet_reset(hpet);
}

void hpet_reset(struct hpet *hpet)
{
    hpet->status = 0;
    update_all(hpet);
    hpet->config = 0;
    hpet->counter = hpet->start = 0;
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        struct hpet_timer *t = &hpet->timers[i];
        io_timer_cancel(hpet->clock, &t->timer);
        t->config = t->period = 0;
        t->comparator = ~0ull;
    }
}
