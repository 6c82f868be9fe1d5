// SPDX-License-Identifier: MIT
// A guest that minds its own business while others misbehave: again and again it checks that its
// memory and registers hold what it put there, then sleeps. A line when all is well for so many
// rounds, "guest: FAIL" as soon as it is not.
#include "guests/lib/apic.h"
#include "guests/lib/check.h"

#define AREA        0x400000ull
#define AREA_SIZE   (4 * MIB)
#define ROUND_PAGES 64
#define VECTOR_TICK 0xf1
#define NAP_TICKS   2000000ull
#define LINE_ROUNDS 64

static bool on_interrupt(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    (void)frame;
    apic_write(APIC_EOI, 0);
    return vector == VECTOR_TICK;
}

static u64 pattern(u64 address)
{
    return address * 0x9e3779b97f4a7c15ull;
}

static void fill(void)
{
    for (u64 at = AREA; at < AREA + AREA_SIZE; at += sizeof(u64))
        *(volatile u64 *)at = pattern(at);
}

static bool page_is_whole(u64 page)
{
    for (u64 at = page; at < page + PAGE_SIZE; at += sizeof(u64))
        if (*(volatile u64 *)at != pattern(at))
            return false;
    return true;
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    check_setup();
    interrupt_hook = on_interrupt;
    apic_write(APIC_SVR, APIC_SVR_ENABLE | 0xff);
    apic_write(APIC_LVT_TIMER, VECTOR_TICK | APIC_LVT_TSC_DEADLINE);
    fill();
    u64 page = 0;
    for (u64 round = 1;; round++) {
        for (unsigned i = 0; i < ROUND_PAGES; i++, page = (page + PAGE_SIZE) % AREA_SIZE)
            if (!page_is_whole(AREA + page))
                guest_finish(false, "its memory changed");
        if (round % LINE_ROUNDS == 0) {
            guest_print("witness: rounds ");
            guest_print_number(round);
            guest_print("\n");
        }
        wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() + NAP_TICKS);
        interrupts_wait();
    }
}
