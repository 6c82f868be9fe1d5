// SPDX-License-Identifier: MIT
// Two CPUs: INIT and start-up, IPIs in both directions and by every kind of destination, NMIs and
// their blocking, a level-triggered line that the other CPU takes (Remote IRR). The lines are the
// test device's. SDM volume 3, "MP Initialization", "Issuing Interprocessor Interrupts", "Handling
// Multiple NMIs"; 82093AA, "I/O Redirection Table Registers".
#include "guests/lib/check.h"
#include "guests/lib/apic.h"
#include "guests/lib/smp.h"

#define OTHER_ID        1
#define OTHER_STACK     16384
#define WAIT_TICKS      100000000ull
#define SETTLE_TICKS    500000ull
#define SPURIOUS        0xff
#define VECTOR_IPI      0x41
#define VECTOR_LINE     0x51
#define LINE            17
#define LINES_PORT      0x2000
#define IOAPIC          0xfec00000ull
#define IOAPIC_PIN(pin) (0x10u + 2u * (pin))
#define PIN_LEVEL       BIT(15)
#define PIN_REMOTE_IRR  BIT(14)
#define PIN_MASKED      BIT(16)
#define ICR_NMI         (4u << 8)
#define ICR_LOGICAL     BIT(11)
#define ICR_ALL         (2u << 18)
#define ICR_OTHERS      (3u << 18)
#define LDR_SHIFT       24

// What the other CPU is to do; it runs what it is given.
static void (*volatile order)(void);
static volatile bool other_up;
static volatile u32 other_id;
static u8 other_stack[OTHER_STACK] ALIGNED(16);

static volatile unsigned ipis[2], lines, nmis, nmi_depth, nmi_depth_max;
static volatile bool nmi_hold, line_hold;

// --- the other CPU ---

// What it takes over from the first CPU, once that has it.
static struct table_pointer {
    u16 limit;
    u64 base;
} PACKED gdt_pointer, idt_pointer;
static volatile bool tables_ready;
static u64 tables_cr3;

static void tables_load(void)
{
    while (!tables_ready)
        ;
    __asm__ volatile("lgdt %0; lidt %1\n"
                     "pushq %2; pushq $1f; lretq\n"
                     "1: mov %3, %%ds; mov %3, %%es; mov %3, %%ss"
                     :
                     : "m"(gdt_pointer), "m"(idt_pointer), "i"(SELECTOR_CODE), "r"(SELECTOR_DATA)
                     : "memory");
    write_cr3(tables_cr3);
}

static void apic_enable(void)
{
    apic_write(APIC_SVR, APIC_SVR_ENABLE | SPURIOUS);
}

static void other_main(void)
{
    tables_load();
    apic_enable();
    other_id = apic_read(APIC_ID) >> LDR_SHIFT;
    apic_write(APIC_DFR, ~0u);
    apic_write(APIC_LDR, 2u << LDR_SHIFT);
    other_up = true;
    for (;;) {
        void (*run)(void) = order;
        if (run) {
            run();
            order = NULL;
        }
        interrupts_take();
    }
}

static bool wait_until(volatile unsigned *count, unsigned wanted)
{
    u64 end = rdtsc() + WAIT_TICKS;
    while (*count < wanted && rdtsc() < end)
        interrupts_take();
    return *count == wanted;
}

static void settle(void)
{
    for (u64 end = rdtsc() + SETTLE_TICKS; rdtsc() < end;)
        interrupts_take();
}

// The order has been carried out.
static bool wait_done(void)
{
    u64 end = rdtsc() + WAIT_TICKS;
    while (order && rdtsc() < end)
        interrupts_take();
    return !order;
}

static void icr(u32 to, u32 command)
{
    apic_write(APIC_ICR_HIGH, (u64)to << LDR_SHIFT);
    apic_write(APIC_ICR, command);
}

static bool wait_other(void)
{
    __asm__ volatile("sgdt %0; sidt %1" : "=m"(gdt_pointer), "=m"(idt_pointer));
    tables_cr3 = read_cr3();
    tables_ready = true;
    for (u64 end = rdtsc() + WAIT_TICKS; !other_up && rdtsc() < end;)
        ;
    return other_up;
}

// --- what comes ---

static unsigned here(void)
{
    return apic_read(APIC_ID) >> LDR_SHIFT == other_id && other_up;
}

static void on_line(void)
{
    lines++;
    while (line_hold)
        ;
    apic_write(APIC_EOI, 0);
}

static void on_nmi(void)
{
    nmi_depth++;
    nmi_depth_max = MAX(nmi_depth, nmi_depth_max);
    nmis++;
    while (nmi_hold)
        ;
    nmi_depth--;
}

static bool on_interrupt(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    (void)frame;
    switch (vector) {
    case VECTOR_IPI:
        ipis[here()]++;
        apic_write(APIC_EOI, 0);
        return true;
    case VECTOR_LINE:
        check(here(), "the line goes to the other CPU");
        on_line();
        return true;
    case VECTOR_NMI:
        on_nmi();
        return true;
    default:
        return vector == SPURIOUS;
    }
}

// --- IPIs ---

