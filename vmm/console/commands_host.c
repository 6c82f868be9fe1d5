// SPDX-License-Identifier: MIT
// Commands on the host: memory, CPUs, log, versions, and the way out.

#include "vmm/console/commands.h"
#include "vmm/console/console.h"
#include "vmm/engine.h"
#include "vmm/main.h"
#include "vmm/thread.h"
#include "vmm/version.h"
#include "vmm/vm.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/error.h"
#include "vmm/lib/log.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/core_sections.h"
#include "arch/x86_64/cpu.h"
#include "mm/frame.h"
#include "mm/heap.h"

#define THREADS_SHOWN 96

// UEFI specification section 8.5.1 "ResetSystem()", EFI_RESET_TYPE.
#define EFI_RESET_COLD     0u
#define EFI_RESET_SHUTDOWN 2u

// --- mem ---

static void print_bytes(const char *what, u64 bytes)
{
    host_print("  %-28s %12llu KiB %8llu MiB\n", what, (unsigned long long)(bytes / KIB),
               (unsigned long long)(bytes / MIB));
}

static void print_core(const struct frame_counts *counts)
{
    host_print("The core:\n");
    print_bytes("code", (u64)(core_text_end - core_text_start));
    print_bytes("constants", (u64)(core_rodata_end - core_rodata_start));
    print_bytes("data", (u64)(core_data_end - core_data_start));
    print_bytes("image: these three", (u64)(core_data_end - core_text_start));
    print_bytes("data that starts as zero", (u64)(core_end - core_data_end));
    print_bytes("heap, in use", heap_bytes());
    print_bytes("heap, frames held", heap_footprint());
    print_bytes("frame table", counts->table_bytes);
}

static void print_owners(const struct frame_counts *counts)
{
    static const char *const names[FRAME_OWNER_COUNT] = {
        [FRAME_FREE] = "free",
        [FRAME_RESERVED] = "reserved",
        [FRAME_CORE] = "core",
        [FRAME_FILE] = "files from the boot volume",
        [FRAME_STAGE2] = "stage-2 page tables",
        [FRAME_GUEST] = "guests' memory",
        [FRAME_ENGINE] = "engine",
    };
    host_print("The host's RAM, by owner:\n");
    for (unsigned i = 0; i < FRAME_OWNER_COUNT; i++)
        print_bytes(names[i], counts->owned[i] * PAGE_SIZE);
    print_bytes("total", counts->total * PAGE_SIZE);
}

static void print_guests(void)
{
    struct vm *vm;
    if (vm_at(0))
        host_print("VMs, backed memory:\n");
    for (unsigned i = 0; (vm = vm_at(i)); i++)
        print_bytes(vm->config.name, vm->state == VM_RUNNING ? vm->memory.backed : 0);
}

void command_mem(unsigned count, char **words)
{
    (void)count;
    (void)words;
    struct frame_counts counts = frame_counts();
    print_core(&counts);
    print_owners(&counts);
    print_guests();
}

// --- cpus ---

struct thread_view {
    char name[THREAD_NAME_MAX];
    u32 cpu;
    enum thread_state state;
    u64 cycles;
};

static struct thread_view views[THREADS_SHOWN];

// Copies, because a thread may be gone once the list is let go of.
static void view_thread(struct thread *thread, void *context)
{
    unsigned *count = context;
    if (*count == THREADS_SHOWN)
        return;
    struct thread_view *view = &views[(*count)++];
    string_copy(view->name, sizeof(view->name), thread->name);
    view->cpu = thread->cpu;
    view->state = thread->state;
    view->cycles = thread_cycles(thread);
}

static void print_threads(void)
{
    static const char *const states[] = {[THREAD_READY] = "ready",
                                         [THREAD_RUNNING] = "running",
                                         [THREAD_BLOCKED] = "blocked",
                                         [THREAD_DEAD] = "dead"};
    unsigned count = 0;
    thread_for_each(view_thread, &count);
    host_print("%-24s %4s %-8s %20s\n", "thread", "CPU", "state", "cycles");
    for (unsigned i = 0; i < count; i++)
        host_print("%-24s %4u %-8s %20llu\n", views[i].name, views[i].cpu, states[views[i].state],
                   (unsigned long long)views[i].cycles);
}

