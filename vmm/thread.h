// SPDX-License-Identifier: MIT
// Host threads: a vCPU, the shell, a device worker. Cooperative: a thread runs until it yields or
// blocks (a guest's run is bounded by the engine). Each CPU has a run queue and an idle thread that
// halts; a wake-up on another CPU is an IPI. Wake-ups are never lost: thread_wake() of a running
// thread makes its next thread_block() return at once. Threads that want to run share their CPU in
// proportion to their weights; who was asleep comes soon.
#pragma once

#include "vmm/lib/types.h"
#include "vmm/lib/list.h"
#include "vmm/lib/spinlock.h"

#define THREAD_NAME_MAX   24
#define THREAD_STACK_SIZE (16 * KIB)
#define THREAD_SLICE_US   5000 // how long a thread may run while others wait

#define THREAD_WEIGHT_MIN     1u
#define THREAD_WEIGHT_MAX     10000u
#define THREAD_WEIGHT_DEFAULT 100u

enum thread_state { THREAD_READY, THREAD_RUNNING, THREAD_BLOCKED, THREAD_DEAD };

struct thread {
    struct list node;  // on a run queue
    struct list all;   // on the list of all threads
    struct list sleep; // on a run queue's list of sleepers
    u64 stack_pointer; // while not running
    void *stack_top;
    u32 cpu; // index of the CPU it belongs to
    enum thread_state state;
    bool wake_pending;
    bool movable;   // may go to another CPU
    bool gives_way; // at its next yield, whatever share is due to it
    u32 weight;
    u64 virtual_time; // cycles used, over weight: see vmm/run_queue.h
    u64 wake_at;      // TSC; ~0: not sleeping
    u64 started;      // TSC up to which its cycles are counted
    u64 cycles;       // used so far
    u64 slice_end;    // TSC
    void (*entry)(void *argument);
    void *argument;
    // While it does not run: is nothing of it left in its CPU's registers? Null: nothing ever is.
    bool (*may_leave)(const struct thread *thread);
    char name[THREAD_NAME_MAX];
};

void thread_init_cpu(void); // makes the running context this CPU's idle thread; after cpu and heap
NORETURN void thread_idle_loop(void);

// Null if there is no memory. Starts blocked: thread_wake() it. cpu: index, or THREAD_ANY_CPU for
// the least busy one that can run guests, and it may move later.
#define THREAD_ANY_CPU (~0u)
struct thread *thread_create(const char *name, u32 cpu, void (*entry)(void *), void *argument);
void thread_destroy(struct thread *thread); // only one that was never woken
NORETURN void thread_exit(void);
struct thread *thread_self(void);
void thread_wake(struct thread *thread); // from any CPU
void thread_yield(void);                 // let others run; takes pending host interrupts
void thread_give_way(void);              // at its next yield the next in line runs first
void thread_block(void);                 // until thread_wake()
// Until thread_wake() or the TSC value; true if woken. A value in the past lets others run.
bool thread_block_until(u64 tsc);
void thread_sleep_us(u64 us);
// Should the running thread give way (slice over and others wait)?
bool thread_should_yield(void);
// The earliest TSC at which this CPU must look at its queue again: slice end if others wait, first
// sleeper. ~0: never.
u64 thread_next_event(void);
bool thread_may_move(const struct thread *thread); // its queue is held
void thread_for_each(void (*visit)(struct thread *thread, void *context), void *context);
// Cycles used up to now: by a thread, and on a CPU by all that is not idleness.
u64 thread_cycles(const struct thread *thread);
u64 thread_cpu_busy(u32 cpu);
