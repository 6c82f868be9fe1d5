; SPDX-License-Identifier: MIT
; Where the loader jumps to: RDI = physical address of struct boot_info, on the loader's page tables, which map
; RAM one to one and the core at its link address. Leaves the loader's stack and calls core_main().

BOOT_STACK_SIZE equ 32 * 1024
PAGE_BYTES      equ 4096

bits 64
default rel

extern core_main
global core_entry
global core_boot_stack_guard, core_boot_stack, core_boot_stack_top

section .text

core_entry:
    cli
    cld
    lea rsp, [core_boot_stack_top]
    xor ebp, ebp                ; the end of every backtrace
    call core_main
.halt:
    cli
    hlt
    jmp .halt

section .bss.boot_stack nobits alloc noexec write align=4096

core_boot_stack_guard:
    resb PAGE_BYTES
core_boot_stack:
    resb BOOT_STACK_SIZE
core_boot_stack_top:

section .note.GNU-stack noalloc noexec nowrite progbits
