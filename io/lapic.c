// SPDX-License-Identifier: MIT
// The software local APIC: priorities, acceptance and end of interrupts, local sources, reset. Its
// registers are lapic_registers.c, its timer is lapic_timer.c, messages between APICs are
// apic_bus.c. Intel SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)".
//
// IRR and ISR each have a summary word, so that the highest vector is two bit scans away.
#include "io/lapic_regs.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"

// --- vectors and priorities ---

static int vectors_highest(const u32 *words, u32 summary)
{
    if (!summary)
        return -1;
    unsigned word = bit_highest(summary);
    return (int)(word * 32 + bit_highest(words[word]));
}

static void vector_set(u32 *words, u32 *summary, u8 vector)
{
    words[vector / 32] |= 1u << vector % 32;
    *summary |= 1u << vector / 32;
}

static void vector_clear(u32 *words, u32 *summary, u8 vector)
{
    words[vector / 32] &= ~(1u << vector % 32);
    if (!words[vector / 32])
        *summary &= ~(1u << vector / 32);
}

static u32 priority_class(u32 vector)
{
    return vector & LAPIC_PRIORITY_CLASS;
}

static u32 class_in_service(const struct lapic *lapic)
{
    int highest = vectors_highest(lapic->isr, lapic->isr_words);
    return highest < 0 ? 0 : priority_class((u32)highest);
}

// "Task and Processor Priorities".
u32 lapic_ppr(const struct lapic *lapic)
{
    u32 tpr = lapic_tpr(lapic), in_service = class_in_service(lapic);
    return priority_class(tpr) >= in_service ? tpr : in_service;
}

int lapic_pending(const struct lapic *lapic)
{
    int vector = vectors_highest(lapic->irr, lapic->irr_words);
    if (vector < 0)
        return -1;
    u32 class = priority_class((u32)vector);
    return class > lapic_tpr(lapic) && class > class_in_service(lapic) ? vector : -1;
}

// The guest lowers the hardware's TPR without a word: what only that holds off is for the vCPU to
// know, and to have a threshold set for (lapic_tpr_threshold).
static bool tpr_is_heard(const struct lapic *lapic)
{
    return lapic->tpr_at == &lapic->tpr;
}

static bool is_news(const struct lapic *lapic, u32 vector)
{
    u32 held_off = tpr_is_heard(lapic) ? lapic_ppr(lapic) : class_in_service(lapic);
    return priority_class(vector) > priority_class(held_off);
}

// TPR or ISR did.
static void priorities_changed(struct lapic *lapic)
{
    if (lapic->irr_words && is_news(lapic, (u32)vectors_highest(lapic->irr, lapic->irr_words)))
        lapic->ops->changed(lapic);
}

// Only for what TPR alone holds off: an EOI to come is heard of anyway, and a lower TPR that is no
// news would leave a threshold above it, with which the CPU refuses to enter.
unsigned lapic_tpr_threshold(const struct lapic *lapic)
{
    if (!lapic->irr_words || tpr_is_heard(lapic))
        return 0;
    u32 requested = priority_class((u32)vectors_highest(lapic->irr, lapic->irr_words));
    bool held_off = requested <= lapic_tpr(lapic) && requested > class_in_service(lapic);
    return held_off ? requested >> LAPIC_CLASS_SHIFT : 0;
}

void lapic_tpr_attach(struct lapic *lapic, u32 *tpr)
{
    u32 *to = tpr ? tpr : &lapic->tpr;
    *to = lapic_tpr(lapic);
    lapic->tpr_at = to;
}

void lapic_tpr_write(struct lapic *lapic, u32 value)
{
    lapic_own(lapic);
    *lapic->tpr_at = value;
    priorities_changed(lapic);
}

u64 lapic_cr8_read(const struct lapic *lapic)
{
    return lapic_tpr(lapic) >> LAPIC_CLASS_SHIFT;
}

void lapic_cr8_write(struct lapic *lapic, u64 value)
{
    lapic_tpr_write(lapic, (u32)(value & 0xf) << LAPIC_CLASS_SHIFT);
}

void lapic_accept(struct lapic *lapic, u8 vector)
{
    vector_clear(lapic->irr, &lapic->irr_words, vector);
    vector_set(lapic->isr, &lapic->isr_words, vector);
}

