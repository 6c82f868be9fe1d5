; SPDX-License-Identifier: MIT
; The vector registers, by number: the guest's, which stay in the CPU while the core runs. One stub of at most 8 bytes
; for each register and form, since an instruction names its register in its bytes.

bits 64

global vector_read, vector_write

STUB_SIZE equ 8
ROW_SIZE equ 16 * STUB_SIZE

; A row: %1 the instruction's end, register type %2, store (1) or load (0) %3, %4 registers
%macro row 4
%assign n 0
%rep %4
    align STUB_SIZE, int3
%if %3
    %1 [rsi], %2 %+ n
%else
    %1 %2 %+ n, [rsi]
%endif
    ret
%assign n n + 1
%endrep
    align STUB_SIZE, int3
%endmacro

section .text

; (unsigned number, void *to, enum vector_form)
    align STUB_SIZE, int3
vector_read:
    lea rax, [rel reads]
    jmp go

; (unsigned number, const void *from, enum vector_form)
vector_write:
    lea rax, [rel writes]
go:
    and edi, 15
    imul edx, edx, ROW_SIZE
    lea rax, [rax + rdi * STUB_SIZE]
    add rax, rdx
    jmp rax

    align STUB_SIZE, int3
reads:
    row movdqu, xmm, 1, 16
    row vmovdqu, xmm, 1, 16
    row vmovdqu, ymm, 1, 16
    row movq, mm, 1, 8
writes:
    row movdqu, xmm, 0, 16
    row vmovdqu, xmm, 0, 16
    row vmovdqu, ymm, 0, 16
    row movq, mm, 0, 8

section .note.GNU-stack noalloc noexec nowrite progbits
