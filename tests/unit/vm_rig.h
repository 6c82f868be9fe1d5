// SPDX-License-Identifier: MIT
// A VM whose parts are counted and can fail one by one, and the threads that end it.
#pragma once

#include "tests/unit/test.h"
#include "vmm/lib/format.c"
#include "vmm/vm.c"
#include "vmm/vm_fit.c"
#include "vmm/vm_pause.c"
#include "vmm/layout.c"
#include <string.h>

u64 tsc_hz = 1000000;
u32 cpu_count = 2;
struct percpu percpus[CPU_MAX];
static struct vm *vm;
static char why[CONFIG_ERROR_MAX];

// --- what a machine is made of: each part counts, and one of them can fail ---

static int parts;      // made and not given back
static int steps_left; // until a part cannot be made; negative: never

static bool part_make(void)
{
    if (steps_left-- == 0)
        return false;
    parts++;
    return true;
}

void *heap_alloc(size_t size)
{
    return part_make() ? calloc(1, size) : NULL;
}

void heap_free(void *object)
{
    parts -= object != NULL;
    free(object);
}

static unsigned memory_clears;

int guest_memory_init(struct guest_memory *gm, const struct page_table_format *format,
                      unsigned max_leaf, enum guest_pages pages)
{
    (void)format, (void)max_leaf, (void)pages;
    gm->size = gm->backed = gm->slot_count = 0;
    return OK;
}

int guest_memory_add(struct guest_memory *gm, gpa_t base, u64 size, enum guest_slot_kind kind)
{
    (void)base, (void)kind;
    if (!part_make())
        return ERR_NO_MEMORY;
    gm->slot_count++;
    gm->size += size;
    return OK;
}

void guest_memory_destroy(struct guest_memory *gm)
{
    parts -= (int)gm->slot_count;
    gm->size = gm->slot_count = 0;
}

bool guest_memory_clear(struct guest_memory *gm)
{
    (void)gm;
    memory_clears++;
    return true;
}

int machine_create(struct vm *m)
{
    if (!part_make())
        return ERR_NO_MEMORY;
    m->machine = (struct machine *)m;
    return OK;
}

int storage_open(struct vm *m, char *reason)
{
    (void)m, (void)reason;
    return OK;
}

static u64 disk_left;

u64 storage_left(const struct vm *m)
{
    (void)m;
    return disk_left;
}

void storage_close(struct vm *m)
{
    (void)m;
}

void machine_destroy(struct vm *m)
{
    parts -= m->machine != NULL;
    m->machine = NULL;
}

static unsigned machine_resets;

void machine_reset(struct vm *m)
{
    CHECK(spin_is_locked(&m->lock));
    machine_resets++;
}

int xstate_create(struct vcpu *vcpu)
{
    vcpu->xstate = part_make() ? vcpu : NULL;
    return vcpu->xstate ? OK : ERR_NO_MEMORY;
}

void xstate_destroy(struct vcpu *vcpu)
{
    parts -= vcpu->xstate != NULL;
    vcpu->xstate = NULL;
}

int cpuid_create(struct vcpu *vcpu)
{
    vcpu->cpuid = part_make() ? (struct cpuid_table *)vcpu : NULL;
    return vcpu->cpuid ? OK : ERR_NO_MEMORY;
}

void cpuid_destroy(struct vcpu *vcpu)
{
    parts -= vcpu->cpuid != NULL;
    vcpu->cpuid = NULL;
}

static int fake_vcpu_create(struct vcpu *vcpu)
{
    if (!part_make())
        return ERR_NO_MEMORY;
    vcpu->engine = vcpu;
    return OK;
}

static void fake_vcpu_destroy(struct vcpu *vcpu)
{
    CHECK(vcpu->engine != NULL);
    CHECK(!vcpu->vm->machine); // whose chips reach its local APIC
    parts--;
}

