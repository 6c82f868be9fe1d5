// SPDX-License-Identifier: MIT
// The engine seam: who runs guest instructions. One const struct cpu_ops an engine, picked per VM;
// nothing outside the engine's folder tests for a vendor.
#pragma once

#include "vmm/lib/types.h"
#include "vmm/exit.h"
#include "arch/x86_64/page_table.h"

struct vcpu;

// Registers that the engine may keep in hardware form. The general registers but RSP live in struct
// vcpu.
enum vcpu_reg {
    REG_RIP,
    REG_RSP,
    REG_RFLAGS,
    REG_CR0,
    REG_CR2,
    REG_CR3,
    REG_CR4, // as the guest sees them
    REG_DR6,
    REG_DR7,
    REG_EFER,
    REG_PAT,
    REG_SYSENTER_CS,
    REG_SYSENTER_ESP,
    REG_SYSENTER_EIP,
    REG_STAR,
    REG_LSTAR,
    REG_CSTAR,
    REG_FMASK,
    REG_KERNEL_GS_BASE,
    REG_TSC_AUX,
    REG_DEBUGCTL,
    REG_PDPTE0,
    REG_PDPTE1,
    REG_PDPTE2,
    REG_PDPTE3,
    REG_INTERRUPTIBILITY, // enum vcpu_interruptibility bits
    REG_COUNT
};

enum vcpu_interruptibility { BLOCKED_STI = 1, BLOCKED_MOV_SS = 2, BLOCKED_NMI = 8 };

enum vcpu_segment {
    SEG_ES,
    SEG_CS,
    SEG_SS,
    SEG_DS,
    SEG_FS,
    SEG_GS,
    SEG_LDTR,
    SEG_TR,
    SEG_GDTR,
    SEG_IDTR,
    SEG_COUNT
};

// access: bits 7:0 and 15:12 as in a descriptor's second word (type, S, DPL, P; AVL, L, D/B, G),
// bit 16 unusable. GDTR and IDTR use base and limit only. limit is in bytes.
struct segment {
    u16 selector;
    u32 access;
    u32 limit;
    u64 base;
};
#define SEGMENT_UNUSABLE BIT(16)
#define SEGMENT_L        BIT(13)
#define SEGMENT_DPL      (3u << 5)
#define SEGMENT_DB       BIT(14)

#define ENGINE_DESCRIPTION_MAX 320

struct cpu_ops {
    const char *name;        // as in the configuration: "vmx"
    const char *description; // "Intel VT-x"

    // Once, on the booting CPU. Null: this machine can run guests with it; else the reason, in
    // words for the user.
    const char *(*probe)(void);
    // On each CPU, before any vCPU runs there. An error code.
    int (*cpu_enable)(void);
    void (*cpu_disable)(void);

    const struct page_table_format *stage2_format;
    unsigned (*stage2_max_leaf)(void);
    // One line about what is in use ("EPT 4K/2M/1G A/D, VPID, unrestricted, ..."), for `info` and
    // `version`.
    void (*describe)(char *to, size_t size);

    int (*vcpu_create)(struct vcpu *vcpu); // ERR_NO_MEMORY
    void (*vcpu_destroy)(struct vcpu *vcpu);
    void (*vcpu_reset)(
        struct vcpu *vcpu); // the manual's state after power-up; also empties queued events
    // The vCPU's state into this CPU, and back out to memory so that it can go to another CPU.
    void (*vcpu_load)(struct vcpu *vcpu);
    void (*vcpu_unload)(struct vcpu *vcpu);

    // Enter the guest until it exits, after `ticks` of the host's TSC at the latest, and say why. A
    // host interrupt that ended the run has been taken when this returns. An event that was being
    // delivered when the exit came is put into vcpu->event, to be injected again by the next run.
    void (*run)(struct vcpu *vcpu, struct vm_exit *exit, u64 ticks);

    u64 (*reg_read)(struct vcpu *vcpu, enum vcpu_reg reg);
    void (*reg_write)(struct vcpu *vcpu, enum vcpu_reg reg, u64 value);
    void (*segment_read)(struct vcpu *vcpu, enum vcpu_segment which, struct segment *segment);
    void (*segment_write)(struct vcpu *vcpu, enum vcpu_segment which,
                          const struct segment *segment);
    // Step over the instruction that exited: RIP to rip, interrupt shadow cleared, a pending
    // single-step trap raised.
    void (*skip)(struct vcpu *vcpu, u64 rip);

    // May an external interrupt (nmi: an NMI) be injected at the next entry?
    bool (*can_take_interrupt)(struct vcpu *vcpu);
    bool (*can_take_nmi)(struct vcpu *vcpu);
    void (*want_window)(struct vcpu *vcpu, bool interrupt); // exit as soon as one can be taken
    void (*want_nmi_window)(struct vcpu *vcpu, bool on);
    void (*flush)(struct vcpu *vcpu); // drop cached translations of this VM on this CPU
    void (*set_tsc_offset)(struct vcpu *vcpu, u64 offset); // guest TSC = host TSC + offset
    // Let RDMSR or WRMSR of an MSR run without an exit.
    void (*msr_passthrough)(struct vcpu *vcpu, u32 msr, bool read, bool write);
    // For a debugger: exit for these exceptions as well (a bit each), and for MOV to and from debug
    // registers.
    void (*intercept)(struct vcpu *vcpu, u32 exceptions, bool debug_registers);
    // A single-step trap that the last run left pending is not to come, as RFLAGS are now.
    void (*drop_step_trap)(struct vcpu *vcpu);
    // The local APIC, where vm->apic_hardware. What the CPU would need and does not have ("A, B");
    // null: nothing.
    const char *(*apic_missing)(void);
    bool (*apic_sound)(void); // nothing is missing, and no error of it is known
    // Where the guest's CR8 is the hardware's, and lapic_tpr_attach() was told: exit when it falls
    // below this.
    void (*tpr_threshold)(struct vcpu *vcpu, unsigned threshold);
    // How the guest reaches its registers may have changed. No lock is held.
    void (*apic_mode)(struct vcpu *vcpu);
    void (*apic_push)(struct vcpu *vcpu);    // before an entry: lapic_page_push(). VM's lock held
    bool (*apic_pending)(struct vcpu *vcpu); // an interrupt will be delivered, given RFLAGS.IF
    // An access to the page that cannot be emulated: from now on each one there is a stage-2 fault.
    void (*apic_page_drop)(struct vcpu *vcpu);

    // After EXIT_ENTRY_FAILED or for a report: what is wrong with the guest's state, a line a
    // field.
    void (*explain)(struct vcpu *vcpu, void (*print)(void *context, const char *format, ...),
                    void *context);
};

extern const struct cpu_ops vmx_ops;

// The engines of this build in order of preference, each probed at boot.
struct engine {
    const struct cpu_ops *ops;
    const char *refused; // why it cannot be used here; null: it can
};
extern struct engine engines[];
extern const unsigned engine_count;
void engine_probe_all(void);
// The engine of that name, or the first usable one for null or "auto"; null if there is none.
struct engine *engine_find(const char *name);
