// SPDX-License-Identifier: MIT
// Interrupt chips as software sees them: the local APIC's registers after reset by both of its
// faces, timer modes, errors, the steps of IA32_APIC_BASE; the timer chip through the PIC and
// through the I/O APIC. What is delivered when, and to whom: guests/delivery.
#include "guests/lib/check.h"
#include "guests/lib/apic.h"

#define VECTOR_LOW    0x41
#define VECTOR_ERROR  0x61
#define VECTOR_TIMER  0x51
#define VECTOR_PIC    0x30
#define VECTOR_IOAPIC 0x81
#define SPURIOUS      0xff
#define WAIT_TICKS    5000000ull
#define ESR_SEND      BIT(5)
#define LVT_RESET     APIC_LVT_MASKED
#define DFR_RESET     0xffffffffu
#define VERSION_MASK  0xf0
#define VERSION_LOCAL 0x10
#define APIC_RESERVED 0x04 // a number without a register
#define BASE_RESERVED BIT(9)
#define ESR_REGISTER  BIT(7)

#define APIC_PAGE_MOVED 0xfef00000ull
#define NOTHING         0xffffffffu

static volatile unsigned taken[256];
static volatile unsigned count;

static bool on_interrupt(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    (void)frame;
    if (vector < 32)
        return false;
    taken[vector]++;
    count++;
    if (vector != SPURIOUS)
        apic_write(APIC_EOI, 0);
    return true;
}

static void expect_none(void)
{
    for (unsigned i = 0; i < 256; i++)
        taken[i] = 0;
    count = 0;
}

static bool wait_for(unsigned vector)
{
    u64 end = rdtsc() + WAIT_TICKS;
    while (!taken[vector] && rdtsc() < end)
        interrupts_take();
    return taken[vector] > 0;
}

// --- IA32_APIC_BASE: off, xAPIC, x2APIC ---

static u32 page_read(u64 page, enum apic_register reg)
{
    return *(volatile u32 *)(page + ((u64)reg << 4));
}

#define BASE_FAULTS(what, value)                                                                   \
    FAULTS(what, VECTOR_GP, 0, "wrmsr",                                                            \
           :                                                                                       \
           : "c"(MSR_IA32_APIC_BASE), "a"((u32)(value)), "d"((u32)((value) >> 32))                 \
           : "memory")

static void base(void)
{
    u64 xapic = rdmsr(MSR_IA32_APIC_BASE);
    check_equal(xapic, APIC_PAGE | APIC_BASE_BSP | APIC_BASE_ENABLE, "APIC_BASE after reset");
    FAULTS("an x2APIC register in xAPIC mode", VECTOR_GP, 0, "rdmsr",
           :
           : "c"(MSR_X2APIC_FIRST + APIC_ID)
           : "rax", "rdx");
    BASE_FAULTS("APIC_BASE reserved", xapic | BASE_RESERVED);
    BASE_FAULTS("x2APIC without enable", (xapic & ~APIC_BASE_ENABLE) | APIC_BASE_EXTD);
    wrmsr(MSR_IA32_APIC_BASE, (xapic & ~APIC_PAGE) | APIC_PAGE_MOVED);
    check_equal(page_read(APIC_PAGE_MOVED, APIC_VERSION) & VERSION_MASK, VERSION_LOCAL,
                "the page where APIC_BASE says");
    check_equal(page_read(APIC_PAGE, APIC_VERSION), NOTHING, "and nowhere else");
    wrmsr(MSR_IA32_APIC_BASE, xapic & ~APIC_BASE_ENABLE);
    check_equal(page_read(APIC_PAGE, APIC_ID), NOTHING, "no page when it is off");
    check(!cpu_has(1, EDX, 9), "CPUID shows no APIC when it is off");
    BASE_FAULTS("off to x2APIC", xapic | APIC_BASE_EXTD);
    wrmsr(MSR_IA32_APIC_BASE, xapic);
    check(cpu_has(1, EDX, 9), "CPUID shows the APIC again");
    wrmsr(MSR_IA32_APIC_BASE, xapic | APIC_BASE_EXTD);
    BASE_FAULTS("x2APIC to xAPIC", xapic);
    check_equal(page_read(APIC_PAGE, APIC_ID), NOTHING, "no page in x2APIC mode");
    wrmsr(MSR_IA32_APIC_BASE, xapic & ~APIC_BASE_ENABLE);
    wrmsr(MSR_IA32_APIC_BASE, xapic);
}