static void fake_vcpu(struct vcpu *vcpu)
{
    CHECK(vcpu->vm == vm || !vm);
}

static void (*on_vcpu_reset)(struct vcpu *vcpu); // another thread's turn

static void fake_vcpu_reset(struct vcpu *vcpu)
{
    fake_vcpu(vcpu);
    if (on_vcpu_reset)
        on_vcpu_reset(vcpu);
}

static void fake_set_tsc_offset(struct vcpu *vcpu, u64 offset)
{
    CHECK_EQ(offset, vcpu->vm->tsc_offset);
}

static unsigned fake_max_leaf(void)
{
    return 1;
}

static const char *apic_missing;

static const char *fake_apic_missing(void)
{
    return apic_missing;
}

static bool apic_sound = true;

static bool fake_apic_sound(void)
{
    return apic_sound;
}

static const struct page_table_format fake_format = {.name = "fake-pages"};
static const struct cpu_ops fake_ops = {.name = "fake",
                                        .stage2_format = &fake_format,
                                        .stage2_max_leaf = fake_max_leaf,
                                        .apic_missing = fake_apic_missing,
                                        .apic_sound = fake_apic_sound,
                                        .vcpu_create = fake_vcpu_create,
                                        .vcpu_destroy = fake_vcpu_destroy,
                                        .vcpu_reset = fake_vcpu_reset,
                                        .set_tsc_offset = fake_set_tsc_offset,
                                        .flush = fake_vcpu};
void vcpu_apic_mode(struct vcpu *vcpu)
{
    vcpu->apic_moved = false;
}

struct engine engines[] = {{&fake_ops, NULL}};

struct engine *engine_find(const char *name)
{
    return strcmp(name, "fake") == 0 ? &engines[0] : NULL;
}

static struct thread thread_object;
static struct thread *const thread_mark = &thread_object;
static unsigned wakes;

struct thread *thread_create(const char *name, u32 cpu, void (*entry)(void *), void *argument)
{
    CHECK(strncmp(name, "guest/", 6) == 0);
    CHECK_EQ(cpu, THREAD_ANY_CPU);
    CHECK(entry == vcpu_thread && argument);
    return part_make() ? thread_mark : NULL;
}

void thread_destroy(struct thread *thread)
{
    CHECK(thread == thread_mark);
    parts--;
}

void thread_wake(struct thread *thread)
{
    CHECK(thread == thread_mark);
    wakes++;
}

bool vcpu_may_leave(const struct thread *thread)
{
    return thread;
}

void vcpu_thread(void *vcpu)
{
    (void)vcpu;
}

void firmware_destroy(struct vm *m)
{
    CHECK(!m->firmware);
}

int firmware_prepare(struct vm *m UNUSED, char *reason UNUSED)
{
    return OK;
}

int firmware_memory_add(struct vm *m UNUSED)
{
    return ERR_INVALID;
}

static unsigned boots_left;   // guest_boot() succeeds as often
static void (*on_boot)(void); // another thread's turn

int guest_boot(struct vm *m, char *reason)
{
    (void)m;
    if (boots_left == 0) {
        string_copy(reason, CONFIG_ERROR_MAX, "no kernel");
        return ERR_NOT_FOUND;
    }
    boots_left--;
    if (on_boot)
        on_boot();
    return OK;
}

// --- what needs no looking at ---

void io_bus_init(struct io_bus *bus, const char *name, u64 limit)
{
    (void)bus, (void)name, (void)limit;
}

void io_bus_destroy(struct io_bus *bus)
{
    (void)bus;
}

void io_clock_init(struct io_clock *clock, u64 hz, u64 (*now)(struct io_clock *))
{
    (void)clock, (void)hz, (void)now;
}

void lapic_init(struct lapic *lapic, u32 id, bool bsp, struct apic_bus *bus, struct io_clock *clock,
                const struct lapic_ops *ops)
{
    (void)lapic, (void)id, (void)bsp, (void)bus, (void)clock, (void)ops;
}

