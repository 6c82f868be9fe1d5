// SPDX-License-Identifier: MIT
// Commands on VMs: their life, their consoles, what is known of them.

#include "vmm/console/commands.h"
#include "vmm/console/console.h"
#include "vmm/console/text_filter.h"
#include "vmm/debug/gdb.h"
#include "vmm/storage.h"
#include "vmm/thread.h"
#include "vmm/vm.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/cpu.h"

#define LOG_LINES_DEFAULT 40
#define LOG_LINES_MAX     100000
#define STATE_POLL_US     1000

static bool is_running(const struct vm *vm)
{
    return vm->state == VM_RUNNING || vm->state == VM_STARTING;
}

static const char *engine_name(const struct vm *vm)
{
    return vm->ops ? vm->ops->name : vm->config.engine;
}

static unsigned long long mebibytes(u64 bytes)
{
    return (unsigned long long)(bytes / MIB);
}

static u64 uptime_seconds(const struct vm *vm)
{
    return is_running(vm) ? (time_microseconds() - vm->started_us) / 1000000 : 0;
}

// How a VM that is stopped came to it, if nobody here stopped it.
static const char *end_text(const struct vm *vm)
{
    if (vm->state != VM_STOPPED)
        return "";
    if (vm->why[0]) // the code of a test program
        return vm->why;
    return vm->stop_reason == VM_STOP_POWEROFF ? "powered off" : "";
}

void command_list(unsigned count, char **words)
{
    (void)count;
    (void)words;
    struct vm *vm;
    host_print("%-24s %-9s %-7s %4s %9s %10s %8s\n", "VM", "state", "engine", "cpus", "memory",
               "backed", "up");
    for (unsigned i = 0; (vm = vm_at(i)); i++) {
        u64 backed = is_running(vm) ? vm->memory.backed : 0;
        const char *end = end_text(vm);
        host_print("%-24s %-9s %-7s %4u %5llu MiB %6llu MiB %6llu s%s%s\n", vm->config.name,
                   vm_status(vm), engine_name(vm), vm->vcpu_count, mebibytes(vm->config.memory),
                   mebibytes(backed), (unsigned long long)uptime_seconds(vm), end[0] ? "  " : "",
                   end);
    }
    if (!vm_at(0))
        host_print("no VM is defined; plinth.ini on the boot volume defines them\n");
}

// --- info ---

static const char *pages_name(enum guest_pages pages)
{
    static const char *const names[] = {[GUEST_PAGES_AUTO] = "auto",
                                        [GUEST_PAGES_4K] = "4K",
                                        [GUEST_PAGES_2M] = "2M",
                                        [GUEST_PAGES_1G] = "1G"};
    return pages < ARRAY_SIZE(names) ? names[pages] : "?";
}

static void info_config(const struct vm *vm)
{
    const struct config_vm *c = &vm->config;
    host_print("engine    %s (asked for: %s)\n", engine_name(vm), c->engine);
    host_print("mmu       %s, pages %s\n", c->mmu, pages_name(c->pages));
    host_print("apic      %s (asked for: %s)\n", vm->apic_hardware ? "hardware" : "soft",
               config_apic_name(c->apic));
    host_print("cpus      %u, weight %u\n", c->cpus, c->weight);
    for (unsigned i = 0; i < c->pin_count; i++)
        host_print("%s%u%s", i ? "," : "pin       ", c->pin[i], i + 1 == c->pin_count ? "\n" : "");
    host_print("memory    %llu MiB\n", mebibytes(c->memory));
    if (c->firmware[0])
        host_print("firmware  %s %s\n", c->firmware, c->nvram);
    else
        host_print("kernel    %s\n", c->kernel);
    if (c->initrd[0])
        host_print("initrd    %s\n", c->initrd);
    for (unsigned i = 0; i < c->module_count; i++)
        host_print("module    %s %s\n", c->modules[i].name, c->modules[i].arguments);
    if (c->cmdline[0])
        host_print("cmdline   %s\n", c->cmdline);
    host_print("autostart %s\n", c->autostart ? "yes" : "no");
}

static void info_running(struct vm *vm)
{
    const struct guest_memory *m = &vm->memory;
    host_print("up        %llu s, TSC offset 0x%llx\n", (unsigned long long)uptime_seconds(vm),
               (unsigned long long)vm->tsc_offset);
    host_print("backed    %llu MiB, faults: %llu filled, %llu found backing\n",
               mebibytes(m->backed), (unsigned long long)m->filled_faults,
               (unsigned long long)m->mapped_faults);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        const struct vcpu *vcpu = &vm->vcpus[i];
        host_print("vCPU %-4u %s, %llu exits\n", i,
                   vcpu->waiting_for_startup ? "waits for start-up"
                   : vcpu->halted            ? "halted"
                                             : "runs",
                   (unsigned long long)vcpu->trace->next);
    }
}

