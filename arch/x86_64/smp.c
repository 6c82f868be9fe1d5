// SPDX-License-Identifier: MIT
// Starting the other CPUs, one after the other: INIT, startup IPI, startup IPI (SDM volume 3,
// "Typical BSP Initialization Sequence"). A CPU that does not answer in time is left out; should it
// wake up later, it finds its stack taken back and halts (trampoline.asm).
#include "boot/boot_info.h"
#include "arch/x86_64/apic.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/descriptors.h"
#include "mm/frame.h"
#include "mm/host_map.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/log.h"
#include "vmm/lib/string.h"

#define CPU_STACK_SIZE     (16 * KIB)
#define INIT_US            10000
#define STARTUP_US         1000    // until the second startup IPI
#define ONLINE_US          2000000 // a busy emulator can be slow
#define POLL_US            10
#define TRAMPOLINE_HIGHEST (1 * MIB - PAGE_SIZE)
#define CR3_LIMIT          (4 * GIB)

struct trampoline_parameters {
    u64 first_cr3; // below 4 GiB
    u64 stack;     // exchanged for 0 by whoever takes it
    u64 cpu;
    u64 core_cr3;
    u64 core_entry;
};

// trampoline.asm
extern const u8 trampoline_start[], trampoline_parameters[], trampoline_end[];
void smp_core_entry(void);
void smp_main(struct percpu *cpu);

struct cpu_stacks {
    void *main;
    void *ist[IST_COUNT];
};

static void (*cpu_entry)(void);
static struct cpu_stacks starting; // of the CPU that is being started
static u64 started_tsc;            // what that CPU's TSC showed

// The first C code of an application processor.
void smp_main(struct percpu *cpu)
{
    cpu_init_other(cpu, starting.ist);
    apic_init_cpu();
    started_tsc = rdtsc();
    __atomic_store_n(&cpu->online, true, __ATOMIC_RELEASE);
    cpu_entry();
}

static void stacks_free(struct cpu_stacks *s)
{
    if (s->main)
        host_stack_free(s->main, CPU_STACK_SIZE);
    for (unsigned i = 0; i < IST_COUNT; i++)
        if (s->ist[i])
            host_stack_free(s->ist[i], IST_STACK_SIZE);
}

static bool stacks_alloc(struct cpu_stacks *s)
{
    *s = (struct cpu_stacks){.main = host_stack_alloc(CPU_STACK_SIZE)};
    bool complete = s->main;
    for (unsigned i = 0; i < IST_COUNT; i++) {
        s->ist[i] = host_stack_alloc(IST_STACK_SIZE);
        complete = complete && s->ist[i];
    }
    if (!complete)
        stacks_free(s);
    return complete;
}

static struct trampoline_parameters *trampoline_write(hpa_t page, struct percpu *cpu)
{
    u8 *to = hpa_to_hva(page);
    memcpy(to, trampoline_start, (size_t)(trampoline_end - trampoline_start));
    struct trampoline_parameters *p = (void *)(to + (trampoline_parameters - trampoline_start));
    *p = (struct trampoline_parameters){
        .first_cr3 = host_map_firmware_cr3(),
        .stack = (u64)starting.main,
        .cpu = (u64)cpu,
        .core_cr3 = host_map_cr3(),
        .core_entry = (u64)smp_core_entry,
    };
    return p;
}

static bool wait_for(const struct percpu *cpu, const u64 *stack, u64 us)
{
    for (u64 waited = 0; waited < us; waited += POLL_US) {
        if (stack ? !__atomic_load_n(stack, __ATOMIC_ACQUIRE)
                  : __atomic_load_n(&cpu->online, __ATOMIC_ACQUIRE))
            return true;
        delay_us(POLL_US);
    }
    return false;
}

// True if the CPU has taken its stack, so that it is in the core or on its way.
static bool cpu_wake(struct percpu *cpu, hpa_t page, struct trampoline_parameters *p)
{
    u8 start_page = (u8)(page >> PAGE_SHIFT);
    apic_send_init(cpu->apic_id);
    delay_us(INIT_US);
    apic_send_startup(cpu->apic_id, start_page);
    if (!wait_for(cpu, &p->stack, STARTUP_US))
        apic_send_startup(cpu->apic_id, start_page);
    if (wait_for(cpu, &p->stack, ONLINE_US))
        return true;
    return !__atomic_exchange_n(&p->stack, 0, __ATOMIC_ACQ_REL);
}

// Time is the TSC, and deadlines go from one CPU to another.
static void check_tsc(const struct percpu *cpu, u64 before)
{
    u64 now = rdtsc();
    if (started_tsc < before || started_tsc > now)
        log_warn("CPU %u: its TSC is not in step with the first CPU's, and times will be wrong: "
                 "update the firmware",
                 cpu->index);
}

static bool cpu_start(hpa_t page, u32 apic_id)
{
    struct percpu *cpu = &percpus[cpu_count];
    u64 before = rdtsc();
    memset(cpu, 0, sizeof(*cpu));
    cpu->index = cpu_count;
    cpu->apic_id = apic_id;
    if (!stacks_alloc(&starting)) {
        log_error("CPU with APIC id %u left out: no memory for its stacks", apic_id);
        return false;
    }
    if (!cpu_wake(cpu, page, trampoline_write(page, cpu))) {
        log_error("CPU with APIC id %u left out: it does not answer the startup interrupt",
                  apic_id);
        stacks_free(&starting);
        return false;
    }
    cpu_count++; // its index is taken, whatever becomes of it
    if (wait_for(cpu, NULL, ONLINE_US)) {
        check_tsc(cpu, before);
        return true;
    }
    log_error("CPU %u (APIC id %u) started but did not come online", cpu->index, apic_id);
    return false;
}

static bool can_start(const struct boot_info *boot)
{
    if (!boot->trampoline || boot->trampoline > TRAMPOLINE_HIGHEST) {
        log_error("only one CPU is used: the loader found no free page below 1 MiB");
        return false;
    }
    if (!host_map_firmware_cr3() || host_map_firmware_cr3() >= CR3_LIMIT) {
        log_error("only one CPU is used: no memory below 4 GiB for page tables");
        return false;
    }
    return true;
}

u32 smp_start(const struct boot_info *boot, void (*entry)(void))
{
    u32 running = 1;
    u32 own = this_cpu()->apic_id;
    u32 count = MIN(boot->cpu_count, BOOT_CPU_MAX);
    cpu_entry = entry;
    for (u32 i = 0; i < count; i++) {
        const struct boot_cpu *cpu = &boot->cpus[i];
        if (cpu->flags & BOOT_CPU_BSP || cpu->apic_id == own)
            continue;
        if (running == 1 && !can_start(boot))
            break;
        if (cpu_count == CPU_MAX) {
            log_warn("the CPUs from APIC id %u on are left out: only %u are supported",
                     cpu->apic_id, CPU_MAX);
            break;
        }
        if (cpu_start(boot->trampoline, cpu->apic_id))
            running++;
    }
    return running;
}
