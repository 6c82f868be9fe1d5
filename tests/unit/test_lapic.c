// SPDX-License-Identifier: MIT
// A guest's local APIC as the SDM's chapter has it: its modes, registers, priorities and errors;
// and a random walk of four APICs against invariants.
#include "tests/unit/lapic_rig.h"

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

TEST(what_is_requested_already_is_no_news)
{
    enable_all();
    heard[0].changed = 0;
    lapic_raise(&cpus[0], 0xe0, false);
    lapic_raise(&cpus[0], 0xe0, false);
    CHECK_EQ(heard[0].changed, 1);
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
    ppr = (lapic_tpr(lapic) & 0xf0) >= ppr ? lapic_tpr(lapic) : ppr;
    CHECK_EQ(lapic_ppr(lapic), ppr);
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
