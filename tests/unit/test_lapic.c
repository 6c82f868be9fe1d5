// SPDX-License-Identifier: MIT
// The local APIC, its timer and the messages between APICs: what the SDM's chapter names, and a
// random walk of four APICs against invariants.
#include "tests/unit/test.h"
#include "io/clock.c"
#include "io/lapic.c"
#include "io/lapic_registers.c"
#include "io/lapic_timer.c"
#include "io/apic_bus.c"

#define CPUS     4
#define CLOCK_HZ 3000000000ull // three ticks are a nanosecond

struct heard {
    unsigned changed, nmi, init, startup, extint;
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

static const struct lapic_ops ops = {on_changed, on_nmi, on_init, on_startup, on_extint};

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

// --- state after power-on, INIT, and the modes ---

TEST(power_on_state)
{
    setup();
    CHECK_EQ(cpus[0].base_msr, 0xfee00900);
    CHECK_EQ(cpus[1].base_msr, 0xfee00800);
    CHECK_EQ(rd(2, LAPIC_ID), 2u << 24);
    CHECK_EQ(rd(0, LAPIC_VERSION), 0x01060014);
    CHECK_EQ(rd(0, LAPIC_SVR), 0xff);
    CHECK_EQ(rd(0, LAPIC_DFR), ~0u);
    static const u8 zero[] = {LAPIC_TPR,           LAPIC_APR,         LAPIC_PPR,
                              LAPIC_RRD,           LAPIC_LDR,         LAPIC_ESR,
                              LAPIC_ICR,           LAPIC_ICR_HIGH,    LAPIC_TIMER_INITIAL,
                              LAPIC_TIMER_CURRENT, LAPIC_TIMER_DIVIDE};
    for (unsigned i = 0; i < ARRAY_SIZE(zero); i++)
        CHECK_EQ(rd(0, zero[i]), 0);
    for (unsigned i = 0; i < 24; i++)
        CHECK_EQ(rd(0, LAPIC_ISR + i), 0);
    for (unsigned i = LAPIC_LVT_TIMER; i <= LAPIC_LVT_ERROR; i++)
        CHECK_EQ(rd(0, i), LVT_MASKED);
    CHECK_EQ(rd(0, LAPIC_LVT_CMCI), LVT_MASKED);
    CHECK_EQ(lapic_pending(&cpus[0]), -1);
    CHECK(!lapic_takes_pic(&cpus[0]));
}

TEST(base_transitions)
{
    setup();
    const u64 off = LAPIC_BASE_DEFAULT, x = off | LAPIC_BASE_EN, x2 = x | LAPIC_BASE_EXTD;
    CHECK(!wrm(1, LAPIC_MSR_BASE, off | LAPIC_BASE_EXTD));
    CHECK(!readable(1, LAPIC_MSR(LAPIC_ID)));
    CHECK(wrm(1, LAPIC_MSR_BASE, off));
    CHECK(!wrm(1, LAPIC_MSR_BASE, x2)); // only by way of xAPIC
    CHECK(wrm(1, LAPIC_MSR_BASE, x));
    CHECK(wrm(1, LAPIC_MSR_BASE, x2));
    CHECK(wrm(1, LAPIC_MSR_BASE, x2)); // no change
    CHECK(!wrm(1, LAPIC_MSR_BASE, x)); // no way back but off
    CHECK(!wrm(1, LAPIC_MSR_BASE, off | LAPIC_BASE_EXTD));
    CHECK_EQ(rdx(1, LAPIC_ID), 1);
    CHECK(wrm(1, LAPIC_MSR_BASE, off));
    CHECK(!readable(1, LAPIC_MSR(LAPIC_ID)));
    u64 value;
    CHECK(lapic_msr_read(&cpus[1], LAPIC_MSR_BASE, &value));
    CHECK_EQ(value, off);
}

TEST(base_reserved_bits)
{
    setup();
    u64 base = cpus[0].base_msr;
    for (unsigned bit = 0; bit < 64; bit++) {
        bool reserved = bit < 8 || bit == 9 || bit >= 46;
        if (bit != 10 && bit != 11)
            CHECK_EQ(wrm(0, LAPIC_MSR_BASE, base | BIT(bit)), !reserved);
    }
    cpus[0].physical_bits = 39;
    CHECK(!wrm(0, LAPIC_MSR_BASE, base | BIT(39)));
    CHECK(wrm(0, LAPIC_MSR_BASE, base | BIT(38)));
}

TEST(switching_off_loses_the_state)
{
    enable_all();
    wr(0, LAPIC_LVT_TIMER, 0x40);
    wr(0, LAPIC_TIMER_INITIAL, 1000);
    lapic_raise(&cpus[0], 0x50, false);
    CHECK(wrm(0, LAPIC_MSR_BASE, LAPIC_BASE_DEFAULT));
    CHECK_EQ(lapic_pending(&cpus[0]), -1);
    CHECK(!io_timer_armed(&cpus[0].timer));
    CHECK_EQ(rd(0, LAPIC_SVR), ~0u); // not the APIC's page any more
    CHECK(lapic_takes_pic(&cpus[0]));
    lapic_lint0(&cpus[0], true);
    CHECK_EQ(heard[0].extint, 1);
    struct apic_message m = {.destination = 0, .vector = 0x60};
    apic_bus_deliver(&bus, &m);
    m.logical = true;
    m.destination = 0xff;
    apic_bus_deliver(&bus, &m);
    CHECK_EQ(take(0x60), 0xe);
    apic_bus_msi(&bus, 0xfee00000, 0x400);
    CHECK_EQ(heard[0].nmi, 0);
    CHECK(wrm(0, LAPIC_MSR_BASE, LAPIC_BASE_DEFAULT | LAPIC_BASE_EN));
    CHECK_EQ(rd(0, LAPIC_SVR), 0xff);
}

TEST(xapic_to_x2apic_keeps_interrupts)
{
    enable_all();
    lapic_raise(&cpus[3], 0x77, true);
    wr(3, LAPIC_TPR, 0x20);
    wr(3, LAPIC_LDR, 0xff000000);
    CHECK(wrm(3, LAPIC_MSR_BASE, cpus[3].base_msr | LAPIC_BASE_EXTD));
    CHECK_EQ(rdx(3, LAPIC_IRR + 3), 1u << 23);
    CHECK_EQ(rdx(3, LAPIC_TMR + 3), 1u << 23);
    CHECK_EQ(rdx(3, LAPIC_TPR), 0x20);
    CHECK_EQ(rdx(3, LAPIC_LDR), 8);
    CHECK_EQ(rd(3, LAPIC_TPR), ~0u); // the page is gone
    wr(3, LAPIC_TPR, 0);
    CHECK_EQ(rdx(3, LAPIC_TPR), 0x20);
}

TEST(init_keeps_the_id_the_mode_and_the_base)
{
    x2apic_all();
    lapic_raise(&cpus[2], 0x55, false);
    CHECK(wrx(2, LAPIC_TPR, 0x30));
    lapic_init_signal(&cpus[2]);
    CHECK(lapic_is_x2apic(&cpus[2]));
    CHECK_EQ(rdx(2, LAPIC_ID), 2);
    CHECK_EQ(rdx(2, LAPIC_LDR), 4);
    CHECK_EQ(rdx(2, LAPIC_SVR), 0xff);
    CHECK_EQ(rdx(2, LAPIC_TPR), 0);
    CHECK_EQ(lapic_pending(&cpus[2]), -1);
    lapic_reset(&cpus[2]);
    CHECK_EQ(cpus[2].base_msr, 0xfee00800);
}

// --- register access rules ---

TEST(xapic_page_access_rules)
{
    enable_all();
    struct io_device *page = &cpus[0].mmio;
    page->ops->write(page, 0x80, 1, 0x50);
    page->ops->write(page, 0x81, 4, 0x50);
    page->ops->write(page, 0x84, 4, 0x50);
    page->ops->write(page, 0x80, 8, 0x50);
    CHECK_EQ(rd(0, LAPIC_TPR), 0);
    CHECK_EQ(page->ops->read(page, 0xf0, 1), 0);
    CHECK_EQ(page->ops->read(page, 0xf4, 4), 0);
    wr(0, LAPIC_TPR, ~0u);
    CHECK_EQ(rd(0, LAPIC_TPR), 0xff);
    wr(0, LAPIC_ID, ~0u);
    CHECK_EQ(rd(0, LAPIC_ID), 0);
    wr(0, LAPIC_VERSION, 0);
    CHECK_EQ(rd(0, LAPIC_VERSION), 0x01060014);
    wr(0, LAPIC_LDR, ~0u);
    CHECK_EQ(rd(0, LAPIC_LDR), 0xff000000);
    wr(0, LAPIC_DFR, 0);
    CHECK_EQ(rd(0, LAPIC_DFR), 0x0fffffff);
    wr(0, LAPIC_SVR, ~0u);
    CHECK_EQ(rd(0, LAPIC_SVR), 0x13ff);
    wr(0, LAPIC_TIMER_DIVIDE, ~0u);
    CHECK_EQ(rd(0, LAPIC_TIMER_DIVIDE), 0xb);
    CHECK_EQ(rd(0, LAPIC_EOI), 0);
    wr(0, LAPIC_ESR, 0);
    CHECK_EQ(rd(0, LAPIC_ESR), 0);
}

TEST(lvt_masks)
{
    enable_all();
    static const struct {
        u8 reg;
        u32 bits;
    } table[] = {
        {LAPIC_LVT_CMCI, 0x107ff},        {LAPIC_LVT_TIMER, 0x700ff}, {LAPIC_LVT_THERMAL, 0x107ff},
        {LAPIC_LVT_PERFORMANCE, 0x107ff}, {LAPIC_LVT_LINT0, 0x1a7ff}, {LAPIC_LVT_LINT1, 0x1a7ff},
        {LAPIC_LVT_ERROR, 0x100ff},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        wr(0, table[i].reg, ~0u);
        CHECK_EQ(rd(0, table[i].reg), table[i].bits);
        wr(0, table[i].reg, 0xfe);
        CHECK_EQ(rd(0, table[i].reg), 0xfe);
    }
    wr(0, LAPIC_SVR, 0xff); // software-disabled: all masked, and unmasking is ignored
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        CHECK_EQ(rd(0, table[i].reg), 0x100fe);
        wr(0, table[i].reg, 0xfd);
        CHECK_EQ(rd(0, table[i].reg), 0x100fd);
    }
    wr(0, LAPIC_SVR, 0x1ff);
    CHECK_EQ(rd(0, LAPIC_LVT_ERROR), 0x100fd);
}

