// SPDX-License-Identifier: MIT
// Time as a guest sees it, also while others have its CPU: that all clocks go at one rate, that
// each timer's ticks come, and with "late" on the command line how late a timer's handler is at
// worst. The machine must have an HPET. Reference is kvmclock, which says how the TSC becomes
// nanoseconds.
#include "guests/lib/check.h"
#include "guests/lib/apic.h"

#define VECTOR_APIC   0x51
#define VECTOR_PIT    0x52
#define VECTOR_RTC    0x53
#define VECTOR_HPET   0x54
#define SPURIOUS      0xff
#define NS_PER_MS     1000000ull
#define NS_PER_SECOND (1000 * NS_PER_MS)

// --- kvmclock ---

#define MSR_KVM_SYSTEM_TIME 0x4b564d01
#define MULTIPLIER_BITS     32

static volatile struct {
    u32 version, unused;
    u64 tsc, ns;
    u32 multiplier;
    s8 shift;
    u8 flags, reserved[2];
} kvmclock __attribute__((aligned(64)));

static u64 to_ns(u64 ticks)
{
    ticks = kvmclock.shift < 0 ? ticks >> -kvmclock.shift : ticks << kvmclock.shift;
    return (u64)((unsigned __int128)ticks * kvmclock.multiplier >> MULTIPLIER_BITS);
}

static u64 ns_now(void)
{
    return kvmclock.ns + to_ns(rdtsc() - kvmclock.tsc);
}

// --- the counters ---

#define HPET                    0xfed00000ull
#define HPET_CONFIG             (HPET + 0x10)
#define HPET_COUNTER            (HPET + 0xf0)
#define HPET_TIMER0             (HPET + 0x100)
#define HPET_MATCH0             (HPET + 0x108)
#define HPET_HZ                 100000000ull
#define HPET_ON                 1u
#define HPET_LEGACY             2u
#define HPET_PERIODIC_INTERRUPT 0x4cu // with the value to be set

#define PM_TIMER      0x608
#define PM_TIMER_HZ   3579545ull
#define PIT_HZ        1193182ull
#define PIT_COMMAND   0x43
#define PIT_CHANNEL0  0x40
#define PIT_CHANNEL2  0x42
#define PIT_GATE      0x61
#define PIT_LATCH2    0x80
#define PIT_FREE2     0xb4 // channel 2, both bytes, mode 2
#define PIT_RATE      0x34 // channel 0, both bytes, mode 2
#define PIT_STOP      0x30
#define APIC_TIMER_HZ 1000000000ull

static volatile u64 *hpet(u64 address)
{
    return (volatile u64 *)address;
}

static u64 read_hpet(void)
{
    return *hpet(HPET_COUNTER);
}

static u64 read_pm_timer(void)
{
    return in32(PM_TIMER);
}

static u64 read_pit(void)
{
    out8(PIT_COMMAND, PIT_LATCH2);
    u32 low = in8(PIT_CHANNEL2), high = in8(PIT_CHANNEL2);
    return 0x10000 - (high << 8 | low);
}

static u64 read_apic_timer(void)
{
    return ~0u - apic_read(APIC_TIMER_CURRENT);
}

static const struct counter {
    const char *name;
    u64 (*read)(void);
    u64 hz, wraps; // wraps: a power of two; 0: never
} counters[] = {
    {"HPET", read_hpet, HPET_HZ, 0},
    {"ACPI PM timer", read_pm_timer, PM_TIMER_HZ, 1ull << 32},
    {"PIT", read_pit, PIT_HZ, 1ull << 16},
    {"APIC timer", read_apic_timer, APIC_TIMER_HZ, 1ull << 32},
};

// A counter and the time at which it was read, as well as that can be said: others may get the CPU
// in between, so the shortest of some tries counts.
struct reading {
    u64 count, ns, error;
};

static struct reading counter_read(const struct counter *c)
{
    struct reading best = {.error = ~0ull};
    for (unsigned i = 0; i < 5; i++) {
        u64 before = ns_now(), count = c->read(), after = ns_now();
        if (after - before < best.error)
            best = (struct reading){count, before, after - before};
    }
    return best;
}

// Counts that passed; one that wraps is told how often by the other clock.
static u64 counts_between(const struct counter *c, u64 first, u64 last, u64 expected)
{
    u64 counts = last - first;
    if (!c->wraps)
        return counts;
    counts &= c->wraps - 1;
    return counts + (expected - counts + c->wraps / 2) / c->wraps * c->wraps;
}

static u64 distance(u64 a, u64 b)
{
    return a > b ? a - b : b - a;
}

