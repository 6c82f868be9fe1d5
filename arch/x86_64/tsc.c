// SPDX-License-Identifier: MIT
// Time is the TSC. Its rate is measured: against channel 2 of the PIT, else the ACPI PM timer; only
// where a machine has neither is CPUID believed, for emulators claim rates there that they do not
// run at.
#include "boot/boot_info.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"

// 8254 data sheet, "Control Word Format"; port 0x61 is the PC's NMI status and control register.
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND  0x43
#define PIT_CHANNEL2_MODE0                                                                         \
    0xb0 // channel 2, low then high byte, interrupt on terminal count, binary
#define PIT_HZ              1193182ull
#define PORT61              0x61
#define PORT61_GATE2        BIT(0)
#define PORT61_SPEAKER      BIT(1)
#define PORT61_OUT2         BIT(5)
#define PIT_MEASURE_TICKS   11932 // 10 ms
#define PM_TIMER_HZ         3579545ull
#define PM_TIMER_TICKS      35795u // 10 ms
#define PM_TIMER_24BIT_MASK 0xffffffu

#define MEASURE_TRIES     5
#define POLLS_MIN         20      // fewer reads in 10 ms: the time was already over
#define POLLS_MAX         1000000 // a dead timer: a read takes about a microsecond
#define TSC_HZ_PLAUSIBLE  (1000ull * 1000)
#define TSC_HZ_IMPOSSIBLE (20ull * 1000 * 1000 * 1000)
#define HZ_PER_MHZ        1000000ull
#define US_PER_SECOND     1000000ull

u64 tsc_hz;
u64 tsc_boot;
static const char *source_name = "not measured";

// TSC cycles that 10 ms by the PIT take; 0 if it does not count.
static u64 pit_measure(const struct boot_info *boot)
{
    (void)boot;
    u8 saved = in8(PORT61);
    out8(PORT61, (u8)((saved & ~PORT61_SPEAKER) | PORT61_GATE2));
    out8(PIT_COMMAND, PIT_CHANNEL2_MODE0);
    out8(PIT_CHANNEL2, PIT_MEASURE_TICKS & 0xff);
    out8(PIT_CHANNEL2, PIT_MEASURE_TICKS >> 8);
    u64 start = rdtsc();
    u32 polls = 0;
    while (polls < POLLS_MAX && !(in8(PORT61) & PORT61_OUT2))
        polls++;
    u64 cycles = rdtsc() - start;
    out8(PORT61, saved);
    return polls < POLLS_MIN || polls == POLLS_MAX ? 0 : cycles;
}

static u64 pm_timer_measure(const struct boot_info *boot)
{
    u16 port = (u16)boot->pm_timer_port;
    u32 mask = boot->pm_timer_32bit ? ~0u : PM_TIMER_24BIT_MASK;
    if (!port)
        return 0;
    u32 first = in32(port);
    u64 start = rdtsc();
    u32 polls = 0;
    while (polls < POLLS_MAX && ((in32(port) - first) & mask) < PM_TIMER_TICKS)
        polls++;
    u64 cycles = rdtsc() - start;
    return polls < POLLS_MIN || polls == POLLS_MAX ? 0 : cycles;
}

static bool plausible(u64 hz)
{
    return hz >= TSC_HZ_PLAUSIBLE && hz < TSC_HZ_IMPOSSIBLE;
}

// The smallest of several tries: whatever disturbs a try (SMIs, a busy host) makes it longer.
static u64 measure(u64 (*once)(const struct boot_info *), const struct boot_info *boot, u64 ticks,
                   u64 ticks_hz)
{
    u64 best = 0;
    for (unsigned i = 0; i < MEASURE_TRIES; i++) {
        u64 cycles = once(boot);
        if (!cycles && !i)
            return 0; // dead: do not wait for it again
        u64 hz = cycles * ticks_hz / ticks;
        if (plausible(hz) && (!best || hz < best))
            best = hz;
    }
    return best;
}

// SDM volume 2, "CPUID": leaf 0x15 is the ratio to the crystal's rate, leaf 0x16 the base frequency
// in MHz.
static u64 cpuid_hz(void)
{
    u32 last = cpuid(CPUID_VENDOR, 0).eax;
    if (last >= CPUID_TSC_RATIO) {
        struct cpuid r = cpuid(CPUID_TSC_RATIO, 0);
        if (r.eax && r.ebx && r.ecx)
            return (u64)r.ecx * r.ebx / r.eax;
    }
    return last >= CPUID_FREQUENCY ? cpuid(CPUID_FREQUENCY, 0).eax * HZ_PER_MHZ : 0;
}

void tsc_calibrate(const struct boot_info *boot)
{
    source_name = "PIT";
    tsc_hz = measure(pit_measure, boot, PIT_MEASURE_TICKS, PIT_HZ);
    if (tsc_hz)
        return;
    source_name = "PM timer";
    tsc_hz = measure(pm_timer_measure, boot, PM_TIMER_TICKS, PM_TIMER_HZ);
    if (tsc_hz)
        return;
    source_name = "CPUID";
    tsc_hz = cpuid_hz();
    if (!plausible(tsc_hz))
        panic("no way to measure the TSC: this machine has no working PIT and no PM timer");
}

const char *tsc_source_name(void)
{
    return source_name;
}

u64 time_microseconds(void)
{
    return tsc_hz ? mul_div(rdtsc() - tsc_boot, US_PER_SECOND, tsc_hz) : 0;
}

void delay_us(u64 us)
{
    u64 start = rdtsc(), cycles = tsc_from_us(us);
    while (rdtsc() - start < cycles)
        cpu_pause();
}