TEST(x2apic_access_rules)
{
    x2apic_all();
    // One letter each from MSR 0x800: - reserved, r read, w write, b both.
    static const char rules_of_sdm[] = "--rr----b-rw-r-b"  // 0x800
                                       "rrrrrrrrrrrrrrrr"  // 0x810: ISR, TMR
                                       "rrrrrrrrb------b"  // 0x820: IRR, ESR, CMCI
                                       "b-bbbbbbbr----bw"; // 0x830: ICR, LVT, timer, SELF IPI
    for (unsigned i = 0; i < 256; i++) {
        char rule = i < 64 ? rules_of_sdm[i] : '-';
        CHECK_EQ(readable(0, LAPIC_MSR_X2APIC + i), rule == 'r' || rule == 'b');
        // SELF IPI's vector 0 is an error, but the write is fine.
        CHECK_EQ(wrm(0, LAPIC_MSR_X2APIC + i, 0), rule == 'w' || rule == 'b');
        CHECK(!wrm(0, LAPIC_MSR_X2APIC + i, 1ull << 32) || i == LAPIC_ICR);
    }
}

TEST(x2apic_reserved_bits)
{
    static const struct {
        u8 reg;
        u64 allowed; // including the read-only bits, which are ignored
    } table[] = {
        {LAPIC_TPR, 0xff},
        {LAPIC_EOI, 0},
        {LAPIC_SVR, 0x13ff},
        {LAPIC_ESR, 0},
        {LAPIC_LVT_CMCI, 0x117ff},
        {LAPIC_LVT_TIMER, 0x710ff},
        {LAPIC_LVT_THERMAL, 0x117ff},
        {LAPIC_LVT_LINT0, 0x1f7ff},
        {LAPIC_LVT_ERROR, 0x110ff},
        {LAPIC_TIMER_INITIAL, 0xffffffff},
        {LAPIC_TIMER_DIVIDE, 0xb},
        {LAPIC_SELF_IPI, 0xff},
        {LAPIC_ICR, 0xffffffff000cdfffull},
    };
    x2apic_all();
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        for (unsigned bit = 0; bit < 64; bit++)
            CHECK_EQ(wrx(0, table[i].reg, BIT(bit)), (table[i].allowed & BIT(bit)) != 0);
    }
    CHECK(wrx(0, LAPIC_SVR, 0x1ff));
    CHECK(wrx(0, LAPIC_LVT_LINT0, 0x1f7ff));
    CHECK_EQ(rdx(0, LAPIC_LVT_LINT0), 0x1a7ff);
    CHECK(wrx(0, LAPIC_ICR, 0x300010000 - 0x10000 + 0x1030));
    CHECK_EQ(rdx(0, LAPIC_ICR), 0x300000030);
}

