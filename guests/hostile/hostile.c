// SPDX-License-Identifier: MIT
// A guest that misbehaves in the one way that its command line names. What it can check from inside
// (that a hole reads all ones, that an unknown MSR gives #GP), it checks.
#include "guests/lib/guest.h"

#define HOLE_ADDRESS 0xd0000000ull // in the PCI hole, no device
#define HOLE_PORT    0x4242
#define UNKNOWN_MSR  0x1234
#define RESET_PORT   0xcf9
#define RESET_NOW    0x06
#define RDMSR_LENGTH 2

#define PIT_CHANNEL_0 0x40
#define PIT_CONTROL   0x43
#define PIT_RATE      0x34 // channel 0, both bytes, mode 2
#define RTC_INDEX     0x70
#define RTC_DATA      0x71
#define RTC_A         0x0a
#define RTC_A_8192HZ  0x23
#define RTC_B         0x0b
#define RTC_B_ALL     0x72 // the periodic, alarm and update interrupts, 24 hours
#define LOCAL_APIC    0xfee00000ull
#define APIC_SVR      0xf0
#define APIC_SVR_ON   0x1ff
#define APIC_TIMER    0x320
#define APIC_PERIODIC 0x20040
#define APIC_INITIAL  0x380
#define APIC_DIVIDE   0x3e0
#define APIC_DIVIDE_1 0xb

static volatile bool took_gp;

void guest_interrupt(u64 vector, u64 error, u64 rip, u64 *return_rip)
{
    (void)rip;
    if (vector != VECTOR_GP || error != 0)
        guest_finish(false, "an exception other than #GP(0)");
    took_gp = true;
    *return_rip += RDMSR_LENGTH; // WRMSR has the same length
}

static void triple_fault(void)
{
    static const struct {
        u16 limit;
        u64 base;
    } PACKED empty = {0, 0};
    __asm__ volatile("lidt %0; ud2" : : "m"(empty));
}

static void spin(void)
{
    __asm__ volatile("cli");
    for (;;)
        __asm__ volatile("");
}

static void holes(void)
{
    volatile u32 *hole = (volatile u32 *)HOLE_ADDRESS;
    if (*hole != 0xffffffff)
        guest_finish(false, "a hole in memory did not read all ones");
    *hole = 0;
    if (*hole != 0xffffffff)
        guest_finish(false, "a hole in memory kept a value");
    guest_finish(true, NULL);
}

static void ports(void)
{
    out32(HOLE_PORT, 0);
    if (in32(HOLE_PORT) != 0xffffffff || in16(HOLE_PORT) != 0xffff || in8(HOLE_PORT) != 0xff)
        guest_finish(false, "an unknown port did not read all ones");
    guest_finish(true, NULL);
}

static void msrs(void)
{
    rdmsr(UNKNOWN_MSR);
    if (!took_gp)
        guest_finish(false, "RDMSR of an unknown MSR gave no #GP");
    took_gp = false;
    wrmsr(UNKNOWN_MSR, 0);
    if (!took_gp)
        guest_finish(false, "WRMSR of an unknown MSR gave no #GP");
    guest_finish(true, NULL);
}

// An access where no instruction can be emulated: code in a hole.
static void run_hole(void)
{
    ((void (*)(void))HOLE_ADDRESS)();
}

// And again, as soon as it has started.
static void resets(void)
{
    out8(RESET_PORT, RESET_NOW);
    spin();
}

static void local_apic_write(unsigned offset, u32 value)
{
    *(volatile u32 *)(LOCAL_APIC + offset) = value;
}

// Every timer as fast as it goes, for nobody.
static void storm(void)
{
    static const struct {
        u16 port;
        u8 value;
    } writes[] = {
        {PIT_CONTROL, PIT_RATE},  {PIT_CHANNEL_0, 2}, {PIT_CHANNEL_0, 0},    {RTC_INDEX, RTC_A},
        {RTC_DATA, RTC_A_8192HZ}, {RTC_INDEX, RTC_B}, {RTC_DATA, RTC_B_ALL},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++)
        out8(writes[i].port, writes[i].value);
    local_apic_write(APIC_SVR, APIC_SVR_ON);
    local_apic_write(APIC_TIMER, APIC_PERIODIC);
    local_apic_write(APIC_DIVIDE, APIC_DIVIDE_1);
    local_apic_write(APIC_INITIAL, 1);
    spin();
}

void guest_main(const u8 *boot_params)
{
    static const struct {
        const char *word;
        void (*body)(void);
    } modes[] = {
        {"triple", triple_fault}, {"spin", spin},         {"holes", holes},   {"ports", ports},
        {"msrs", msrs},           {"run-hole", run_hole}, {"resets", resets}, {"storm", storm},
    };
    guest_idt_load();
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        if (!guest_has_word(boot_params, modes[i].word))
            continue;
        guest_print("guest: ");
        guest_print(modes[i].word);
        guest_print("\n");
        modes[i].body();
    }
    guest_finish(false, "the command line names no known mode");
}
