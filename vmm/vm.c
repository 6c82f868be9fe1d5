// SPDX-License-Identifier: MIT
// A VM's life: created from its configuration and kept; started (memory, chips, vCPUs and their
// threads made); ended by the last vCPU's thread, which gives everything back. A reset is an end
// and a power-on without giving back. What a stopped VM keeps: its configuration, its console's
// text, and the counters of its last run.
#include "vmm/vm.h"
#include "vmm/vm_fit.h"
#include "vmm/console/console.h"
#include "vmm/guest_cpu/cpuid.h"
#include "vmm/emulate/emulate.h"
#include "vmm/load/firmware.h"
#include "vmm/load/guest_boot.h"
#include "vmm/layout.h"
#include "vmm/machine.h"
#include "vmm/guest_cpu/msr.h"
#include "vmm/guest_cpu/msr_mtrr.h"
#include "vmm/report.h"
#include "vmm/run.h"
#include "vmm/storage.h"
#include "vmm/thread.h"
#include "vmm/vcpu.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "vmm/lib/log.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/xstate.h"
#include "mm/frame.h"
#include "mm/heap.h"

#define ODD_ACCESS_LOGGED 16
#define RESETS_LOGGED     16
#define TRIPLE_FAULT_TEXT "triple fault on vCPU %u: %s came while a double fault was delivered"
#define STOP_POLL_US      500

static struct vm *vms[CONFIG_VM_MAX];
static unsigned vm_count;

struct vm *vm_at(unsigned index)
{
    return index < vm_count ? vms[index] : NULL;
}

struct vm *vm_find(const char *name)
{
    for (unsigned i = 0; i < vm_count; i++)
        if (strcmp(vms[i]->config.name, name) == 0)
            return vms[i];
    return NULL;
}

const char *vm_state_name(enum vm_state state)
{
    static const char *const names[] = {
        [VM_STOPPED] = "stopped",
        [VM_STARTING] = "starting",
        [VM_RUNNING] = "running",
        [VM_CRASHED] = "crashed",
    };
    return state < ARRAY_SIZE(names) ? names[state] : "?";
}

const char *vm_status(const struct vm *vm)
{
    return vm->state == VM_RUNNING && vm->paused ? "paused" : vm_state_name(vm->state);
}

// --- create and destroy ---

static void vm_free(struct vm *vm)
{
    for (unsigned i = 0; vm->vcpus && i < vm->vcpu_count; i++)
        heap_free(vm->vcpus[i].trace);
    heap_free(vm->vcpus);
    storage_close(vm);
    if (vm->console)
        console_destroy(vm->console);
    heap_free(vm->console);
    firmware_destroy(vm);
    heap_free(vm);
}

static bool vm_allocate(struct vm *vm)
{
    vm->vcpu_count = vm->config.cpus;
    vm->vcpus = heap_alloc(vm->vcpu_count * sizeof(*vm->vcpus));
    vm->console = heap_alloc(sizeof(*vm->console));
    if (!vm->vcpus || !vm->console || console_init(vm->console, vm->config.name) != OK)
        return false;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        vm->vcpus[i].vm = vm;
        vm->vcpus[i].index = i;
        vm->vcpus[i].trace = heap_alloc(sizeof(struct trace));
        if (!vm->vcpus[i].trace)
            return false;
    }
    return true;
}

int vm_create(const struct config_vm *config, struct vm **out, char *why)
{
    if (vm_count == CONFIG_VM_MAX) {
        format_text(why, CONFIG_ERROR_MAX, "there are %u VMs already, no more can be made",
                    vm_count);
        return ERR_RANGE;
    }
    struct vm *vm = heap_alloc(sizeof(*vm));
    if (vm)
        vm->config = *config;
    if (!vm || !vm_allocate(vm)) {
        if (vm)
            vm_free(vm);
        format_text(why, CONFIG_ERROR_MAX, "no memory to create VM %s", config->name);
        return ERR_NO_MEMORY;
    }
    vms[vm_count++] = vm;
    *out = vm;
    return OK;
}