// After it was off the APIC is as after reset.
static void reset_values(void)
{
    check_equal(apic_read(APIC_ID), 0, "ID");
    check_equal(apic_read(APIC_VERSION) & VERSION_MASK, VERSION_LOCAL, "version");
    check_equal(apic_read(APIC_TPR), 0, "TPR");
    check_equal(apic_read(APIC_PPR), 0, "PPR");
    check_equal(apic_read(APIC_SVR), SPURIOUS, "SVR: off, vector FFH");
    check_equal(apic_read(APIC_ESR), 0, "ESR");
    check_equal(apic_read(APIC_LVT_TIMER), LVT_RESET, "LVT timer");
    check_equal(apic_read(APIC_LVT_LINT0), LVT_RESET, "LVT LINT0");
    check_equal(apic_read(APIC_LVT_LINT1), LVT_RESET, "LVT LINT1");
    check_equal(apic_read(APIC_LVT_ERROR), LVT_RESET, "LVT error");
    check_equal(apic_read(APIC_TIMER_INITIAL), 0, "initial count");
    check_equal(apic_read(APIC_TIMER_CURRENT), 0, "current count");
    check_equal(apic_read(APIC_TIMER_DIVIDE), 0, "divide configuration");
    for (unsigned i = 0; i < 8; i++)
        check_equal(apic_read(APIC_IRR + i) | apic_read(APIC_ISR + i) | apic_read(APIC_TMR + i), 0,
                    "IRR, ISR and TMR");
    if (!apic_is_x2apic())
        check_equal(apic_read(APIC_DFR), DFR_RESET, "DFR");
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
    check_equal(apic_read(APIC_LVT_TIMER), VECTOR_TIMER | APIC_LVT_MASKED,
                "off, an LVT stays masked");
}

// --- both faces ---

// --- the timer ---

static void timer_modes(void)
{
    apic_write(APIC_TIMER_DIVIDE, APIC_DIVIDE_BY_1);
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | APIC_LVT_MASKED);
    apic_write(APIC_TIMER_INITIAL, NOTHING);
    u32 before = apic_read(APIC_TIMER_CURRENT);
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | APIC_LVT_MASKED | APIC_LVT_PERIODIC);
    u32 after = apic_read(APIC_TIMER_CURRENT);
    check(after && after <= before, "from one-shot to periodic the count goes on");
    check_equal(apic_read(APIC_TIMER_INITIAL), NOTHING, "and the initial count stays");
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | APIC_LVT_MASKED | APIC_LVT_TSC_DEADLINE);
    check_equal(apic_read(APIC_TIMER_CURRENT), 0, "with deadlines it stops");
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | APIC_LVT_MASKED);
    check_equal(apic_read(APIC_TIMER_CURRENT), 0, "and does not start again");
    apic_write(APIC_TIMER_INITIAL, 1);
    u64 end = rdtsc() + WAIT_TICKS / 100;
    while (rdtsc() < end)
        ;
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | APIC_LVT_MASKED | APIC_LVT_PERIODIC);
    check_equal(apic_read(APIC_TIMER_CURRENT), 0, "nor does one that is over, as a periodic one");
}

