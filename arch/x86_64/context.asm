; SPDX-License-Identifier: MIT
; The context switch: struct context of arch/x86_64/context.h is what it pushes. Flags need no saving: interrupts are off in
; all host code and the direction flag is clear at every call (System V ABI, "Registers").

bits 64

global context_switch

section .text

; void context_switch(u64 *from, u64 to)
context_switch:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov [rdi], rsp
    mov rsp, rsi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

section .note.GNU-stack noalloc noexec nowrite progbits
