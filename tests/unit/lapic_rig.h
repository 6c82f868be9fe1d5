// SPDX-License-Identifier: MIT
// Some local APICs on a bus, with a clock and a record of what each tells its vCPU.
#pragma once

#include "tests/unit/test.h"
#include "io/clock.c"
#include "io/lapic.c"
#include "io/lapic_registers.c"
#include "io/lapic_page.c"
#include "io/posted_interrupts.c"
#include "io/lapic_timer.c"
#include "io/apic_bus.c"

#define CPUS     4
#define CLOCK_HZ 3000000000ull // three ticks are a nanosecond

struct heard {
    unsigned changed, nmi, init, startup, extint, mode, posted;
    u8 page;
};

static struct apic_bus bus;
static struct io_clock test_clock;
static struct lapic cpus[CPUS];
static struct heard heard[CPUS];
static u64 time_now;
static unsigned eoi_count;
static u8 eoi_vector;

static struct heard *heard_by(struct lapic *lapic)
{
    return &heard[lapic - cpus];
}

static void on_changed(struct lapic *lapic)
{
    heard_by(lapic)->changed++;
}

static void on_nmi(struct lapic *lapic)
{
    heard_by(lapic)->nmi++;
}

static void on_init(struct lapic *lapic)
{
    heard_by(lapic)->init++;
}

static void on_startup(struct lapic *lapic, u8 page)
{
    heard_by(lapic)->startup++;
    heard_by(lapic)->page = page;
}

static void on_extint(struct lapic *lapic)
{
    heard_by(lapic)->extint++;
}

static void on_mode(struct lapic *lapic)
{
    if (lapic >= cpus && lapic < cpus + CPUS)
        heard_by(lapic)->mode++;
}

static void on_posted(struct lapic *lapic)
{
    heard_by(lapic)->posted++;
}

static const struct lapic_ops ops = {on_changed, on_nmi,  on_init,  on_startup,
                                     on_extint,  on_mode, on_posted};

static u64 clock_now(struct io_clock *c)
{
    (void)c;
    return time_now;
}

static void on_eoi(void *context, u8 vector)
{
    CHECK(context == &bus);
    eoi_count++;
    eoi_vector = vector;
}

static void setup(void)
{
    memset(&bus, 0, sizeof(bus));
    memset(heard, 0, sizeof(heard));
    bus.eoi = on_eoi;
    bus.context = &bus;
    time_now = 1000;
    eoi_count = 0;
    io_clock_init(&test_clock, CLOCK_HZ, clock_now);
    for (u32 i = 0; i < CPUS; i++)
        lapic_init(&cpus[i], i, i == 0, &bus, &test_clock, &ops);
}

static void wr(unsigned cpu, unsigned reg, u32 value)
{
    cpus[cpu].mmio.ops->write(&cpus[cpu].mmio, LAPIC_OFFSET(reg), 4, value);
}

static u32 rd(unsigned cpu, unsigned reg)
{
    return (u32)cpus[cpu].mmio.ops->read(&cpus[cpu].mmio, LAPIC_OFFSET(reg), 4);
}

static bool wrm(unsigned cpu, u32 msr, u64 value)
{
    return lapic_msr_write(&cpus[cpu], msr, value);
}

static bool wrx(unsigned cpu, unsigned reg, u64 value)
{
    return lapic_msr_write(&cpus[cpu], LAPIC_MSR(reg), value);
}

static u64 rdx(unsigned cpu, unsigned reg)
{
    u64 value = 0;
    CHECK(lapic_msr_read(&cpus[cpu], LAPIC_MSR(reg), &value));
    return value;
}

static bool readable(unsigned cpu, u32 msr)
{
    u64 value;
    return lapic_msr_read(&cpus[cpu], msr, &value);
}

static void enable_all(void)
{
    setup();
    for (unsigned i = 0; i < CPUS; i++)
        wr(i, LAPIC_SVR, 0x1ff);
}

static void x2apic_all(void)
{
    enable_all();
    for (unsigned i = 0; i < CPUS; i++)
        CHECK(wrm(i, LAPIC_MSR_BASE, cpus[i].base_msr | LAPIC_BASE_EXTD));
}

static bool vector_test(const u32 *words, u8 vector)
{
    return words[vector / 32] >> vector % 32 & 1;
}

static bool in_irr(unsigned cpu, u8 vector)
{
    return vector_test(cpus[cpu].irr, vector);
}

// Which CPUs have the vector in IRR, as a mask; and clear it.
static unsigned take(u8 vector)
{
    unsigned mask = 0;
    for (unsigned i = 0; i < CPUS; i++) {
        mask |= (unsigned)in_irr(i, vector) << i;
        vector_clear(cpus[i].irr, &cpus[i].irr_words, vector);
    }
    return mask;
}

static void run_at(u64 now)
{
    time_now = now;
    io_clock_run(&test_clock, now);
}
