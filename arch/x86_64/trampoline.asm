; SPDX-License-Identifier: MIT
; Where an application processor starts: smp.c copies this to a page below 1 MiB, and the startup IPI makes the CPU
; begin at its first byte in real mode. It goes to long mode in one step and jumps into the core.
;
; The first page table is the one that maps low memory one to one, and the core as well (host_map_firmware_cr3());
; its root lies below 4 GiB because CR3 has 32 bits on that way.

CR4_PAE       equ 1 << 5
CR0_PE_ET_PG  equ 1 << 0 | 1 << 4 | 1 << 31
MSR_IA32_EFER equ 0xc0000080
EFER_LME_NXE  equ 1 << 8 | 1 << 11
CODE_SELECTOR equ 8

global trampoline_start, trampoline_parameters, trampoline_end
global smp_core_entry
extern smp_main

section .rodata

align 16
trampoline_start:
bits 16
    cli
    cld
    xor ebx, ebx
    mov bx, cs
    mov ds, bx
    shl ebx, 4                  ; EBX: the page's address
    lea eax, [ebx + gdt - trampoline_start]
    mov [gdt_register - trampoline_start + 2], eax
    lea eax, [ebx + long_mode - trampoline_start]
    mov [long_mode_pointer - trampoline_start], eax
    o32 lgdt [gdt_register - trampoline_start]
    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, [first_cr3 - trampoline_start]
    mov cr3, eax
    mov ecx, MSR_IA32_EFER
    mov eax, EFER_LME_NXE
    xor edx, edx
    wrmsr
    mov eax, CR0_PE_ET_PG
    mov cr0, eax
    jmp far dword [long_mode_pointer - trampoline_start]

bits 64
default rel
; The stack is taken by an exchange: smp.c takes it back the same way from a CPU that is late.
long_mode:
    xor eax, eax
    xchg rax, [stack_top]
    test rax, rax
    jz .late
    mov rsp, rax
    mov rdi, [percpu_address]
    mov rax, [core_cr3]
    jmp [core_entry_address]
.late:
    cli
    hlt
    jmp .late

align 8
gdt:
    dq 0
    dq 0x00af9b000000ffff       ; CODE_SELECTOR: present, ring 0, execute-read, accessed, long mode
gdt_end:
gdt_register:
    dw gdt_end - gdt - 1
    dd 0
long_mode_pointer:
    dd 0
    dw CODE_SELECTOR

align 8
trampoline_parameters:          ; struct trampoline_parameters in smp.c
first_cr3:          dq 0
stack_top:          dq 0
percpu_address:     dq 0
core_cr3:           dq 0
core_entry_address: dq 0
trampoline_end:

section .text

; In the core, which both page tables map: RAX = the core's CR3, RDI = struct percpu *, a fresh stack.
smp_core_entry:
    mov cr3, rax
    xor ebp, ebp                ; the end of every backtrace
    call smp_main
.halt:
    cli
    hlt
    jmp .halt

section .note.GNU-stack noalloc noexec nowrite progbits
