// SPDX-License-Identifier: MIT
// A CPU's threads that want to run, and those that sleep. Who runs next is a matter of virtual
// time: the cycles that a thread used, divided by its weight. The least goes first, so that in the
// long run each has its share, of its CPU and of all of them: virtual times of different queues can
// be compared. Private to vmm/thread.c.
#pragma once

#include "arch/x86_64/cpu.h"
#include "vmm/lib/types.h"
#include "vmm/lib/list.h"
#include "vmm/lib/spinlock.h"
#include "vmm/thread.h"

#define NEVER (~0ull)

struct run_queue {
    struct spinlock lock;
    struct list ready;    // least virtual time first
    struct list sleepers; // earliest first
    u64 first_wake;       // wake_at of the first sleeper; NEVER if none
    u64 floor;            // virtual time that everybody here who wants to run has reached
    u64 busy;             // cycles that threads other than the idle one ran
    u32 ready_count;
    u32 neighbour;          // whom this CPU looked at last, to even out what their threads get
    u32 threads;            // that belong to this CPU; atomic
    bool preempt;           // somebody goes before the running thread: it gives way soon
    struct thread *running; // or about to
    struct thread *dead;    // switched away from for good; freed by the next thread
    struct thread idle;
};

// In ticks of the TSC. These times need no 128 bits, and a switch asks three times.
static inline u64 run_queue_slices(u64 count)
{
    return count * THREAD_SLICE_US * tsc_hz / 1000000;
}

// All with the queue's lock held.
void run_queue_init(struct run_queue *q);
void run_queue_charge(struct run_queue *q, u64 now); // what the running thread used up to now
void run_queue_add(struct run_queue *q, struct thread *thread); // ready, as its virtual time says
struct thread *run_queue_take(struct run_queue *q);             // the first that is ready
// It slept or was blocked: it has its turn soon, but what it may be behind the others is bounded.
// The running thread has been charged.
void run_queue_wake(struct run_queue *q, struct thread *thread);
void run_queue_wake_sleepers(struct run_queue *q, u64 now);
void run_queue_sleep(struct run_queue *q, struct thread *thread, u64 tsc);
// The thread, which does not run, leaves for another CPU: on no list now, and "ready", so that a
// wake-up on its way is only noted.
void run_queue_leave(struct run_queue *q, struct thread *thread);
// What it is behind or ahead of the others here is bounded.
void run_queue_arrive(struct run_queue *q, struct thread *thread, u64 now);
// Would a thread of that virtual time get its due here sooner? `floor` is that of its own queue.
bool run_queue_is_ahead(struct run_queue *q, u64 virtual_time, u64 floor, u64 now);
// The first that waits here and may go to another CPU; null if there is none.
struct thread *run_queue_find_movable(struct run_queue *q);
// Behind the next in line, whatever share is due to the thread.
void run_queue_renounce(struct run_queue *q, struct thread *thread);
