// SPDX-License-Identifier: MIT
// What a local APIC delivers, and when: priorities, CR8, the destinations that mean it, NMIs among
// interrupts. All by both of its faces, with IPIs that the CPU sends.
#include "guests/lib/check.h"
#include "guests/lib/apic.h"

#define VECTOR_LOW   0x41
#define VECTOR_HIGH  0x71
#define VECTOR_ABOVE 0x81
#define SPURIOUS     0xff

#define TPR_CLASS_3 0x30
#define TPR_CLASS_7 0x70
#define TPR_CLASS_8 0x80
#define TPR_LOW     5

#define ICR_NMI          (4u << 8)
#define ICR_LOGICAL      (1u << 11)
#define ICR_ALL          (2u << 18)
#define ICR_OTHERS       (3u << 18)
#define BROADCAST        0xff // in xAPIC mode
#define BROADCAST_32     0xffffffffu
#define XAPIC_ID_SHIFT   24
#define CLUSTER_1_BIT_0  0x11
#define CLUSTER_2_BIT_0  0x21
#define X2APIC_CLUSTER_1 0x10001
#define DFR_FLAT         0xffffffffu
#define DFR_CLUSTER      0x0fffffffu

#define PIC1_DATA 0x21
#define PIC2_DATA 0xa1
#define PIC_ALL   0xff

static volatile unsigned taken[256];
static volatile u8 order[16];
static volatile unsigned count, nmis, taken_before_nmi;
static bool nested;

static void self_ipi(unsigned vector)
{
    apic_write(APIC_ICR, vector | APIC_ICR_ASSERT | APIC_ICR_SELF);
}

// What ISR holds off first, CR8 holds off then. The one above has the CPU look at all that waits.
static void in_handler(void)
{
    self_ipi(VECTOR_LOW);
    self_ipi(VECTOR_ABOVE);
    interrupts_take();
    check_equal(taken[VECTOR_ABOVE], 1, "one above interrupts a handler");
    check_equal(taken[VECTOR_LOW], 0, "one below does not");
    __asm__ volatile("mov %0, %%cr8" : : "r"((u64)8) : "memory");
}

static bool on_interrupt(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    (void)frame;
    if (vector == VECTOR_NMI) {
        nmis++;
        taken_before_nmi = count;
        return true;
    }
    if (vector < 32)
        return false;
    taken[vector]++;
    order[count++ % ARRAY_SIZE(order)] = (u8)vector;
    if (nested && vector == VECTOR_HIGH)
        in_handler();
    apic_write(APIC_EOI, 0);
    return true;
}

static void expect_none(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(taken); i++)
        taken[i] = 0;
    count = nmis = 0;
}

static void priorities(void)
{
    expect_none();
    self_ipi(VECTOR_LOW);
    self_ipi(VECTOR_HIGH);
    check(apic_read(APIC_IRR + VECTOR_LOW / 32) >> VECTOR_LOW % 32 & 1, "IRR shows the low one");
    interrupts_take();
    check(count == 2 && order[0] == VECTOR_HIGH && order[1] == VECTOR_LOW,
          "the high one comes first");
    expect_none();
    apic_write(APIC_TPR, TPR_CLASS_7);
    check_equal(apic_read(APIC_PPR), TPR_CLASS_7, "PPR follows TPR");
    u64 cr8;
    __asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
    check_equal(cr8, TPR_CLASS_7 >> 4, "CR8 shows TPR");
    self_ipi(VECTOR_HIGH);
    interrupts_take();
    check_equal(count, 0, "TPR holds off its own class");
    __asm__ volatile("mov %0, %%cr8" : : "r"(0ull) : "memory");
    check_equal(apic_read(APIC_TPR), 0, "CR8 sets TPR");
    interrupts_take();
    check_equal(taken[VECTOR_HIGH], 1, "it comes when TPR falls");
}

static void cr8_write(u64 value)
{
    __asm__ volatile("mov %0, %%cr8" : : "r"(value) : "memory");
}

// CR8 and TPR are one; an interrupt comes with the instruction that lets it through.
static void task_priority(void)
{
    expect_none();
    apic_write(APIC_TPR, TPR_CLASS_7 | TPR_LOW);
    check_equal(apic_read(APIC_PPR), TPR_CLASS_7 | TPR_LOW, "PPR shows TPR's low half");
    cr8_write(8);
    check_equal(apic_read(APIC_TPR), TPR_CLASS_8, "CR8 clears TPR's low half");
    __asm__ volatile("sti" ::: "memory");
    self_ipi(VECTOR_HIGH);
    self_ipi(VECTOR_LOW);
    cr8_write(15);
    cr8_write(7);
    check_equal(count, 0, "CR8 above and at a class holds it off");
    cr8_write(6);
    check_equal(taken[VECTOR_HIGH], 1, "below, it comes at once");
    check_equal(taken[VECTOR_LOW], 0, "a lower one does not");
    apic_write(APIC_TPR, TPR_CLASS_3);
    check_equal(taken[VECTOR_LOW], 1, "TPR lets it through at once");
    expect_none();
    nested = true;
    self_ipi(VECTOR_HIGH);
    check_equal(taken[VECTOR_HIGH], 1, "a handler raises CR8");
    nested = false;
    check_equal(taken[VECTOR_LOW], 0, "after its EOI CR8 holds off a lower one");
    cr8_write(0);
    check_equal(taken[VECTOR_LOW], 1, "until it falls");
    __asm__ volatile("cli" ::: "memory");
}

