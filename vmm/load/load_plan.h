// SPDX-License-Identifier: MIT
// What the loaders of multiboot and PVH kernels share: which bytes of the kernel's file go where
// (struct load_plan), its modules right behind it, each on a page of its own, and a piece of low
// memory with everything that the kernel is told (struct boot_area). First all of a plan is
// checked, then memory is written.
#pragma once

#include "vmm/load/guest_image.h"

#define LOAD_PARTS_MAX 16

struct load_part {
    u64 offset, file_size; // in the file
    u64 gpa, size;         // in memory; what the file does not fill is zero
};

struct load_plan {
    const struct guest_image *in;
    struct load_part parts[LOAD_PARTS_MAX];
    unsigned count;
    u64 entry; // physical
    gpa_t modules[GUEST_MODULES_MAX];
};

// As multiboot headers have it: where the header itself is to lie, and what is loaded around it.
struct load_addresses {
    u32 header_addr, load_addr, load_end_addr, bss_end_addr;
} PACKED;

// Each of these says in in->why what it refuses. A part must lie in the file.
MUST_CHECK int load_plan_add(struct load_plan *plan, const struct load_part *part);
// The one part of a file whose header, at this offset of it, holds the addresses.
MUST_CHECK int load_plan_add_addresses(struct load_plan *plan, const struct load_addresses *a,
                                       u64 header_offset);
bool load_plan_holds(const struct load_plan *plan, u64 gpa);
// The parts and their entry must lie in main memory below 4 GiB, or in low memory that holds
// nothing else (a real-mode program has no choice); the modules in main memory, behind them.
MUST_CHECK int load_plan_place(struct load_plan *plan);

#define BOOT_AREA     0x10000ull
#define BOOT_AREA_END 0x20000ull

// Filled from its start on. After an error nothing more is written.
struct boot_area {
    struct guest_memory *gm;
    gpa_t next;
    int error;
};

// The address of what was put.
gpa_t boot_area_put(struct boot_area *area, const void *bytes, u64 size); // on 8 bytes
gpa_t boot_area_append(struct boot_area *area, const void *bytes, u64 size);
// "first second", or only the first if the second is empty; with their end.
gpa_t boot_area_text(struct boot_area *area, const char *first, const char *second);
u64 boot_area_text_size(const char *first, const char *second);
// The e820 map with each entry filled up to 24 bytes, as multiboot 2 and PVH have it.
#define BOOT_AREA_MAP_ENTRY 24u
gpa_t boot_area_memory_map(struct boot_area *area, const struct guest_image *in);

// A way to boot: all have the entry in 32-bit mode with what the kernel is told at EBX.
struct load_protocol {
    int (*plan)(struct load_plan *plan); // from plan->in to plan->entry, as the functions above
    gpa_t (*tell)(struct boot_area *area, const struct load_plan *plan); // its address
    u32 magic;                                                           // in EAX
};

// Plan, write the kernel, its modules and the entry's tables, and tell.
MUST_CHECK int load_plan_boot(struct load_plan *plan, const struct load_protocol *protocol,
                              struct guest_memory *gm, struct guest_entry *out);