TEST(x2apic_msrs_fault_in_other_modes)
{
    enable_all();
    for (u32 i = 0; i < 256; i++) {
        CHECK(!readable(0, LAPIC_MSR_X2APIC + i));
        CHECK(!wrm(0, LAPIC_MSR_X2APIC + i, 0));
    }
}

// --- priorities, acceptance, EOI ---

TEST(highest_vector_first_and_nesting)
{
    enable_all();
    lapic_raise(&cpus[0], 0x31, false);
    lapic_raise(&cpus[0], 0x42, false);
    CHECK_EQ(heard[0].changed, 2);
    lapic_raise(&cpus[0], 0x42, false); // once in IRR
    CHECK_EQ(heard[0].changed, 2);
    CHECK_EQ(lapic_pending(&cpus[0]), 0x42);
    lapic_accept(&cpus[0], 0x42);
    CHECK_EQ(rd(0, LAPIC_PPR), 0x40);
    CHECK_EQ(rd(0, LAPIC_ISR + 2), 4);
    CHECK_EQ(rd(0, LAPIC_IRR + 2), 0);
    CHECK_EQ(lapic_pending(&cpus[0]), -1);
    lapic_raise(&cpus[0], 0x4f, false); // of the same class
    CHECK_EQ(lapic_pending(&cpus[0]), -1);
    lapic_raise(&cpus[0], 0xff, false);
    CHECK_EQ(lapic_pending(&cpus[0]), 0xff);
    lapic_accept(&cpus[0], 0xff);
    wr(0, LAPIC_EOI, 0x1234);
    CHECK_EQ(rd(0, LAPIC_PPR), 0x40);
    unsigned before = heard[0].changed;
    lapic_eoi(&cpus[0]);
    CHECK_EQ(heard[0].changed, before + 1);
    CHECK_EQ(lapic_pending(&cpus[0]), 0x4f);
    lapic_accept(&cpus[0], 0x4f);
    lapic_eoi(&cpus[0]);
    CHECK_EQ(lapic_pending(&cpus[0]), 0x31);
    lapic_accept(&cpus[0], 0x31);
    lapic_eoi(&cpus[0]);
    lapic_eoi(&cpus[0]); // nothing in service
    CHECK_EQ(cpus[0].irr_words | cpus[0].isr_words, 0);
    CHECK_EQ(eoi_count, 0);
}

TEST(same_vector_again_while_in_service)
{
    enable_all();
    lapic_raise(&cpus[0], 0x50, false);
    lapic_accept(&cpus[0], 0x50);
    lapic_raise(&cpus[0], 0x50, false);
    CHECK_EQ(lapic_pending(&cpus[0]), -1);
    lapic_eoi(&cpus[0]);
    CHECK_EQ(lapic_pending(&cpus[0]), 0x50);
}

TEST(tpr_and_cr8)
{
    enable_all();
    lapic_raise(&cpus[0], 0x45, false);
    lapic_cr8_write(&cpus[0], 4);
    CHECK_EQ(rd(0, LAPIC_TPR), 0x40);
    CHECK_EQ(lapic_pending(&cpus[0]), -1);
    unsigned before = heard[0].changed;
    wr(0, LAPIC_TPR, 0x3f);
    CHECK_EQ(heard[0].changed, before + 1);
    CHECK_EQ(lapic_cr8_read(&cpus[0]), 3);
    CHECK_EQ(rd(0, LAPIC_PPR), 0x3f);
    lapic_accept(&cpus[0], 0x45);
    CHECK_EQ(rd(0, LAPIC_PPR), 0x40);
    wr(0, LAPIC_TPR, 0x43); // equal classes: TPR's low half shows
    CHECK_EQ(rd(0, LAPIC_PPR), 0x43);
    lapic_cr8_write(&cpus[0], 15);
    CHECK_EQ(rd(0, LAPIC_PPR), 0xf0);
    lapic_raise(&cpus[0], 0xff, false);
    CHECK_EQ(lapic_pending(&cpus[0]), -1);
}

