// SPDX-License-Identifier: MIT
// SDM volume 3, "MP Initialization Protocol Requirements and Restrictions".
#include "guests/lib/smp.h"
#include "guests/lib/apic.h"

#define SMP_PAGE        0x90000ull
#define ICR_INIT        (5u << 8)
#define ICR_STARTUP     (6u << 8)
#define ICR_DESTINATION 32
#define XAPIC_ID_SHIFT  24

extern const u8 smp_start[], smp_parameters[], smp_end[];

struct parameters {
    u64 cr3, stack_top, entry;
    u16 gdt_limit;
    u64 gdt_base;
} PACKED;

static void send(u32 apic_id, u32 command)
{
    command |= APIC_ICR_ASSERT;
    if (apic_is_x2apic()) {
        apic_write(APIC_ICR, (u64)apic_id << ICR_DESTINATION | command);
        return;
    }
    apic_write(APIC_ICR_HIGH, apic_id << XAPIC_ID_SHIFT);
    apic_write(APIC_ICR, command);
}

void guest_start_cpu(u32 apic_id, void *stack_top, void (*entry)(void))
{
    u8 *page = (u8 *)SMP_PAGE;
    struct parameters parameters = {
        .cr3 = read_cr3(), .stack_top = (u64)stack_top, .entry = (u64)entry};
    __asm__ volatile("sgdt %0" : "=m"(parameters.gdt_limit) : : "memory");
    for (u64 i = 0; i < (u64)(smp_end - smp_start); i++)
        page[i] = smp_start[i];
    for (u64 i = 0; i < sizeof(parameters); i++)
        page[(u64)(smp_parameters - smp_start) + i] = ((u8 *)&parameters)[i];
    send(apic_id, ICR_INIT);
    send(apic_id, ICR_STARTUP | (u32)(SMP_PAGE / PAGE_SIZE));
}
