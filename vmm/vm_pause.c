// SPDX-License-Identifier: MIT
// A VM that stands still: its vCPUs wait in the run loop (park() of vmm/run.c), and the time
// between is taken out of the guest's TSC, on which all its clocks are built.
#include "vmm/vm.h"
#include "vmm/thread.h"
#include "vmm/lib/error.h"
#include "arch/x86_64/cpu.h"

#define PARK_POLL_US 500

// Under the VM's lock: its end does not come meanwhile.
static void have_all_look(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_request(&vm->vcpus[i], VCPU_REQUEST_EVENT);
}

bool vm_pause_begin(struct vm *vm)
{
    spin_lock(&vm->lock);
    bool begins = vm->state == VM_RUNNING && !vm->paused;
    if (begins) {
        __atomic_store_n(&vm->paused, true, __ATOMIC_SEQ_CST);
        have_all_look(vm);
    }
    spin_unlock(&vm->lock);
    return begins;
}

// False: some are still on their way.
static bool pause_settle(struct vm *vm)
{
    spin_lock(&vm->lock);
    bool lives = vm->state == VM_RUNNING && vm->paused;
    bool all = __atomic_load_n(&vm->parked, __ATOMIC_SEQ_CST) == vm->vcpu_count;
    if (lives && all && !vm->paused_at)
        vm->paused_at = rdtsc();
    spin_unlock(&vm->lock);
    return all || !lives;
}

int vm_pause_wait(struct vm *vm)
{
    while (!pause_settle(vm))
        thread_sleep_us(PARK_POLL_US);
    bool paused = vm->state == VM_RUNNING && vm->paused;
    return paused ? OK : ERR_STATE; // it may have been reset or have ended meanwhile
}

int vm_pause(struct vm *vm)
{
    return vm_pause_begin(vm) ? vm_pause_wait(vm) : ERR_STATE;
}

int vm_resume(struct vm *vm)
{
    spin_lock(&vm->lock);
    bool resumes = vm->state == VM_RUNNING && vm->paused && vm->paused_at;
    if (resumes) {
        vm->tsc_offset -= rdtsc() - vm->paused_at;
        vm->paused_at = 0;
        __atomic_store_n(&vm->paused, false, __ATOMIC_SEQ_CST);
        have_all_look(vm);
    }
    spin_unlock(&vm->lock);
    if (!resumes)
        return ERR_STATE;
    // Until all are on their way, or are stopped again.
    while (__atomic_load_n(&vm->parked, __ATOMIC_SEQ_CST) && !vm->paused)
        thread_sleep_us(PARK_POLL_US);
    return OK;
}

bool vm_hold(struct vm *vm)
{
    spin_lock(&vm->lock);
    bool all =
        vm->state == VM_RUNNING && vm->paused && vm->paused_at && vm->parked == vm->vcpu_count;
    vm->held = all;
    spin_unlock(&vm->lock);
    return all;
}

void vm_release(struct vm *vm)
{
    spin_lock(&vm->lock);
    vm->held = false;
    have_all_look(vm);
    spin_unlock(&vm->lock);
}
