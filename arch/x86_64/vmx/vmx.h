// SPDX-License-Identifier: MIT
// What the files of the VT-x engine share: its part of a vCPU, its part of a CPU, and who does
// what.
#pragma once

#include "vmm/vm.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/regs.h"
#include "arch/x86_64/vmx/capabilities.h"
#include "arch/x86_64/vmx/instructions.h"

// MSRs that the guest uses directly and the host does not: REG_STAR to REG_TSC_AUX, in that order.
#define VMX_SWAPPED_MSRS (REG_TSC_AUX - REG_STAR + 1)

#define VMX_CPU_NONE (~0u)

// #MC is the host's. #DB and #AC can be raised again by their own delivery, for ever, within one
// instruction, where no timer ends the run ("Interrupt 17 - Alignment Check Exception"): they are
// injected from outside.
#define INTERCEPTED_EXCEPTIONS (BIT(VECTOR_MC) | BIT(VECTOR_DB) | BIT(VECTOR_AC))

struct vmx_vcpu {
    // entry.asm knows these two.
    u64 host_rsp; // what HOST_RSP holds
    u32 launched;

    bool loaded;          // the guest's MSRs, debug registers and CR2 are in the CPU
    u8 instruction_error; // of the last refused entry; 0: it was the guest's state
    u16 vpid;             // 0: none
    u32 cpu;              // where the VMCS is loaded, or VMX_CPU_NONE
    u32 last_cpu;         // whose host state it holds, and where translations are not stale
    u32 proc_controls;    // what the VMCS holds
    u32 entry_controls;
    // apic.c; the page holds TPR alone where the local APIC is software, or is null.
    u32 *apic_page;
    struct posted_interrupts *posted; // null: the CPU processes none, or the local APIC is software
    u64 eoi_exits[4];                 // what the VMCS holds
    bool apic_inside; // accesses to the page at LAPIC_BASE_DEFAULT are the hardware's
    u64 eptp;
    hpa_t vmcs;
    u8 *msr_bitmap;
    hpa_t io_bitmap;            // one for all vCPUs
    u64 msrs[VMX_SWAPPED_MSRS]; // while not loaded
    u64 cr2;
    struct vcpu *vcpu;
};

struct vmx_cpu {
    hpa_t vmxon_region;
    struct vmx_vcpu *current; // whose VMCS is current
};

static inline struct vmx_vcpu *vmx_of(struct vcpu *vcpu)
{
    return vcpu->engine;
}

static inline struct vmx_cpu *vmx_this_cpu(void)
{
    return this_cpu()->engine;
}

// vcpu.c: make a VMCS current that may not be, for one access. What vmcs_acquire() returns goes to
// vmcs_release(). The vCPU must not be loaded on another CPU.
COLD struct vmx_vcpu *vmcs_borrow(struct vmx_vcpu *v);
COLD void vmcs_return(struct vmx_vcpu *v, struct vmx_vcpu *former);

static inline struct vmx_vcpu *vmcs_acquire(struct vmx_vcpu *v)
{
    return likely(vmx_this_cpu()->current == v) ? v : vmcs_borrow(v);
}

static inline void vmcs_release(struct vmx_vcpu *v, struct vmx_vcpu *former)
{
    if (unlikely(former != v))
        vmcs_return(v, former);
}

// enable.c
int vmx_cpu_enable(void);
void vmx_cpu_disable(void);

// vmcs_setup.c; the VMCS is current.
void vmcs_write_controls(struct vmx_vcpu *v);
void vmcs_write_host_state(struct vmx_vcpu *v);
void vmcs_write_guest_reset(struct vmx_vcpu *v);
void vmcs_write_eptp(struct vmx_vcpu *v);

// vcpu.c
int vmx_vcpu_create(struct vcpu *vcpu);
void vmx_vcpu_destroy(struct vcpu *vcpu);
void vmx_vcpu_reset(struct vcpu *vcpu);
void vmx_vcpu_load(struct vcpu *vcpu);
void vmx_vcpu_unload(struct vcpu *vcpu);
void vmx_flush(struct vcpu *vcpu);
void vmx_set_tsc_offset(struct vcpu *vcpu, u64 offset);
void vmx_msr_passthrough(struct vcpu *vcpu, u32 msr, bool read, bool write);
// REG_STAR to REG_TSC_AUX, counted from REG_STAR.
u64 vmx_swapped_msr_read(const struct vmx_vcpu *v, unsigned index);
void vmx_swapped_msr_write(struct vmx_vcpu *v, unsigned index, u64 value);
// Drop what the CPU cached of the guest's own paging structures, as its MOV to a control register
// would.
void vmx_flush_linear(struct vmx_vcpu *v);

