// SPDX-License-Identifier: MIT
// A PC firmware image in a VM, entered at the reset vector as after power-on. The image ends at 4
// GiB; its end is also below 1 MiB, shadowed in RAM. UEFI variables lie in a flash chip right below
// the image's code: a file of their own (the key `nvram`), or the volume for variables that the
// image begins with. What the guest writes there lasts until the VM is destroyed.
#pragma once

#include "vmm/lib/types.h"

struct vm;
struct firmware;

#define FIRMWARE_PAM_SIZE 7 // bytes of PAM registers in the host bridge

// Find and check the files of a VM that has firmware; vm->firmware is made the first time. One line
// in why.
MUST_CHECK int firmware_prepare(struct vm *vm, char *why);
void firmware_destroy(struct vm *vm); // harmless if there is none
// Slots for the image, and for the RAM below 1 MiB that can be protected.
MUST_CHECK int firmware_memory_add(struct vm *vm);
// Put the flash chip on the memory bus.
MUST_CHECK int firmware_map(struct vm *vm);
void firmware_power_on(struct vm *vm);
// Fill guest memory. The first vCPU is in its reset state and stays so.
MUST_CHECK int firmware_load(struct vm *vm);
// The PAM registers say which parts of C0000 to FFFFF can be written.
void firmware_shadow(struct vm *vm, const u8 pam[FIRMWARE_PAM_SIZE]);