int vm_destroy(struct vm *vm)
{
    if (vm->state == VM_STARTING) // another thread is at it
        return ERR_STATE;
    int error = vm_stop(vm);
    if (error != OK && error != ERR_STATE)
        return error;
    for (unsigned i = 0; i < vm_count; i++)
        if (vms[i] == vm)
            vms[i] = vms[--vm_count];
    vms[vm_count] = NULL;
    vm_free(vm);
    return OK;
}

// --- start ---

static u64 clock_now(struct io_clock *clock)
{
    return rdtsc() + container_of(clock, struct vm, clock)->tsc_offset;
}

static void clock_earlier(struct io_clock *clock)
{
    vcpu_request(&container_of(clock, struct vm, clock)->vcpus[0], VCPU_REQUEST_TIMER);
}

static u32 host_cpu(const struct vcpu *vcpu)
{
    const struct config_vm *c = &vcpu->vm->config;
    return c->pin_count ? c->pin[vcpu->index % c->pin_count] : THREAD_ANY_CPU;
}

// The last 256 KiB of the first MiB: RAM, or what firmware makes of it.
static int legacy_area_add(struct vm *vm)
{
    if (vm->firmware)
        return firmware_memory_add(vm);
    int error = guest_memory_add(&vm->memory, LAYOUT_ROMS, LAYOUT_ROMS_SIZE, GUEST_SLOT_RAM);
    if (error == OK)
        error = guest_memory_add(&vm->memory, LAYOUT_BIOS, LAYOUT_BIOS_SIZE, GUEST_SLOT_RAM);
    return error;
}

static int memory_create(struct vm *vm)
{
    u64 below = layout_below_4g(vm->config.memory), above = layout_above_4g(vm->config.memory);
    struct guest_memory *gm = &vm->memory;
    int error =
        guest_memory_init(gm, vm->ops->stage2_format, vm->ops->stage2_max_leaf(), vm->config.pages);
    if (error == OK)
        error = guest_memory_add(gm, 0, LAYOUT_LOW_SIZE, GUEST_SLOT_RAM);
    if (error == OK)
        error = legacy_area_add(vm);
    if (error == OK)
        error = guest_memory_add(gm, LAYOUT_HIGH, below - LAYOUT_HIGH, GUEST_SLOT_RAM);
    if (error == OK && above)
        error = guest_memory_add(gm, LAYOUT_ABOVE_4G, above, GUEST_SLOT_RAM);
    return error;
}

// The vCPU and its host-side objects, all but its thread.
static int vcpu_create(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    vcpu->ops = vm->ops;
    vcpu->requests = 0;
    vcpu->tpr_threshold = 0;
    lapic_init(&vcpu->lapic, vcpu->index, vcpu->index == 0, &vm->apics, &vm->clock,
               &vcpu_lapic_ops);
    memset(vcpu->trace, 0, sizeof(*vcpu->trace));
    int error = xstate_create(vcpu);
    if (error == OK)
        error = cpuid_create(vcpu);
    if (error == OK)
        error = vm->ops->vcpu_create(vcpu);
    if (error == OK)
        msr_passthrough_setup(vcpu);
    return error;
}

static void vcpu_destroy(struct vcpu *vcpu)
{
    if (vcpu->engine)
        vcpu->ops->vcpu_destroy(vcpu);
    vcpu->engine = NULL;
    cpuid_destroy(vcpu);
    xstate_destroy(vcpu);
    emulate_destroy(vcpu);
}

static void memory_clear(struct vm *vm)
{
    while (!guest_memory_clear(&vm->memory))
        thread_yield();
}

static void resources_destroy(struct vm *vm)
{
    memory_clear(vm);    // while others run and look: the rest is still whole
    machine_destroy(vm); // before the local APICs' pages, which a press of the power button reaches
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_destroy(&vm->vcpus[i]);
    io_bus_destroy(&vm->ports);
    io_bus_destroy(&vm->mmio);
    guest_memory_destroy(&vm->memory);
}