// apic.c: the hardware's part of the local APIC.
int vmx_apic_create(struct vmx_vcpu *v); // ERR_NO_MEMORY
void vmx_apic_destroy(struct vmx_vcpu *v);
void vmcs_write_apic(struct vmx_vcpu *v); // the controls that do not change. The VMCS is current
void vmx_apic_mode(struct vcpu *vcpu);
void vmx_tpr_threshold(struct vcpu *vcpu, unsigned threshold);
void vmx_apic_push(struct vcpu *vcpu);
bool vmx_apic_pending(struct vcpu *vcpu);
void vmx_apic_page_drop(struct vcpu *vcpu);
// The IDT-vectoring information, given what the CPU says and that it may be wrong.
COLD u32 vmx_apic_vectoring(struct vcpu *vcpu, u32 info);

// run.c
void vmx_run(struct vcpu *vcpu, struct vm_exit *exit, u64 ticks);

// entry.asm: reached through enter() of run.c only, for it follows no calling convention.
enum vmx_entry_result {
    VMX_ENTRY_OK,           // the guest ran and exited
    VMX_ENTRY_FAIL_INVALID, // VMfailInvalid: without an error number
    VMX_ENTRY_FAIL_VALID,   // VMfailValid: with one
};
void vmx_enter(void);
void vmx_exit_entry(void); // HOST_RIP

// event.c
void vmx_event_inject(struct vcpu *vcpu);  // vcpu->event into the VMCS
void vmx_event_requeue(struct vcpu *vcpu); // what was being delivered when the exit came
// An event from one of the three interruption-information words; the fields that go with it are
// given.
struct vcpu_event vmx_event_decode(u32 info, u32 error_field);
bool vmx_can_take_interrupt(struct vcpu *vcpu);
bool vmx_can_take_nmi(struct vcpu *vcpu);
void vmx_want_window(struct vcpu *vcpu, bool on);
void vmx_want_nmi_window(struct vcpu *vcpu, bool on);
void vmx_skip(struct vcpu *vcpu, u64 rip);
void vmx_intercept(struct vcpu *vcpu, u32 exceptions, bool debug_registers);
void vmx_drop_step_trap(struct vcpu *vcpu);
// Keep the pending debug exceptions as the entry checks want them after RFLAGS or the
// interruptibility changed.
void vmx_pending_debug_adjust(void);

// decode.c: from the hardware's exit to struct vm_exit. One row for each basic exit reason; a
// reason that has none (decode is null) is for vmx_decode_unknown().
enum vmx_row_flags {
    VMX_ROW_LENGTH = 1,   // the instruction's length is valid and needed
    VMX_ROW_DELIVERY = 2, // an event may have been on its way when this exit came
};
struct vmx_row {
    void (*decode)(struct vcpu *vcpu, struct vm_exit *exit);
    u8 kind; // enum exit_kind; decode may set another
    u8 flags;
};
extern const struct vmx_row vmx_rows[VMX_EXIT_REASON_COUNT];
COLD void vmx_decode_unknown(struct vm_exit *exit, u32 reason);

// state.c
u64 vmx_reg_read(struct vcpu *vcpu, enum vcpu_reg reg);
void vmx_reg_write(struct vcpu *vcpu, enum vcpu_reg reg, u64 value);
void vmx_segment_read(struct vcpu *vcpu, enum vcpu_segment which, struct segment *segment);
void vmx_segment_write(struct vcpu *vcpu, enum vcpu_segment which, const struct segment *segment);
COLD bool vmx_real_segments_repair(void); // was there something to repair?

// control_registers.c; the VMCS is current.
u64 vmx_cr0_read(void);
u64 vmx_cr4_read(void);
void vmx_cr0_write(struct vmx_vcpu *v, u64 value);
void vmx_cr3_write(struct vmx_vcpu *v, u64 value);
void vmx_cr4_write(struct vmx_vcpu *v, u64 value);
void vmx_efer_write(struct vmx_vcpu *v, u64 value);
u64 vmx_cr0_mask(void);
u64 vmx_cr4_mask(void);

// explain.c, explain_state.c
const char *vmx_instruction_error_name(u32 error);
const char *vmcs_field_name(u32 field);
void vmx_explain(struct vcpu *vcpu, void (*print)(void *context, const char *format, ...),
                 void *context);