TEST(eoi_of_levels_is_broadcast)
{
    enable_all();
    lapic_raise(&cpus[0], 0x61, true);
    CHECK_EQ(rd(0, LAPIC_TMR + 3), 2);
    lapic_accept(&cpus[0], 0x61);
    lapic_eoi(&cpus[0]);
    CHECK_EQ(eoi_count, 1);
    CHECK_EQ(eoi_vector, 0x61);
    wr(0, LAPIC_SVR, 0x11ff);
    lapic_raise(&cpus[0], 0x61, true);
    lapic_accept(&cpus[0], 0x61);
    lapic_eoi(&cpus[0]);
    CHECK_EQ(eoi_count, 1); // suppressed
    lapic_raise(&cpus[0], 0x61, false);
    CHECK_EQ(rd(0, LAPIC_TMR + 3), 0);
    bus.eoi = NULL;
    wr(0, LAPIC_SVR, 0x1ff);
    lapic_raise(&cpus[0], 0x62, true);
    lapic_accept(&cpus[0], 0x62);
    lapic_eoi(&cpus[0]);
}

TEST(software_disabled_takes_only_nmi_init_sipi)
{
    setup();
    struct apic_message m = {.destination = 1, .vector = 0x55};
    apic_bus_deliver(&bus, &m);
    CHECK_EQ(take(0x55), 0);
    m.delivery = APIC_NMI;
    apic_bus_deliver(&bus, &m);
    m.delivery = APIC_INIT;
    apic_bus_deliver(&bus, &m);
    m.delivery = APIC_STARTUP;
    apic_bus_deliver(&bus, &m);
    m.delivery = APIC_SMI;
    apic_bus_deliver(&bus, &m);
    m.delivery = (enum apic_delivery)3;
    apic_bus_deliver(&bus, &m);
    CHECK_EQ(heard[1].nmi, 1);
    CHECK_EQ(heard[1].init, 1);
    CHECK_EQ(heard[1].startup, 1);
    CHECK_EQ(heard[1].page, 0x55);
    // What was pending stays pending.
    wr(1, LAPIC_SVR, 0x1ff);
    lapic_raise(&cpus[1], 0x50, false);
    wr(1, LAPIC_SVR, 0xff);
    CHECK_EQ(lapic_pending(&cpus[1]), 0x50);
}

// --- errors ---

TEST(esr_is_written_then_read)
{
    enable_all();
    wr(0, LAPIC_LVT_ERROR, 0xe0);
    rd(0, 0x3f);
    CHECK_EQ(rd(0, LAPIC_ESR), 0); // not yet
    CHECK(in_irr(0, 0xe0));
    take(0xe0);
    wr(0, 0x00, 1);
    CHECK(!in_irr(0, 0xe0)); // once until ESR is written
    lapic_raise(&cpus[0], 15, false);
    wr(0, LAPIC_ICR, 0x4000f);
    wr(0, LAPIC_ESR, ~0u);
    CHECK_EQ(rd(0, LAPIC_ESR),
             ESR_ILLEGAL_REGISTER | ESR_RECEIVE_ILLEGAL_VECTOR | ESR_SEND_ILLEGAL_VECTOR);
    wr(0, LAPIC_ESR, 0);
    CHECK_EQ(rd(0, LAPIC_ESR), 0);
    wr(0, LAPIC_LVT_ERROR, 0x0f); // an illegal vector for errors must not recurse
    wr(0, LAPIC_ICR, 0x40001);
    wr(0, LAPIC_ESR, 0);
    CHECK_EQ(rd(0, LAPIC_ESR), ESR_RECEIVE_ILLEGAL_VECTOR | ESR_SEND_ILLEGAL_VECTOR);
    static const u8 illegal[] = {0x00, 0x01, 0x04, 0x07, 0x29, 0x2e, 0x3a, 0x3d, 0x3f, 0x40, 0xff};
    for (unsigned i = 0; i < ARRAY_SIZE(illegal); i++) {
        rd(0, illegal[i]);
        wr(0, LAPIC_ESR, 0);
        CHECK(rd(0, LAPIC_ESR) & ESR_ILLEGAL_REGISTER);
    }
}

// --- IPIs ---

static unsigned ipi(unsigned from, u32 low, u32 destination)
{
    wr(from, LAPIC_ICR_HIGH, destination << 24);
    wr(from, LAPIC_ICR, low);
    return take((u8)low);
}

TEST(physical_destinations)
{
    enable_all();
    CHECK_EQ(ipi(0, 0x40a1, 2), 4);
    CHECK_EQ(ipi(0, 0x40a1, 0), 1);
    CHECK_EQ(ipi(0, 0x40a1, 9), 0);
    CHECK_EQ(ipi(0, 0x40a1, 0xff), 0xf);
    CHECK_EQ(ipi(2, 0x400a1, 1), 4); // self
    CHECK_EQ(ipi(2, 0x800a1, 1), 0xf);
    CHECK_EQ(ipi(2, 0xc00a1, 1), 0xb);
    wr(1, LAPIC_SVR, 0xff);
    CHECK_EQ(ipi(2, 0xc00a1, 1), 9);
    CHECK_EQ(rd(2, LAPIC_ICR), 0xc00a1);
    CHECK_EQ(rd(2, LAPIC_ICR_HIGH), 1u << 24);
}

TEST(level_bit_of_ipis_does_not_matter)
{
    enable_all();
    CHECK_EQ(ipi(0, 0x80a1, 1), 2);
    CHECK_EQ(rd(1, LAPIC_TMR + 5), 0);
}

TEST(flat_logical_destinations)
{
    enable_all();
    for (unsigned i = 0; i < CPUS; i++)
        wr(i, LAPIC_LDR, 0x01000000u << i);
    CHECK_EQ(ipi(0, 0x48a2, 0x0a), 0xa);
    CHECK_EQ(ipi(0, 0x48a2, 0xf0), 0);
    CHECK_EQ(ipi(0, 0x48a2, 0xff), 0xf);
}

