; SPDX-License-Identifier: MIT
; Where a test guest's other CPUs start: smp.c copies this to a page below 1 MiB, and a start-up IPI enters it in real mode.
; It takes the first CPU's GDT and page tables.

CODE_64       equ 0x10          ; selectors, as the Linux boot protocol has them
DATA          equ 0x18
CR4_PAE       equ 1 << 5
CR0_PE_ET_PG  equ 1 << 0 | 1 << 4 | 1 << 31
MSR_IA32_EFER equ 0xc0000080
EFER_LME      equ 1 << 8
PAGE_ADDRESS  equ 0x90000       ; SMP_PAGE of smp.c

global smp_start, smp_parameters, smp_end

section .rodata
align 16
smp_start:
bits 16
        cli
        mov     ax, cs
        mov     ds, ax
        o32 lgdt [gdt_pointer - smp_start]
        mov     eax, CR4_PAE
        mov     cr4, eax
        mov     eax, [cr3_value - smp_start]
        mov     cr3, eax
        mov     ecx, MSR_IA32_EFER
        mov     eax, EFER_LME
        xor     edx, edx
        wrmsr
        mov     eax, CR0_PE_ET_PG
        mov     cr0, eax
        jmp     dword CODE_64:(PAGE_ADDRESS + (long_mode - smp_start))
bits 64
long_mode:
        mov     eax, DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     rsp, [abs PAGE_ADDRESS + (stack_top - smp_start)]
        call    [abs PAGE_ADDRESS + (entry_address - smp_start)]

align 8
smp_parameters:                 ; struct parameters of smp.c
cr3_value:      dq 0
stack_top:      dq 0
entry_address:  dq 0
gdt_pointer:    dw 0
                dq 0
smp_end:
