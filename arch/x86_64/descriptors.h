// SPDX-License-Identifier: MIT
// The host's segments. Every CPU has a GDT and a TSS of its own; the IDT is shared. The VM engine
// puts these into its host state.
#pragma once

#include "vmm/lib/types.h"

#define HOST_CODE_SELECTOR 0x08
#define HOST_DATA_SELECTOR 0x10 // SS, DS, ES; FS and GS are null with bases of their own
#define HOST_TSS_SELECTOR  0x18 // two entries wide

struct percpu;

// Hardware formats: SDM volume 3, "64-Bit Task State Segment" and "64-Bit IDT Gate Descriptors".
struct PACKED task_state {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7]; // ist[0] is IST1
    u64 reserved2;
    u16 reserved3;
    u16 io_map_base;
};

struct PACKED idt_gate {
    u16 offset_low;
    u16 selector;
    u8 ist;
    u8 type;
    u16 offset_middle;
    u32 offset_high;
    u32 reserved;
};

// Stacks that do not depend on the one that a trap interrupted.
enum { IST_NONE = 0, IST_NMI = 1, IST_DOUBLE_FAULT = 2, IST_MACHINE_CHECK = 3, IST_COUNT = 3 };
#define IST_STACK_SIZE (8 * KIB)

// Where the VM engine's host state points.
const struct task_state *cpu_task_state(const struct percpu *cpu);
const u64 *cpu_gdt(const struct percpu *cpu);
const struct idt_gate *cpu_idt(void);

// --- between cpu.c, traps.c and smp.c ---
// Tables, GS and control registers of an application processor; its IST stacks are given, tops
// first to last.
void cpu_init_other(struct percpu *cpu, void *const ist_tops[IST_COUNT]);
void idt_init(struct idt_gate idt[256]); // traps.c