TEST(cluster_logical_destinations)
{
    enable_all();
    for (unsigned i = 0; i < CPUS; i++) {
        wr(i, LAPIC_DFR, 0);
        wr(i, LAPIC_LDR, (i / 2 << 4 | 1u << i % 2) << 24);
    }
    CHECK_EQ(ipi(0, 0x48a3, 0x03), 3);
    CHECK_EQ(ipi(0, 0x48a3, 0x12), 8);
    CHECK_EQ(ipi(0, 0x48a3, 0x2f), 0);
    CHECK_EQ(ipi(0, 0x48a3, 0xff), 0xf);
    wr(3, LAPIC_DFR, 0x50000000); // no model
    CHECK_EQ(ipi(0, 0x48a3, 0x12), 0);
}

TEST(x2apic_destinations)
{
    x2apic_all();
    CHECK(wrx(0, LAPIC_ICR, 0x2000000b1ull));
    CHECK_EQ(take(0xb1), 4);
    CHECK(wrx(0, LAPIC_ICR, 0xffffffff000000b1ull));
    CHECK_EQ(take(0xb1), 0xf);
    CHECK(wrx(0, LAPIC_ICR, 0xff000000b1ull)); // an id like any other
    CHECK_EQ(take(0xb1), 0);
    CHECK(wrx(0, LAPIC_ICR, 0x9000008b1ull)); // logical, cluster 0
    CHECK_EQ(take(0xb1), 9);
    CHECK(wrx(0, LAPIC_ICR, 0x1000f000008b1ull)); // cluster 1
    CHECK_EQ(take(0xb1), 0);
    CHECK(wrx(0, LAPIC_ICR, 0xffffffff000008b1ull));
    CHECK_EQ(take(0xb1), 0xf);
    CHECK(wrx(3, LAPIC_SELF_IPI, 0xb1));
    CHECK_EQ(take(0xb1), 8);
    CHECK_EQ(rdx(3, LAPIC_ICR), 0);
    CHECK(!wrx(3, LAPIC_SELF_IPI, 0x1b1));
    CHECK_EQ(take(0xb1), 0);
    CHECK(wrx(3, LAPIC_SELF_IPI, 3));
    CHECK(wrx(3, LAPIC_ESR, 0));
    CHECK_EQ(rdx(3, LAPIC_ESR), ESR_SEND_ILLEGAL_VECTOR);
}

TEST(x2apic_cluster_of_high_ids)
{
    static struct lapic far;
    x2apic_all();
    lapic_init(&far, 0x23, false, &bus, &test_clock, &ops);
    bus.count--; // heard[] has no place for it
    CHECK(lapic_msr_write(&far, LAPIC_MSR_BASE, far.base_msr | LAPIC_BASE_EXTD));
    u64 ldr;
    CHECK(lapic_msr_read(&far, LAPIC_MSR(LAPIC_LDR), &ldr));
    CHECK_EQ(ldr, 0x20008);
    struct apic_message m = {.destination = 0x2000c, .logical = true, .x2apic_format = true};
    CHECK(matches(&far, &m));
    m.destination = 0x20004;
    CHECK(!matches(&far, &m));
    m.destination = 0x30008;
    CHECK(!matches(&far, &m));
}

TEST(init_startup_and_nmi)
{
    enable_all();
    ipi(0, 0xc4500, 0); // INIT to the others
    CHECK_EQ(heard[0].init, 0);
    CHECK_EQ(heard[1].init + heard[2].init + heard[3].init, 3);
    ipi(0, 0x8500, 1); // INIT level de-assert
    CHECK_EQ(heard[1].init, 1);
    ipi(0, 0xc500, 1); // assert
    CHECK_EQ(heard[1].init, 2);
    ipi(0, 0x4608, 3); // start-up; vectors below 16 are fine
    CHECK_EQ(heard[3].startup, 1);
    CHECK_EQ(heard[3].page, 8);
    ipi(0, 0x4400, 2);
    CHECK_EQ(heard[2].nmi, 1);
    wr(0, LAPIC_ESR, 0);
    CHECK_EQ(rd(0, LAPIC_ESR), 0);
    CHECK_EQ(heard[2].changed, 0);
}

TEST(invalid_shorthands_send_nothing)
{
    enable_all();
    for (u32 delivery = 1; delivery < 8; delivery++) {
        ipi(0, 0x44050 | delivery << 8, 1);
        ipi(0, 0x84050 | delivery << 8, 1);
    }
    ipi(0, 0x4350, 1);
    ipi(0, 0x4750, 1);
    ipi(0, 0xc4750, 1);
    for (unsigned i = 0; i < CPUS; i++) {
        CHECK_EQ(heard[i].changed + heard[i].nmi + heard[i].init, 0);
        CHECK_EQ(heard[i].startup + heard[i].extint, 0);
    }
}

TEST(lowest_priority_goes_round_among_equals)
{
    enable_all();
    unsigned hits[16] = {0};
    for (unsigned i = 0; i < 40; i++)
        hits[ipi(0, 0x41c1, 0xff)]++;
    CHECK(hits[1] == 10 && hits[2] == 10 && hits[4] == 10 && hits[8] == 10);
    wr(0, LAPIC_TPR, 0x20);
    wr(1, LAPIC_TPR, 0x10);
    wr(2, LAPIC_TPR, 0x30);
    wr(3, LAPIC_TPR, 0x10);
    CHECK_EQ(ipi(0, 0x41c1, 0xff) | ipi(0, 0x41c1, 0xff), 0xa);
    wr(1, LAPIC_SVR, 0xff); // out of the arbitration
    CHECK_EQ(ipi(0, 0x41c1, 0xff) | ipi(0, 0x41c1, 0xff), 8);
    CHECK_EQ(ipi(3, 0xc41c1, 0), 1); // the others
    CHECK_EQ(ipi(0, 0x41c1, 7), 0);
    bus.lowest_next = ~0u;
    CHECK_EQ(ipi(0, 0x41c1, 0xff), 8);
}

