// SPDX-License-Identifier: MIT
// The local APIC's registers and what its files share. Intel SDM volume 3, "Local APIC
// Register Address Map", "Local Vector Table", "Interrupt Command Register", "Error Handling",
// "x2APIC Register Address Space".
#pragma once

#include "io/lapic.h"

// The same numbers everywhere: offset >> 4 in the xAPIC page, MSR - 0x800 in x2APIC mode.
enum lapic_register {
    LAPIC_ID = 0x02,
    LAPIC_VERSION = 0x03,
    LAPIC_TPR = 0x08,
    LAPIC_APR = 0x09,
    LAPIC_PPR = 0x0a,
    LAPIC_EOI = 0x0b,
    LAPIC_RRD = 0x0c,
    LAPIC_LDR = 0x0d,
    LAPIC_DFR = 0x0e,
    LAPIC_SVR = 0x0f,
    LAPIC_ISR = 0x10,
    LAPIC_TMR = 0x18,
    LAPIC_IRR = 0x20,
    LAPIC_ESR = 0x28,
    LAPIC_LVT_CMCI = 0x2f,
    LAPIC_ICR = 0x30,
    LAPIC_ICR_HIGH = 0x31,
    LAPIC_LVT_TIMER = 0x32,
    LAPIC_LVT_THERMAL = 0x33,
    LAPIC_LVT_PERFORMANCE = 0x34,
    LAPIC_LVT_LINT0 = 0x35,
    LAPIC_LVT_LINT1 = 0x36,
    LAPIC_LVT_ERROR = 0x37,
    LAPIC_TIMER_INITIAL = 0x38,
    LAPIC_TIMER_CURRENT = 0x39,
    LAPIC_TIMER_DIVIDE = 0x3e,
    LAPIC_SELF_IPI = 0x3f,
    LAPIC_REGISTERS = 0x40,
};

#define LAPIC_OFFSET(reg) ((u64)(reg) << 4)

// MSRs that are the local APIC's.
#define LAPIC_MSR_BASE         0x1bu
#define LAPIC_MSR_TSC_DEADLINE 0x6e0u
#define LAPIC_MSR_X2APIC       0x800u
#define LAPIC_MSR(reg)         (LAPIC_MSR_X2APIC + (u32)(reg))

// IA32_APIC_BASE.
#define LAPIC_BASE_BSP      BIT(8)
#define LAPIC_BASE_EXTD     BIT(10)
#define LAPIC_BASE_EN       BIT(11)
#define LAPIC_BASE_MODE     (LAPIC_BASE_EN | LAPIC_BASE_EXTD)
#define LAPIC_BASE_RESERVED (BIT(9) | 0xffull)

// Version 0x14: integrated, seven LVT entries, EOI broadcasts can be suppressed.
#define LAPIC_VERSION_VALUE (0x14u | 6u << 16 | 1u << 24)

#define LAPIC_ID_SHIFT       24 // of ID, LDR and ICR_HIGH in xAPIC mode
#define LAPIC_LDR_WRITABLE   0xff000000u
#define LAPIC_DFR_WRITABLE   0xf0000000u
#define LAPIC_DFR_ONES       0x0fffffffu
#define LAPIC_MODEL_SHIFT    28 // of DFR
#define LAPIC_MODEL_FLAT     0xfu
#define LAPIC_MODEL_CLUSTER  0x0u
#define LAPIC_PRIORITY_CLASS 0xf0u
#define LAPIC_CLASS_SHIFT    4
#define LAPIC_VECTOR_FIRST   16u // lower ones are illegal
#define LAPIC_TPR_WRITABLE   0xffu

#define SVR_VECTOR       0xffu
#define SVR_ENABLE       (1u << 8)
#define SVR_FOCUS        (1u << 9) // kept, without effect
#define SVR_SUPPRESS_EOI (1u << 12)
#define SVR_WRITABLE     (SVR_VECTOR | SVR_ENABLE | SVR_FOCUS | SVR_SUPPRESS_EOI)

#define ESR_SEND_ILLEGAL_VECTOR    (1u << 5)
#define ESR_RECEIVE_ILLEGAL_VECTOR (1u << 6)
#define ESR_ILLEGAL_REGISTER       (1u << 7)

#define LVT_VECTOR         0xffu
#define LVT_DELIVERY_SHIFT 8
#define LVT_DELIVERY       (7u << LVT_DELIVERY_SHIFT)
#define LVT_STATUS         (1u << 12)
#define LVT_POLARITY       (1u << 13)
#define LVT_REMOTE_IRR     (1u << 14)
#define LVT_LEVEL          (1u << 15)
#define LVT_MASKED         (1u << 16)
#define LVT_MODE_SHIFT     17
#define LVT_MODE           (3u << LVT_MODE_SHIFT)

enum lapic_timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE, TIMER_RESERVED };

#define DIVIDE_WRITABLE 0xbu

