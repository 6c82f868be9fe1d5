// SPDX-License-Identifier: MIT
// What a VM's firmware, or a test program, is told through fw_cfg: memory, processors, ACPI tables,
// the console's port.
#pragma once

#include "vmm/lib/types.h"

struct vm;
struct fw_config;

// With the device on the VM's ports. ERR_NO_MEMORY; *out is to be destroyed in any case.
MUST_CHECK int fw_config_create(struct vm *vm, struct fw_config **out);
void fw_config_destroy(struct fw_config *c); // null: nothing
void fw_config_reset(struct fw_config *c);   // null: nothing
