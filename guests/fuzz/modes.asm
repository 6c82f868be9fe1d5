; SPDX-License-Identifier: MIT
; The fuzzed CPU's side, a flat image at 1000:0. A start-up IPI enters it; it goes to the mode that the header asks for and
; tries one trial after the other: selectors and registers from its record, IRET into its code. Whatever ends a trial, an
; exception, an interrupt, a task switch or the jump behind the trial's code, leads to `ended`, which counts it and puts back
; what it may have changed. Nothing here relies on a stack or a segment that a trial had.
; Numbers as in guests/fuzz/fuzz.h.

BASE            equ 0x10000
RECORDS         equ 0x14000
RECORD_SHIFT    equ 8
RECORD_REGS     equ 8                   ; behind the selectors of DS, ES, FS, GS
STACK           equ 0x1f000
GDT             equ 0x20000
IDT             equ 0x22000
TSS             equ 0x21000
TSS_ESP0        equ 4
TSS_IST1        equ 0x24
TSS_AVAILABLE   equ 0x00008902          ; the descriptor's second half

SEL_CODE32      equ 0x08
SEL_DATA        equ 0x10
SEL_CODE64      equ 0x18
SEL_TSS         equ 0x48
SEL_DOUBLE_FAULT equ 0x58
SEL_TASK        equ 0x68

CR0_PE          equ 1
MSR_IA32_EFER   equ 0xc0000080
FLAGS_NONE      equ 2
ENDS            equ 259                 ; 256 vectors, then:
END_FINISHED    equ 256                 ; the code behind the trial was reached
END_TASK        equ 257                 ; by a task switch
STUB16          equ 3                   ; bytes of a stub
STUB32          equ 5

%define LOW(x) ((x) - BASE)             ; an offset in the segment

org BASE
bits 16
        jmp     start
        times 16 - ($ - $$) db 0
; struct fuzz_header
flavour:        dd 0                    ; 0: real mode, 1: protected, 2: long
want_cr0:       dd 0
want_cr3:       dd 0
want_cr4:       dd 0
want_efer:      dd 0
want_xcr0:      dd 0                    ; 0: leave it
count:          dd 0
index:          dd 0                    ; of the trial
running:        dd 0                    ; it has been entered
executed:       dd 0
done:           dd 0
                dd stubs16, stubs32, stubs64
                dd finish16, finish32, finish_wide16, finish_compat, finish_compat16, finish64
                dd double_fault, task
ends:           times ENDS dd 0

align 8
gdt_pointer:    dw 0x1ff
                dq GDT
idt_pointer:    dw 0xfff
                dq IDT
ivt_pointer:    dw 0x3ff
                dd 0

start:  cli
        mov     ax, cs
        mov     ds, ax
        mov     ss, ax
        mov     esp, LOW(STACK)
        o32 lgdt [LOW(gdt_pointer)]
        mov     eax, [LOW(want_cr4)]
        mov     cr4, eax
        mov     eax, [LOW(want_xcr0)]
        test    eax, eax
        jz      .no_xcr0
        xor     ecx, ecx
        xor     edx, edx
        xsetbv
.no_xcr0:
        cmp     dword [LOW(flavour)], 0
        je      restore16
        o32 lidt [LOW(idt_pointer)]
        mov     eax, [LOW(want_cr3)]
        mov     cr3, eax
        mov     ecx, MSR_IA32_EFER
        xor     edx, edx
        mov     eax, [LOW(want_efer)]
        wrmsr
        mov     eax, [LOW(want_cr0)]
        mov     cr0, eax
        cmp     dword [LOW(flavour)], 2
        je      .long
        mov     ebp, stubs32
        jmp     dword SEL_CODE32:ended32
.long:  mov     ebp, stubs64
        jmp     dword SEL_CODE64:ended64

; --- real mode ---

finish16:
        mov     bp, LOW(stubs16) + STUB16 * (END_FINISHED + 1)
        jmp     ended16
stubs16:
%rep ENDS
        call    strict near from_stub16
%endrep
from_stub16:
        pop     bp                      ; behind the stub: tells the vector
