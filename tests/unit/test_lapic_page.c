// SPDX-License-Identifier: MIT
// The local APIC with a page for the hardware, which the tests play.
#include "tests/unit/lapic_rig.h"

static u32 page[1024];

static u32 *in_page(unsigned reg)
{
    return &page[reg * 4];
}

static void setup_page(void)
{
    setup();
    memset(page, 0, sizeof(page));
    lapic_page_attach(&cpus[0], page);
    wr(0, LAPIC_SVR, SVR_ENABLE | 0xff);
}

static bool push(u8 *requested, u8 *in_service)
{
    *requested = *in_service = 0xee;
    return lapic_page_push(&cpus[0], requested, in_service);
}

// As the CPU does.
static void hardware_deliver(u8 vector)
{
    *in_page(LAPIC_IRR + vector / 32) &= ~(1u << vector % 32);
    *in_page(LAPIC_ISR + vector / 32) |= 1u << vector % 32;
    *in_page(LAPIC_PPR) = vector & LAPIC_PRIORITY_CLASS;
}

TEST(the_page_has_a_copy_of_what_reads_give)
{
    setup_page();
    for (unsigned mode = 0; mode < 2; mode++) {
        for (unsigned reg = 0; reg < LAPIC_REGISTERS; reg++) {
            u64 value;
            if (mode ? !lapic_page_serves(reg) : !(rules[reg].access & XAPIC_R))
                continue;
            if (rules[reg].access & (LIVE | IN_PAGE))
                continue;
            if (mode) {
                CHECK(lapic_msr_read(&cpus[0], LAPIC_MSR(reg), &value));
                CHECK_EQ(*in_page(reg), (u32)value);
            } else {
                CHECK_EQ(*in_page(reg), rd(0, reg));
            }
        }
        wrm(0, LAPIC_MSR_BASE, LAPIC_BASE_DEFAULT | LAPIC_BASE_MODE);
    }
    CHECK(!lapic_page_serves(LAPIC_TIMER_CURRENT));
    CHECK(!lapic_page_serves(LAPIC_EOI));
    CHECK(!lapic_page_serves(LAPIC_SELF_IPI));
    CHECK(!lapic_page_serves(0x100));
    CHECK(wrx(0, LAPIC_ICR, 5ull << 32 | 0x4041));
    CHECK_EQ(in_page(LAPIC_ICR)[0], 0x4041);
    CHECK_EQ(in_page(LAPIC_ICR)[1], 5);
    // Software-disabling masks what was not.
    CHECK(wrx(0, LAPIC_LVT_ERROR, 0x33));
    CHECK_EQ(*in_page(LAPIC_LVT_ERROR), 0x33);
    CHECK(wrx(0, LAPIC_SVR, 0xff));
    CHECK_EQ(*in_page(LAPIC_LVT_ERROR), LVT_MASKED | 0x33);
}

TEST(what_is_raised_while_the_guest_runs_waits_beside_the_page)
{
    u8 requested, in_service;
    setup_page();
    CHECK(push(&requested, &in_service));
    CHECK_EQ(requested, 0);
    CHECK_EQ(in_service, 0);
    CHECK(!push(&requested, &in_service));
    heard[0].changed = 0;
    lapic_raise(&cpus[0], 0x20, false); // even one that priorities hold back
    CHECK_EQ(heard[0].changed, 1);
    CHECK_EQ(*in_page(LAPIC_IRR + 1), 0);
    lapic_raise(&cpus[0], 0x45, true);
    CHECK(push(&requested, &in_service));
    CHECK_EQ(requested, 0x45);
    CHECK_EQ(*in_page(LAPIC_IRR + 1), 1);
    CHECK_EQ(*in_page(LAPIC_TMR + 2), 1u << 5);
    hardware_deliver(0x45);
    lapic_raise(&cpus[0], 0x31, false);
    CHECK(push(&requested, &in_service));
    CHECK(!push(&(u8){0}, &(u8){0})); // no more
    CHECK_EQ(requested, 0x31);
    CHECK_EQ(in_service, 0x45);
}