void lapic_raise(struct lapic *lapic, u8 vector, bool level)
{
    if (unlikely(vector < LAPIC_VECTOR_FIRST)) {
        lapic_error(lapic, ESR_RECEIVE_ILLEGAL_VECTOR);
        return;
    }
    u32 bit = 1u << vector % 32;
    u32 *tmr = &lapic->tmr[vector / 32];
    bool edge = !level && !(*tmr & bit); // so that TMR in the page is right as it is
    *tmr = level ? *tmr | bit : *tmr & ~bit;
    if (lapic->irr[vector / 32] & bit)
        return;
    if (unlikely(lapic->posted) && edge && lapic_page_post(lapic, vector))
        return;
    vector_set(lapic->irr, &lapic->irr_words, vector);
    if (is_news(lapic, vector))
        lapic->ops->changed(lapic);
}

// The error interrupt is edge-triggered by the first error after a write of ESR; so an error
// interrupt with an illegal vector, an error itself, ends here.
void lapic_error(struct lapic *lapic, u32 esr_bit)
{
    bool first = !lapic->esr_pending;
    lapic->esr_pending |= esr_bit;
    if (first)
        lapic_lvt_deliver(lapic, LVT_ERROR);
}

static void nothing(struct lapic *lapic)
{
    (void)lapic;
}

// A reserved delivery mode does nothing, and so does SMI: the guest has no system management mode.
void lapic_receive(struct lapic *lapic, enum apic_delivery delivery, u8 vector, bool level)
{
    if (likely(delivery == APIC_FIXED)) {
        if (lapic_is_software_enabled(lapic))
            lapic_raise(lapic, vector, level);
        return;
    }
    if (delivery == APIC_STARTUP) {
        lapic->ops->startup(lapic, vector);
        return;
    }
    void (*tell)(struct lapic *) = delivery == APIC_NMI      ? lapic->ops->nmi
                                   : delivery == APIC_INIT   ? lapic->ops->init
                                   : delivery == APIC_EXTINT ? lapic->ops->extint
                                                             : nothing;
    tell(lapic);
}

// --- local sources ---

static enum apic_delivery lvt_delivery(u32 lvt)
{
    return (enum apic_delivery)((lvt & LVT_DELIVERY) >> LVT_DELIVERY_SHIFT);
}

// Lowest priority and start-up are for messages alone.
void lapic_lvt_deliver(struct lapic *lapic, enum lapic_lvt source)
{
    u32 lvt = lapic->lvt[source];
    enum apic_delivery delivery = lvt_delivery(lvt);
    if ((lvt & LVT_MASKED) || delivery == APIC_LOWEST || delivery == APIC_STARTUP)
        return;
    bool level = delivery == APIC_FIXED && (lvt & LVT_LEVEL);
    lapic_receive(lapic, delivery, (u8)(lvt & LVT_VECTOR), level);
}

static bool lint0_is_level(u32 lvt)
{
    return lvt_delivery(lvt) == APIC_FIXED && (lvt & LVT_LEVEL);
}

// A level-triggered LINT0 that is up interrupts once until its EOI.
static void lint0_level_update(struct lapic *lapic)
{
    u32 *lvt = &lapic->lvt[LVT_LINT0];
    if (!lapic->lint0_level || !lint0_is_level(*lvt) || (*lvt & (LVT_MASKED | LVT_REMOTE_IRR)))
        return;
    *lvt |= LVT_REMOTE_IRR;
    lapic_mirror(lapic, LAPIC_LVT_LINT0);
    lapic_lvt_deliver(lapic, LVT_LINT0);
}

bool lapic_takes_pic(const struct lapic *lapic)
{
    u32 lvt = lapic->lvt[LVT_LINT0];
    return !lapic_is_enabled(lapic) || (!(lvt & LVT_MASKED) && lvt_delivery(lvt) == APIC_EXTINT);
}

void lapic_lint0(struct lapic *lapic, bool level)
{
    bool rose = level && !lapic->lint0_level;
    lapic->lint0_level = level;
    if (!rose)
        return;
    if (lapic_takes_pic(lapic))
        lapic->ops->extint(lapic);
    else if (lint0_is_level(lapic->lvt[LVT_LINT0]))
        lint0_level_update(lapic);
    else
        lapic_lvt_deliver(lapic, LVT_LINT0);
}