#define ICR_VECTOR          0xffu
#define ICR_DELIVERY_SHIFT  8
#define ICR_DELIVERY        (7u << ICR_DELIVERY_SHIFT)
#define ICR_LOGICAL         (1u << 11)
#define ICR_STATUS          (1u << 12)
#define ICR_ASSERT          (1u << 14)
#define ICR_LEVEL           (1u << 15)
#define ICR_SHORTHAND_SHIFT 18
#define ICR_SHORTHAND       (3u << ICR_SHORTHAND_SHIFT)
#define ICR_WRITABLE                                                                               \
    (ICR_VECTOR | ICR_DELIVERY | ICR_LOGICAL | ICR_ASSERT | ICR_LEVEL | ICR_SHORTHAND)

enum lapic_shorthand { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

static inline bool lapic_is_enabled(const struct lapic *lapic)
{
    return lapic->base_msr & LAPIC_BASE_EN;
}

static inline bool lapic_is_x2apic(const struct lapic *lapic)
{
    return (lapic->base_msr & LAPIC_BASE_MODE) == LAPIC_BASE_MODE;
}

static inline bool lapic_is_xapic(const struct lapic *lapic)
{
    return (lapic->base_msr & LAPIC_BASE_MODE) == LAPIC_BASE_EN;
}

static inline bool lapic_is_software_enabled(const struct lapic *lapic)
{
    return lapic->svr & SVR_ENABLE;
}

// x2APIC's logical id follows from the APIC id: the cluster and one bit of 16.
static inline u32 lapic_x2apic_ldr(const struct lapic *lapic)
{
    return lapic->id >> 4 << 16 | 1u << (lapic->id & 0xf);
}

// --- lapic_page.c ---
COLD void lapic_page_pull(struct lapic *lapic);

// What is in the page is to be looked at or changed; not while the guest runs. The vCPU brings it
// back before it does.
static inline void lapic_own(struct lapic *lapic)
{
    if (unlikely(lapic->in_page))
        lapic_page_pull(lapic);
}

// --- lapic_page.c ---
// True: the vCPU's CPU takes it from the descriptor. False: it goes to IRR, as usual.
bool lapic_page_post(struct lapic *lapic, u8 vector);
void lapic_posted_drop(struct lapic *lapic); // with its APIC's reset

static inline u32 *lapic_page_register(const struct lapic *lapic, unsigned reg)
{
    return &lapic->page[LAPIC_OFFSET(reg) / sizeof(u32)];
}

// From any CPU; a guest may be changing it.
static inline u32 lapic_tpr(const struct lapic *lapic)
{
    return *lapic->tpr_at & LAPIC_TPR_WRITABLE;
}

// The hardware takes writes of it without a word.
static inline u32 lapic_icr_high(const struct lapic *lapic)
{
    return lapic->in_page ? *lapic_page_register(lapic, LAPIC_ICR_HIGH) & LAPIC_LDR_WRITABLE
                          : lapic->icr_high;
}

// --- lapic.c ---
u32 lapic_ppr(const struct lapic *lapic);
void lapic_level_eoi(struct lapic *lapic, u8 vector);
// An interrupt of this vector is accepted into IRR (or is an error, if the vector is illegal).
void lapic_raise(struct lapic *lapic, u8 vector, bool level);
// Anything but APIC_LOWEST, which is arbitrated before.
void lapic_receive(struct lapic *lapic, enum apic_delivery delivery, u8 vector, bool level);
// One of the local sources fired: as its LVT entry says.
void lapic_lvt_deliver(struct lapic *lapic, enum lapic_lvt source);
void lapic_error(struct lapic *lapic, u32 esr_bit);
void lapic_tpr_write(struct lapic *lapic, u32 value);
// The entry stays masked while the APIC is software-disabled.
void lapic_lvt_write(struct lapic *lapic, enum lapic_lvt entry, u32 value);
void lapic_lint0_write(struct lapic *lapic, u32 value);

// --- lapic_registers.c ---
extern const struct io_device_ops lapic_page_ops; // the xAPIC page
// The hardware's copy of a register, or of all, if there is one.
void lapic_mirror(struct lapic *lapic, unsigned reg);
void lapic_mirror_all(struct lapic *lapic);

// --- lapic_timer.c ---
void lapic_timer_init(struct lapic *lapic);
void lapic_timer_reset(struct lapic *lapic);
// The LVT entry is about to change to this mode.
void lapic_timer_mode_change(struct lapic *lapic, enum lapic_timer_mode mode);
void lapic_timer_initial_write(struct lapic *lapic, u32 value);
void lapic_timer_divide_write(struct lapic *lapic, u32 value);
u32 lapic_timer_current(const struct lapic *lapic);
void lapic_timer_deadline_write(struct lapic *lapic, u64 value);

// --- apic_bus.c ---
// The command register was written; destination as apic_message has it.
void apic_bus_ipi(struct lapic *from, u32 icr, u32 destination, bool x2apic_format);