static int resources_create(struct vm *vm)
{
    io_bus_init(&vm->ports, "port", LAYOUT_PORT_SPACE);
    io_bus_init(&vm->mmio, "memory", LAYOUT_MEMORY_SPACE);
    io_clock_init(&vm->clock, tsc_hz, clock_now);
    vm->clock.earlier = clock_earlier;
    memset(&vm->apics, 0, sizeof(vm->apics));
    vm->apic_inside = 0;
    int error = memory_create(vm);
    for (unsigned i = 0; error == OK && i < vm->vcpu_count; i++)
        error = vcpu_create(&vm->vcpus[i]);
    if (error == OK)
        error = machine_create(vm);
    return error;
}

static void vcpu_power_on(struct vcpu *vcpu)
{
    vcpu->event.valid = false;
    vcpu->interrupted.valid = false;
    vcpu->nmi_pending = 0;
    vcpu->halted = false;
    vcpu->waiting_for_startup = vcpu->index != 0;
    xstate_reset(vcpu);
    msr_reset(vcpu);
    if (!vcpu->vm->firmware)
        mtrr_write_back(vcpu);
    vcpu_load_here(vcpu);
    vcpu->ops->vcpu_reset(vcpu);
    vcpu->ops->set_tsc_offset(vcpu, vcpu->vm->tsc_offset);
    vcpu_apic_mode(vcpu);
    vcpu->ops->flush(vcpu);
    vcpu_unload_here(vcpu);
}

// Every chip and vCPU as after power-on, the guest's image in place.
static int power_on(struct vm *vm, char *why)
{
    spin_lock(&vm->lock); // typed bytes may be on their way to the UART
    vm->tsc_offset = 0 - rdtsc();
    vm->paused = false;
    vm->paused_at = 0;
    vm->stop_reason = VM_STOP_NONE;
    vm->apic_page_dropped = false;
    machine_reset(vm);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        vm->vcpus[i].requests = 0; // of all or of none: who asks for a stop holds the lock too
        lapic_reset(&vm->vcpus[i].lapic);
    }
    lapic_virtual_wire(&vm->vcpus[0].lapic); // there is no firmware to do it
    spin_unlock(&vm->lock);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_power_on(&vm->vcpus[i]);
    int error = guest_boot(vm, why);
    vm->boots++; // from here on a request to stop is heard
    return error;
}

static int threads_create(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        char name[THREAD_NAME_MAX];
        format_text(name, sizeof(name), "%s/%u", vm->config.name, i);
        struct vcpu *vcpu = &vm->vcpus[i];
        struct thread *thread = thread_create(name, host_cpu(vcpu), vcpu_thread, vcpu);
        vcpu->thread = thread;
        if (!thread)
            return ERR_NO_MEMORY;
        thread->weight = vm->config.weight;
        thread->may_leave = vcpu_may_leave;
    }
    return OK;
}

static void threads_go(struct vm *vm)
{
    vm->vcpus_running = vm->vcpu_count;
    vm->threads = vm->vcpu_count;
    vm->state = VM_RUNNING;
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        thread_wake(vm->vcpus[i].thread);
}

// Threads that never ran.
static void threads_abandon(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (vm->vcpus[i].thread)
            thread_destroy(vm->vcpus[i].thread);
        vm->vcpus[i].thread = NULL;
    }
}

int vm_start(struct vm *vm, char *why)
{
    if (vm->state != VM_STOPPED && vm->state != VM_CRASHED) {
        format_text(why, CONFIG_ERROR_MAX, "VM %s is %s already", vm->config.name,
                    vm_state_name(vm->state));
        return ERR_STATE;
    }
    int error = vm_fit(vm, why);
    if (error == OK)
        error = firmware_prepare(vm, why);
    if (error == OK)
        error = storage_open(vm, why);
    if (error != OK)
        return error;
    vm->state = VM_STARTING;
    vm->why[0] = '\0';
    vm->killed = false;
    vm->odd_accesses = 0;
    vm->resets = 0;
    format_text(why, CONFIG_ERROR_MAX, "VM %s: the host is out of memory", vm->config.name);
    error = resources_create(vm);
    if (error == OK)
        error = vm_fit_promises(vm, why);
    if (error == OK)
        error = power_on(vm, why);
    if (error == OK)
        error = threads_create(vm);
    if (error != OK) {
        threads_abandon(vm);
        resources_destroy(vm);
        vm->state = VM_STOPPED;
        return error;
    }
    vm->starts++;
    vm->started_us = time_microseconds();
    console_open(vm->console);
    log_info("VM %s: started, %llu MiB, %u vCPU, engine %s", vm->config.name,
             (unsigned long long)(vm->config.memory / MIB), vm->vcpu_count, vm->ops->name);
    if (vm->on_start)
        vm->on_start(vm);
    threads_go(vm);
    return OK;
}

