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
#define PIT_CHANNEL2_LATCH 0x80
#define PIT_COUNT_MAX      0xff // each byte
#define PIT_HZ             1193182u
#define PIT_MASK           0xffffu
#define PORT61             0x61
#define PORT61_GATE2       BIT(0)
#define PORT61_SPEAKER     BIT(1)
#define PM_TIMER_HZ        3579545u
#define PM_TIMER_MASK_24   0xffffffu
#define PM_TIMER_MASK_32   0xffffffffu

#define MEASURES_PER_SECOND 100 // 10 ms each
#define MEASURE_TRIES       5
#define SAMPLE_READS        8
#define POLLS_MAX           100000 // a dead counter: a read takes at least a microsecond
#define TSC_HZ_PLAUSIBLE    (1000ull * 1000)
#define TSC_HZ_IMPOSSIBLE   (20ull * 1000 * 1000 * 1000)
#define HZ_PER_MHZ          1000000ull
#define US_PER_SECOND       1000000ull

// A counter of known rate that counts up.
struct reference {
    u32 (*read)(u16 port);
    u16 port;
    u32 mask, hz;
};

struct sample {
    u64 tsc;
    u32 count;
};

u64 tsc_hz;
u64 tsc_boot;
static const char *source_name = "not measured";

// The PIT counts down.
static u32 pit_read(u16 port)
{
    out8(PIT_COMMAND, PIT_CHANNEL2_LATCH);
    u32 low = in8(port);
    return ~((u32)in8(port) << 8 | low);
}

static u32 pm_timer_read(u16 port)
{
    return in32(port);
}

static bool plausible(u64 hz)
{
    return hz >= TSC_HZ_PLAUSIBLE && hz < TSC_HZ_IMPOSSIBLE;
}

// The quickest of some reads, so that what comes between (an SMI, a busy host) does not part the
// two values.
static struct sample sample_take(const struct reference *reference)
{
    struct sample best = {0, 0};
    u64 best_width = ~0ull;
    for (unsigned i = 0; i < SAMPLE_READS; i++) {
        u64 before = rdtsc();
        u32 count = reference->read(reference->port);
        u64 width = rdtsc() - before;
        if (width < best_width) {
            best_width = width;
            best = (struct sample){before + width / 2, count};
        }
    }
    return best;
}

// One measurement; 0 if the counter is dead.
static u64 measure_once(const struct reference *reference)
{
    u32 wanted = reference->hz / MEASURES_PER_SECOND, polls = 0;
    struct sample start = sample_take(reference);
    while (((reference->read(reference->port) - start.count) & reference->mask) < wanted)
        if (polls++ == POLLS_MAX)
            return 0;
    struct sample end = sample_take(reference);
    u32 ticks = (end.count - start.count) & reference->mask;
    return ticks ? mul_div(end.tsc - start.tsc, reference->hz, ticks) : 0;
}

// The smallest of several: a counter that wrapped around unseen makes a measurement too large.
static u64 measure(const struct reference *reference)
{
    u64 best = 0;
    for (unsigned i = 0; i < MEASURE_TRIES; i++) {
        u64 hz = measure_once(reference);
        if (!hz)
            break;
        if (plausible(hz) && (!best || hz < best))
            best = hz;
    }
    return best;
}

static u64 pit_measure(void)
{
    static const struct reference pit = {pit_read, PIT_CHANNEL2, PIT_MASK, PIT_HZ};
    u8 saved = in8(PORT61);
    out8(PORT61, (u8)((saved & ~PORT61_SPEAKER) | PORT61_GATE2));
    out8(PIT_COMMAND, PIT_CHANNEL2_MODE0);
    out8(PIT_CHANNEL2, PIT_COUNT_MAX);
    out8(PIT_CHANNEL2, PIT_COUNT_MAX);
    u64 hz = measure(&pit);
    out8(PORT61, saved);
    return hz;
}

static u64 pm_timer_measure(const struct boot_info *boot)
{
    u32 mask = boot->pm_timer_32bit ? PM_TIMER_MASK_32 : PM_TIMER_MASK_24;
    const struct reference pm = {pm_timer_read, (u16)boot->pm_timer_port, mask, PM_TIMER_HZ};
    return pm.port ? measure(&pm) : 0;
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
    tsc_hz = pit_measure();
    if (tsc_hz)
        return;
    source_name = "PM timer";
    tsc_hz = pm_timer_measure(boot);
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