ended16:
        cli
        mov     edx, cr0
        test    dl, CR0_PE
        jz      .real
        and     dl, ~CR0_PE & 0xff
        mov     cr0, edx
        jmp     0x1000:LOW(.real)
.real:  mov     ax, cs
        mov     ds, ax
        mov     ss, ax
        mov     esp, LOW(STACK)
        movzx   eax, bp
        sub     eax, LOW(stubs16) + STUB16
        xor     edx, edx
        mov     ecx, STUB16
        div     ecx
        cmp     byte [LOW(running)], 0
        je      .uncounted
        inc     dword [LOW(executed)]
        inc     dword [LOW(ends) + eax * 4]
.uncounted:
        mov     byte [LOW(running)], 0
        inc     dword [LOW(index)]
restore16:
        push    word FLAGS_NONE
        popf
        o32 lgdt [LOW(gdt_pointer)]
        o32 lidt [LOW(ivt_pointer)]
        xor     edx, edx
        mov     dr7, edx
        mov     edx, cr4
        cmp     edx, [LOW(want_cr4)]
        je      .cr4
        mov     edx, [LOW(want_cr4)]
        mov     cr4, edx
.cr4:   mov     edx, cr0
        cmp     edx, [LOW(want_cr0)]
        je      .cr0
        mov     edx, [LOW(want_cr0)]
        mov     cr0, edx
.cr0:   mov     ecx, MSR_IA32_EFER
        rdmsr
        test    eax, eax
        jz      .efer
        xor     eax, eax
        xor     edx, edx
        wrmsr
.efer:  mov     ebx, [LOW(index)]
        cmp     ebx, [LOW(count)]
        jae     done16
        shl     ebx, RECORD_SHIFT
        add     ebx, LOW(RECORDS)
        mov     es, [bx + 2]
        mov     fs, [bx + 4]
        mov     gs, [bx + 6]
        lea     esp, [ebx + RECORD_REGS]
        mov     byte [LOW(running)], 1
        mov     ds, [bx]
        o32 popa
        iret

done16: mov     byte [LOW(done)], 1
.halt:  cli
        hlt
        jmp     .halt

; --- protected mode ---

; The end of a trial outside of real mode, behind whose stub EBP points; then the next one's selectors, and its registers
; as a stack. The first argument is the mode's bits, the second the first letter of its registers.
%macro count_and_load 2
        lea     eax, [%{2}bp - stubs%1]
        xor     edx, edx
        mov     ecx, STUB32
        div     ecx
        cmp     byte [running], 0
        je      %%uncounted
        inc     dword [executed]
        inc     dword [ends + eax * 4 - 4]
        inc     dword [index]
        mov     byte [running], 0
        jmp     next%1
%%uncounted:
        cmp     ebp, stubs%1            ; the first time
        je      next%1
        inc     dword [index]
next%1: mov     ebx, [index]
        cmp     ebx, [count]
        jae     done%1
        shl     ebx, RECORD_SHIFT
        add     ebx, RECORDS
        mov     es, [%{2}bx + 2]
        mov     fs, [%{2}bx + 4]
        mov     gs, [%{2}bx + 6]
        lea     %{2}sp, [%{2}bx + RECORD_REGS]
        mov     byte [running], 1
        mov     ds, [%{2}bx]
%endmacro

finish_wide16:                          ; from code of 16 bits
        a32 o32 cs lgdt [dword gdt_pointer]
        jmp     dword SEL_CODE32:finish32

bits 32
double_fault:                           ; the tasks' first instructions
        mov     ebp, stubs32 + STUB32 * (8 + 1)
        jmp     ended32
task:   mov     ebp, stubs32 + STUB32 * (END_TASK + 1)
        jmp     ended32
finish32:
        mov     ebp, stubs32 + STUB32 * (END_FINISHED + 1)
        jmp     ended32
stubs32:
%rep ENDS
        call    strict near from_stub32
%endrep
from_stub32:
        pop     ebp