TEST(software_finds_what_the_hardware_left)
{
    u8 requested, in_service;
    setup_page();
    lapic_raise(&cpus[0], 0x45, true);
    CHECK(push(&requested, &in_service));
    hardware_deliver(0x45);
    *in_page(LAPIC_TPR) = 0x32;
    lapic_raise(&cpus[0], 0x51, false);
    CHECK_EQ(rd(0, LAPIC_TPR), 0x32);
    CHECK_EQ(rd(0, LAPIC_PPR), 0x40);
    CHECK_EQ(rd(0, LAPIC_ISR + 2), 1u << 5);
    CHECK_EQ(rd(0, LAPIC_IRR + 2), 1u << 17);
    CHECK(!cpus[0].in_page);
    CHECK_EQ(lapic_pending(&cpus[0]), 0x51);
    wr(0, LAPIC_EOI, 0);
    CHECK_EQ(eoi_vector, 0x45);
    CHECK(push(&requested, &in_service));
    CHECK_EQ(requested, 0x51);
    CHECK_EQ(in_service, 0);
    CHECK_EQ(*in_page(LAPIC_TPR), 0x32);
}

TEST(a_lower_tpr_lets_through_what_is_in_the_page)
{
    u8 requested, in_service;
    setup_page();
    wr(0, LAPIC_TPR, 0x80);
    lapic_raise(&cpus[0], 0x71, false);
    CHECK(push(&requested, &in_service));
    heard[0].changed = 0;
    lapic_tpr_write(&cpus[0], 0x20);
    CHECK(heard[0].changed > 0);
    CHECK_EQ(lapic_pending(&cpus[0]), 0x71);
}

TEST(the_high_half_of_icr_goes_out_of_the_page_and_back)
{
    u8 requested, in_service;
    setup_page();
    wr(0, LAPIC_ICR_HIGH, 3u << 24);
    CHECK(push(&requested, &in_service));
    CHECK_EQ(*in_page(LAPIC_ICR_HIGH), 3u << 24);
    *in_page(LAPIC_ICR_HIGH) = 5u << 24; // the guest, without an exit
    CHECK_EQ(rd(0, LAPIC_ICR_HIGH), 5u << 24);
    CHECK(!cpus[0].in_page);
    CHECK(push(&requested, &in_service));
    CHECK_EQ(*in_page(LAPIC_ICR_HIGH), 5u << 24);
}

TEST(a_write_into_the_page_acts_as_one_that_exits)
{
    setup_page();
    u8 requested, in_service;
    CHECK(push(&requested, &in_service));
    *in_page(LAPIC_ICR_HIGH) = 1u << 24; // no exit tells of it
    *in_page(LAPIC_ICR) = 0xfff00000 | ICR_ASSERT | 0x61;
    wr(1, LAPIC_SVR, SVR_ENABLE | 0xff);
    lapic_page_written(&cpus[0], LAPIC_OFFSET(LAPIC_ICR));
    CHECK_EQ(lapic_pending(&cpus[1]), 0x61);
    CHECK_EQ(*in_page(LAPIC_ICR), ICR_ASSERT | 0x61);
    *in_page(LAPIC_ID) = 0x77000000; // read-only
    lapic_page_written(&cpus[0], LAPIC_OFFSET(LAPIC_ID));
    CHECK_EQ(*in_page(LAPIC_ID), 0);
    *in_page(LAPIC_LVT_ERROR) = 0x1200;
    lapic_page_written(&cpus[0], LAPIC_OFFSET(LAPIC_LVT_ERROR) + 1); // no register begins there
    CHECK_EQ(*in_page(LAPIC_LVT_ERROR), LVT_MASKED);
    lapic_page_written(&cpus[0], 0xfff);
    CHECK(cpus[0].in_page);
}

TEST(an_illegal_self_ipi_is_an_error_with_a_page_too)
{
    setup_page();
    wrm(0, LAPIC_MSR_BASE, LAPIC_BASE_DEFAULT | LAPIC_BASE_MODE);
    *in_page(LAPIC_SELF_IPI) = 3;
    lapic_page_written(&cpus[0], LAPIC_OFFSET(LAPIC_SELF_IPI));
    CHECK(wrx(0, LAPIC_ESR, 0));
    CHECK_EQ(*in_page(LAPIC_ESR), ESR_SEND_ILLEGAL_VECTOR);
}

