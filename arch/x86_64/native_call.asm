; SPDX-License-Identifier: MIT
; One instruction with the guest's general registers loaded. Its operand in memory is at a fixed distance from RSP, which
; is the one register that it may not name.

bits 64

global native_call, native_failed, native_slots

; struct native
OPERAND_SIZE equ 128
GPR equ 128
FLAGS equ 256
RDI_INDEX equ 7

; The frame: RSP of before, the slot, the struct, RDI; then the operand, aligned to 64.
FRAME_RSP equ 0
FRAME_SLOT equ 8
FRAME_NATIVE equ 16
FRAME_RDI equ 24
FRAME_OPERAND equ 64
FRAME_SIZE equ FRAME_OPERAND + OPERAND_SIZE

; CPU_MAX slots of NATIVE_SLOT_SIZE
SLOTS equ 64
SLOT_SIZE equ 16

section .text

; Instruction and RET of each CPU (native.c).
    align SLOT_SIZE, int3
native_slots:
    times SLOTS * SLOT_SIZE int3

; (struct native *, void *slot)
native_call:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov rax, rsp
    sub rsp, FRAME_SIZE
    and rsp, -64
    mov [rsp + FRAME_RSP], rax
    mov [rsp + FRAME_SLOT], rsi
    mov [rsp + FRAME_NATIVE], rdi
    mov rsi, rdi
    lea rdi, [rsp + FRAME_OPERAND]
    mov ecx, OPERAND_SIZE / 8
    rep movsq
    mov rdi, [rsp + FRAME_NATIVE]
    push qword [rdi + FLAGS]
    popfq
%macro each_register 1
    %1 rax, 0
    %1 rcx, 1
    %1 rdx, 2
    %1 rbx, 3
    %1 rbp, 5
    %1 rsi, 6
    %1 r8, 8
    %1 r9, 9
    %1 r10, 10
    %1 r11, 11
    %1 r12, 12
    %1 r13, 13
    %1 r14, 14
    %1 r15, 15
%endmacro
%macro load 2
    mov %1, [rdi + GPR + %2 * 8]
%endmacro
%macro store 2
    mov [rdi + GPR + %2 * 8], %1
%endmacro
    each_register load
    mov rdi, [rdi + GPR + RDI_INDEX * 8]
    call [rsp + FRAME_SLOT]
    mov [rsp + FRAME_RDI], rdi
    mov rdi, [rsp + FRAME_NATIVE]
    pushfq
    pop qword [rdi + FLAGS]
    each_register store
    mov rax, [rsp + FRAME_RDI]
    mov [rdi + GPR + RDI_INDEX * 8], rax
    lea rsi, [rsp + FRAME_OPERAND]
    mov ecx, OPERAND_SIZE / 8
    rep movsq
    xor eax, eax
leave_frame:
    mov rsp, [rsp + FRAME_RSP]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

; Where native_trap goes on, RAX the vector; the slot's return address is on the stack.
native_failed:
    add rsp, 8
    jmp leave_frame

section .note.GNU-stack noalloc noexec nowrite progbits