static void print_figure(const char *name, const char *what, u64 value, const char *unit)
{
    guest_print("time: ");
    guest_print(name);
    guest_print(what);
    guest_print_number(value);
    guest_print(unit);
    guest_print("\n");
}

// Halted, so that whoever else wants the CPU has it.
static void sleep_until(u64 ns)
{
    while (ns_now() < ns)
        __asm__ volatile("sti; hlt; cli" ::: "memory");
}

// The RTC's periodic interrupt keeps it awake, 64 times a second: the APIC timer is being read.
static void sleep_ms(u64 ms)
{
    sleep_until(ns_now() + ms * NS_PER_MS);
}

// All of them over the same stretch of time, each against kvmclock.
static void rates(u64 ms)
{
    struct reading first[ARRAY_SIZE(counters)];
    for (unsigned i = 0; i < ARRAY_SIZE(counters); i++)
        first[i] = counter_read(&counters[i]);
    sleep_ms(ms);
    for (unsigned i = 0; i < ARRAY_SIZE(counters); i++) {
        const struct counter *c = &counters[i];
        struct reading last = counter_read(c);
        u64 ns = last.ns - first[i].ns;
        u64 expected = ns * c->hz / NS_PER_SECOND;
        u64 counts = counts_between(c, first[i].count, last.count, expected);
        u64 off = distance(counts * 1000000 / c->hz, ns / 1000);
        print_figure(c->name, " is off by ", off, " us");
        check(off <= (first[i].error + last.error) / 1000 + ns / 1000 / 5000 + 1, c->name);
    }
}

// --- the timers ---

#define RTC_INDEX   0x70
#define RTC_DATA    0x71
#define RTC_A       0x0a
#define RTC_B       0x0b
#define RTC_C       0x0c
#define RTC_A_64HZ  0x2a
#define RTC_B_24H   0x02
#define RTC_B_PIE   0x40
#define RTC_SECONDS 0

#define IOAPIC     0xfec00000ull
#define IOAPIC_PIN 0x10
#define PIT_PIN    2
#define RTC_PIN    8
#define TICK_HZ    100

static volatile unsigned ticks[256];
static volatile u64 handled_at;

static u8 rtc_read(u8 reg)
{
    out8(RTC_INDEX, reg);
    return in8(RTC_DATA);
}

static void rtc_write(u8 reg, u8 value)
{
    out8(RTC_INDEX, reg);
    out8(RTC_DATA, value);
}

static bool on_interrupt(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    (void)frame;
    handled_at = rdtsc();
    if (vector < 32)
        return false;
    ticks[vector]++;
    if (vector == VECTOR_RTC)
        rtc_read(RTC_C);
    if (vector != SPURIOUS)
        apic_write(APIC_EOI, 0);
    return true;
}

static void ioapic_pin(u32 pin, u32 entry)
{
    *(volatile u32 *)IOAPIC = IOAPIC_PIN + 2 * pin;
    *(volatile u32 *)(IOAPIC + 16) = entry;
}

static u64 ticks_of(u64 ns) // of the TSC; up to four seconds
{
    u64 scaled = (ns << MULTIPLIER_BITS) / kvmclock.multiplier;
    return kvmclock.shift < 0 ? scaled << -kvmclock.shift : scaled >> kvmclock.shift;
}

static void rtc_start(void)
{
    rtc_write(RTC_A, RTC_A_64HZ);
    rtc_write(RTC_B, RTC_B_24H | RTC_B_PIE);
    rtc_read(RTC_C);
    ioapic_pin(RTC_PIN, VECTOR_RTC);
}

static void pit_start(void)
{
    const u32 count = PIT_HZ / TICK_HZ;
    out8(PIT_COMMAND, PIT_RATE);
    out8(PIT_CHANNEL0, (u8)count);
    out8(PIT_CHANNEL0, (u8)(count >> 8));
    ioapic_pin(PIT_PIN, VECTOR_PIT);
}

// In place of the PIT, and with it of the RTC.
static void hpet_start(void)
{
    out8(PIT_COMMAND, PIT_STOP);
    *hpet(HPET_CONFIG) = HPET_ON | HPET_LEGACY;
    *hpet(HPET_TIMER0) = HPET_PERIODIC_INTERRUPT;
    *hpet(HPET_MATCH0) = read_hpet() + HPET_HZ / TICK_HZ;
    *hpet(HPET_MATCH0) = HPET_HZ / TICK_HZ;
    ioapic_pin(PIT_PIN, VECTOR_HPET);
}

static void hpet_stop(void)
{
    *hpet(HPET_TIMER0) = 0;
    *hpet(HPET_CONFIG) = HPET_ON;
}

static void apic_timer_start(void)
{
    apic_write(APIC_LVT_TIMER, VECTOR_APIC | APIC_LVT_PERIODIC);
    apic_write(APIC_TIMER_INITIAL, APIC_TIMER_HZ / TICK_HZ);
}