// Another CPU may wake up meanwhile: then the figure is off by that one sleep, for a moment.
static u64 idle_cycles(const struct percpu *cpu)
{
    u64 since = __atomic_load_n(&cpu->idle_since, __ATOMIC_RELAXED);
    return cpu->idle_cycles + (since ? rdtsc() - since : 0);
}

static void print_cpus(void)
{
    u64 elapsed = MAX(rdtsc() - tsc_boot, 1ull);
    host_print("%4s %8s %-8s %-6s %6s %14s\n", "CPU", "APIC id", "state", "engine", "idle",
               "interrupts");
    for (u32 i = 0; i < cpu_count; i++) {
        const struct percpu *cpu = &percpus[i];
        host_print("%4u %8u %-8s %-6s %5llu%% %14llu\n", cpu->index, cpu->apic_id,
                   cpu->online ? "online" : "offline", cpu->engine_on ? "on" : "off",
                   (unsigned long long)mul_div(MIN(idle_cycles(cpu), elapsed), 100, elapsed),
                   (unsigned long long)cpu->interrupts);
    }
}

void command_cpus(unsigned count, char **words)
{
    bool threads = command_option(&count, words, "-t");
    if (count != 1)
        host_print("cpus: nothing, or -t for the threads\n");
    else if (threads)
        print_threads();
    else
        print_cpus();
}

// --- dmesg, version ---

static void print_log_line(void *context, const char *text)
{
    (void)context;
    host_print("%s\n", text);
}

void command_dmesg(unsigned count, char **words)
{
    (void)count;
    (void)words;
    log_for_each(print_log_line, NULL);
}

void command_version(unsigned count, char **words)
{
    (void)count;
    (void)words;
    char text[ENGINE_DESCRIPTION_MAX];
    cpu_brand(text, sizeof(text));
    host_print("Plinth   " PLINTH_VERSION "\n");
    host_print("CPU      %s\n", text);
    host_print("firmware %.63s\n", core_boot_info()->firmware);
    host_print("APIC     %s\n", apic_mode_name());
    host_print("TSC      %llu kHz, by %s\n", (unsigned long long)(tsc_hz / 1000),
               tsc_source_name());
    for (unsigned i = 0; i < engine_count; i++) {
        const struct engine *engine = &engines[i];
        if (!engine->refused)
            engine->ops->describe(text, sizeof(text));
        host_print("engine   %s: %s\n", engine->ops->name,
                   engine->refused ? engine->refused : text);
    }
}

// --- the way out ---

static bool is_running(const struct vm *vm)
{
    return vm->state == VM_RUNNING || vm->state == VM_STARTING;
}

// True: no VM runs any more.
static bool stop_all(bool force)
{
    struct vm *vm;
    for (unsigned i = 0; (vm = vm_at(i)); i++) {
        if (!is_running(vm))
            continue;
        if (!force) {
            host_print("VM %s runs; stop it, or use -f\n", vm->config.name);
            return false;
        }
        int error = vm_stop(vm);
        if (error != OK && error != ERR_STATE)
            log_warn("VM %s: stop: %s", vm->config.name, error_text(error));
    }
    return true;
}

static void leave(unsigned count, char **words, unsigned type)
{
    bool force = command_option(&count, words, "-f");
    if (count != 1)
        host_print("%s: nothing, or -f if VMs run\n", words[0]);
    else if (stop_all(force)) {
        host_console_drain();
        firmware_reset(core_boot_info(), type);
    }
}

void command_reboot(unsigned count, char **words)
{
    leave(count, words, EFI_RESET_COLD);
}

void command_poweroff(unsigned count, char **words)
{
    leave(count, words, EFI_RESET_SHUTDOWN);
}
