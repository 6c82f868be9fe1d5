// SPDX-License-Identifier: MIT
// The test guests' library: what a guest gets and prints. The one contract with the tests: a guest
// prints lines on COM1; "guest: ok" or "guest: FAIL ..." is its last before it powers the machine
// off.
#pragma once

#include "arch/x86_64/asm.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/types.h"

// struct boot_params of the Linux boot protocol: only what the guests read.
#define BOOT_PARAMS_CMDLINE_PTR 0x228
#define BOOT_PARAMS_RAMDISK     0x218
#define BOOT_PARAMS_RAMDISK_LEN 0x21c

static inline u32 boot_params_u32(const u8 *boot_params, unsigned offset)
{
    return *(const u32 *)(boot_params + offset);
}

// What a multiboot loader left in EAX and EBX; 0 if the guest was not entered by one.
extern u32 guest_multiboot_magic, guest_multiboot_info;

void guest_main(const u8 *boot_params);
// Called for every interrupt and exception; *return_rip may be changed. Each guest has its own.
void guest_interrupt(u64 vector, u64 error, u64 rip, u64 *return_rip);
void guest_idt_load(void);

void guest_print(const char *text);
void guest_print_number(u64 value); // decimal
void guest_print_hex(u64 value);
// Does the command line hold this word?
bool guest_has_word(const u8 *boot_params, const char *word);
void guest_finish(bool ok, const char *why); // prints the verdict and powers off
