// SPDX-License-Identifier: MIT
// The local APICs of a guest: interrupts between them, from devices, and by LINT0.
#include "tests/unit/lapic_rig.h"

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
