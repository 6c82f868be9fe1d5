// SPDX-License-Identifier: MIT
// Puts a Linux kernel (bzImage) into a guest's memory and says how the first vCPU enters it in
// 64-bit mode, as a 64-bit boot loader would (Linux' Documentation/arch/x86/boot.rst, "64-bit Boot
// Protocol"). The files may hold anything: every number in them is checked, and each refusal is one
// line that names file and numbers.
#pragma once

#include "vmm/layout.h"
#include "mm/guest_memory.h"

// What the loader itself puts into low memory, all of it below LAYOUT_EBDA and free for the kernel
// once it runs.
#define LINUX_GDT         0x1000ull
#define LINUX_STACK_TOP   0x7000ull // a page or more below it
#define LINUX_BOOT_PARAMS 0x7000ull // the "zero page"
#define LINUX_PML4        0x9000ull // then the PDPT and four page directories: the low 4 GiB one to one
#define LINUX_CMDLINE     0x20000ull
#define LINUX_CMDLINE_MAX 0x10000ull // with its terminator

// Selectors in that GDT.
#define LINUX_BOOT_CS 0x10
#define LINUX_BOOT_DS 0x18

struct load_linux_input {
    const char *kernel_name, *initrd_name; // for messages
    const void *kernel, *initrd;
    u64 kernel_size, initrd_size; // initrd_size 0: none
    const char *cmdline;
    u64 memory; // the machine's, laid out as vmm/layout.h says
    const struct e820_entry *e820;
    unsigned e820_count;
    gpa_t rsdp; // 0: none
};

// Long mode with paging, interrupts off; CS is LINUX_BOOT_CS (64-bit code), DS, ES and SS are
// LINUX_BOOT_DS.
struct load_linux_entry {
    u64 rip, rsp, rsi, cr3;
    u64 gdt_base;
    u32 gdt_limit;
};

// Needs RAM slots for all of low memory and from LAYOUT_HIGH on. On an error one line is in `why`
// (CONFIG_ERROR_MAX bytes) and guest memory may be partly written.
MUST_CHECK int load_linux(struct guest_memory *gm, const struct load_linux_input *in,
                          struct load_linux_entry *out, char *why);
