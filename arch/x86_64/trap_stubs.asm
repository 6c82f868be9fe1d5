; SPDX-License-Identifier: MIT
; The 256 entries of the IDT. Each leaves struct trap_frame (arch/x86_64/cpu.h) on the stack and calls trap_dispatch().
; GS always holds the per-CPU address while host code runs, so nothing is swapped.

bits 64
default rel

extern trap_dispatch
global trap_stubs

; The vectors for which the CPU pushes an error code: #DF #TS #NP #SS #GP #PF #AC #CP, and AMD's #VC and #SX
; (SDM volume 3, "Protected-Mode Exceptions and Interrupts"; APM volume 2, "Vectors").
WITH_ERROR_CODE equ 1<<8 | 1<<10 | 1<<11 | 1<<12 | 1<<13 | 1<<14 | 1<<17 | 1<<21 | 1<<29 | 1<<30

section .text

%assign vector 0
%rep 256
trap_stub_%[vector]:
    %if vector >= 32 || !((WITH_ERROR_CODE >> vector) & 1)
    push qword 0
    %endif
    push qword vector
    jmp trap_common
    %assign vector vector + 1
%endrep

trap_common:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    call trap_dispatch
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16                 ; vector and error code
    iretq

section .rodata

align 8
trap_stubs:
%assign vector 0
%rep 256
    dq trap_stub_%[vector]
    %assign vector vector + 1
%endrep

section .note.GNU-stack noalloc noexec nowrite progbits
