// SPDX-License-Identifier: MIT
// The software local APIC (Intel SDM volume 3 chapter "Advanced Programmable Interrupt
// Controller"): xAPIC and x2APIC registers, priorities, all timer modes, IPIs. One a vCPU; all of a
// VM's hang on one struct apic_bus. The caller holds the VM's device lock, except where a function
// says otherwise.
#pragma once

#include "io/device.h"
#include "io/clock.h"

#define LAPIC_BASE_DEFAULT 0xfee00000ull
#define APIC_BUS_MAX       64

// What the APIC timer counts before its divider: nanoseconds. CPUID and the paravirtual leaves tell
// the guest.
#define LAPIC_TIMER_HZ 1000000000ull

// MAXPHYADDR as far as IA32_APIC_BASE is concerned, until the VM sets its own.
#define LAPIC_PHYSICAL_BITS 46

enum apic_delivery {
    APIC_FIXED = 0,
    APIC_LOWEST = 1,
    APIC_SMI = 2,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_STARTUP = 6,
    APIC_EXTINT = 7,
};

// One interrupt on its way: from an IOAPIC pin, an MSI write or an ICR.
struct apic_message {
    u32 destination; // xAPIC ids in the low 8 bits; x2APIC ids as they are
    bool logical;
    bool level;         // trigger mode
    bool x2apic_format; // the destination is 32 bits wide
    enum apic_delivery delivery;
    u8 vector;
};

struct lapic;
struct posted_interrupts;

// What a local APIC tells its vCPU. Any may be called from another CPU's thread (with the lock
// held).
struct lapic_ops {
    // lapic_pending() may have become >= 0, or lapic_tpr_threshold() may have changed
    void (*changed)(struct lapic *lapic);
    void (*nmi)(struct lapic *lapic);
    // INIT arrived: the vCPU calls lapic_init_signal() when it resets itself.
    void (*init)(struct lapic *lapic);
    void (*startup)(struct lapic *lapic, u8 page);
    void (*extint)(struct lapic *lapic); // LINT0 in ExtINT mode went up: ask the PIC
    void (*mode)(struct lapic *lapic);   // lapic_page_mode() may have changed
    // An interrupt was posted: the CPU that the vCPU is on is to take it, or the next push.
    void (*posted)(struct lapic *lapic);
};

struct apic_bus {
    struct lapic *lapics[APIC_BUS_MAX];
    unsigned count;
    // End of a level-triggered interrupt: the IOAPIC wants to know. May be null.
    void (*eoi)(void *context, u8 vector);
    void *context;
    unsigned lowest_next; // arbitration of lowest priority: round robin among equals
};

struct lapic {
    struct io_device mmio; // the 4 KiB page
    const struct lapic_ops *ops;
    struct apic_bus *bus;
    struct io_clock *clock;
    u32 id;           // initial APIC id
    u64 base_msr;     // IA32_APIC_BASE
    u8 physical_bits; // MAXPHYADDR that the guest was told
    bool bsp;         // of power-on
    u32 irr[8], isr[8], tmr[8];
    u32 irr_words, isr_words; // bit n: word n of irr, isr is not 0
    u32 *tpr_at; // where TPR is: `tpr`, or the hardware's, which the guest changes unheard
    u32 tpr, ldr, dfr, svr, esr, esr_pending, icr_high;
    u64 icr;
    u32 lvt[7]; // CMCI, timer, thermal, performance, LINT0, LINT1, error: enum lapic_lvt
    u32 timer_divide, timer_initial;
    u64 timer_start;  // clock time when the count began
    u64 tsc_deadline; // in the vCPU's TSC
    u64 tsc_adjust;   // the vCPU's TSC minus the clock
    struct io_timer timer;
    bool lint0_level;
    u32 *page;    // the hardware's copy of the registers: lapic_page.c; null: there is none
    bool in_page; // ISR, IRR are there; irr has what came since, and `posted`
    struct posted_interrupts *posted; // null: the CPU has no such thing
};