static void timer(void)
{
    expect_none();
    apic_write(APIC_TIMER_DIVIDE, APIC_DIVIDE_BY_1);
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
    apic_write(APIC_TIMER_INITIAL, 100000);
    check(apic_read(APIC_TIMER_CURRENT) <= 100000, "the count goes down");
    check(wait_for(VECTOR_TIMER), "one-shot fires");
    check_equal(apic_read(APIC_TIMER_CURRENT), 0, "and ends at 0");
    expect_none();
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | APIC_LVT_PERIODIC);
    apic_write(APIC_TIMER_INITIAL, 200000);
    for (unsigned i = 0; i < 3; i++) {
        taken[VECTOR_TIMER] = 0;
        check(wait_for(VECTOR_TIMER), "periodic fires again");
    }
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | APIC_LVT_PERIODIC | APIC_LVT_MASKED);
    interrupts_take();
    expect_none();
    u64 end = rdtsc() + WAIT_TICKS / 20;
    while (rdtsc() < end)
        interrupts_take();
    check_equal(count, 0, "masked it does not fire");
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | APIC_LVT_TSC_DEADLINE);
    wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() + 50000);
    check(rdmsr(MSR_IA32_TSC_DEADLINE) != 0, "the deadline reads back");
    check(wait_for(VECTOR_TIMER), "the deadline fires");
    check_equal(rdmsr(MSR_IA32_TSC_DEADLINE), 0, "then it reads 0");
    apic_write(APIC_TIMER_INITIAL, 1000);
    check_equal(apic_read(APIC_TIMER_CURRENT), 0, "with deadlines there is no count");
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | APIC_LVT_MASKED);
}

static void errors(void)
{
    expect_none();
    apic_write(APIC_LVT_ERROR, VECTOR_ERROR);
    apic_write(APIC_ESR, 0);
    apic_write(APIC_ICR, 3 | APIC_ICR_ASSERT | APIC_ICR_SELF);
    interrupts_take();
    check_equal(taken[VECTOR_ERROR], 1, "a vector below 16 is an error");
    apic_write(APIC_ESR, 0);
    check(apic_read(APIC_ESR) & ESR_SEND, "ESR says so");
    apic_write(APIC_ESR, 0);
    check_equal(apic_read(APIC_ESR), 0, "then it is clear");
    apic_write(APIC_LVT_ERROR, APIC_LVT_MASKED | VECTOR_ERROR);
    if (apic_is_x2apic())
        return;
    check_equal(page_read(APIC_PAGE, APIC_RESERVED), 0, "a register that is not there");
    apic_write(APIC_ESR, 0);
    check_equal(apic_read(APIC_ESR), ESR_REGISTER, "is an error");
    apic_write(APIC_ESR, 0);
}

static void both(void)
{
    reset_values();
    apic_write(APIC_SVR, APIC_SVR_ENABLE | SPURIOUS);
    timer_modes();
    timer();
    errors();
}

static void x2apic_rules(void)
{
#define READ_FAULTS(what, reg)                                                                     \
    FAULTS(what, VECTOR_GP, 0, "rdmsr", : : "c"(MSR_X2APIC_FIRST + (reg)) : "rax", "rdx")
#define WRITE_FAULTS(what, reg, value)                                                             \
    FAULTS(what, VECTOR_GP, 0, "wrmsr",                                                            \
           :                                                                                       \
           : "c"(MSR_X2APIC_FIRST + (reg)), "a"((u32)(value)), "d"(0)                              \
           : "memory")
    READ_FAULTS("x2APIC: DFR", APIC_DFR);
    READ_FAULTS("x2APIC: the high half of ICR", APIC_ICR_HIGH);
    READ_FAULTS("x2APIC: EOI is write-only", APIC_EOI);
    READ_FAULTS("x2APIC: SELF IPI is write-only", APIC_SELF_IPI);
    READ_FAULTS("x2APIC: a register that is not there", APIC_RESERVED);
    WRITE_FAULTS("x2APIC: ID is read-only", APIC_ID, 0);
    WRITE_FAULTS("x2APIC: LDR is read-only", APIC_LDR, 0);
    WRITE_FAULTS("x2APIC: EOI not 0", APIC_EOI, 1);
    WRITE_FAULTS("x2APIC: ESR not 0", APIC_ESR, 1);
    WRITE_FAULTS("x2APIC: TPR reserved", APIC_TPR, BIT(8));
    WRITE_FAULTS("x2APIC: SVR reserved", APIC_SVR, BIT(31));
    WRITE_FAULTS("x2APIC: SELF IPI reserved", APIC_SELF_IPI, BIT(8));
    check_equal(apic_read(APIC_LDR), 1, "x2APIC: LDR comes from the ID");
    expect_none();
    apic_write(APIC_SELF_IPI, VECTOR_LOW);
    interrupts_take();
    check_equal(taken[VECTOR_LOW], 1, "x2APIC: SELF IPI");
}

