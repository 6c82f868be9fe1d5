// SPDX-License-Identifier: MIT
// A guest to be debugged: instructions that a single step has trouble with, each at a label, and a
// variable to be watched. What the debugger does must not show in here.
#include "guests/lib/guest.h"

#define VECTOR_OWN   0x40
#define FRAME_RFLAGS 2 // behind the return address
#define REPEATS      3
#define CALLS        10

volatile u64 watched, quiet;
static volatile u64 pushed_flags, bad_flags;
static volatile unsigned breakpoints, interrupts;
static u8 filled[REPEATS];

void called(u64 value);
void steps(volatile u64 *flags, u8 *to);
__asm__(".globl steps, step_cpuid, step_in, step_popf, step_int3, step_int, step_rep, step_end\n"
        "steps:       push %rbx\n"
        "             pushfq\n"
        "             pop (%rdi)\n"
        "             xor %eax, %eax\n"
        "             mov %rdi, %r8\n"
        "             mov %rsi, %rdi\n"
        "step_cpuid:  cpuid\n"
        "step_in:     in $0x80, %al\n"
        "             pushq (%r8)\n"
        "step_popf:   popfq\n"
        "step_int3:   int3\n"
        "step_int:    int $0x40\n"
        "             mov $3, %ecx\n"
        "             mov $0x5a, %al\n"
        "step_rep:    rep stosb\n"
        "step_end:    pop %rbx\n"
        "             ret\n");

void guest_interrupt(u64 vector, u64 error, u64 rip, u64 *return_rip)
{
    (void)error;
    (void)rip;
    breakpoints += vector == VECTOR_BP;
    interrupts += vector == VECTOR_OWN;
    bad_flags |= return_rip[FRAME_RFLAGS] & RFLAGS_TF;
}

__attribute__((noinline)) void called(u64 value)
{
    quiet = value;
    watched = value * 2;
}

static void check(void)
{
    if (breakpoints != 1 || interrupts != 1)
        guest_finish(false, "the guest's own INT3 or INT n did not reach it");
    if ((pushed_flags | bad_flags) & RFLAGS_TF)
        guest_finish(false, "the debugger's trap flag shows");
    for (unsigned i = 0; i < REPEATS; i++)
        if (filled[i] != 0x5a)
            guest_finish(false, "REP STOS was not finished");
    if (watched != 2 * CALLS)
        guest_finish(false, "a call was lost");
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    guest_idt_load();
    guest_print("guest: to be debugged\n");
    steps(&pushed_flags, filled);
    for (u64 i = 1; i <= CALLS; i++)
        called(i);
    check();
    guest_finish(true, NULL);
}