// A timer's ticks in some time. One that comes late may be one with the next.
static void check_ticks(const char *name, unsigned vector, u64 hz, u64 ms)
{
    sleep_ms(50);
    unsigned before = ticks[vector];
    u64 start = ns_now();
    sleep_ms(ms);
    u64 expected = (ns_now() - start) * hz / NS_PER_SECOND, got = ticks[vector] - before;
    print_figure(name, " ticks of a hundred: ", got * 100 / expected, "");
    check(got <= expected + 1 && got * 100 >= expected * 95, name);
}

static void timers(u64 ms)
{
    check_ticks("RTC", VECTOR_RTC, 64, ms);
    pit_start();
    check_ticks("PIT", VECTOR_PIT, TICK_HZ, ms);
    hpet_start();
    check_ticks("HPET", VECTOR_HPET, TICK_HZ, ms);
    unsigned rtc = ticks[VECTOR_RTC];
    sleep_ms(100);
    check_equal(ticks[VECTOR_RTC], rtc, "the HPET has taken the RTC's line");
    hpet_stop();
    ioapic_pin(PIT_PIN, (u32)APIC_LVT_MASKED);
    rtc_read(RTC_C);
    apic_timer_start();
    check_ticks("APIC timer", VECTOR_APIC, TICK_HZ, ms);
    apic_write(APIC_TIMER_INITIAL, 0);
}

// The RTC's seconds: two of them, from edge to edge.
static void seconds(void)
{
    u64 edges[3];
    for (unsigned i = 0; i < ARRAY_SIZE(edges); i++) {
        u8 second = rtc_read(RTC_SECONDS);
        while (rtc_read(RTC_SECONDS) == second)
            ;
        edges[i] = ns_now();
    }
    u64 off = distance(edges[2] - edges[0], 2 * NS_PER_SECOND) / 1000;
    print_figure("RTC", "'s two seconds are off by ", off, " us");
    check(off <= 25000, "the RTC's seconds");
}

// --- lateness ---

#define LATE_TICKS  300
#define LATE_MAX_US 10000 // two slices of the host's scheduler

// While it halts, and while it is busy and so has slices of its own.
static void lateness(const char *name, bool halt)
{
    u64 worst = 0, sum = 0;
    apic_write(APIC_LVT_TIMER, VECTOR_APIC | APIC_LVT_TSC_DEADLINE);
    for (unsigned i = 0; i < LATE_TICKS; i++) {
        unsigned before = ticks[VECTOR_APIC];
        u64 at = rdtsc() + ticks_of(2 * NS_PER_MS);
        wrmsr(MSR_IA32_TSC_DEADLINE, at);
        while (ticks[VECTOR_APIC] == before) {
            if (halt)
                __asm__ volatile("sti; hlt; cli" ::: "memory");
            else
                interrupts_take();
        }
        u64 late = to_ns(handled_at - at) / 1000;
        worst = MAX(worst, late);
        sum += late;
    }
    print_figure(name, ": worst lateness ", worst, " us");
    print_figure(name, ": mean lateness ", sum / LATE_TICKS, " us");
    check(worst <= LATE_MAX_US, "late by more than two slices");
}

static void setup(void)
{
    check_setup();
    interrupt_hook = on_interrupt;
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    wrmsr(MSR_KVM_SYSTEM_TIME, (u64)&kvmclock | 1);
    check(kvmclock.multiplier != 0 && !(kvmclock.version & 1), "there is a kvmclock");
    wrmsr(MSR_IA32_APIC_BASE, rdmsr(MSR_IA32_APIC_BASE) | APIC_BASE_EXTD);
    apic_write(APIC_SVR, APIC_SVR_ENABLE | SPURIOUS);
    apic_write(APIC_TIMER_DIVIDE, APIC_DIVIDE_BY_1);
    apic_write(APIC_LVT_TIMER, VECTOR_APIC | APIC_LVT_MASKED);
    apic_write(APIC_TIMER_INITIAL, ~0u);
    out8(PIT_GATE, 1);
    out8(PIT_COMMAND, PIT_FREE2);
    out8(PIT_CHANNEL2, 0);
    out8(PIT_CHANNEL2, 0);
    *hpet(HPET_CONFIG) = HPET_ON;
    rtc_start();
}

void guest_main(const u8 *boot_params)
{
    setup();
    if (guest_has_word(boot_params, "late")) {
        rtc_write(RTC_B, RTC_B_24H);
        lateness("halted", true);
        lateness("busy", false);
    } else {
        rates(1000);
        seconds();
        timers(1000);
    }
    check_finish();
}
