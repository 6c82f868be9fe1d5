// SPDX-License-Identifier: MIT
// The core's C entry: brings the machine up in order, one readable function, then becomes the idle
// thread. Boot may run out of things: what is missing is one plain line; what can go on without it
// goes on.
#include "vmm/main.h"
#include "vmm/load/boot_files.h"
#include "vmm/config.h"
#include "vmm/console/console.h"
#include "vmm/engine.h"
#include "vmm/debug/gdb.h"
#include "vmm/console/shell.h"
#include "vmm/thread.h"
#include "vmm/vm.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "vmm/lib/log.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/panic.h"
#include "arch/x86_64/xstate.h"
#include "mm/frame.h"
#include "mm/heap.h"
#include "mm/host_map.h"

static struct config_vm config_storage[CONFIG_VM_MAX];
static struct config config;
static struct boot_info *boot_info;

static void engine_enable_here(void)
{
    for (unsigned i = 0; i < engine_count; i++) {
        if (engines[i].refused)
            continue;
        int error = engines[i].ops->cpu_enable();
        if (error != OK)
            log_error("CPU %u: engine %s cannot be enabled: %s", this_cpu()->index,
                      engines[i].ops->name, error_text(error));
    }
}

NORETURN static void secondary_main(void)
{
    thread_init_cpu();
    engine_enable_here();
    thread_idle_loop();
}

static void read_config(void)
{
    char error[CONFIG_ERROR_MAX];
    const struct boot_file *file = boot_file_find("\\plinth.ini");
    if (!file || file->status != BOOT_FILE_OK) {
        log_error("plinth.ini: not read from the boot volume: no VM is defined");
        return;
    }
    if (!config_parse(hpa_to_hva(file->base), file->size, config_storage, &config, error)) {
        config.vm_count = 0;
        log_error("%s", error);
        log_error("plinth.ini has an error: no VM is defined; correct it and reboot");
        return;
    }
    panic_debug_exit = config.debug_exit;
    log_set_threshold((enum log_level)config.log_level);
}

static void create_vms(void)
{
    for (unsigned i = 0; i < config.vm_count; i++) {
        char why[CONFIG_ERROR_MAX];
        struct vm *vm;
        if (vm_create(&config.vms[i], &vm, why) != OK)
            log_error("%s", why);
    }
}

// There is one port: the first VM that asks for it has it.
static void debug_vms(void)
{
    struct vm *vm, *first = NULL;
    for (unsigned i = 0; (vm = vm_at(i)); i++) {
        if (vm->config.gdb == CONFIG_GDB_NO)
            continue;
        if (first)
            log_warn("VM %s: gdb is at VM %s already; one VM at a time", vm->config.name,
                     first->config.name);
        else if (gdb_use(vm, vm->config.gdb == CONFIG_GDB_WAIT) == OK)
            first = vm;
    }
}

static void autostart_thread(void *argument)
{
    (void)argument;
    struct vm *vm;
    debug_vms();
    for (unsigned i = 0; (vm = vm_at(i)); i++) {
        char why[CONFIG_ERROR_MAX];
        if (vm->config.autostart && vm_start(vm, why) != OK)
            log_error("%s", why);
    }
}

static void start_thread(const char *name, void (*entry)(void *))
{
    struct thread *thread = thread_create(name, 0, entry, NULL);
    if (!thread)
        panic("no memory for thread %s", name);
    thread_wake(thread);
}

static void report_engines(void)
{
    bool usable = false;
    for (unsigned i = 0; i < engine_count; i++) {
        char text[ENGINE_DESCRIPTION_MAX];
        if (engines[i].refused)
            continue;
        usable = true;
        engines[i].ops->describe(text, sizeof(text));
        log_info("engine %s: %s", engines[i].ops->name, text);
    }
    for (unsigned i = 0; !usable && i < engine_count; i++)
        log_warn("engine %s: no guest can run: %s", engines[i].ops->name, engines[i].refused);
}

static void print_vms(void (*print)(const char *format, ...))
{
    struct vm *vm;
    for (unsigned i = 0; (vm = vm_at(i)); i++)
        print("VM %s: %s\n", vm->config.name, vm_state_name(vm->state));
}

const struct boot_info *core_boot_info(void)
{
    return boot_info;
}

// The loader's memory goes back to the allocator, so what is still needed of its structure is
// copied.
static void keep_boot_info(struct boot_info *boot)
{
    boot_info = heap_alloc(sizeof(*boot_info));
    if (!boot_info)
        panic("no memory for the boot information");
    *boot_info = *boot;
    boot_info->memory = NULL;
    boot_info->files = NULL;
}

void core_main(struct boot_info *boot)
{
    cpu_init_first();
    host_console_init_early(boot);
    if (boot->magic != BOOT_INFO_MAGIC || boot->version != BOOT_INFO_VERSION)
        panic(
            "the loader and the core are of different builds: write both to the boot volume anew");
    frame_init(boot);
    host_map_init(boot);
    boot = hpa_to_hva((hpa_t)boot);
    host_console_init_screen(boot);
    boot_files_init(boot);
    keep_boot_info(boot);
    thread_init_cpu();
    apic_init_cpu();
    tsc_calibrate(boot);
    apic_timer_calibrate();
    log_set_clock(time_microseconds);
    xstate_init();
    engine_probe_all();
    engine_enable_here();
    u32 online = smp_start(boot, secondary_main);
    frame_release_loader(boot);
    host_console_init(boot_info);
    panic_state_hook = print_vms;
    log_info("Plinth: %u of %u CPUs, %s, TSC %llu kHz by %s, %llu MiB free", online,
             boot_info->cpu_total, apic_mode_name(), (unsigned long long)(tsc_hz / 1000),
             tsc_source_name(),
             (unsigned long long)(frame_counts().owned[FRAME_FREE] * PAGE_SIZE / MIB));
    report_engines();
    read_config();
    create_vms();
    start_thread("shell", shell_thread);
    start_thread("autostart", autostart_thread);
    thread_idle_loop();
}
