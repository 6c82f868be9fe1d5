// SPDX-License-Identifier: MIT
// The PC that a guest runs on: which chips there are, where, and how they are wired together.
#pragma once

#include "vmm/lib/types.h"

struct vm;

// Put the chips on the VM's buses and clock, which exist; the vCPUs' local APICs may come later.
// ERR_NO_MEMORY.
MUST_CHECK int machine_create(struct vm *vm);
void machine_destroy(struct vm *vm); // harmless if there is none
void machine_reset(
    struct vm *vm); // every chip as after power-on; the VM's clock may have started over
// Guest memory as the machine's bus masters reach it: the map of a struct io_dma whose context is
// the VM.
void *machine_dma_map(void *vm, u64 gpa, bool write, u64 *length);
// The PIC's INTR line, and the CPU's acknowledge of it: the vector. VM's lock held.
bool machine_pic_pending(struct vm *vm);
u8 machine_pic_acknowledge(struct vm *vm);
// Press the power button: asks the guest's operating system to shut down. Takes the VM's lock.
void machine_power_button(struct vm *vm);
