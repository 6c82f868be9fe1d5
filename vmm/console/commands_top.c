// SPDX-License-Identifier: MIT
// top: the shares of the CPUs and VMs, second by second.

#include "vmm/console/commands.h"
#include "vmm/console/console.h"
#include "vmm/thread.h"
#include "vmm/vm.h"
#include "vmm/lib/bits.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/cpu.h"

#define PERIOD_US    1000000
#define CLEAR_SCREEN "\033[H\033[J"

// What was used up to a moment.
struct usage {
    u64 tsc;
    u64 cpus[CPU_MAX];
    u64 vms[CONFIG_VM_MAX]; // by vm_at()'s index
};

static void count_thread(struct thread *thread, void *context)
{
    struct usage *usage = context;
    if (thread->entry != vcpu_thread)
        return;
    const struct vcpu *vcpu = thread->argument;
    for (unsigned i = 0; i < CONFIG_VM_MAX && vm_at(i); i++)
        if (vm_at(i) == vcpu->vm)
            usage->vms[i] += thread_cycles(thread);
}

static void usage_take(struct usage *usage)
{
    *usage = (struct usage){.tsc = rdtsc()};
    for (u32 i = 0; i < cpu_count; i++)
        usage->cpus[i] = thread_cpu_busy(i);
    thread_for_each(count_thread, usage);
}

// "of" in tenths of a percent. A VM that was restarted meanwhile used nothing.
static void print_share(u64 from, u64 to, u64 of)
{
    u64 tenths = to > from ? mul_div(to - from, 1000, MAX(of, 1ull)) : 0;
    host_print(" %5llu.%llu %%", (unsigned long long)(tenths / 10),
               (unsigned long long)(tenths % 10));
}

static void print_usage(const struct usage *a, const struct usage *b)
{
    u64 elapsed = b->tsc - a->tsc;
    struct vm *vm;
    host_print("%-24s %9s\n", "CPU", "busy");
    for (u32 i = 0; i < cpu_count; i++) {
        host_print("%-24u ", i);
        print_share(a->cpus[i], b->cpus[i], elapsed);
        host_print("\n");
    }
    host_print("%-24s %-9s %6s %9s %9s\n", "VM", "state", "weight", "of a CPU", "of all");
    for (unsigned i = 0; i < CONFIG_VM_MAX && (vm = vm_at(i)); i++) {
        host_print("%-24s %-9s %6u", vm->config.name, vm_status(vm), vm->config.weight);
        print_share(a->vms[i], b->vms[i], elapsed);
        print_share(a->vms[i], b->vms[i], elapsed * cpu_count);
        host_print("\n");
    }
}

// True: a key was typed.
static bool wait_for_key(u64 until)
{
    while (rdtsc() < until)
        if (host_console_read_until(until) >= 0)
            return true;
    return false;
}

void command_top(unsigned count, char **words)
{
    static struct usage usages[2];
    (void)count;
    (void)words;
    unsigned next = 0;
    usage_take(&usages[next]);
    while (!wait_for_key(usages[next].tsc + tsc_from_us(PERIOD_US))) {
        next = !next;
        usage_take(&usages[next]);
        host_print(CLEAR_SCREEN);
        print_usage(&usages[!next], &usages[next]);
        host_print("any key ends\n");
    }
}
