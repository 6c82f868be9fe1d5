// SPDX-License-Identifier: MIT
// The local APIC: x2APIC by MSRs, or xAPIC by its page of registers; the two differ in how a
// register is reached and in the shape of the interrupt command. The timer is TSC-deadline where
// the CPU has it, else a one-shot counter. SDM volume 3, "Advanced Programmable Interrupt
// Controller (APIC)".
#include "arch/x86_64/apic.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/regs.h"
#include "mm/host_map.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"

// Registers by their xAPIC offset; the x2APIC MSR is MSR_X2APIC_FIRST + offset / 16.
#define APIC_ID            0x020
#define APIC_TPR           0x080
#define APIC_EOI           0x0b0
#define APIC_SVR           0x0f0
#define APIC_ICR           0x300
#define APIC_ICR_HIGH      0x310 // xAPIC only
#define APIC_LVT_TIMER     0x320
#define APIC_LVT_LINT0     0x350
#define APIC_LVT_LINT1     0x360
#define APIC_LVT_ERROR     0x370
#define APIC_TIMER_INITIAL 0x380
#define APIC_TIMER_CURRENT 0x390
#define APIC_TIMER_DIVIDE  0x3e0
#define APIC_REGISTER_STEP 4 // shift from offset to MSR

#define XAPIC_ID_SHIFT         24
#define X2APIC_DESTINATION     32 // shift
#define APIC_SVR_ENABLE        BIT(8)
#define APIC_LVT_MASKED        BIT(16)
#define APIC_TIMER_TSC         BIT(18)
#define APIC_TIMER_DIVIDE_BY_1 0x0b
#define ICR_NMI                (4u << 8)
#define ICR_INIT               (5u << 8)
#define ICR_STARTUP            (6u << 8)
#define ICR_PENDING            BIT(12)
#define ICR_ASSERT             BIT(14)

#define APIC_BASE_ADDRESS     0x000ffffffffff000ull
#define ICR_WAIT_LIMIT        1000000 // reads of a register: far longer than any delivery
#define CALIBRATE_US          10000
#define CALIBRATE_TRIES       3
#define TIMER_RATIO_SHIFT     32
#define TIMER_LONGEST_SECONDS 1 // one shot of the counter

static bool x2apic, tsc_deadline_mode;
static volatile u8 *xapic_page;
static u64 timer_ratio; // counter ticks per TSC tick, 32.32

static bool apic_reachable(void)
{
    return x2apic || xapic_page;
}

static u32 apic_read(u32 offset)
{
    if (x2apic)
        return (u32)rdmsr(MSR_X2APIC_FIRST + (offset >> APIC_REGISTER_STEP));
    return *(volatile u32 *)(xapic_page + offset);
}

static void apic_write(u32 offset, u32 value)
{
    if (x2apic)
        wrmsr(MSR_X2APIC_FIRST + (offset >> APIC_REGISTER_STEP), value);
    else
        *(volatile u32 *)(xapic_page + offset) = value;
}

u32 apic_id_read(void)
{
    u32 id = apic_read(APIC_ID);
    return x2apic ? id : id >> XAPIC_ID_SHIFT;
}

const char *apic_mode_name(void)
{
    if (!apic_reachable())
        return "off";
    if (x2apic)
        return tsc_deadline_mode ? "x2APIC, TSC-deadline timer" : "x2APIC, one-shot timer";
    return tsc_deadline_mode ? "xAPIC, TSC-deadline timer" : "xAPIC, one-shot timer";
}

// Once, on the booting CPU. The enable bit is never cleared: some CPUs do not let it be set again.
static void apic_probe(void)
{
    u32 features = cpuid(CPUID_FEATURES, 0).ecx;
    u64 base = rdmsr(MSR_IA32_APIC_BASE);
    tsc_deadline_mode = features & CPUID_1_ECX_TSC_DEADLINE;
    if (features & CPUID_1_ECX_X2APIC) {
        x2apic = true;
        return;
    }
    xapic_page = host_map_device(base & APIC_BASE_ADDRESS, PAGE_SIZE, HOST_UNCACHED);
    if (!xapic_page)
        panic("no memory to map the local APIC");
}

void apic_init_cpu(void)
{
    if (!apic_reachable())
        apic_probe();
    u64 base = rdmsr(MSR_IA32_APIC_BASE) | APIC_BASE_ENABLE;
    wrmsr(MSR_IA32_APIC_BASE, base); // xAPIC first: disabled to x2APIC is not a legal step
    if (x2apic)
        wrmsr(MSR_IA32_APIC_BASE, base | APIC_BASE_EXTD);
    this_cpu()->apic_id = apic_id_read();
    apic_write(APIC_SVR, APIC_SVR_ENABLE | HOST_VECTOR_SPURIOUS);
    apic_write(APIC_TPR, 0);
    apic_write(APIC_LVT_LINT0, APIC_LVT_MASKED);
    apic_write(APIC_LVT_LINT1, APIC_LVT_MASKED);
    apic_write(APIC_LVT_ERROR, APIC_LVT_MASKED);
    apic_write(APIC_TIMER_DIVIDE, APIC_TIMER_DIVIDE_BY_1);
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_write(APIC_LVT_TIMER, (u32)(tsc_deadline_mode ? APIC_TIMER_TSC : 0) | HOST_VECTOR_TIMER);
    this_cpu()->timer_deadline = ~0ull;
}

