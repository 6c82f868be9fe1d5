// SPDX-License-Identifier: MIT
// The local APIC as software sees it: one table describes every register for both of its faces, the
// xAPIC page and the x2APIC MSRs, with who may read and write it and which bits are reserved. Intel
// SDM volume 3, "Local APIC Register Address Map", "Extended XAPIC (x2APIC)".
#include "io/lapic_regs.h"
#include "vmm/lib/bits.h"

// --- what each register does ---

static u32 id_read(struct lapic *lapic)
{
    return lapic_is_x2apic(lapic) ? lapic->id : lapic->id << LAPIC_ID_SHIFT;
}

static u32 version_read(struct lapic *lapic)
{
    (void)lapic;
    return LAPIC_VERSION_VALUE;
}

static u32 zero_read(struct lapic *lapic)
{
    (void)lapic;
    return 0;
}

static u32 ldr_read(struct lapic *lapic)
{
    return lapic_is_x2apic(lapic) ? lapic_x2apic_ldr(lapic) : lapic->ldr;
}

static u32 tpr_read(struct lapic *lapic)
{
    return lapic_tpr(lapic);
}

static u32 ppr_read(struct lapic *lapic)
{
    return lapic_ppr(lapic);
}

static u32 current_read(struct lapic *lapic)
{
    return lapic_timer_current(lapic);
}

static void eoi_write(struct lapic *lapic, u32 value)
{
    (void)value;
    lapic_eoi(lapic);
}

static void ldr_write(struct lapic *lapic, u32 value)
{
    lapic->ldr = value;
}

static void dfr_write(struct lapic *lapic, u32 value)
{
    lapic->dfr = value | LAPIC_DFR_ONES;
}

// Disabling masks every LVT entry; enabling leaves them masked.
static void svr_write(struct lapic *lapic, u32 value)
{
    lapic->svr = value;
    lapic->ops->mode(lapic);
    if (value & SVR_ENABLE)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(lapic->lvt); i++)
        lapic->lvt[i] |= LVT_MASKED;
}

// A write makes what was detected since the last one readable.
static void esr_write(struct lapic *lapic, u32 value)
{
    (void)value;
    lapic->esr = lapic->esr_pending;
    lapic->esr_pending = 0;
}

static void icr_write(struct lapic *lapic, u32 value)
{
    lapic->icr = value;
    apic_bus_ipi(lapic, value, lapic_icr_high(lapic) >> LAPIC_ID_SHIFT, false);
}

static void icr_high_write(struct lapic *lapic, u32 value)
{
    lapic_own(lapic);
    lapic->icr_high = value;
}

static void self_ipi_write(struct lapic *lapic, u32 value)
{
    apic_bus_ipi(lapic, value | (u32)SHORTHAND_SELF << ICR_SHORTHAND_SHIFT, 0, true);
}

static void lvt_timer_write(struct lapic *lapic, u32 value)
{
    lapic_timer_mode_change(lapic, (enum lapic_timer_mode)((value & LVT_MODE) >> LVT_MODE_SHIFT));
    lapic_lvt_write(lapic, LVT_TIMER, value);
}

#define LVT_WRITER(name, entry)                                                                    \
    static void name(struct lapic *lapic, u32 value)                                               \
    {                                                                                              \
        lapic_lvt_write(lapic, entry, value);                                                      \
    }
LVT_WRITER(lvt_cmci_write, LVT_CMCI)
LVT_WRITER(lvt_thermal_write, LVT_THERMAL)
LVT_WRITER(lvt_performance_write, LVT_PERFORMANCE)
LVT_WRITER(lvt_lint1_write, LVT_LINT1)
LVT_WRITER(lvt_error_write, LVT_ERROR)
#undef LVT_WRITER

enum register_access {
    XAPIC_R = 1,
    XAPIC_W = 2,
    X2APIC_R = 4,
    X2APIC_W = 8,
    IN_PAGE = 16, // may be in the hardware's copy
    LIVE = 32,    // made when it is read
    SPREADS = 64, // a write changes other registers too
    ANY_R = XAPIC_R | X2APIC_R,
    ANY_W = XAPIC_W | X2APIC_W,
    ANY_RW = ANY_R | ANY_W,
};

struct register_rule {
    u8 access;    // enum register_access; 0: reserved
    u16 field;    // in struct lapic: what a read gives if there is no read function
    u32 writable; // bits that reach the write function
    u32 ignored;  // bits that are read-only rather than reserved: writing 1 is no fault in x2APIC
                  // mode
    u32 (*read)(struct lapic *lapic);
    void (*write)(struct lapic *lapic, u32 value);
};

