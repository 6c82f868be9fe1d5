; SPDX-License-Identifier: MIT
; Into the guest and back: the path that every exit takes, so it is as short as can be. RSP, RIP and RFLAGS change hands
; in hardware. Every other register comes back changed, so the caller (enter() of run.c) saves what it needs, and only that.
; SDM volume 3, "VM Entries", "VM Exits".

bits 64

global vmx_enter
global vmx_exit_entry

; struct vmx_vcpu
V_HOST_RSP equ 0
V_LAUNCHED equ 8

VMCS_HOST_RSP equ 0x6c14

; enum vmx_entry_result
ENTRY_FAIL_INVALID equ 1

; struct vcpu.gpr, hardware order; slot 4 (RSP) is not used.
GPR_RDI equ 7 * 8

; %1: load or store. All but RSP and RDI.
%macro gprs 1
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
    mov %1, [rdi + %2 * 8]
%endmacro
%macro store 2
    mov [rdi + %2 * 8], %1
%endmacro

section .text

; RDI: u64 *gpr, RSI: struct vmx_vcpu *. Out: EAX: enum vmx_entry_result, RBP as it was.
vmx_enter:
    push rbp
    push rdi
    cmp [rsi + V_HOST_RSP], rsp
    jne .host_rsp
.go:
    bts dword [rsi + V_LAUNCHED], 0 ; CF: it was
    gprs load                       ; MOV leaves the flags alone
    mov rdi, [rdi + GPR_RDI]
    jnc .launch
    vmresume
    jmp .refused
.launch:
    vmlaunch
.refused:                           ; CF: VMfailInvalid, ZF: VMfailValid; the guest's registers are as they were
    setz al
    movzx eax, al
    add eax, ENTRY_FAIL_INVALID
    pop rdi
    pop rbp
    ret
.host_rsp:
    mov [rsi + V_HOST_RSP], rsp
    mov eax, VMCS_HOST_RSP
    vmwrite rax, rsp
    jmp .go

; HOST_RIP: the stack is as it was at the VM entry
vmx_exit_entry:
    push rdi
    mov rdi, [rsp + 8]
    gprs store
    pop qword [rdi + GPR_RDI]
    pop rdi
    pop rbp
    xor eax, eax
    ret

section .note.GNU-stack noalloc noexec nowrite progbits