void apic_eoi(void)
{
    apic_write(APIC_EOI, 0);
}

// --- interrupt commands ---

static void icr_wait(void)
{
    for (unsigned i = 0; i < ICR_WAIT_LIMIT && apic_read(APIC_ICR) & ICR_PENDING; i++)
        cpu_pause();
}

static void icr_write(u32 apic_id, u32 command)
{
    // Stores that the other CPU shall see come first; a WRMSR to an x2APIC register does not wait
    // for them (SDM volume 3, "MSR Access in x2APIC Mode").
    __asm__ volatile("mfence; lfence" : : : "memory");
    if (x2apic) {
        wrmsr(MSR_X2APIC_FIRST + (APIC_ICR >> APIC_REGISTER_STEP),
              (u64)apic_id << X2APIC_DESTINATION | command);
        return;
    }
    icr_wait();
    apic_write(APIC_ICR_HIGH, apic_id << XAPIC_ID_SHIFT);
    apic_write(APIC_ICR, command);
    icr_wait();
}

void apic_send_ipi(u32 apic_id, u8 vector)
{
    icr_write(apic_id, ICR_ASSERT | vector);
}

void apic_send_init(u32 apic_id)
{
    icr_write(apic_id, ICR_ASSERT | ICR_INIT);
}

void apic_send_startup(u32 apic_id, u8 page)
{
    icr_write(apic_id, ICR_ASSERT | ICR_STARTUP | page);
}

void apic_send_nmi(u32 apic_id)
{
    icr_write(apic_id, ICR_ASSERT | ICR_NMI);
}

void apic_stop_others(void)
{
    if (!apic_reachable())
        return;
    for (u32 i = 0; i < cpu_count; i++) {
        if (&percpus[i] == this_cpu() || !percpus[i].online)
            continue;
        apic_send_nmi(percpus[i].apic_id);
        apic_send_ipi(percpus[i].apic_id, HOST_VECTOR_PANIC);
    }
}

// --- timer ---

// Counter ticks per TSC tick, measured once.
static u64 timer_measure(void)
{
    u64 start = rdtsc();
    apic_write(APIC_TIMER_INITIAL, ~0u);
    delay_us(CALIBRATE_US);
    u64 ticks = ~0u - apic_read(APIC_TIMER_CURRENT);
    u64 cycles = rdtsc() - start;
    return (ticks << TIMER_RATIO_SHIFT) / cycles;
}

// The largest of several: what comes between the reads makes a ratio too small.
void apic_timer_calibrate(void)
{
    if (tsc_deadline_mode)
        return;
    apic_write(APIC_LVT_TIMER, APIC_LVT_MASKED | HOST_VECTOR_TIMER);
    for (unsigned i = 0; i < CALIBRATE_TRIES; i++) {
        u64 ratio = timer_measure();
        timer_ratio = MAX(timer_ratio, ratio);
    }
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_write(APIC_LVT_TIMER, HOST_VECTOR_TIMER);
    if (!timer_ratio)
        panic("the local APIC's timer does not count");
}

// The counter's start value for a deadline. The longest shot is cut: apic_timer_expired() goes on.
static u32 timer_ticks(u64 deadline)
{
    u64 now = rdtsc();
    if (deadline <= now)
        return 1;
    u64 cycles = MIN(deadline - now, tsc_hz * TIMER_LONGEST_SECONDS);
    u64 ticks = (u64)((unsigned __int128)cycles * timer_ratio >> TIMER_RATIO_SHIFT) + 1;
    return (u32)MIN(ticks, (u64)~0u);
}

void apic_timer_arm(u64 tsc_deadline)
{
    bool disarm = tsc_deadline == ~0ull;
    this_cpu()->timer_deadline = tsc_deadline;
    if (tsc_deadline_mode) // 0 would disarm, and 1 is past as well
        wrmsr(MSR_IA32_TSC_DEADLINE, disarm ? 0 : MAX(tsc_deadline, 1ull));
    else
        apic_write(APIC_TIMER_INITIAL, disarm ? 0 : timer_ticks(tsc_deadline));
}

bool apic_timer_expired(void)
{
    u64 deadline = this_cpu()->timer_deadline;
    if (deadline != ~0ull && rdtsc() < deadline) {
        apic_timer_arm(deadline);
        return false;
    }
    this_cpu()->timer_deadline = ~0ull;
    return true;
}