TEST(the_end_of_a_level_interrupt_reaches_the_ioapic_from_the_hardware)
{
    u8 requested, in_service;
    setup_page();
    lapic_raise(&cpus[0], 0x45, true);
    lapic_raise(&cpus[0], 0x46, false);
    CHECK(push(&requested, &in_service));
    lapic_page_eoi(&cpus[0], 0x46);
    CHECK_EQ(eoi_count, 0);
    lapic_page_eoi(&cpus[0], 0x45);
    CHECK_EQ(eoi_count, 1);
    CHECK_EQ(eoi_vector, 0x45);
    lapic_raise(&cpus[0], 0x60, true);
    CHECK(push(&requested, &in_service));
    lapic_page_eoi(&cpus[0], 0x60);
    CHECK_EQ(eoi_vector, 0x60);
}

TEST(the_page_is_for_an_apic_that_takes_interrupts)
{
    setup_page();
    CHECK_EQ(lapic_page_mode(&cpus[0]), LAPIC_PAGE_XAPIC);
    heard[0].mode = 0;
    wr(0, LAPIC_SVR, 0xff);
    CHECK_EQ(heard[0].mode, 1);
    CHECK_EQ(lapic_page_mode(&cpus[0]), LAPIC_PAGE_UNUSED);
    wr(0, LAPIC_SVR, SVR_ENABLE);
    CHECK(wrm(0, LAPIC_MSR_BASE, 0x12340000 | LAPIC_BASE_EN | LAPIC_BASE_BSP));
    CHECK_EQ(lapic_page_mode(&cpus[0]), LAPIC_PAGE_UNUSED);
    CHECK(wrm(0, LAPIC_MSR_BASE, 0x12340000 | LAPIC_BASE_MODE));
    CHECK_EQ(lapic_page_mode(&cpus[0]), LAPIC_PAGE_X2APIC);
    CHECK(wrm(0, LAPIC_MSR_BASE, LAPIC_BASE_DEFAULT));
    CHECK_EQ(lapic_page_mode(&cpus[0]), LAPIC_PAGE_UNUSED);
    CHECK_EQ(heard[0].mode, 6); // the last one resets as well
}

TEST(an_init_forgets_what_was_in_the_page)
{
    u8 requested, in_service;
    setup_page();
    lapic_raise(&cpus[0], 0x45, true);
    CHECK(push(&requested, &in_service));
    hardware_deliver(0x45);
    lapic_init_signal(&cpus[0]);
    CHECK(push(&requested, &in_service));
    CHECK_EQ(requested, 0);
    CHECK_EQ(in_service, 0);
    CHECK_EQ(*in_page(LAPIC_ISR + 2), 0);
    CHECK_EQ(*in_page(LAPIC_TMR + 2), 0);
}

// --- TPR alone is the hardware's ---

static u32 shadow;

// The guest's MOV CR8.
static bool cr8_set(u32 value)
{
    bool exits = value < lapic_tpr_threshold(&cpus[0]);
    shadow = value << LAPIC_CLASS_SHIFT;
    return exits;
}

static void fresh_shadow(void)
{
    enable_all();
    lapic_tpr_write(&cpus[0], 0x25);
    lapic_tpr_attach(&cpus[0], &shadow);
}

TEST(a_shadow_begins_as_tpr_was_and_ends_so)
{
    fresh_shadow();
    CHECK_EQ(shadow, 0x25);
    cr8_set(9);
    CHECK_EQ(rd(0, LAPIC_TPR), 0x90);
    CHECK_EQ(rd(0, LAPIC_PPR), 0x90);
    CHECK_EQ(lapic_cr8_read(&cpus[0]), 9);
    lapic_tpr_attach(&cpus[0], NULL);
    CHECK_EQ(cpus[0].tpr, 0x90);
    lapic_tpr_attach(&cpus[0], &shadow);
    lapic_init_signal(&cpus[0]);
    CHECK_EQ(shadow, 0);
}