enum lapic_lvt {
    LVT_CMCI,
    LVT_TIMER,
    LVT_THERMAL,
    LVT_PERFORMANCE,
    LVT_LINT0,
    LVT_LINT1,
    LVT_ERROR
};

void lapic_init(struct lapic *lapic, u32 id, bool bsp, struct apic_bus *bus, struct io_clock *clock,
                const struct lapic_ops *ops); // and joins the bus
void lapic_reset(struct lapic *lapic);        // power-on; lapic_init_signal() is INIT
void lapic_init_signal(struct lapic *lapic);
// Highest vector that may be delivered to the CPU now (above the processor priority), or -1.
int lapic_pending(const struct lapic *lapic);
void lapic_accept(struct lapic *lapic, u8 vector); // it goes to the CPU: IRR to ISR
void lapic_eoi(struct lapic *lapic);
// LINT0 is in ExtINT mode and unmasked (or the APIC is off): the PIC reaches this CPU.
bool lapic_takes_pic(const struct lapic *lapic);
void lapic_lint0(struct lapic *lapic, bool level);
// x2APIC MSRs 0x800-0x8ff, IA32_APIC_BASE, IA32_TSC_DEADLINE. False: the access must raise #GP(0).
MUST_CHECK bool lapic_msr_read(struct lapic *lapic, u32 msr, u64 *value);
MUST_CHECK bool lapic_msr_write(struct lapic *lapic, u32 msr, u64 value);
// The vCPU's TSC is now the clock plus `adjust`: IA32_TSC or IA32_TSC_ADJUST was written. Moves a
// TSC deadline.
void lapic_set_tsc_adjust(struct lapic *lapic, u64 adjust);
// What a PC's firmware leaves behind on the boot processor: enabled, LINT0 to the PIC, LINT1 NMI.
// For guests that are started without firmware.
void lapic_virtual_wire(struct lapic *lapic);
// CR8 is the high half of TPR's low byte.
u64 lapic_cr8_read(const struct lapic *lapic);
void lapic_cr8_write(struct lapic *lapic, u64 value);

// For a CPU whose MOV CR8 is not seen here: it reads and writes this word. Null takes it away.
void lapic_tpr_attach(struct lapic *lapic, u32 *tpr);
// At a CR8 below this an interrupt is no longer held off. Never above CR8; 0: none is.
unsigned lapic_tpr_threshold(const struct lapic *lapic);

// --- for a CPU that virtualises the local APIC (lapic_page.c) ---

enum lapic_page_mode {
    LAPIC_PAGE_UNUSED, // each access to a register must come here
    LAPIC_PAGE_XAPIC,  // the page at LAPIC_BASE_DEFAULT is the APIC's
    LAPIC_PAGE_X2APIC,
};

// `page` is zero, 4 KiB, in the layout of the xAPIC page; null takes it away.
void lapic_page_attach(struct lapic *lapic, u32 *page);
// For a CPU that takes posted interrupts into the page by itself. Zero; null takes it away.
void lapic_posted_attach(struct lapic *lapic, struct posted_interrupts *posted);
enum lapic_page_mode lapic_page_mode(const struct lapic *lapic);
// A read of this register (MSR - 0x800) may be served from the page.
bool lapic_page_serves(unsigned reg);
// Before the guest runs: what is pending and in service goes to the page. False: it was there and
// nothing is new. Else the highest vector that is requested and that is in service, 0 for none.
bool lapic_page_push(struct lapic *lapic, u8 *requested, u8 *in_service);
// The hardware did these: a write into the page at this offset, and the end of an interrupt.
void lapic_page_written(struct lapic *lapic, unsigned offset);
void lapic_page_eoi(struct lapic *lapic, u8 vector);

// --- messages ---

void apic_bus_deliver(struct apic_bus *bus, const struct apic_message *message);
// A memory write of a device to 0xfeexxxxx.
void apic_bus_msi(struct apic_bus *bus, u64 address, u32 data);