// --- the timer chip, by its two ways ---

#define PIC1_COMMAND 0x20
#define PIC1_DATA    0x21
#define PIC2_COMMAND 0xa0
#define PIC2_DATA    0xa1
#define PIC_ICW1     0x11
#define PIC_ICW4     0x01
#define PIC_EOI      0x20
#define PIT_COMMAND  0x43
#define PIT_CHANNEL0 0x40
#define PIT_RATE     0x34 // channel 0, both bytes, mode 2
#define PIT_ONE_SHOT 0x30 // mode 0: stops it
#define PIT_COUNT    1000
#define IOAPIC       0xfec00000ull
#define IOAPIC_PIN   0x10 // the redirection table's first register
#define PIT_PIN      2
#define LVT_EXTINT   (7u << 8)

static void pit_start(void)
{
    out8(PIT_COMMAND, PIT_RATE);
    out8(PIT_CHANNEL0, PIT_COUNT & 0xff);
    out8(PIT_CHANNEL0, PIT_COUNT >> 8);
}

static bool on_pic(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    (void)frame;
    if (vector != VECTOR_PIC)
        return false;
    taken[vector]++;
    out8(PIC1_COMMAND, PIC_EOI);
    return true;
}

static void pic_program(u8 mask)
{
    out8(PIC1_COMMAND, PIC_ICW1);
    out8(PIC1_DATA, VECTOR_PIC);
    out8(PIC1_DATA, 4);
    out8(PIC1_DATA, PIC_ICW4);
    out8(PIC2_COMMAND, PIC_ICW1);
    out8(PIC2_DATA, VECTOR_PIC + 8);
    out8(PIC2_DATA, 2);
    out8(PIC2_DATA, PIC_ICW4);
    out8(PIC1_DATA, mask);
    out8(PIC2_DATA, 0xff);
}

static void ioapic_write(u32 reg, u32 value)
{
    *(volatile u32 *)IOAPIC = reg;
    *(volatile u32 *)(IOAPIC + 16) = value;
}

static void timer_chip(void)
{
    expect_none();
    interrupt_hook = on_pic;
    pic_program(0xfe);
    apic_write(APIC_LVT_LINT0, LVT_EXTINT);
    pit_start();
    check(wait_for(VECTOR_PIC), "the PIT through the PIC");
    taken[VECTOR_PIC] = 0;
    check(wait_for(VECTOR_PIC), "and again");
    out8(PIC1_DATA, 0xff);
    apic_write(APIC_LVT_LINT0, LVT_EXTINT | APIC_LVT_MASKED);
    interrupt_hook = on_interrupt;
    expect_none();
    ioapic_write(IOAPIC_PIN + 2 * PIT_PIN + 1, 0);
    ioapic_write(IOAPIC_PIN + 2 * PIT_PIN, VECTOR_IOAPIC);
    check(wait_for(VECTOR_IOAPIC), "the PIT through the I/O APIC");
    ioapic_write(IOAPIC_PIN + 2 * PIT_PIN, VECTOR_IOAPIC | (u32)APIC_LVT_MASKED);
    interrupts_take();
    out8(PIT_COMMAND, PIT_ONE_SHOT);
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    check_setup();
    out8(PIC1_DATA, 0xff);
    out8(PIC2_DATA, 0xff);
    interrupt_hook = on_interrupt;
    base();
    both();
    timer_chip();
    wrmsr(MSR_IA32_APIC_BASE, rdmsr(MSR_IA32_APIC_BASE) & ~APIC_BASE_ENABLE);
    wrmsr(MSR_IA32_APIC_BASE, APIC_PAGE | APIC_BASE_BSP | APIC_BASE_ENABLE);
    wrmsr(MSR_IA32_APIC_BASE, APIC_PAGE | APIC_BASE_BSP | APIC_BASE_ENABLE | APIC_BASE_EXTD);
    both();
    x2apic_rules();
    timer_chip();
    check_finish();
}
