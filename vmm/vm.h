// SPDX-License-Identifier: MIT
// A virtual machine and its vCPUs: life cycle (create, start, stop, reset, destroy), state, and
// what each vCPU counts.
#pragma once

#include "vmm/lib/types.h"
#include "vmm/lib/spinlock.h"
#include "arch/x86_64/regs.h"
#include "vmm/config.h"
#include "vmm/engine.h"
#include "vmm/trace.h"
#include "io/bus.h"
#include "io/clock.h"
#include "io/lapic.h"
#include "mm/guest_memory.h"

struct thread;
struct machine;
struct firmware;
struct disks;
struct cpuid_table;

// Asked of a vCPU from elsewhere; handled before the next entry.
enum vcpu_request {
    VCPU_REQUEST_STOP = 1,     // leave the run loop
    VCPU_REQUEST_FLUSH = 2,    // stage-2 translations changed
    VCPU_REQUEST_EVENT = 4,    // an interrupt may be pending
    VCPU_REQUEST_TIMER = 8,    // the VM's next deadline became earlier
    VCPU_REQUEST_INIT = 16,    // INIT signal
    VCPU_REQUEST_STARTUP = 32, // start-up IPI: startup_page
};

// After a stop request, from the last vCPU to the others.
enum vcpu_verdict { VERDICT_NONE, VERDICT_AGAIN, VERDICT_END };

#define NMIS_PENDING 2

struct vcpu {
    u64 gpr[GPR_COUNT]; // hardware order; GPR_RSP is the engine's (vcpu_gpr_read)
    const struct cpu_ops *ops;
    struct vm *vm;
    u32 index;
    u32 requests;            // enum vcpu_request, atomic
    void *engine;            // the engine's own
    u64 run_until;           // host TSC: the bound of the next run; 0: to be worked out again
    struct vcpu_event event; // to inject at the next entry
    struct vcpu_event
        interrupted; // an accepted interrupt that an exception overtook; after `event`
    u8 startup_page;
    u8 nmi_pending;   // how many, at most NMIS_PENDING
    u8 tpr_threshold; // what the engine was told
    bool halted;
    bool waiting_for_startup; // an application processor before its SIPI
    bool apic_moved;          // the engine does not know yet how the guest reaches its local APIC
    struct lapic lapic;
    struct thread *thread;
    enum vcpu_verdict verdict;
    u64 xcr0;
    u64 xss;
    void *xstate; // XSAVE area, 64-byte aligned: the guest's FPU state while not loaded
    u64 dr[4], dr6;
    u64 mtrr[32]; // what the guest wrote; see vmm/guest_cpu/msr.c
    u64 msr_misc[8];
    gpa_t pvclock_gpa; // IA32 KVM_SYSTEM_TIME: 0 off, else address | 1
    u32 pvclock_version;
    struct trace *trace;
    void *decode_cache;        // vmm/emulate/emulate.c
    struct cpuid_table *cpuid; // what CPUID shows: vmm/guest_cpu/cpuid.c
    u64 gpa_reserved;          // bits 51:MAXPHYADDR: reserved in the guest's page tables
    bool la57;                 // it may switch on 5-level paging; see vcpu_canonical()
};

enum vm_state { VM_STOPPED, VM_STARTING, VM_RUNNING, VM_CRASHED };

// A later one wins over an earlier one: a guest cannot keep itself alive by resetting.
enum vm_stop_reason { VM_STOP_NONE, VM_STOP_RESET, VM_STOP_POWEROFF, VM_STOP_USER, VM_STOP_KILLED };

struct vm {
    struct config_vm config;
    enum vm_state state;
    enum vm_stop_reason stop_reason;
    bool killed;                // by vm_kill(), in this run
    char why[CONFIG_ERROR_MAX]; // of VM_CRASHED, of a failed start, or a debug exit's code
    struct spinlock lock;       // devices, buses, clock, APICs
    struct guest_memory memory;
    struct io_bus ports, mmio;
    struct io_clock clock;
    u64 tsc_offset;  // guest TSC = host TSC + offset
    bool paused;     // its vCPUs are parked, or about to be
    unsigned parked; // vCPUs that are
    bool held;       // parked vCPUs stay so, even if the VM is to end: vm_hold()
    u64 paused_at;   // host TSC at which the guest's time stopped; 0: not all are parked yet
    struct apic_bus apics;
    bool apic_hardware;        // the engine does a part of the local APICs' work
    unsigned apic_inside;      // the engine's: vCPUs whose accesses to the page are the hardware's
    bool apic_page_dropped;    // and it is not to be so until the next power-on
    struct machine *machine;   // its chips: vmm/machine.c
    struct firmware *firmware; // null: none, or not started yet
    struct disks *disks;       // what is on its disks, kept while it is stopped: vmm/storage.c
    struct vcpu *vcpus;
    unsigned vcpu_count, vcpus_running; // running: not yet out of the guest for good
    unsigned threads;                   // vCPU threads that have not ended
    const struct cpu_ops *ops;
    u64 starts;                      // how often it was started
    u64 started_us;                  // when, in host time
    u32 boots;                       // counts power-ons and resets
    u64 resets;                      // in this run; the first ones logged
    u64 odd_accesses;                // to holes and unknown MSRs: counted, the first ones logged
    struct console *console;         // its serial line as seen from the host
    void (*on_start)(struct vm *vm); // told before its first instruction; null: nobody
};

