; SPDX-License-Identifier: MIT
; x87 instructions by number, on the guest's registers, which stay in the CPU while the core runs. One stub for each,
; since an instruction is what its bytes are.

bits 64

global x87_faults, x87_run, x87_pointers_set

STUB_SIZE equ 4
ESC_FIRST equ 0xd8
MODRM_RSI equ 6
STATUS_ES equ 7
AREA_SIZE equ 512
AREA_FIP equ 8
AREA_FDP equ 16

section .text

x87_faults:
    fnstsw ax
    shr eax, STATUS_ES
    and eax, 1
    ret

; (unsigned number, void *operand)
x87_run:
    and edi, 63
    lea rax, [rel stubs]
    lea rax, [rax + rdi * STUB_SIZE]
    jmp rax

    align STUB_SIZE, int3
stubs:
%assign n 0
%rep 64
    db ESC_FIRST + n / 8, n % 8 * 8 + MODRM_RSI
    ret
    align STUB_SIZE, int3
%assign n n + 1
%endrep

; (u64 instruction, u64 operand)
x87_pointers_set:
    mov rax, rsp
    sub rsp, AREA_SIZE
    and rsp, -16
    fxsave64 [rsp]
    mov [rsp + AREA_FIP], rdi
    mov [rsp + AREA_FDP], rsi
    fxrstor64 [rsp]
    mov rsp, rax
    ret

section .note.GNU-stack noalloc noexec nowrite progbits
