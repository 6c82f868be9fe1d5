// SPDX-License-Identifier: MIT
// vmm/thread.c and run_queue.c without stacks: context_switch() returns at once, so that a call
// which gives up the CPU comes back as whoever runs next. The test acts for the running thread of
// the CPU that is `here`, and time is a variable.
#pragma once

#include "tests/unit/test.h"
#define this_cpu real_this_cpu
#include "arch/x86_64/percpu.h"
#undef this_cpu
#define rdtsc           real_rdtsc
#define interrupts_take real_interrupts_take
#define interrupts_wait real_interrupts_wait
#include "arch/x86_64/asm.h"
#undef rdtsc
#undef interrupts_take
#undef interrupts_wait

static struct percpu *here;
static u64 now;
static unsigned takes;

static struct percpu *this_cpu(void)
{
    return here;
}

static u64 rdtsc(void)
{
    return now;
}

static void interrupts_take(void)
{
    takes++;
}

static void interrupts_wait(void)
{
    panic("idle"); // ends the idle loop: CHECK_PANICS
}

#include "vmm/run_queue.c"
#include "vmm/thread.c"
#include "vmm/lib/format.c"
#include <string.h>

struct percpu percpus[CPU_MAX];
u32 cpu_count = 2;
u64 tsc_hz = 1000000; // a tick is a microsecond

static unsigned allocated;

void *heap_alloc(size_t size)
{
    allocated++;
    return calloc(1, size);
}

void heap_free(void *object)
{
    allocated -= object != NULL;
    free(object);
}

void *host_stack_alloc(u64 size)
{
    return (u8 *)heap_alloc(size) + size;
}

void host_stack_free(void *top, u64 size)
{
    heap_free((u8 *)top - size);
}

static unsigned ipis;
static u32 ipi_to;

void apic_send_ipi(u32 apic_id, u8 vector)
{
    CHECK_EQ(vector, HOST_VECTOR_WAKE);
    ipi_to = apic_id;
    ipis++;
}

static u64 armed;

void apic_timer_arm(u64 deadline)
{
    armed = deadline;
}

void context_switch(u64 *from, u64 to)
{
    (void)from;
    (void)to;
}

static u64 slice(void)
{
    return tsc_from_us(THREAD_SLICE_US);
}

static void nothing(void *argument)
{
    (void)argument;
}

static void cpu_reset(unsigned index)
{
    here = &percpus[index];
    here->index = index;
    here->apic_id = 4 + index;
    here->online = here->engine_on = true;
    thread_init_cpu();
}

static const struct thread *loaded[CPU_MAX]; // who ran last

static void reset(void)
{
    while (!list_empty(&all_threads)) {
        struct thread *t = container_of(all_threads.next, struct thread, all);
        list_remove(&t->all);
        host_stack_free(t->stack_top, THREAD_STACK_SIZE);
        heap_free(t);
    }
    memset(queues, 0, sizeof(queues));
    memset(percpus, 0, sizeof(percpus));
    memset(loaded, 0, sizeof(loaded));
    now = 1000;
    takes = ipis = 0;
    armed = 0;
    cpu_reset(1);
    cpu_reset(0);
}

static struct thread *make(const char *name, u32 cpu)
{
    return thread_create(name, cpu, nothing, NULL);
}

static struct thread *make_running(const char *name)
{
    struct thread *t = make(name, 0);
    thread_wake(t);
    while (thread_self() != t)
        thread_yield();
    return t;
}

static void run_for(u64 ticks)
{
    now += ticks;
    thread_yield();
}

static bool runs(const struct thread *t)
{
    return thread_self() == t && t->state == THREAD_RUNNING && !spin_is_locked(&queues[0].lock);
}

static bool idles(void)
{
    return thread_self() == &queues[0].idle;
}