// --- life cycle, for the shell (vmm/vm.c); each error leaves one line in `why` of the size
// CONFIG_ERROR_MAX ---
MUST_CHECK int vm_create(const struct config_vm *config, struct vm **vm, char *why);
MUST_CHECK int vm_start(struct vm *vm, char *why);
MUST_CHECK int vm_stop(struct vm *vm);  // pull the plug; returns when all is released
MUST_CHECK int vm_reset(struct vm *vm); // press the reset button
// The guest's time stands still from when all its vCPUs are out of it, which is when this returns.
MUST_CHECK int vm_pause(struct vm *vm);
MUST_CHECK int vm_resume(struct vm *vm);
// A pause in its parts: ask for it (from any thread; false: it does not run, or is paused already),
// and wait until all vCPUs are out of the guest.
bool vm_pause_begin(struct vm *vm);
MUST_CHECK int vm_pause_wait(struct vm *vm);
// While held, the vCPUs of a paused VM stay parked and its resources stay: their state may be
// looked at and changed. False: not all are parked.
MUST_CHECK bool vm_hold(struct vm *vm);
void vm_release(struct vm *vm);
MUST_CHECK int vm_destroy(struct vm *vm); // ERR_STATE while it is being started
struct vm *vm_find(const char *name);
struct vm *vm_at(unsigned index); // null past the end
const char *vm_state_name(enum vm_state state);
const char *vm_status(const struct vm *vm); // its state's name, or "paused"

// --- from within: a device or an exit handler asks; the run loop carries it out ---
void vm_request_stop(struct vm *vm, enum vm_stop_reason reason);
// The guest did what no machine survives: the reason in words; a report is made. Host and other VMs
// go on.
void vm_kill(struct vm *vm, const char *format, ...) PRINTF(2, 3);
// An exception (in words: `cause`) came while a double fault was delivered: the machine is killed
// or, if it is configured so, reset.
void vm_triple_fault(struct vm *vm, unsigned vcpu, const char *cause);
// A test program ended its machine; the code is shown with the VM. VM's lock held.
void vm_debug_exit(struct vm *vm, u32 code);
// A guest touched something that is not there. Counted; the first 16 of each VM's run are lines in
// the log.
void vm_odd_access(struct vm *vm, const char *format, ...) PRINTF(2, 3);

// --- vCPU (vmm/vcpu.c) ---
u64 vcpu_gpr_read(struct vcpu *vcpu, unsigned gpr);
void vcpu_gpr_write(struct vcpu *vcpu, unsigned gpr, u64 value);
void vcpu_request(struct vcpu *vcpu,
                  u32 requests); // and makes it leave the guest or wake, from any CPU
// Queue an exception; merges with one that is already queued as the SDM's double-fault table says
// (may stop the VM).
void vcpu_inject(struct vcpu *vcpu, const struct vcpu_event *event);
// The same from the vCPU's own thread.
static inline void vcpu_note(struct vcpu *vcpu, u32 requests)
{
    __atomic_fetch_or(&vcpu->requests, requests, __ATOMIC_RELAXED);
}
static inline u64 vcpu_reg(struct vcpu *vcpu, enum vcpu_reg reg)
{
    return vcpu->ops->reg_read(vcpu, reg);
}

// An address as MSRs and table registers take it: as wide as 5-level paging has them if the CPU
// could do it, whatever the mode of paging (SDM volume 1, "Canonical Addressing").
static inline u64 vcpu_canonical_form(const struct vcpu *vcpu, u64 address)
{
    unsigned unused = vcpu->la57 ? 7 : 16;
    return (u64)((s64)(address << unused) >> unused);
}
static inline bool vcpu_canonical(const struct vcpu *vcpu, u64 address)
{
    return vcpu_canonical_form(vcpu, address) == address;
}

// --- run loop (vmm/run.c): the body of a vCPU's thread ---
void vcpu_thread(void *vcpu);
