// SPDX-License-Identifier: MIT
// What each host CPU has of its own. GS holds the address of this structure while host code runs;
// the first member is that address, so this_cpu() is one load.
#pragma once

#include "vmm/lib/types.h"

struct thread;
struct run_queue;
struct vcpu;

struct percpu {
    struct percpu *self;
    u32 index; // 0 is the CPU that booted
    u32 apic_id;
    bool online;
    bool engine_on; // the VM engine is enabled on this CPU (VMXON done)
    u8 panic_stage;
    struct thread *thread; // what runs here now
    struct run_queue *queue;
    struct vcpu *loaded; // whose machine state (FPU, MSRs, VMCS) is in the CPU now
    u64 timer_deadline;  // TSC value the local APIC timer is armed for; ~0: not armed
    u64 interrupts;      // taken on this CPU
    u64 idle_cycles;     // halted, up to the last wake-up
    u64 idle_since;      // TSC when it halted; 0: it does not
    void *arch;          // gdt, tss, stacks: arch/x86_64/cpu.c
    void *engine;        // the engine's own, e.g. the VMXON region
};

#define CPU_MAX 64

// All CPUs found, in order of index; cpu_count is how many are online or may come online.
extern struct percpu percpus[CPU_MAX];
extern u32 cpu_count;

static inline struct percpu *this_cpu(void)
{
    struct percpu *p;
    __asm__("mov %%gs:0, %0" : "=r"(p));
    return p;
}