TEST(a_lower_cr8_exits_only_if_it_lets_an_interrupt_through)
{
    fresh_shadow();
    CHECK_EQ(lapic_tpr_threshold(&cpus[0]), 0);
    cr8_set(9);
    heard[0].changed = 0;
    lapic_raise(&cpus[0], 0x71, false);
    CHECK_EQ(heard[0].changed, 1); // for the threshold
    CHECK_EQ(lapic_pending(&cpus[0]), -1);
    CHECK_EQ(lapic_tpr_threshold(&cpus[0]), 7);
    CHECK(!cr8_set(15));
    CHECK(!cr8_set(7));
    CHECK_EQ(lapic_pending(&cpus[0]), -1);
    CHECK(cr8_set(6));
    CHECK_EQ(lapic_pending(&cpus[0]), 0x71);
    CHECK_EQ(lapic_tpr_threshold(&cpus[0]), 0); // it is not CR8 that it waits for
}

TEST(what_waited_for_an_eoi_and_waits_for_cr8_now_is_heard_of)
{
    fresh_shadow();
    cr8_set(0);
    lapic_raise(&cpus[0], 0x71, false);
    lapic_accept(&cpus[0], 0x71);
    heard[0].changed = 0;
    lapic_raise(&cpus[0], 0x61, false);
    CHECK_EQ(heard[0].changed, 0);
    cr8_set(8); // unheard
    lapic_eoi(&cpus[0]);
    CHECK_EQ(lapic_pending(&cpus[0]), -1);
    CHECK_EQ(heard[0].changed, 1);
    CHECK_EQ(lapic_tpr_threshold(&cpus[0]), 6);
}

// The entry checks refuse a threshold above TPR. What is in service holds the request off too, so
// nobody would hear of the write.
TEST(no_threshold_outlives_a_lower_tpr)
{
    fresh_shadow();
    cr8_set(0);
    lapic_raise(&cpus[0], 0x71, false);
    lapic_accept(&cpus[0], 0x71);
    lapic_raise(&cpus[0], 0x61, false);
    cr8_set(8);
    unsigned threshold = lapic_tpr_threshold(&cpus[0]);
    heard[0].changed = 0;
    wr(0, LAPIC_TPR, 0);
    CHECK(heard[0].changed || threshold == 0);
    lapic_eoi(&cpus[0]);
    CHECK_EQ(heard[0].changed, 1);
    CHECK_EQ(lapic_pending(&cpus[0]), 0x61);
}

TEST(a_tpr_that_software_lowers_is_heard_of)
{
    fresh_shadow();
    cr8_set(9);
    lapic_raise(&cpus[0], 0x71, false);
    heard[0].changed = 0;
    wr(0, LAPIC_TPR, 0x30);
    CHECK_EQ(shadow, 0x30);
    CHECK_EQ(heard[0].changed, 1);
    CHECK_EQ(lapic_pending(&cpus[0]), 0x71);
    CHECK_EQ(lapic_tpr_threshold(&cpus[0]), 0);
}

// As the run loop does before an entry; what it was told then holds until the next time.
static unsigned threshold;

static void attend(void)
{
    int vector = lapic_pending(&cpus[0]);
    if (vector >= 0)
        lapic_accept(&cpus[0], (u8)vector);
    threshold = lapic_tpr_threshold(&cpus[0]);
    heard[0].changed = 0;
}

static bool random_step(void)
{
    u32 class = (u32)rand() % 16;
    switch (rand() % 5) {
    case 0:
        shadow = class << LAPIC_CLASS_SHIFT; // MOV CR8
        return class < threshold;
    case 1:
        wr(0, LAPIC_TPR, (u32)rand() & 0xff);
        return false;
    case 2:
        wr(0, LAPIC_EOI, 0);
        return false;
    case 3:
        lapic_raise(&cpus[0], (u8)(class << LAPIC_CLASS_SHIFT | 0x10 | (u32)rand() % 16), false);
        return false;
    default:
        return true; // it looks for another reason
    }
}

TEST(a_random_walk_loses_no_interrupt_and_never_breaks_the_entry_checks)
{
    fresh_shadow();
    attend();
    for (unsigned i = 0; i < 200000; i++) {
        bool exits = random_step();
        if (exits || heard[0].changed)
            attend();
        CHECK(threshold <= lapic_cr8_read(&cpus[0]));
        CHECK_EQ(lapic_pending(&cpus[0]), -1);
    }
}

// --- posted interrupts ---