static void ipi_check(u32 to, u32 command, unsigned at_this, unsigned at_other, const char *what)
{
    ipis[0] = ipis[1] = 0;
    icr(to, command | VECTOR_IPI | APIC_ICR_ASSERT);
    bool good = wait_until(&ipis[0], at_this) && wait_until(&ipis[1], at_other);
    settle();
    check(good && ipis[0] == at_this && ipis[1] == at_other, what);
}

static void ipi_back(void)
{
    icr(apic_read(APIC_ID) >> LDR_SHIFT ^ 1, VECTOR_IPI | APIC_ICR_ASSERT);
}

static void inter_processor(void)
{
    u32 id = apic_read(APIC_ID) >> LDR_SHIFT;
    apic_write(APIC_LDR, 1u << LDR_SHIFT);
    ipi_check(other_id, 0, 0, 1, "an IPI to the other CPU");
    ipi_check(id, 0, 1, 0, "an IPI to this CPU by its number");
    ipi_check(SPURIOUS, 0, 1, 1, "an IPI to the broadcast number");
    ipi_check(0, APIC_ICR_SELF, 1, 0, "an IPI to self");
    ipi_check(0, ICR_ALL, 1, 1, "an IPI to all");
    ipi_check(0, ICR_OTHERS, 0, 1, "an IPI to the others");
    ipi_check(2, ICR_LOGICAL, 0, 1, "a logical IPI to the other");
    ipi_check(3, ICR_LOGICAL, 1, 1, "a logical IPI to both");
    ipi_check(4, ICR_LOGICAL, 0, 0, "a logical IPI to nobody");
    ipis[0] = ipis[1] = 0;
    order = ipi_back;
    check(wait_done() && wait_until(&ipis[0], 1), "an IPI from the other CPU");
}

// --- NMIs ---

static void nmi_send(u32 to)
{
    icr(to, ICR_NMI | APIC_ICR_ASSERT);
}

static void nmi_blocking(void)
{
    nmis = nmi_depth_max = 0;
    nmi_hold = true;
    nmi_send(other_id);
    check(wait_until(&nmis, 1), "an NMI arrives");
    for (unsigned i = 0; i < 3; i++)
        nmi_send(other_id);
    settle();
    check_equal(nmis, 1, "no NMI while one is handled");
    nmi_hold = false;
    check(wait_until(&nmis, 2), "one that came meanwhile arrives after IRET");
    settle();
    check_equal(nmis, 2, "and only one");
    check_equal(nmi_depth_max, 1, "NMIs do not nest");
    nmi_send(other_id);
    check(wait_until(&nmis, 3), "IRET unblocked them");
}

static void nmis_to_self(void)
{
    nmis = 0;
    nmi_send(apic_read(APIC_ID) >> LDR_SHIFT);
    check(wait_until(&nmis, 1), "an NMI to self");
}

static void halt(void)
{
    __asm__ volatile("hlt");
}

// With interrupts off only an NMI ends HLT.
static void nmi_wakes(void)
{
    nmis = 0;
    order = halt;
    settle();
    check(order == halt, "HLT waits");
    nmi_send(other_id);
    check(wait_done() && nmis == 1, "an NMI ends HLT");
}

// --- a level-triggered line ---

static u32 ioapic_read(u32 reg)
{
    *(volatile u32 *)IOAPIC = reg;
    return *(volatile u32 *)(IOAPIC + 16);
}

static void ioapic_write(u32 reg, u32 value)
{
    *(volatile u32 *)IOAPIC = reg;
    *(volatile u32 *)(IOAPIC + 16) = value;
}

static bool remote_irr(void)
{
    return ioapic_read(IOAPIC_PIN(LINE)) & PIN_REMOTE_IRR;
}

static void line_set(bool high)
{
    out8(LINES_PORT + LINE, high);
}

static void level_line(void)
{
    lines = 0;
    line_set(false);
    ioapic_write(IOAPIC_PIN(LINE) + 1, other_id << LDR_SHIFT);
    ioapic_write(IOAPIC_PIN(LINE), VECTOR_LINE | (u32)PIN_LEVEL);
    check(!remote_irr(), "Remote IRR of a quiet line");
    line_hold = true;
    line_set(true);
    check(wait_until(&lines, 1), "a level-triggered line");
    check(remote_irr(), "Remote IRR while it is served");
    settle();
    check_equal(lines, 1, "no second one before EOI");
    line_set(false);
    line_set(true);
    settle();
    check_equal(lines, 1, "nor when it falls and rises");
    line_hold = false;
    settle();
    check(lines > 2, "it comes again as long as it is high");
    line_hold = true;
    line_set(false);
    line_hold = false;
    settle();
    unsigned seen = lines;
    settle();
    check_equal(lines, seen, "a line that is low is quiet");
    check(!remote_irr(), "EOI cleared Remote IRR");
    ioapic_write(IOAPIC_PIN(LINE), VECTOR_LINE | (u32)(PIN_LEVEL | PIN_MASKED));
    line_set(true);
    settle();
    check_equal(lines, seen, "a masked line is quiet");
    line_set(false);
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    guest_start_cpu(OTHER_ID, other_stack + OTHER_STACK, other_main); // with the loader's GDT
    check_setup();
    interrupt_hook = on_interrupt;
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    apic_enable();
    if (check(wait_other(), "the other CPU starts")) {
        inter_processor();
        nmis_to_self();
        nmi_blocking();
        nmi_wakes();
        level_line();
    }
    check_finish();
}
