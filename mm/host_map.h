// SPDX-License-Identifier: MIT
// The core's own address space: the direct map of RAM (NX, largest pages), the core's image (W^X, by section),
// device registers (uncached), and stacks with an unmapped page below each.
#pragma once

#include "vmm/lib/types.h"

struct boot_info;

// Build it and switch to it; after frame_init(). The boot information stays readable through the direct map.
void host_map_init(const struct boot_info *boot);
u64 host_map_cr3(void);

enum host_cache { HOST_UNCACHED, HOST_WRITE_COMBINING };
// Map device memory (page granular, kept for good). Null if there is no memory.
void *host_map_device(hpa_t hpa, u64 size, enum host_cache cache);
// A stack of `size` bytes (whole pages) with a guard page below; returns its top, null if there is no memory.
void *host_stack_alloc(u64 size);
void host_stack_free(void *top, u64 size);
// For panic reports: what an address belongs to ("guard page of a stack", "core text", ...).
const char *host_map_describe(u64 hva);
// Page tables that map the low 512 GiB one to one, executable: only for calling the firmware. 0 if no memory.
u64 host_map_firmware_cr3(void);
