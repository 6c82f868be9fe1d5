// SPDX-License-Identifier: MIT
// The host's CPUs: bring-up, traps, local APIC, inter-processor calls, time. Interrupts are off in
// all host code and are taken only at interrupts_take() and interrupts_wait().
#pragma once

#include "vmm/lib/types.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/asm.h"

struct boot_info;

// --- bring-up (arch/x86_64/cpu.c, smp.c) ---
// GDT, TSS with IST stacks for NMI, #DF and #MC, IDT, GS, CR0/CR4/EFER/PAT as the core wants them.
// For the booting CPU.
void cpu_init_first(void);
// Start every other CPU of the boot information, one after the other, each on a guarded stack, and
// leave it in entry(); CPUs that do not answer are named in the log and left out. Returns how many
// run, this one included.
u32 smp_start(const struct boot_info *boot, void (*entry)(void));

// What a trap leaves, in the order that the entry stub pushes it.
struct trap_frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};

// --- interrupts (traps.c, apic.c, ioapic.c) ---
// Host interrupt vectors.
#define HOST_VECTOR_TIMER 0xf0 // local APIC timer
#define HOST_VECTOR_WAKE                                                                           \
    0xf1 // another CPU asks for a look at the run queue, or at a vCPU's requests
#define HOST_VECTOR_PANIC    0xf2
#define HOST_VECTOR_POSTED   0xf3 // an interrupt was posted for the vCPU in its guest here
#define HOST_VECTOR_DEVICE   0x40 // first of HOST_VECTOR_DEVICES for drivers
#define HOST_VECTOR_DEVICES  32
#define HOST_VECTOR_SPURIOUS 0xff

typedef void (*interrupt_handler)(void *context);
// The handler runs with interrupts off on whichever CPU took it; end-of-interrupt is sent for it.
void interrupt_register(u8 vector, interrupt_handler handler, void *context);
// An interrupt that the CPU has acknowledged already, without its gate: call its handler, end it.
void interrupt_dispatch(u8 vector);
// Deliver ISA interrupt irq (0-15) to the booting CPU through the IOAPIC with a vector of the
// device range. Returns an error code.
int interrupt_route_isa(const struct boot_info *boot, unsigned irq, interrupt_handler handler,
                        void *context);

void apic_init_cpu(void); // this CPU's: x2APIC if there is one, else xAPIC; masked timer, no LINT
void apic_eoi(void);
void apic_send_ipi(u32 apic_id, u8 vector);
void apic_send_init(u32 apic_id);
void apic_send_startup(u32 apic_id, u8 page);
void apic_send_nmi(u32 apic_id);
// Arm this CPU's timer for an absolute TSC value (past: fires at once); ~0 disarms.
void apic_timer_arm(u64 tsc_deadline);
void apic_timer_calibrate(void); // after tsc_calibrate(), on the booting CPU
const char *apic_mode_name(void);

// --- time (tsc.c) ---
// Measure the TSC against the PIT, else the PM timer, else believe CPUID leaf 0x15; panics if all
// fail.
void tsc_calibrate(const struct boot_info *boot);
extern u64 tsc_hz;
extern u64 tsc_boot; // the TSC when the core started
const char *tsc_source_name(void);
u64 time_microseconds(void); // since the core started
static inline u64 tsc_from_us(u64 us)
{
    return (u64)((unsigned __int128)us * tsc_hz / 1000000);
}
void delay_us(u64 us); // busy

// --- context switch (context.asm) ---
// Save the callee-saved registers on this stack, its pointer in *from, and go on with stack `to`.
void context_switch(u64 *from, u64 to);

// --- panic support ---
// Names of the CPU's vendor, brand; for `version` and `cpus`.
void cpu_brand(char *to, size_t size);
// Print registers of a trap and a frame-pointer backtrace through `print`.
void trap_frame_print(const struct trap_frame *frame, void (*print)(const char *format, ...));
void backtrace_print(u64 rbp, void (*print)(const char *format, ...));
// Run a function that may meet #GP (an RDMSR of an MSR that may not exist). False: it faulted.
bool rdmsr_safe(u32 msr, u64 *value);
bool wrmsr_safe(u32 msr, u64 value);
// Firmware's ResetSystem (type 0 cold, 2 shutdown), then the port 0xcf9 and i8042 ways. Does not
// return.
NORETURN void firmware_reset(const struct boot_info *boot, unsigned type);