ended32:
        cs lgdt [gdt_pointer]
        cs lidt [idt_pointer]
        mov     edx, cr0
        or      edx, CR0_PE             ; the trial may have left protected mode
        mov     cr0, edx
        mov     eax, SEL_DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, STACK
        push    FLAGS_NONE
        popf
        xor     edx, edx
        mov     dr7, edx
        mov     edx, cr4
        cmp     edx, [want_cr4]
        je      .cr4
        mov     edx, [want_cr4]
        mov     cr4, edx
.cr4:   mov     edx, cr3
        cmp     edx, [want_cr3]
        je      .cr3
        mov     edx, [want_cr3]
        mov     cr3, edx
.cr3:   mov     ecx, MSR_IA32_EFER
        rdmsr
        cmp     eax, [want_efer]
        je      .efer
        mov     eax, [want_efer]
        xor     edx, edx
        wrmsr
.efer:  mov     edx, cr0
        cmp     edx, [want_cr0]
        je      .cr0
        mov     edx, [want_cr0]
        mov     cr0, edx
.cr0:   mov     dword [GDT + SEL_TSS + 4], TSS_AVAILABLE
        mov     dword [GDT + SEL_DOUBLE_FAULT + 4], TSS_AVAILABLE
        mov     dword [GDT + SEL_TASK + 4], TSS_AVAILABLE
        mov     dword [TSS + TSS_ESP0], STACK
        mov     eax, SEL_TSS
        ltr     ax
        xor     eax, eax
        lldt    ax
        count_and_load 32, e
        popa
        iret

done32: mov     byte [done], 1
.halt:  cli
        hlt
        jmp     .halt

; --- long mode ---

bits 16
finish_compat16:                        ; from compatibility code of 16 bits
        a32 o32 cs lgdt [dword gdt_pointer]
        jmp     dword SEL_CODE32:finish_compat
bits 32
finish_compat:                          ; of 32 bits; the trial may have left long mode
        cs lgdt [gdt_pointer]
        cs lidt [idt_pointer]
        mov     edx, [cs:want_cr4]
        mov     cr4, edx
        mov     edx, [cs:want_cr3]
        mov     cr3, edx
        mov     ecx, MSR_IA32_EFER
        rdmsr
        mov     ebx, eax
        or      eax, [cs:want_efer]
        cmp     eax, ebx
        je      .efer
        wrmsr
.efer:
        mov     edx, [cs:want_cr0]
        mov     cr0, edx
        jmp     SEL_CODE64:finish64
bits 64
default abs
finish64:
        mov     ebp, stubs64 + STUB32 * (END_FINISHED + 1)
        jmp     ended64
stubs64:
%rep ENDS
        call    strict near from_stub64
%endrep
from_stub64:
        pop     rbp
ended64:
        lgdt    [gdt_pointer]
        lidt    [idt_pointer]
        mov     esp, STACK
        push    FLAGS_NONE
        popf
        xor     edx, edx
        mov     dr7, rdx
        mov     rdx, cr4
        mov     eax, [want_cr4]
        cmp     rdx, rax
        je      .cr4
        mov     cr4, rax
.cr4:   mov     rdx, cr3
        mov     eax, [want_cr3]
        cmp     rdx, rax
        je      .cr3
        mov     cr3, rax
.cr3:   mov     rdx, cr0
        mov     eax, [want_cr0]
        cmp     rdx, rax
        je      .cr0
        mov     cr0, rax
.cr0:   mov     dword [GDT + SEL_TSS + 4], TSS_AVAILABLE
        mov     dword [TSS + TSS_IST1], STACK
        mov     eax, SEL_TSS
        ltr     ax
        xor     eax, eax
        lldt    ax
        count_and_load 64, r
        pop     rax
        pop     rcx
        pop     rdx
        pop     rbx
        pop     rbp
        pop     rsi
        pop     rdi
        pop     r8
        pop     r9
        pop     r10
        pop     r11
        pop     r12
        pop     r13
        pop     r14
        pop     r15
        iretq

done64: mov     byte [done], 1
.halt:  cli
        hlt
        jmp     .halt
