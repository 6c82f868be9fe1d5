// SPDX-License-Identifier: MIT
// The core's own address space: the direct map of RAM (NX, largest pages), the core's image (W^X,
// by section), device registers (uncached), and stacks with an unmapped page below each.
#pragma once

#include "vmm/lib/types.h"

struct boot_info;

// Build it and switch to it; after frame_init() and once EFER.NXE, CR0.WP and the PAT are set
// (cpu_init_first()). The boot information stays readable through the direct map: hpa_to_hva() of
// each pointer in it, and of its own.
void host_map_init(const struct boot_info *boot);
u64 host_map_cr3(void);

enum host_cache { HOST_UNCACHED, HOST_WRITE_COMBINING };
// Map device memory (page granular, kept for good). Null if there is no memory.
void *host_map_device(hpa_t hpa, u64 size, enum host_cache cache);
// A stack of `size` bytes (whole pages, 60 KiB at most) with a guard page below; returns its top,
// null if there is no memory. A freed one keeps its frames for the next stack of that size.
void *host_stack_alloc(u64 size);
void host_stack_free(void *top, u64 size);
// For panic reports: what an address belongs to ("guard page of a stack", "core text", ...).
const char *host_map_describe(u64 hva);
// Page tables that map the low 512 GiB one to one, executable, and the core where it always is:
// only for calling the firmware and for starting CPUs. On CPUs without 1 GiB pages: all RAM, and 4
// GiB at least. 0 if no memory. Ask again before each use: the core's half is brought up to date.
// This and host_map_cr3() lie below 4 GiB.
u64 host_map_firmware_cr3(void);