void lapic_lvt_write(struct lapic *lapic, enum lapic_lvt entry, u32 value)
{
    if (!lapic_is_software_enabled(lapic))
        value |= LVT_MASKED;
    lapic->lvt[entry] = value;
}

// Remote IRR outlives the write while the entry stays level-triggered. A line that is up already is
// news to an entry that begins to listen.
void lapic_lint0_write(struct lapic *lapic, u32 value)
{
    bool took_pic = lapic_takes_pic(lapic);
    u32 kept = lint0_is_level(value) ? lapic->lvt[LVT_LINT0] & LVT_REMOTE_IRR : 0;
    lapic_lvt_write(lapic, LVT_LINT0, value | kept);
    lint0_level_update(lapic);
    if (lapic->lint0_level && !took_pic && lapic_takes_pic(lapic))
        lapic->ops->extint(lapic);
}

// --- end of interrupt ---

COLD void lapic_level_eoi(struct lapic *lapic, u8 vector)
{
    u32 *lint0 = &lapic->lvt[LVT_LINT0];
    if ((*lint0 & LVT_REMOTE_IRR) && (*lint0 & LVT_VECTOR) == vector) {
        *lint0 &= ~LVT_REMOTE_IRR;
        lapic_mirror(lapic, LAPIC_LVT_LINT0);
        lint0_level_update(lapic);
    }
    if (!(lapic->svr & SVR_SUPPRESS_EOI) && lapic->bus->eoi)
        lapic->bus->eoi(lapic->bus->context, vector);
}

void lapic_eoi(struct lapic *lapic)
{
    lapic_own(lapic);
    if (!lapic->isr_words)
        return;
    unsigned word = bit_highest(lapic->isr_words), bit = bit_highest(lapic->isr[word]);
    lapic->isr[word] &= ~(1u << bit);
    if (!lapic->isr[word])
        lapic->isr_words &= ~(1u << word);
    priorities_changed(lapic);
    if (unlikely(lapic->tmr[word] >> bit & 1))
        lapic_level_eoi(lapic, (u8)(word * 32 + bit));
}

// --- life ---

void lapic_init(struct lapic *lapic, u32 id, bool bsp, struct apic_bus *bus, struct io_clock *clock,
                const struct lapic_ops *ops)
{
    assert(bus->count < APIC_BUS_MAX);
    *lapic = (struct lapic){
        .mmio = {&lapic_page_ops},
        .ops = ops,
        .bus = bus,
        .clock = clock,
        .id = id,
        .bsp = bsp,
        .physical_bits = LAPIC_PHYSICAL_BITS,
    };
    lapic->tpr_at = &lapic->tpr;
    bus->lapics[bus->count++] = lapic;
    lapic_timer_init(lapic);
    lapic_reset(lapic);
}

// "Local APIC State After It Receives an INIT Reset": the id, the base and the mode stay.
void lapic_init_signal(struct lapic *lapic)
{
    for (unsigned i = 0; i < ARRAY_SIZE(lapic->irr); i++)
        lapic->irr[i] = lapic->isr[i] = lapic->tmr[i] = 0;
    lapic->irr_words = lapic->isr_words = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(lapic->lvt); i++)
        lapic->lvt[i] = LVT_MASKED;
    *lapic->tpr_at = 0;
    lapic->ldr = 0;
    lapic->esr = lapic->esr_pending = 0;
    lapic->icr = lapic->icr_high = 0;
    lapic->dfr = ~0u;
    lapic->svr = SVR_VECTOR;
    lapic->in_page = false;
    lapic_posted_drop(lapic);
    lapic_timer_reset(lapic);
    lapic_mirror_all(lapic);
    lapic->ops->mode(lapic);
}

void lapic_reset(struct lapic *lapic)
{
    lapic->base_msr = LAPIC_BASE_DEFAULT | LAPIC_BASE_EN | (lapic->bsp ? LAPIC_BASE_BSP : 0);
    lapic->tsc_adjust = 0;
    lapic_init_signal(lapic);
}
