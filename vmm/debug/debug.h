// SPDX-License-Identifier: MIT
// What a debugger does to a VM, whatever protocol it speaks: stops, single steps, breakpoints,
// watchpoints, memory as its code sees it. One VM at a time.
//
// A vCPU under a debugger has its engine's verbs with some of them replaced (struct cpu_ops is
// copied): its runs, its debug registers, its interrupts while it steps. So nothing in the exit
// path of any other vCPU knows of debuggers. All but the replaced verbs is called while the VM is
// held (vm_hold), and when it stops all its vCPUs are parked.
#pragma once

#include "vmm/vm.h"

#define DEBUG_SLOTS       4  // hardware breakpoints and watchpoints: debug registers
#define DEBUG_BREAKPOINTS 64 // in memory

enum debug_mode {
    DEBUG_RUN,
    DEBUG_STEP, // one instruction, or the delivery of one event; interrupts wait
    DEBUG_STAY, // does not run when the others do
};

enum debug_kind {
    DEBUG_NONE,
    DEBUG_STEPPED,
    DEBUG_BREAKPOINT, // in memory
    // By the debug registers, in the order of their condition field: execute, write, read or write.
    DEBUG_EXECUTE,
    DEBUG_WRITE,
    DEBUG_READ,
    DEBUG_ACCESS,
};

struct debug_slot {
    enum debug_kind kind; // DEBUG_NONE: free
    u8 size;
    gva_t gva;
};

struct debug_vcpu {
    enum debug_mode mode;
    enum debug_kind stop; // why it stopped, until told
    gva_t stop_gva;       // watchpoints: where
    u64 dr[4], dr6, dr7;  // the guest's own
};

struct debug {
    struct vm *vm; // null: none
    void (*stopped)(void);
    const struct cpu_ops *real;
    struct cpu_ops ops;
    struct debug_slot slots[DEBUG_SLOTS];
    struct debug_vcpu vcpus[CONFIG_CPUS_MAX];
};
extern struct debug debug;

static inline struct debug_vcpu *debug_of(const struct vcpu *vcpu)
{
    return &debug.vcpus[vcpu->index];
}

// Take over the vCPUs, all in DEBUG_RUN. stopped() is called in a vCPU's thread when it asked for a
// pause.
void debug_begin(struct vm *vm, void (*stopped)(void));
void debug_end(void);    // all breakpoints go, and the guest has its own debug registers again
void debug_forget(void); // the same after the VM has ended

void debug_set_mode(struct vcpu *vcpu, enum debug_mode mode);

// The address that the code at RIP has, and that instruction pointer of an address.
gva_t debug_linear_rip(struct vcpu *vcpu);
void debug_set_linear_rip(struct vcpu *vcpu, gva_t gva);

// --- vmm/debug/debug_memory.c ---
// Through the guest's page tables, whatever they allow. Returns how many bytes were there.
unsigned debug_read(struct vcpu *vcpu, gva_t gva, u8 *to, unsigned size); // breakpoints do not show
unsigned debug_write(struct vcpu *vcpu, gva_t gva, const u8 *from, unsigned size);
// An error code: ERR_RANGE, there are too many; ERR_FAULT, no memory.
MUST_CHECK int debug_breakpoint_set(struct vcpu *vcpu, gva_t gva);
MUST_CHECK int debug_breakpoint_clear(struct vcpu *vcpu, gva_t gva);
bool debug_breakpoint_at(struct vcpu *vcpu, gva_t gva);
void debug_breakpoints_clear(bool restore); // false: what they stood in is gone

// --- vmm/debug/debug_registers.c ---
// ERR_INVALID: no such size, or not aligned; ERR_RANGE: all four are in use, by the guest's own
// too.
MUST_CHECK int debug_slot_set(enum debug_kind kind, gva_t gva, u64 size);
MUST_CHECK int debug_slot_clear(enum debug_kind kind, gva_t gva, u64 size);
void debug_registers_take(struct vcpu *vcpu);  // the guest's, out of the vCPU
void debug_registers_give(struct vcpu *vcpu);  // and back
void debug_registers_apply(struct vcpu *vcpu); // the guest's and ours; it is in no CPU
void debug_registers_reset(struct vcpu *vcpu); // the guest's; it is in this CPU
u64 debug_reg_read(struct vcpu *vcpu, enum vcpu_reg reg);
void debug_reg_write(struct vcpu *vcpu, enum vcpu_reg reg, u64 value);
// After an exit for #DB. Conditions that the guest set up are in its DR6 then.
struct debug_found {
    bool stepped; // BS
    bool guests;  // a condition of the guest's own
    int slot;     // of ours; -1: none
};
struct debug_found debug_exception(struct vcpu *vcpu);
void debug_guest_step(struct vcpu *vcpu); // BS is the guest's
// MOV to or from a debug register.
enum exit_action debug_register_access(struct vcpu *vcpu, struct vm_exit *exit);