TEST(msi)
{
    enable_all();
    apic_bus_msi(&bus, 0xfee02000, 0x4071);
    CHECK_EQ(take(0x71), 4);
    apic_bus_msi(&bus, 0xfeeff000, 0x71);
    CHECK_EQ(take(0x71), 0xf);
    for (unsigned i = 0; i < CPUS; i++)
        wr(i, LAPIC_LDR, 0x01000000u << i);
    apic_bus_msi(&bus, 0xfee0c004, 0x71);
    CHECK_EQ(take(0x71), 0xc);
    apic_bus_msi(&bus, 0xfee0c00c, 0x71); // redirection hint
    unsigned one = take(0x71);
    CHECK(one == 4 || one == 8);
    apic_bus_msi(&bus, 0xfee01000, 0xc071);
    CHECK(vector_test(cpus[1].tmr, 0x71));
    take(0x71);
    apic_bus_msi(&bus, 0xfee01000, 0x8071); // level de-assert
    apic_bus_msi(&bus, 0xfed01000, 0x71);
    apic_bus_msi(&bus, 0x1fee01000, 0x71);
    CHECK_EQ(take(0x71), 0);
    apic_bus_msi(&bus, 0xfee01000, 0x400);
    CHECK_EQ(heard[1].nmi, 1);
}

// --- LINT0 ---

TEST(virtual_wire)
{
    setup();
    lapic_virtual_wire(&cpus[0]);
    CHECK_EQ(rd(0, LAPIC_SVR), 0x1ff);
    CHECK_EQ(rd(0, LAPIC_LVT_LINT0), 0x700);
    CHECK_EQ(rd(0, LAPIC_LVT_LINT1), 0x400);
    CHECK(lapic_takes_pic(&cpus[0]));
    lapic_lint0(&cpus[0], true);
    lapic_lint0(&cpus[0], true);
    CHECK_EQ(heard[0].extint, 1);
    wr(0, LAPIC_LVT_LINT0, 0x10700);
    CHECK(!lapic_takes_pic(&cpus[0]));
    wr(0, LAPIC_LVT_LINT0, 0x700); // up already
    CHECK_EQ(heard[0].extint, 2);
    wr(0, LAPIC_LVT_LINT0, 0x10700);
    lapic_lint0(&cpus[0], false);
    lapic_lint0(&cpus[0], true);
    CHECK_EQ(heard[0].extint, 2);
}

TEST(lint0_fixed_edge_and_level)
{
    enable_all();
    wr(0, LAPIC_LVT_LINT0, 0x90);
    lapic_lint0(&cpus[0], true);
    CHECK(in_irr(0, 0x90));
    take(0x90);
    lapic_lint0(&cpus[0], true);
    CHECK(!in_irr(0, 0x90));
    wr(0, LAPIC_LVT_LINT0, 0x8091); // level, and up already
    CHECK(in_irr(0, 0x91));
    CHECK_EQ(rd(0, LAPIC_LVT_LINT0), 0xc091);
    lapic_accept(&cpus[0], 0x91);
    lapic_eoi(&cpus[0]);
    CHECK_EQ(lapic_pending(&cpus[0]), 0x91); // still up
    lapic_lint0(&cpus[0], false);
    lapic_accept(&cpus[0], 0x91);
    lapic_eoi(&cpus[0]);
    CHECK_EQ(lapic_pending(&cpus[0]), -1);
    CHECK_EQ(rd(0, LAPIC_LVT_LINT0), 0x8091);
    wr(0, LAPIC_LVT_LINT0, 0x400);
    lapic_lint0(&cpus[0], true);
    CHECK_EQ(heard[0].nmi, 1);
}

// --- the timer ---

TEST(one_shot)
{
    enable_all();
    wr(0, LAPIC_LVT_TIMER, 0xec);
    wr(0, LAPIC_TIMER_DIVIDE, 0xb); // by 1
    wr(0, LAPIC_TIMER_INITIAL, 1000);
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 1000);
    u64 start = time_now;
    time_now = start + 3 * 400;
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 600);
    run_at(start + 3 * 1000 - 1);
    CHECK(!in_irr(0, 0xec));
    run_at(start + 3 * 1000 + 1);
    CHECK(in_irr(0, 0xec));
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 0);
    CHECK_EQ(rd(0, LAPIC_TIMER_INITIAL), 1000);
    take(0xec);
    run_at(start + 3 * 9000);
    CHECK(!in_irr(0, 0xec));
    wr(0, LAPIC_TIMER_INITIAL, 1000);
    wr(0, LAPIC_TIMER_INITIAL, 0); // stop
    run_at(time_now + 3 * 9000);
    CHECK(!in_irr(0, 0xec));
}

TEST(divide_configurations)
{
    static const u8 codes[] = {0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa};
    enable_all();
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        wr(0, LAPIC_LVT_TIMER, 0xec);
        wr(0, LAPIC_TIMER_DIVIDE, codes[i]);
        wr(0, LAPIC_TIMER_INITIAL, 1000);
        u64 end = time_now + (3000ull << i);
        run_at(end - 1);
        CHECK_EQ(take(0xec), 0);
        run_at(end + 1);
        CHECK_EQ(take(0xec), 1);
    }
    // A change while it counts keeps the current count.
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    wr(0, LAPIC_TIMER_INITIAL, 1000);
    time_now += 3 * 500;
    wr(0, LAPIC_TIMER_DIVIDE, 0x0);
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 500);
    u64 end = time_now + 3 * 500 * 2;
    run_at(end - 3);
    CHECK_EQ(take(0xec), 0);
    run_at(end + 3);
    CHECK_EQ(take(0xec), 1);
    // The longest: no overflow on the way.
    wr(0, LAPIC_TIMER_DIVIDE, 0xa);
    wr(0, LAPIC_TIMER_INITIAL, ~0u);
    CHECK_EQ(cpus[0].timer.deadline, time_now + 0xffffffffull * 128 * 3 + 1);
}