static struct posted_interrupts posted;

static void setup_posted(void)
{
    setup_page();
    posted = (struct posted_interrupts){.requests = {0}};
    lapic_posted_attach(&cpus[0], &posted);
    heard[0] = (struct heard){0};
}

// As the CPU does on a notification, in the guest.
static void hardware_takes_posted(void)
{
    u32 requests[8] = {0};
    CHECK(posted_take(&posted, requests));
    for (unsigned i = 0; i < 8; i++)
        *in_page(LAPIC_IRR + i) |= requests[i];
}

TEST(an_edge_that_comes_while_the_guest_runs_is_posted)
{
    u8 requested, in_service;
    setup_posted();
    lapic_raise(&cpus[0], 0x30, false); // the guest does not run yet
    CHECK_EQ(heard[0].posted, 0);
    CHECK(push(&requested, &in_service));
    CHECK_EQ(requested, 0x30);
    lapic_raise(&cpus[0], 0x52, false);
    CHECK_EQ(heard[0].posted, 1);
    lapic_raise(&cpus[0], 0x63, false); // the first notification is not taken yet
    CHECK_EQ(heard[0].posted, 1);
    CHECK_EQ(*in_page(LAPIC_IRR + 3), 0); // which nobody but the hardware writes
    hardware_takes_posted();
    CHECK_EQ(*in_page(LAPIC_IRR + 3), 1u << 3);
    CHECK(!push(&requested, &in_service)); // nothing is left for it
    lapic_raise(&cpus[0], 0x74, false);
    CHECK_EQ(heard[0].posted, 2);
    CHECK(push(&requested, &in_service)); // here before the hardware
    CHECK_EQ(requested, 0x74);
    CHECK_EQ(*in_page(LAPIC_IRR + 2), 1u << 18);
    lapic_raise(&cpus[0], 0x75, false);
    CHECK_EQ(heard[0].posted, 3);
}

TEST(a_level_is_never_posted)
{
    u8 requested, in_service;
    setup_posted();
    CHECK(push(&requested, &in_service));
    heard[0].changed = 0;
    lapic_raise(&cpus[0], 0x45, true);
    CHECK_EQ(heard[0].posted, 0);
    CHECK_EQ(heard[0].changed, 1);
    CHECK(push(&requested, &in_service));
    CHECK_EQ(requested, 0x45);
}

TEST(the_first_edge_after_a_level_is_not_posted)
{
    u8 requested, in_service;
    setup_posted();
    lapic_raise(&cpus[0], 0x45, true);
    CHECK(push(&requested, &in_service));
    CHECK_EQ(*in_page(LAPIC_TMR + 2), 1u << 5);
    hardware_deliver(0x45);
    lapic_raise(&cpus[0], 0x45, false);
    lapic_raise(&cpus[0], 0x45, false); // nor another one, while the page has its TMR set
    CHECK_EQ(heard[0].posted, 0);
    CHECK(push(&requested, &in_service));
    CHECK_EQ(requested, 0x45);
    CHECK_EQ(*in_page(LAPIC_TMR + 2), 0);
    lapic_raise(&cpus[0], 0x45, false);
    CHECK_EQ(heard[0].posted, 1);
}

TEST(software_finds_what_was_posted)
{
    u8 requested, in_service;
    setup_posted();
    CHECK(push(&requested, &in_service));
    lapic_raise(&cpus[0], 0x52, false);
    CHECK_EQ(rd(0, LAPIC_IRR + 2), 1u << 18);
    CHECK_EQ(lapic_pending(&cpus[0]), 0x52);
    CHECK(push(&requested, &in_service));
    CHECK_EQ(requested, 0x52);
}

TEST(init_drops_what_was_posted)
{
    u8 requested, in_service;
    setup_posted();
    CHECK(push(&requested, &in_service));
    lapic_raise(&cpus[0], 0x52, false);
    lapic_init_signal(&cpus[0]);
    wr(0, LAPIC_SVR, SVR_ENABLE | 0xff);
    CHECK(push(&requested, &in_service));
    CHECK_EQ(requested, 0);
    lapic_raise(&cpus[0], 0x52, false);
    CHECK_EQ(heard[0].posted, 2); // notified anew
}
