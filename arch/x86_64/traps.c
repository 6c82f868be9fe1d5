// SPDX-License-Identifier: MIT
// Every trap and interrupt of the host comes through trap_dispatch(): interrupts go to their
// handlers, an instruction with a fix-up goes on at the place that it names, one of a guest's that
// is run for it reports its exception, an NMI is counted, and the rest is an error of ours. How a
// trap is put into words is in trap_report.c.
#include "arch/x86_64/traps.h"
#include "arch/x86_64/apic.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/descriptors.h"
#include "arch/x86_64/native.h"
#include "arch/x86_64/panic.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/log.h"

#define IDT_INTERRUPT_GATE 0x8e // present, ring 0, 64-bit, leaves interrupts off
#define VECTOR_FIRST_FREE  32   // below: exceptions

extern const u64 trap_stubs[256];

static struct {
    interrupt_handler handler;
    void *context;
    bool complained;
} handlers[256];

static u64 nmis;

u64 trap_nmi_count(void)
{
    return __atomic_load_n(&nmis, __ATOMIC_RELAXED);
}

static const u8 ist_of[256] = {
    [VECTOR_NMI] = IST_NMI,
    [VECTOR_DF] = IST_DOUBLE_FAULT,
    [VECTOR_MC] = IST_MACHINE_CHECK,
};

void idt_init(struct idt_gate idt[256])
{
    for (unsigned vector = 0; vector < 256; vector++)
        idt[vector] = (struct idt_gate){
            .offset_low = (u16)trap_stubs[vector],
            .offset_middle = (u16)(trap_stubs[vector] >> 16),
            .offset_high = (u32)(trap_stubs[vector] >> 32),
            .selector = HOST_CODE_SELECTOR,
            .ist = ist_of[vector],
            .type = IDT_INTERRUPT_GATE,
        };
}

// The handler is published before the interrupt can come: callers unmask afterwards.
void interrupt_register(u8 vector, interrupt_handler handler, void *context)
{
    assert(vector >= VECTOR_FIRST_FREE);
    handlers[vector].context = context;
    __atomic_store_n(&handlers[vector].handler, handler, __ATOMIC_RELEASE);
}

static void interrupt_call(u8 vector)
{
    interrupt_handler handler = __atomic_load_n(&handlers[vector].handler, __ATOMIC_ACQUIRE);
    if (handler) {
        handler(handlers[vector].context);
    } else if (vector < HOST_VECTOR_TIMER && !handlers[vector].complained) {
        handlers[vector].complained = true;
        log_warn("interrupt vector 0x%x on CPU %u has no handler", vector, this_cpu()->index);
    }
}

// HOST_VECTOR_WAKE needs no handler: its purpose is to end a HLT or a guest's run. Nor does
// HOST_VECTOR_POSTED, whose purpose was missed if it comes here: the request that it came with is
// found before the next run.
void interrupt_dispatch(u8 vector)
{
    this_cpu()->interrupts++;
    if (vector == HOST_VECTOR_SPURIOUS)
        return; // no end-of-interrupt for it (SDM volume 3, "Spurious Interrupt")
    if (vector == HOST_VECTOR_PANIC)
        panic_stop_point();
    if (vector != HOST_VECTOR_TIMER || apic_timer_expired())
        interrupt_call(vector);
    apic_eoi();
}

static bool fixup_apply(struct trap_frame *frame)
{
    for (const struct fixup *f = core_fixups_start; f < core_fixups_end; f++)
        if (f->instruction == frame->rip) {
            frame->rip = f->resume;
            return true;
        }
    return false;
}

void trap_dispatch(struct trap_frame *frame)
{
    if (frame->vector >= VECTOR_FIRST_FREE) {
        interrupt_dispatch((u8)frame->vector);
    } else if (frame->vector == VECTOR_NMI) {
        panic_stop_point();
        __atomic_fetch_add(&nmis, 1, __ATOMIC_RELAXED);
    } else if (!native_trap(frame) && (frame->vector != VECTOR_GP || !fixup_apply(frame))) {
        panic_trap(frame);
    }
}

bool rdmsr_safe(u32 msr, u64 *value)
{
    u32 done = 0, low = 0, high = 0;
    __asm__ volatile("1: rdmsr\n\t"
                     "movl $1, %[done]\n"
                     "2:" FIXUP("1b", "2b")
                     : [done] "+r"(done), "+a"(low), "+d"(high)
                     : "c"(msr)
                     : "memory");
    *value = (u64)high << 32 | low;
    return done;
}

bool wrmsr_safe(u32 msr, u64 value)
{
    u32 done = 0;
    __asm__ volatile("1: wrmsr\n\t"
                     "movl $1, %[done]\n"
                     "2:" FIXUP("1b", "2b")
                     : [done] "+r"(done)
                     : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32))
                     : "memory");
    return done;
}