void lapic_reset(struct lapic *lapic)
{
    (void)lapic;
}

void lapic_virtual_wire(struct lapic *lapic)
{
    (void)lapic;
}

const struct lapic_ops vcpu_lapic_ops;

void xstate_reset(struct vcpu *vcpu)
{
    (void)vcpu;
}

void msr_reset(struct vcpu *vcpu)
{
    (void)vcpu;
}

static unsigned write_backs; // vCPUs that found their MTRRs on

void mtrr_write_back(struct vcpu *vcpu)
{
    (void)vcpu;
    write_backs++;
}

void msr_passthrough_setup(struct vcpu *vcpu)
{
    (void)vcpu;
}

void emulate_destroy(struct vcpu *vcpu)
{
    (void)vcpu;
}

void vcpu_load_here(struct vcpu *vcpu)
{
    (void)vcpu;
}

void vcpu_unload_here(struct vcpu *vcpu)
{
    (void)vcpu;
}

void vcpu_request(struct vcpu *vcpu, u32 requests)
{
    vcpu->requests |= requests;
}

static unsigned reports;

void report_crash(struct vm *m)
{
    CHECK(!spin_is_locked(&m->lock));
    reports++;
}

int console_init(struct console *console, const char *name)
{
    (void)console, (void)name;
    return OK;
}

void console_destroy(struct console *console)
{
    (void)console;
}

static bool console_is_open;

void console_open(struct console *console)
{
    (void)console;
    console_is_open = true;
}

void console_close(struct console *console)
{
    CHECK(vm->machine != NULL); // before what its input reaches is gone
    CHECK(console == vm->console);
    console_is_open = false;
}

static u64 frames_free = GIB / PAGE_SIZE;

struct frame_counts frame_counts(void)
{
    struct frame_counts counts = {0};
    counts.owned[FRAME_FREE] = frames_free;
    return counts;
}

u64 time_microseconds(void)
{
    return 0;
}

static unsigned lines;

void log_line(enum log_level level, const char *format, ...)
{
    CHECK(level <= LOG_DEBUG && format[0]);
    lines++;
}

bool string_copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from);
    return true;
}

// --- the other threads' turns ---

static void (*on_sleep)(unsigned nth);
static void (*on_block)(void);
static unsigned sleeps;

void thread_sleep_us(u64 us)
{
    (void)us;
    CHECK(!vm || !spin_is_locked(&vm->lock));
    if (++sleeps > 20)
        panic("slept too often");
    if (on_sleep)
        on_sleep(sleeps);
}

void thread_block(void)
{
    on_block();
}

// --- the test's side ---

static void reset(unsigned cpus)
{
    struct config_vm config = {.name = "guest", .engine = "fake", .mmu = "auto", .cpus = cpus};
    config.memory = 64 * MIB;
    parts = 0;
    steps_left = -1;
    boots_left = 100;
    wakes = sleeps = lines = reports = machine_resets = write_backs = 0;
    on_sleep = NULL;
    on_block = NULL;
    on_vcpu_reset = NULL;
    on_boot = NULL;
    vm = NULL;
    CHECK_EQ(vm_create(&config, &vm, why), OK);
}

static void finish(void)
{
    CHECK_EQ(vm_destroy(vm), OK);
    CHECK_EQ(parts, 0);
    CHECK(!vm_at(0));
}

static void ended(unsigned index, bool again)
{
    CHECK(vm->vcpus[index].requests & VCPU_REQUEST_STOP);
    CHECK_EQ(vm_vcpu_ended(vm, &vm->vcpus[index]), again);
    parts -= !again; // its thread's
}

static void start(void)
{
    CHECK_EQ(vm_start(vm, why), OK);
    CHECK(vm->state == VM_RUNNING);
    CHECK(console_is_open);
}

static void end_0(unsigned nth)
{
    (void)nth;
    ended(0, false);
}