#define FIELD(name) .field = offsetof(struct lapic, name)
#define READ_WORD(reg, name, n, more)                                                              \
    [(reg) + (n)] = {.access = ANY_R | (more),                                                     \
                     .field = offsetof(struct lapic, name) + (n) * sizeof(u32)}
#define READ_WORDS(reg, name, more)                                                                \
    READ_WORD(reg, name, 0, more), READ_WORD(reg, name, 1, more), READ_WORD(reg, name, 2, more),   \
        READ_WORD(reg, name, 3, more), READ_WORD(reg, name, 4, more),                              \
        READ_WORD(reg, name, 5, more), READ_WORD(reg, name, 6, more),                              \
        READ_WORD(reg, name, 7, more)
#define LVT_RULE(n, bits, fixed, writer)                                                           \
    {                                                                                              \
        ANY_RW | ((n) == LVT_TIMER ? SPREADS : 0), FIELD(lvt[n]),                                  \
            .writable = LVT_VECTOR | LVT_MASKED | (bits), .ignored = LVT_STATUS | (fixed),         \
            .write = writer                                                                        \
    }
#define LVT_LINT (LVT_DELIVERY | LVT_POLARITY | LVT_LEVEL)

static const struct register_rule rules[LAPIC_REGISTERS] = {
    [LAPIC_ID] = {ANY_R, .read = id_read},
    [LAPIC_VERSION] = {ANY_R, .read = version_read},
    [LAPIC_TPR] = {ANY_RW | IN_PAGE, .writable = LAPIC_TPR_WRITABLE, .read = tpr_read,
                   .write = lapic_tpr_write},
    [LAPIC_APR] = {XAPIC_R, .read = zero_read},
    [LAPIC_PPR] = {ANY_R | IN_PAGE, .read = ppr_read},
    [LAPIC_EOI] = {ANY_W, .write = eoi_write},
    [LAPIC_RRD] = {XAPIC_R, .read = zero_read},
    [LAPIC_LDR] = {ANY_R | XAPIC_W, .writable = LAPIC_LDR_WRITABLE, .read = ldr_read,
                   .write = ldr_write},
    [LAPIC_DFR] = {XAPIC_R | XAPIC_W, FIELD(dfr), .writable = LAPIC_DFR_WRITABLE,
                   .write = dfr_write},
    [LAPIC_SVR] = {ANY_RW | SPREADS, FIELD(svr), .writable = SVR_WRITABLE, .write = svr_write},
    READ_WORDS(LAPIC_ISR, isr, IN_PAGE),
    READ_WORDS(LAPIC_TMR, tmr, 0),
    READ_WORDS(LAPIC_IRR, irr, IN_PAGE),
    [LAPIC_ESR] = {ANY_RW, FIELD(esr), .write = esr_write},
    [LAPIC_LVT_CMCI] = LVT_RULE(LVT_CMCI, LVT_DELIVERY, 0, lvt_cmci_write),
    [LAPIC_ICR] = {ANY_RW, FIELD(icr), .writable = ICR_WRITABLE, .ignored = ICR_STATUS,
                   .write = icr_write},
    [LAPIC_ICR_HIGH] = {XAPIC_R | XAPIC_W | IN_PAGE, FIELD(icr_high),
                        .writable = LAPIC_LDR_WRITABLE, .write = icr_high_write},
    [LAPIC_LVT_TIMER] = LVT_RULE(LVT_TIMER, LVT_MODE, 0, lvt_timer_write),
    [LAPIC_LVT_THERMAL] = LVT_RULE(LVT_THERMAL, LVT_DELIVERY, 0, lvt_thermal_write),
    [LAPIC_LVT_PERFORMANCE] = LVT_RULE(LVT_PERFORMANCE, LVT_DELIVERY, 0, lvt_performance_write),
    [LAPIC_LVT_LINT0] = LVT_RULE(LVT_LINT0, LVT_LINT, LVT_REMOTE_IRR, lapic_lint0_write),
    [LAPIC_LVT_LINT1] = LVT_RULE(LVT_LINT1, LVT_LINT, LVT_REMOTE_IRR, lvt_lint1_write),
    [LAPIC_LVT_ERROR] = LVT_RULE(LVT_ERROR, 0, 0, lvt_error_write),
    [LAPIC_TIMER_INITIAL] = {ANY_RW, FIELD(timer_initial), .writable = ~0u,
                             .write = lapic_timer_initial_write},
    [LAPIC_TIMER_CURRENT] = {ANY_R | LIVE, .read = current_read},
    [LAPIC_TIMER_DIVIDE] = {ANY_RW, FIELD(timer_divide), .writable = DIVIDE_WRITABLE,
                            .write = lapic_timer_divide_write},
    [LAPIC_SELF_IPI] = {X2APIC_W, .writable = ICR_VECTOR, .write = self_ipi_write},
};