TEST(periodic_does_not_drift)
{
    enable_all();
    wr(0, LAPIC_LVT_TIMER, 0x200ec);
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    u64 start = time_now;
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    for (u64 i = 1; i <= 1000; i++) {
        run_at(start + i * 300000 - 1);
        CHECK_EQ(take(0xec), 0);
        run_at(start + i * 300000 + 5);
        CHECK_EQ(take(0xec), 1);
        CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 100000 - 1);
    }
    wr(0, LAPIC_LVT_TIMER, 0x300ec); // masked: counts on
    run_at(time_now + 300000);
    CHECK_EQ(take(0xec), 0);
    CHECK(rd(0, LAPIC_TIMER_CURRENT) != 0);
}

TEST(missed_periods_are_one_tick)
{
    enable_all();
    wr(0, LAPIC_LVT_TIMER, 0x200ec);
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    u64 start = time_now;
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    run_at(start + 300000 * 1000 + 150000);
    CHECK_EQ(heard[0].changed, 1);
    CHECK_EQ(take(0xec), 1);
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 50000);
    CHECK_EQ(cpus[0].timer.deadline, start + 300000 * 1001 + 1);
}

TEST(tiny_periods_cannot_flood_the_host)
{
    enable_all();
    wr(0, LAPIC_LVT_TIMER, 0x200ec);
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    wr(0, LAPIC_TIMER_INITIAL, 1);
    unsigned fired = 0;
    u64 end = time_now + CLOCK_HZ / 1000;
    while (test_clock.next <= end) {
        run_at(test_clock.next);
        fired += take(0xec);
    }
    CHECK(fired >= 49 && fired <= 50); // in a millisecond
    CHECK(rd(0, LAPIC_TIMER_CURRENT) <= 1);
}

TEST(timer_mode_changes)
{
    enable_all();
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    wr(0, LAPIC_LVT_TIMER, 0x200ec);
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    run_at(time_now + 300000 * 5 / 2);
    take(0xec);
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 50000);
    wr(0, LAPIC_LVT_TIMER, 0xec); // to one-shot: the count goes on
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 50000);
    run_at(time_now + 150001);
    CHECK_EQ(take(0xec), 1);
    CHECK(!io_timer_armed(&cpus[0].timer));
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    wr(0, LAPIC_LVT_TIMER, 0x400ec); // to TSC deadline: disarmed
    CHECK(!io_timer_armed(&cpus[0].timer));
    CHECK_EQ(rd(0, LAPIC_TIMER_CURRENT), 0);
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    CHECK_EQ(rd(0, LAPIC_TIMER_INITIAL), 0); // ignored in this mode
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, time_now + 100));
    wr(0, LAPIC_LVT_TIMER, 0xec);
    CHECK(!io_timer_armed(&cpus[0].timer));
    u64 value = 1;
    CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, 0);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, time_now + 100)); // ignored in this mode
    CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, 0);
    wr(0, LAPIC_LVT_TIMER, 0x600ec); // reserved
    wr(0, LAPIC_TIMER_INITIAL, 100);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, time_now + 100));
    CHECK(!io_timer_armed(&cpus[0].timer));
}

TEST(one_shot_turned_periodic_goes_on)
{
    enable_all();
    wr(0, LAPIC_TIMER_DIVIDE, 0xb);
    wr(0, LAPIC_LVT_TIMER, 0xec);
    u64 start = time_now;
    wr(0, LAPIC_TIMER_INITIAL, 100000);
    time_now = start + 150000;
    wr(0, LAPIC_LVT_TIMER, 0x200ec);
    for (u64 i = 1; i < 5; i++) {
        run_at(start + i * 300000 - 3);
        CHECK_EQ(take(0xec), 0);
        run_at(start + i * 300000 + 3);
        CHECK_EQ(take(0xec), 1);
    }
}

TEST(tsc_deadline)
{
    x2apic_all();
    CHECK(wrx(0, LAPIC_LVT_TIMER, 0x400ec));
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 5000));
    u64 value;
    CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, 5000);
    CHECK_EQ(test_clock.next, 5000);
    run_at(4999);
    CHECK_EQ(take(0xec), 0);
    run_at(5000);
    CHECK_EQ(take(0xec), 1);
    CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, 0);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 5000)); // now: at once
    CHECK_EQ(take(0xec), 1);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 1)); // in the past: at once
    CHECK_EQ(take(0xec), 1);
    CHECK(!io_timer_armed(&cpus[0].timer));
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 6000));
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 0)); // disarm
    run_at(7000);
    CHECK_EQ(take(0xec), 0);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 8000));
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 7500)); // moves
    run_at(7500);
    CHECK_EQ(take(0xec), 1);
    CHECK(wrx(0, LAPIC_LVT_TIMER, 0x500ec)); // masked: expires in silence
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 7501));
    run_at(7501);
    CHECK_EQ(take(0xec), 0);
}

TEST(tsc_deadline_follows_the_vcpus_tsc)
{
    x2apic_all();
    CHECK(wrx(0, LAPIC_LVT_TIMER, 0x400ec));
    lapic_set_tsc_adjust(&cpus[0], 1000000);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, 1005000));
    CHECK_EQ(cpus[0].timer.deadline, 5000);
    lapic_set_tsc_adjust(&cpus[0], 1001000);
    CHECK_EQ(cpus[0].timer.deadline, 4000);
    lapic_set_tsc_adjust(&cpus[0], 0 - 500ull); // behind the clock
    CHECK_EQ(cpus[0].timer.deadline, 1005500);
    lapic_set_tsc_adjust(&cpus[0], 2000000); // past now
    CHECK_EQ(take(0xec), 1);
    lapic_set_tsc_adjust(&cpus[0], 0);
    CHECK(wrm(0, LAPIC_MSR_TSC_DEADLINE, ~0ull)); // never, but kept
    CHECK(!io_timer_armed(&cpus[0].timer));
    u64 value;
    CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, ~0ull);
    lapic_set_tsc_adjust(&cpus[0], 0 - 500ull); // beyond the clock's end
    CHECK(!io_timer_armed(&cpus[0].timer));
}

