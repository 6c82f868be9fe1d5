// SPDX-License-Identifier: MIT
// What a VM's configuration asks of the host, held against the host that there is.
#pragma once

#include "vmm/vm.h"

// Choose engine and local APIC, and look at memory and pins. ERR_UNSUPPORTED, ERR_INVALID or
// ERR_NO_MEMORY with one line in `why` (CONFIG_ERROR_MAX bytes).
MUST_CHECK int vm_fit(struct vm *vm, char *why);
// With the VM's memory made and its disks open: may each running VM still touch all that it was
// given? ERR_NO_MEMORY with one line in `why`.
MUST_CHECK int vm_fit_promises(struct vm *vm, char *why);