static u32 register_read(struct lapic *lapic, const struct register_rule *rule)
{
    if (rule->access & IN_PAGE)
        lapic_own(lapic);
    return rule->read ? rule->read(lapic) : *(const u32 *)((const char *)lapic + rule->field);
}

// --- the hardware's copy ---

bool lapic_page_serves(unsigned reg)
{
    return reg < LAPIC_REGISTERS && (rules[reg].access & X2APIC_R) && !(rules[reg].access & LIVE);
}

void lapic_mirror(struct lapic *lapic, unsigned reg)
{
    if (likely(!lapic->page) || (rules[reg].access & (IN_PAGE | LIVE)))
        return;
    u32 *copy = lapic_page_register(lapic, reg);
    *copy = register_read(lapic, &rules[reg]);
    if (reg == LAPIC_ICR)
        copy[1] = (u32)(lapic->icr >> 32);
}

void lapic_mirror_all(struct lapic *lapic)
{
    for (unsigned reg = 0; lapic->page && reg < LAPIC_REGISTERS; reg++)
        if (rules[reg].access & ANY_R)
            lapic_mirror(lapic, reg);
}

static inline void register_write(struct lapic *lapic, unsigned reg, u32 value)
{
    const struct register_rule *rule = &rules[reg];
    rule->write(lapic, value & rule->writable);
    if (unlikely(lapic->page && (rule->access & SPREADS)))
        lapic_mirror_all(lapic);
    else if (rule->access & ANY_R)
        lapic_mirror(lapic, reg);
}

// The hardware has put the value there as it came. What does not fit the layout has no effect, as
// on page_write().
void lapic_page_written(struct lapic *lapic, unsigned offset)
{
    unsigned reg = offset >> 4;
    if (reg >= LAPIC_REGISTERS)
        return;
    bool wide = lapic_is_x2apic(lapic);
    if (IS_ALIGNED(offset, 16) && (rules[reg].access & (wide ? X2APIC_W : XAPIC_W)))
        register_write(lapic, reg, *lapic_page_register(lapic, reg));
    else
        lapic_mirror(lapic, reg);
}

// --- the xAPIC page ---

// Null: the access is not to a register. Registers are 32 bits wide and 16 bytes apart; what other
// widths and offsets do is undefined, here nothing. In other modes than xAPIC the page is not the
// APIC's.
static const struct register_rule *page_rule(struct lapic *lapic, u64 offset, unsigned size)
{
    if (!lapic_is_xapic(lapic) || size != sizeof(u32) || !IS_ALIGNED(offset, 16))
        return NULL;
    u64 reg = offset >> 4;
    if (reg < LAPIC_REGISTERS && (rules[reg].access & (XAPIC_R | XAPIC_W)))
        return &rules[reg];
    lapic_error(lapic, ESR_ILLEGAL_REGISTER);
    return NULL;
}

static u64 page_read(struct io_device *device, u64 offset, unsigned size)
{
    struct lapic *lapic = container_of(device, struct lapic, mmio);
    const struct register_rule *rule = page_rule(lapic, offset, size);
    if (!rule)
        return lapic_is_xapic(lapic) ? 0 : bytes_mask(size);
    return rule->access & XAPIC_R ? register_read(lapic, rule) : 0;
}

static void page_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct lapic *lapic = container_of(device, struct lapic, mmio);
    const struct register_rule *rule = page_rule(lapic, offset, size);
    if (rule && (rule->access & XAPIC_W))
        register_write(lapic, (unsigned)(offset >> 4), (u32)value);
}

const struct io_device_ops lapic_page_ops = {"lapic", page_read, page_write};

// --- MSRs ---