TEST(an_illegal_timer_vector_is_an_error)
{
    enable_all();
    wr(0, LAPIC_LVT_TIMER, 0x0c);
    wr(0, LAPIC_TIMER_INITIAL, 10);
    run_at(time_now + 1000);
    wr(0, LAPIC_ESR, 0);
    CHECK_EQ(rd(0, LAPIC_ESR), ESR_RECEIVE_ILLEGAL_VECTOR);
}

// --- the random walk ---

static void check_invariants(const struct lapic *lapic)
{
    for (unsigned w = 0; w < 8; w++) {
        CHECK_EQ(lapic->irr_words >> w & 1, lapic->irr[w] != 0);
        CHECK_EQ(lapic->isr_words >> w & 1, lapic->isr[w] != 0);
    }
    CHECK_EQ(lapic->irr[0] & 0xffff, 0);
    int highest = -1, in_service = 0;
    for (unsigned v = 0; v < 256; v++) {
        highest = vector_test(lapic->irr, (u8)v) ? (int)v : highest;
        in_service = vector_test(lapic->isr, (u8)v) ? (int)v : in_service;
    }
    u32 ppr = (u32)in_service & 0xf0;
    ppr = (lapic->tpr & 0xf0) >= ppr ? lapic->tpr : ppr;
    CHECK_EQ(lapic->ppr, ppr);
    CHECK_EQ(lapic_pending(lapic), (highest & 0xf0) > (int)(ppr & 0xf0) ? highest : -1);
    u64 mode = lapic->base_msr & LAPIC_BASE_MODE;
    CHECK(mode != LAPIC_BASE_EXTD);
    if (mode == 0)
        CHECK(lapic->irr_words == 0 && !io_timer_armed(&lapic->timer));
    for (unsigned i = 0; i < 7; i++)
        CHECK((lapic->svr & SVR_ENABLE) || (lapic->lvt[i] & LVT_MASKED));
}

static u64 random_value(void)
{
    u64 value = (u64)rand() << 33 ^ (u64)rand() << 16 ^ (u64)rand();
    switch (rand() % 4) {
    case 0:
        return value;
    case 1:
        return value & 0xfffff;
    case 2:
        return value & 0xff;
    default:
        return 0;
    }
}

static void random_base(unsigned cpu)
{
    static const u64 modes[] = {0, LAPIC_BASE_EN, LAPIC_BASE_EN, LAPIC_BASE_MODE, LAPIC_BASE_EXTD};
    bool ok = wrm(cpu, LAPIC_MSR_BASE, LAPIC_BASE_DEFAULT | modes[rand() % 5]);
    if (ok && lapic_is_enabled(&cpus[cpu]) && lapic_is_xapic(&cpus[cpu]))
        wr(cpu, LAPIC_SVR, 0x1ff);
}

static void random_step(unsigned cpu)
{
    struct lapic *lapic = &cpus[cpu];
    unsigned size = 1u << rand() % 4;
    u64 value, offset = (u64)(rand() % 80) * (rand() % 8 ? 16 : 4);
    u32 msr = LAPIC_MSR_X2APIC + (u32)rand() % 70;
    int vector;
    switch (rand() % 12) {
    case 0:
    case 1:
    case 2:
        lapic->mmio.ops->write(&lapic->mmio, offset, rand() % 4 ? 4 : size, random_value());
        break;
    case 3:
        CHECK_EQ(lapic->mmio.ops->read(&lapic->mmio, offset, 4) >> 32, 0);
        break;
    case 4:
    case 5:
        (void)!lapic_msr_write(lapic, msr, random_value());
        break;
    case 6:
        (void)!lapic_msr_read(lapic, msr, &value);
        break;
    case 7:
        (void)!lapic_msr_write(lapic, LAPIC_MSR_TSC_DEADLINE, time_now + random_value());
        break;
    case 8:
        run_at(time_now + (random_value() & 0xffffff));
        break;
    case 9:
        vector = lapic_pending(lapic);
        if (vector >= 0)
            lapic_accept(lapic, (u8)vector);
        else
            lapic_eoi(lapic);
        break;
    case 10:
        apic_bus_msi(&bus, 0xfee00000 | (random_value() & 0xfffff), (u32)random_value());
        lapic_lint0(lapic, rand() % 2);
        break;
    default:
        if (rand() % 50 == 0)
            random_base(cpu);
        else if (rand() % 200 == 0)
            lapic_init_signal(lapic);
        else if (rand() % 50 == 0)
            lapic_set_tsc_adjust(lapic, random_value() - (1 << 20));
        else
            lapic_cr8_write(lapic, (u64)rand() % 4);
    }
}

TEST(random_walk)
{
    enable_all();
    srand(5);
    unsigned x2apic_steps = 0;
    for (unsigned step = 0; step < 1000000 && !test_failed; step++) {
        unsigned cpu = (unsigned)rand() % CPUS;
        random_step(cpu);
        if (step % 8 == 0)
            check_invariants(&cpus[rand() % CPUS]);
        check_invariants(&cpus[cpu]);
        x2apic_steps += lapic_is_x2apic(&cpus[cpu]);
    }
    CHECK(x2apic_steps > 100000 && x2apic_steps < 900000);
    CHECK(heard[0].changed > 1000 && heard[0].nmi && heard[0].init && heard[0].startup);
}