// --- IPIs ---

static void send(u32 destination, u32 command)
{
    command |= APIC_ICR_ASSERT;
    if (apic_is_x2apic()) {
        apic_write(APIC_ICR, (u64)destination << 32 | command);
        return;
    }
    apic_write(APIC_ICR_HIGH, destination << XAPIC_ID_SHIFT);
    check_equal(count + nmis, 0, "ICR's high half sends nothing");
    apic_write(APIC_ICR, command);
}

struct way {
    u32 destination, command, comes;
    const char *text;
};

static void send_each(const struct way *ways, unsigned number)
{
    for (unsigned i = 0; i < number; i++) {
        expect_none();
        send(ways[i].destination, ways[i].command | VECTOR_LOW);
        check_equal(apic_read(APIC_ICR), ways[i].command | APIC_ICR_ASSERT | VECTOR_LOW,
                    "ICR reads back, not busy");
        interrupts_take();
        check_equal(taken[VECTOR_LOW], ways[i].comes, ways[i].text);
    }
}

static void destinations(void)
{
    static const struct way any[] = {
        {0, 0, 1, "physical: its ID"},
        {1, 0, 0, "physical: another ID"},
        {1, ICR_LOGICAL, 1, "logical: its bit"},
        {2, ICR_LOGICAL, 0, "logical: another bit"},
        {0, ICR_LOGICAL, 0, "logical: nobody"},
        {7, APIC_ICR_SELF, 1, "self"},
        {7, ICR_ALL, 1, "all"},
        {0, ICR_OTHERS, 0, "all but self"},
    };
    static const struct way xapic[] = {
        {BROADCAST, 0, 1, "physical broadcast"},
        {BROADCAST, ICR_LOGICAL, 1, "logical broadcast"},
    };
    static const struct way cluster[] = {
        {CLUSTER_2_BIT_0, ICR_LOGICAL, 1, "cluster: its bit"},
        {CLUSTER_2_BIT_0 | 2, ICR_LOGICAL, 1, "cluster: its bit and another"},
        {CLUSTER_2_BIT_0 + 1, ICR_LOGICAL, 0, "cluster: another bit"},
        {CLUSTER_1_BIT_0, ICR_LOGICAL, 0, "another cluster"},
        {BROADCAST, ICR_LOGICAL, 1, "cluster: broadcast"},
    };
    static const struct way x2apic[] = {
        {BROADCAST, 0, 0, "x2APIC: an ID of eight bits is an ID"},
        {BROADCAST_32, 0, 1, "x2APIC: physical broadcast"},
        {BROADCAST_32, ICR_LOGICAL, 1, "x2APIC: logical broadcast"},
        {X2APIC_CLUSTER_1, ICR_LOGICAL, 0, "x2APIC: another cluster"},
    };
    if (apic_is_x2apic()) {
        send_each(any, ARRAY_SIZE(any));
        send_each(x2apic, ARRAY_SIZE(x2apic));
        return;
    }
    apic_write(APIC_LDR, 1u << XAPIC_ID_SHIFT);
    send_each(any, ARRAY_SIZE(any));
    send_each(xapic, ARRAY_SIZE(xapic));
    apic_write(APIC_DFR, DFR_CLUSTER);
    apic_write(APIC_LDR, (u32)CLUSTER_2_BIT_0 << XAPIC_ID_SHIFT);
    send_each(cluster, ARRAY_SIZE(cluster));
    apic_write(APIC_DFR, DFR_FLAT);
}

static void nmi(void)
{
    expect_none();
    send(0, ICR_NMI);
    check_equal(nmis, 1, "an NMI comes with interrupts off");
    expect_none();
    self_ipi(VECTOR_LOW);
    self_ipi(VECTOR_LOW);
    if (apic_is_x2apic())
        __asm__ volatile("sti; wrmsr; cli"
                         :
                         : "c"(MSR_X2APIC_FIRST + APIC_ICR), "d"(0), "a"(APIC_ICR_ASSERT | ICR_NMI)
                         : "memory");
    else
        __asm__ volatile("sti; movl %0, (%1); cli"
                         :
                         : "r"((u32)(APIC_ICR_ASSERT | ICR_NMI)), "r"(APIC_PAGE + (APIC_ICR << 4))
                         : "memory");
    check_equal(nmis, 1, "an NMI after STI");
    check_equal(taken_before_nmi, 0, "before the interrupt that is due");
    check_equal(taken[VECTOR_LOW], 1, "which comes, once for two requests");
    apic_write(APIC_EOI, 0);
    check_equal(apic_read(APIC_PPR), 0, "an EOI with nothing in service is none");
}

static void both(void)
{
    apic_write(APIC_SVR, APIC_SVR_ENABLE | SPURIOUS);
    priorities();
    task_priority();
    destinations();
    nmi();
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    check_setup();
    out8(PIC1_DATA, PIC_ALL);
    out8(PIC2_DATA, PIC_ALL);
    interrupt_hook = on_interrupt;
    both();
    wrmsr(MSR_IA32_APIC_BASE, rdmsr(MSR_IA32_APIC_BASE) | APIC_BASE_EXTD);
    both();
    check_finish();
}