// --- end ---

void vm_request_stop(struct vm *vm, enum vm_stop_reason reason)
{
    enum vm_stop_reason former = __atomic_load_n(&vm->stop_reason, __ATOMIC_RELAXED);
    while (former < reason && !__atomic_compare_exchange_n(&vm->stop_reason, &former, reason, false,
                                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        ;
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_request(&vm->vcpus[i], VCPU_REQUEST_STOP);
}

void vm_kill(struct vm *vm, const char *format, ...)
{
    if (__atomic_exchange_n(&vm->killed, true, __ATOMIC_SEQ_CST))
        return;
    va_list arguments;
    va_start(arguments, format);
    format_text_v(vm->why, sizeof(vm->why), format, arguments);
    va_end(arguments);
    vm_request_stop(vm, VM_STOP_KILLED);
    report_crash(vm);
}

void vm_triple_fault(struct vm *vm, unsigned vcpu, const char *cause)
{
    if (vm->config.triple_fault == CONFIG_TRIPLE_FAULT_STOP) {
        vm_kill(vm, TRIPLE_FAULT_TEXT, vcpu, cause);
        return;
    }
    if (vm->resets < RESETS_LOGGED)
        log_info("VM %s: " TRIPLE_FAULT_TEXT, vm->config.name, vcpu, cause);
    vm_request_stop(vm, VM_STOP_RESET);
}

void vm_debug_exit(struct vm *vm, u32 code)
{
    bool ends = __atomic_load_n(&vm->stop_reason, __ATOMIC_SEQ_CST) >= VM_STOP_POWEROFF;
    if (ends || __atomic_load_n(&vm->killed, __ATOMIC_SEQ_CST))
        return;
    format_text(vm->why, sizeof(vm->why), "debug exit, code %u", code);
    log_info("VM %s: %s", vm->config.name, vm->why);
    vm_request_stop(vm, VM_STOP_POWEROFF);
}

void vm_odd_access(struct vm *vm, const char *format, ...)
{
    u64 nth = vm->odd_accesses++;
    if (nth > ODD_ACCESS_LOGGED)
        return;
    char text[CONFIG_ERROR_MAX];
    va_list arguments;
    va_start(arguments, format);
    format_text_v(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (nth == ODD_ACCESS_LOGGED)
        format_text(text, sizeof(text),
                    "more accesses to things that are not there: counted, not logged");
    log_info("VM %s: %s", vm->config.name, text);
}

// Under the lock, because whoever ends the VM holds it until it is done with the structure.
static bool is_over(struct vm *vm, u32 boots)
{
    spin_lock(&vm->lock);
    bool over = vm->state != VM_RUNNING || vm->boots != boots;
    spin_unlock(&vm->lock);
    return over;
}

// Until the VM does not run any more, or was reset.
static int request_and_wait(struct vm *vm, enum vm_stop_reason reason)
{
    spin_lock(&vm->lock);
    bool running = vm->state == VM_RUNNING;
    u32 boots = vm->boots;
    if (running)
        vm_request_stop(vm, reason);
    spin_unlock(&vm->lock);
    if (!running)
        return ERR_STATE;
    while (!is_over(vm, boots))
        thread_sleep_us(STOP_POLL_US);
    return OK;
}

int vm_stop(struct vm *vm)
{
    int error = request_and_wait(vm, VM_STOP_USER);
    // A reset that was on its way may have overtaken the request: ask again.
    for (int again = error; again == OK;)
        again = request_and_wait(vm, VM_STOP_USER);
    return error;
}

int vm_reset(struct vm *vm)
{
    return request_and_wait(vm, VM_STOP_RESET);
}

static void log_end(const struct vm *vm, bool crashed)
{
    static const char *const texts[] = {
        [VM_STOP_NONE] = "ended",           [VM_STOP_USER] = "stopped",
        [VM_STOP_POWEROFF] = "powered off", [VM_STOP_RESET] = "could not be restarted",
        [VM_STOP_KILLED] = "crashed",
    };
    if (crashed)
        log_error("VM %s: %s: %s", vm->config.name, texts[vm->stop_reason], vm->why);
    else
        log_info("VM %s: %s", vm->config.name, texts[vm->stop_reason]);
}

// A guest may reset itself all the time.
static void log_reset(struct vm *vm)
{
    if (vm->resets < RESETS_LOGGED)
        log_info("VM %s: reset", vm->config.name);
    else if (vm->resets == RESETS_LOGGED)
        log_info("VM %s: reset; more of them are not logged", vm->config.name);
    vm->resets++;
}

// All vCPUs are out of the guest. True: it was reset and runs again.
static bool restart(struct vm *vm)
{
    if (vm->stop_reason != VM_STOP_RESET)
        return false;
    log_reset(vm);
    // A reset leaves a PC's RAM as it is, and firmware knows that. Kernels are loaded into empty
    // RAM.
    if (!vm->firmware)
        memory_clear(vm);
    if (power_on(vm, vm->why) != OK) {
        vm->stop_reason = VM_STOP_RESET;
        return false;
    }
    vm->vcpus_running = vm->vcpu_count;
    return true;
}

// The last thread of the VM gives everything back.
static void vm_ended(struct vm *vm, struct vcpu *self)
{
    bool crashed = vm->stop_reason == VM_STOP_KILLED || vm->stop_reason == VM_STOP_RESET;
    console_close(vm->console); // before the UART that typed bytes go to is gone
    resources_destroy(vm);
    log_end(vm, crashed);
    spin_lock(&vm->lock);
    self->thread = NULL;
    vm->state = crashed ? VM_CRASHED : VM_STOPPED;
    spin_unlock(&vm->lock);
}

// The vCPUs but the last one wait for what that one decides.
static bool wait_for_verdict(struct vm *vm, struct vcpu *vcpu)
{
    while (vcpu->verdict == VERDICT_NONE)
        thread_block();
    spin_lock(&vm->lock); // whoever decided is done with this thread
    bool again = vcpu->verdict == VERDICT_AGAIN;
    vcpu->verdict = VERDICT_NONE;
    spin_unlock(&vm->lock);
    if (!again)
        __atomic_sub_fetch(&vm->threads, 1, __ATOMIC_SEQ_CST);
    return again;
}

static void tell_others(struct vm *vm, const struct vcpu *self, enum vcpu_verdict verdict)
{
    spin_lock(&vm->lock);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *vcpu = &vm->vcpus[i];
        if (vcpu == self)
            continue;
        vcpu->verdict = verdict;
        thread_wake(vcpu->thread);
        if (verdict == VERDICT_END)
            vcpu->thread = NULL;
    }
    spin_unlock(&vm->lock);
}

bool vm_vcpu_ended(struct vm *vm, struct vcpu *vcpu)
{
    if (__atomic_sub_fetch(&vm->vcpus_running, 1, __ATOMIC_SEQ_CST) != 0)
        return wait_for_verdict(vm, vcpu);
    bool again = restart(vm);
    tell_others(vm, vcpu, again ? VERDICT_AGAIN : VERDICT_END);
    if (again)
        return true;
    while (__atomic_load_n(&vm->threads, __ATOMIC_SEQ_CST) > 1)
        thread_sleep_us(STOP_POLL_US);
    vm_ended(vm, vcpu);
    return false;
}
