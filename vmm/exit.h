// SPDX-License-Identifier: MIT
// Why a guest stopped running, free of any vendor's encoding, and what to do next. The engine
// decodes the hardware's exit into a struct vm_exit; exit_dispatch() decides; only the run loop
// (vmm/run.c) acts on the action.
#pragma once

#include "vmm/lib/types.h"

struct vcpu;

// One list makes the enum, the names and the handler table: a kind without a handler does not link.
// X(kind, handler, "name in stats and trace")
#define EXIT_LIST(X)                                                                               \
    X(EXIT_INTERRUPT, exit_interrupt, "interrupt")    /* a host interrupt, taken already */        \
    X(EXIT_TIMER, exit_timer, "timer")                /* the engine's bound on this run */         \
    X(EXIT_WINDOW, exit_window, "window")             /* the guest can take an interrupt */        \
    X(EXIT_NMI_WINDOW, exit_nmi_window, "nmi-window") /* ... or an NMI */                          \
    X(EXIT_CPUID, exit_cpuid, "cpuid")                                                             \
    X(EXIT_HLT, exit_hlt, "hlt")                                                                   \
    X(EXIT_PAUSE, exit_pause, "pause")                                                             \
    X(EXIT_IO, exit_io, "io")                  /* IN, OUT, INS, OUTS: .io */                       \
    X(EXIT_MSR_READ, exit_msr_read, "rdmsr")   /* .msr */                                          \
    X(EXIT_MSR_WRITE, exit_msr_write, "wrmsr") /* .msr */                                          \
    X(EXIT_MEMORY, exit_memory, "memory")      /* stage-2 fault: .memory */                        \
    X(EXIT_HYPERCALL, exit_hypercall, "hypercall")                                                 \
    X(EXIT_CR_WRITE, exit_cr_write, "cr-write")    /* .cr */                                       \
    X(EXIT_CR_READ, exit_cr_read, "cr-read")       /* .cr */                                       \
    X(EXIT_DR_ACCESS, exit_dr_access, "dr-access") /* .dr; only under a debugger */                \
    X(EXIT_XSETBV, exit_xsetbv, "xsetbv")                                                          \
    X(EXIT_WBINVD, exit_wbinvd, "wbinvd")                /* also INVD */                           \
    X(EXIT_EXCEPTION, exit_exception, "exception")       /* .event: one that was intercepted */    \
    X(EXIT_APIC_ACCESS, exit_apic_access, "apic-access") /* .memory: one the CPU did not do */     \
    X(EXIT_APIC_WRITE, exit_apic_write, "apic-write")    /* done: .detail is the page offset */    \
    X(EXIT_APIC_EOI, exit_apic_eoi, "apic-eoi")          /* done: .detail is the vector */         \
    X(EXIT_TASK_SWITCH, exit_task_switch, "task-switch")                                           \
    X(EXIT_UNDEFINED, exit_undefined, "undefined") /* an instruction that gives #UD */             \
    X(EXIT_TRIPLE_FAULT, exit_triple_fault, "triple-fault")                                        \
    X(EXIT_ENTRY_FAILED, exit_entry_failed, "entry-failed") /* the guest's state was refused */    \
    X(EXIT_UNKNOWN, exit_unknown, "unknown")                /* .detail is the raw reason */

enum exit_kind {
#define X(kind, handler, name) kind,
    EXIT_LIST(X)
#undef X
        EXIT_KIND_COUNT
};

enum event_type {
    EVENT_EXTERNAL = 0,
    EVENT_NMI = 2,
    EVENT_EXCEPTION = 3,
    EVENT_SOFT_INTERRUPT = 4,
    EVENT_PRIVILEGED_SOFT_EXCEPTION = 5, // INT1
    EVENT_SOFT_EXCEPTION = 6,            // INT3, INTO
};

// An event on its way into the guest.
struct vcpu_event {
    bool valid;
    u8 vector;
    u8 type; // enum event_type
    bool has_error;
    u32 error;
    u8 length; // of the instruction, for the software ones
    u64 cr2;   // of a #PF that we raise
    bool has_cr2;
};

struct vm_exit {
    enum exit_kind kind;
    u8 length; // of the instruction that exited; 0 where it has no meaning
    u64 rip;
    u64 detail; // one number for the trace: port, MSR, address, leaf, raw reason
    union {
        struct {
            u16 port;
            u8 size;     // 1, 2, 4
            bool write;  // OUT
            bool string; // INS, OUTS: the instruction must be decoded
        } io;
        struct {
            u32 index;
            u64 value; // of a write
        } msr;
        struct {
            gpa_t gpa;
            gva_t gva;
            bool gva_valid;
            bool walk; // the access was to a guest page table, not by the instruction's own operand
            unsigned access;  // enum page_access bits that were wanted
            unsigned allowed; // enum page_access bits that the stage-2 entry has
        } memory;
        struct {
            u8 number, gpr; // CR number; general register (hardware order)
            u8 kind;        // enum cr_access_kind
            u64 value;      // of LMSW (low 16 bits)
        } cr;
        struct {
            u8 number, gpr; // DR number; general register (hardware order)
            bool read;      // from the debug register
        } dr;
        struct vcpu_event event;
        struct {
            u16 selector;
            u8 source; // 0 CALL, 1 IRET, 2 JMP, 3 task gate
        } task;
        u64 vector; // EXIT_INTERRUPT: the host's
    };
    // With EXIT_ACTION_FAULT: what to inject.
    struct vcpu_event fault;
};

enum cr_access_kind { CR_MOV, CR_CLTS, CR_LMSW };

enum exit_action {
    ACTION_RETRY, // enter the guest again where it is
    ACTION_NEXT,  // the instruction is done: step over it
    ACTION_FAULT, // inject vm_exit.fault
    ACTION_STOP,  // leave the run loop: the VM is stopping, resetting, pausing or dead
};

enum exit_action exit_dispatch(struct vcpu *vcpu, struct vm_exit *exit);
const char *exit_kind_name(enum exit_kind kind);

// For handlers: fill in exit->fault and return ACTION_FAULT.
enum exit_action exit_fault(struct vm_exit *exit, u8 vector);                  // no error code
enum exit_action exit_fault_error(struct vm_exit *exit, u8 vector, u32 error); // with one
