// SPDX-License-Identifier: MIT
// A local APIC of which the hardware does a part, by a page in the layout of the xAPIC page (Intel
// SDM volume 3, "APIC Virtualization and Virtual Interrupts").
//
// Two kinds of registers. Most are struct lapic's, and the page has a copy for reads, which
// lapic_mirror() makes after each write. ISR, IRR and the high half of ICR are in one place at
// a time: in the page while the guest runs (in_page), else in struct lapic, where the same code as
// without a page works on them. TPR is always in the page. lapic_page_push() and lapic_page_pull()
// carry them; struct lapic's irr takes what other CPUs raise meanwhile, for nobody but the hardware
// may write the page then. Where the CPU takes posted interrupts, edge-triggered ones wait in their
// descriptor instead, from which it moves them into the page, or the next push or pull does.
#include "io/lapic_regs.h"
#include "io/posted_interrupts.h"
#include "vmm/lib/bits.h"

#define VECTOR_WORDS 8

void lapic_page_attach(struct lapic *lapic, u32 *page)
{
    lapic->page = page;
    lapic->in_page = false;
    lapic_tpr_attach(lapic, page ? lapic_page_register(lapic, LAPIC_TPR) : NULL);
    lapic_mirror_all(lapic);
}

void lapic_posted_attach(struct lapic *lapic, struct posted_interrupts *posted)
{
    lapic->posted = posted;
}

bool lapic_page_post(struct lapic *lapic, u8 vector)
{
    if (!lapic->in_page)
        return false;
    if (posted_add(lapic->posted, vector))
        lapic->ops->posted(lapic);
    return true;
}

static void posted_to_irr(struct lapic *lapic)
{
    if (!lapic->posted || !posted_take(lapic->posted, lapic->irr))
        return;
    for (unsigned i = 0; i < VECTOR_WORDS; i++)
        lapic->irr_words |= lapic->irr[i] ? 1u << i : 0;
}

void lapic_posted_drop(struct lapic *lapic)
{
    u32 none[VECTOR_WORDS] = {0};
    if (lapic->posted)
        posted_take(lapic->posted, none);
}

// While the APIC is disabled by software it must not take interrupts, which the hardware would.
enum lapic_page_mode lapic_page_mode(const struct lapic *lapic)
{
    if (!lapic_is_software_enabled(lapic))
        return LAPIC_PAGE_UNUSED;
    if (lapic_is_x2apic(lapic))
        return LAPIC_PAGE_X2APIC;
    u64 base = lapic->base_msr & ~(u64)(LAPIC_BASE_BSP | LAPIC_BASE_EN);
    return lapic_is_xapic(lapic) && base == LAPIC_BASE_DEFAULT ? LAPIC_PAGE_XAPIC
                                                               : LAPIC_PAGE_UNUSED;
}

// The words of a 256-bit register lie 16 bytes apart.
static u32 *page_word(const struct lapic *lapic, unsigned reg, unsigned word)
{
    return lapic_page_register(lapic, reg + word);
}

static u8 page_highest(const struct lapic *lapic, unsigned reg)
{
    for (unsigned i = VECTOR_WORDS; i-- > 0;) {
        u32 bits = *page_word(lapic, reg, i);
        if (bits)
            return (u8)(i * 32 + bit_highest(bits));
    }
    return 0;
}

static void move_in(struct lapic *lapic)
{
    *lapic_page_register(lapic, LAPIC_PPR) = lapic_ppr(lapic);
    *lapic_page_register(lapic, LAPIC_ICR_HIGH) = lapic->icr_high;
    for (unsigned i = 0; i < VECTOR_WORDS; i++) {
        *page_word(lapic, LAPIC_ISR, i) = lapic->isr[i];
        *page_word(lapic, LAPIC_IRR, i) = 0;
        lapic->isr[i] = 0;
    }
    lapic->isr_words = 0;
    lapic->in_page = true;
}

// Trigger modes change with an interrupt that comes, only.
static void add_requests(struct lapic *lapic)
{
    for (unsigned i = 0; i < VECTOR_WORDS; i++) {
        *page_word(lapic, LAPIC_IRR, i) |= lapic->irr[i];
        *page_word(lapic, LAPIC_TMR, i) = lapic->tmr[i];
        lapic->irr[i] = 0;
    }
    lapic->irr_words = 0;
}

bool lapic_page_push(struct lapic *lapic, u8 *requested, u8 *in_service)
{
    posted_to_irr(lapic);
    if (lapic->in_page && !lapic->irr_words)
        return false;
    if (!lapic->in_page)
        move_in(lapic);
    add_requests(lapic);
    *requested = page_highest(lapic, LAPIC_IRR);
    *in_service = page_highest(lapic, LAPIC_ISR);
    return true;
}

void lapic_page_pull(struct lapic *lapic)
{
    posted_to_irr(lapic);
    for (unsigned i = 0; i < VECTOR_WORDS; i++) {
        lapic->isr[i] = *page_word(lapic, LAPIC_ISR, i);
        lapic->irr[i] |= *page_word(lapic, LAPIC_IRR, i);
        lapic->isr_words |= lapic->isr[i] ? 1u << i : 0;
        lapic->irr_words |= lapic->irr[i] ? 1u << i : 0;
    }
    lapic->icr_high = lapic_icr_high(lapic);
    lapic->in_page = false;
    lapic->ops->changed(lapic);
}

// The hardware has taken it out of ISR.
void lapic_page_eoi(struct lapic *lapic, u8 vector)
{
    if (lapic->tmr[vector / 32] >> vector % 32 & 1)
        lapic_level_eoi(lapic, vector);
}