// "x2APIC State Transitions": off to xAPIC to x2APIC, and from either to off, which loses the
// state.
static bool base_write(struct lapic *lapic, u64 value)
{
    u64 physical = BIT(lapic->physical_bits) - 1;
    u64 old_mode = lapic->base_msr & LAPIC_BASE_MODE, new_mode = value & LAPIC_BASE_MODE;
    bool skips = old_mode == 0 && new_mode == LAPIC_BASE_MODE;
    bool returns = old_mode == LAPIC_BASE_MODE && new_mode == LAPIC_BASE_EN;
    if ((value & (LAPIC_BASE_RESERVED | ~physical)) || new_mode == LAPIC_BASE_EXTD || skips ||
        returns)
        return false;
    bool took_pic = lapic_takes_pic(lapic);
    lapic_own(lapic);
    lapic->base_msr = value;
    if (old_mode && !new_mode)
        lapic_init_signal(lapic);
    if (old_mode != new_mode)
        lapic->icr_high = 0;
    lapic_mirror_all(lapic);
    lapic->ops->mode(lapic);
    if (lapic->lint0_level && !took_pic && lapic_takes_pic(lapic))
        lapic->ops->extint(lapic);
    return true;
}

// The command register is the one of 64 bits.
static bool icr_write_x2apic(struct lapic *lapic, u64 value)
{
    u32 low = (u32)value;
    if (low & ~(ICR_WRITABLE | ICR_STATUS))
        return false;
    lapic->icr = value & ~(u64)ICR_STATUS;
    lapic_mirror(lapic, LAPIC_ICR);
    apic_bus_ipi(lapic, low, (u32)(value >> 32), true);
    return true;
}

bool lapic_msr_read(struct lapic *lapic, u32 msr, u64 *value)
{
    if (msr == LAPIC_MSR_BASE || msr == LAPIC_MSR_TSC_DEADLINE) {
        *value = msr == LAPIC_MSR_BASE ? lapic->base_msr : lapic->tsc_deadline;
        return true;
    }
    u32 reg = msr - LAPIC_MSR_X2APIC;
    if (!lapic_is_x2apic(lapic) || reg >= LAPIC_REGISTERS || !(rules[reg].access & X2APIC_R))
        return false;
    *value = reg == LAPIC_ICR ? lapic->icr : register_read(lapic, &rules[reg]);
    return true;
}

static bool register_write_x2apic(struct lapic *lapic, u32 msr, u64 value)
{
    u32 reg = msr - LAPIC_MSR_X2APIC;
    if (reg >= LAPIC_REGISTERS || !(rules[reg].access & X2APIC_W))
        return false;
    const struct register_rule *rule = &rules[reg];
    if (value & ~(u64)(rule->writable | rule->ignored))
        return false;
    register_write(lapic, reg, (u32)value);
    return true;
}

static __attribute__((noinline)) bool msr_write_other(struct lapic *lapic, u32 msr, u64 value)
{
    if (msr == LAPIC_MSR_BASE)
        return base_write(lapic, value);
    if (!lapic_is_x2apic(lapic))
        return false;
    if (msr == LAPIC_MSR(LAPIC_ICR))
        return icr_write_x2apic(lapic, value);
    return register_write_x2apic(lapic, msr, value);
}

static bool is_plain_self_ipi(const struct lapic *lapic, u64 value)
{
    return value >= LAPIC_VECTOR_FIRST && value <= ICR_VECTOR && lapic_is_software_enabled(lapic);
}

// What a busy guest writes, by the shortest way; the table has these registers too, for the faults
// and errors.
bool lapic_msr_write(struct lapic *lapic, u32 msr, u64 value)
{
    if (msr == LAPIC_MSR_TSC_DEADLINE)
        lapic_timer_deadline_write(lapic, value);
    else if (msr == LAPIC_MSR(LAPIC_EOI) && value == 0 && lapic_is_x2apic(lapic))
        lapic_eoi(lapic);
    else if (msr == LAPIC_MSR(LAPIC_SELF_IPI) && is_plain_self_ipi(lapic, value) &&
             lapic_is_x2apic(lapic))
        lapic_raise(lapic, (u8)value, false);
    else
        return msr_write_other(lapic, msr, value);
    return true;
}

// --- firmware's part ---

void lapic_virtual_wire(struct lapic *lapic)
{
    svr_write(lapic, SVR_ENABLE | SVR_VECTOR);
    lapic_lint0_write(lapic, (u32)APIC_EXTINT << LVT_DELIVERY_SHIFT);
    lapic_lvt_write(lapic, LVT_LINT1, (u32)APIC_NMI << LVT_DELIVERY_SHIFT);
    lapic_mirror_all(lapic);
}
