// SPDX-License-Identifier: MIT
// What a loader gets (the files of a VM and what its machine is) and what it gives: how the first
// vCPU is entered. With it the tables in low memory that an entry in protected or long mode wants.
// A loader is strict: the files may hold anything, so every number in them is checked, and each
// refusal is one line that names file and numbers.
#pragma once

#include "vmm/layout.h"
#include "mm/guest_memory.h"

enum guest_mode { GUEST_MODE_REAL, GUEST_MODE_PROTECTED, GUEST_MODE_LONG };

#define GUEST_MODULES_MAX 9 // the initrd is the first

struct guest_module {
    const char *name, *arguments;
    const void *bytes;
    u64 size;
};

struct guest_image {
    const char *kernel_name;
    const void *kernel;
    u64 kernel_size;
    const char *cmdline;
    struct guest_module modules[GUEST_MODULES_MAX];
    unsigned module_count;
    u64 memory; // the machine's, laid out as vmm/layout.h says
    const struct e820_entry *e820;
    unsigned e820_count;
    gpa_t rsdp;                // 0: none
    u64 load;                  // of a flat image: where it goes
    enum guest_mode load_mode; // and how it is entered
    char *why;                 // CONFIG_ERROR_MAX bytes, for a refusal
};

// Interrupts are off. Real: CS holds the high part of rip. Protected: flat segments, paging off.
// Long: the low 4 GiB are mapped one to one.
struct guest_entry {
    enum guest_mode mode;
    u64 rip, rsp;
    u64 rax, rbx, rsi;
};

// Low memory that a loader uses, all of it free for the guest once it runs.
#define BOOT_GDT        0x1000ull
#define BOOT_GDT_LIMIT  31
#define BOOT_STACK_TOP  0x7000ull // a page or more below it
#define BOOT_PML4       0x9000ull // then the PDPT and four page directories
#define BOOT_TABLES_END 0xf000ull

// Selectors in that GDT, those that Linux' boot protocol names.
#define BOOT_CS 0x10
#define BOOT_DS 0x18

#define GUEST_LOADER_NAME "Plinth"

// Copy a file's bytes into guest memory, however many, and let other threads run meanwhile. Errors
// as guest_memory_write().
MUST_CHECK int guest_image_copy(struct guest_memory *gm, gpa_t gpa, const void *from, u64 size);
// A line in image->why; returns the error.
PRINTF(3, 4)
int guest_image_refuse(const struct guest_image *image, int error, const char *format, ...);
// Writing guest memory ended with this error: OK, or ERR_NO_MEMORY with a line in image->why.
int guest_image_loaded(const struct guest_image *image, int error);
// What a PC's firmware leaves in low memory for whoever looks there: the BIOS data area's base
// memory and first serial port, and an EBDA, which is empty.
MUST_CHECK int bios_data_write(struct guest_memory *gm);
// The GDT and page tables that an entry in this mode wants.
MUST_CHECK int boot_tables_write(struct guest_memory *gm, enum guest_mode mode);