// Disks that were opened: from the first start on.
static void info_disks(const struct vm *vm)
{
    const struct config_file *file;
    u64 size, written;
    for (unsigned i = 0; storage_describe(vm, i, &file, &size, &written); i++)
        if (size)
            host_print("disk      %s: %llu MiB, %llu KiB written\n", file->name, mebibytes(size),
                       (unsigned long long)(written / KIB));
}

static void info_vm(struct vm *vm)
{
    host_print("VM        %s: %s, started %llu times\n", vm->config.name, vm_status(vm),
               (unsigned long long)vm->starts);
    if (vm->why[0])
        host_print("reason    %s\n", vm->why);
    info_config(vm);
    info_disks(vm);
    if (is_running(vm))
        info_running(vm);
    host_print("odd       %llu accesses to what is not there\n",
               (unsigned long long)vm->odd_accesses);
    host_print("console   %llu bytes written\n", (unsigned long long)vm->console->written);
}

void command_info(unsigned count, char **words)
{
    if (count == 1) {
        command_version(1, words);
        command_mem(1, words);
        return;
    }
    struct vm *vm = command_vm(words[1]);
    if (vm)
        info_vm(vm);
}

// --- life ---

static void attach(struct vm *vm)
{
    host_print("[console of %s; Ctrl-] detaches]\n", vm->config.name);
    while (vm->state == VM_STARTING) // by another thread
        thread_sleep_us(STATE_POLL_US);
    bool detached = console_attach(vm->console);
    // What it held is being given back; once this returns, it can be started again.
    while (!detached && is_running(vm) && !__atomic_load_n(&vm->console->open, __ATOMIC_ACQUIRE))
        thread_sleep_us(STATE_POLL_US);
    // The guest may have left colours or half a line.
    host_print("\033[0m\n[%s%s]\n", vm->config.name, detached ? ": detached" : " does not run");
}

void command_start(unsigned count, char **words)
{
    char why[CONFIG_ERROR_MAX];
    bool wants_console = command_option(&count, words, "-c");
    struct vm *vm = count == 2 ? command_vm(words[1]) : NULL;
    if (count != 2)
        host_print("start: one VM, and -c for its console\n");
    if (!vm)
        return;
    if (vm_start(vm, why) != OK)
        host_print("%s\n", why);
    else if (wants_console)
        attach(vm);
}

static void act_on_vm(const char *name, const char *what, int (*act)(struct vm *vm))
{
    struct vm *vm = command_vm(name);
    if (!vm)
        return;
    int error = act(vm);
    if (error == ERR_STATE)
        host_print("%s: VM %s is %s\n", what, name, vm_status(vm));
    else if (error != OK)
        host_print("%s: VM %s: %s\n", what, name, error_text(error));
}

void command_stop(unsigned count, char **words)
{
    (void)count;
    act_on_vm(words[1], "stop", vm_stop);
}

void command_reset(unsigned count, char **words)
{
    (void)count;
    act_on_vm(words[1], "reset", vm_reset);
}

void command_pause(unsigned count, char **words)
{
    (void)count;
    act_on_vm(words[1], "pause", vm_pause);
}

void command_resume(unsigned count, char **words)
{
    (void)count;
    const struct vm *vm = vm_find(words[1]);
    if (vm && gdb_has_stopped(vm))
        host_print("resume: a debugger has VM %s stopped; continue it there, or gdb off\n",
                   words[1]);
    else
        act_on_vm(words[1], "resume", vm_resume);
}

void command_destroy(unsigned count, char **words)
{
    (void)count;
    const struct vm *vm = vm_find(words[1]);
    if (vm && gdb_has(vm))
        host_print("destroy: gdb is at VM %s; gdb off first\n", words[1]);
    else
        act_on_vm(words[1], "destroy", vm_destroy);
}

// --- consoles ---

void command_console(unsigned count, char **words)
{
    (void)count;
    struct vm *vm = command_vm(words[1]);
    if (vm)
        attach(vm);
}

static void print_log(struct console *console, unsigned lines)
{
    char piece[256];
    struct text_filter filter = {0};
    u64 position = console_tail(console, lines, CONSOLE_RING), end = console->written;
    size_t count;
    while (position < end && (count = console_read(console, &position, piece, sizeof(piece)))) {
        size_t kept = 0;
        for (size_t i = 0; i < count; i++) {
            char shown = text_filter(&filter, (u8)piece[i]);
            if (shown)
                piece[kept++] = shown;
        }
        host_console_write(piece, kept);
    }
    host_print("\n");
}

void command_log(unsigned count, char **words)
{
    unsigned lines = LOG_LINES_DEFAULT;
    struct vm *vm = command_vm(words[1]);
    if (vm && (count == 2 || command_number(words[2], LOG_LINES_MAX, &lines)))
        print_log(vm->console, lines);
}
