; SPDX-License-Identifier: MIT
; The head of every test guest: the Linux x86 boot protocol's setup header (2.12, 64-bit entry only) with its entry; a
; multiboot header with its own, which makes of what it gets what the other expects; and interrupt stubs.
; Facts: "The Linux/x86 Boot Protocol", section "The Real-Mode Kernel Header"; "Multiboot Specification".

LOADED_HIGH         equ 1
XLF_KERNEL_64       equ 1
BOOT_PROTOCOL_2_12  equ 0x020c
STACK_SIZE          equ 16384
IDT_ENTRIES         equ 256
GATE_SIZE           equ 16

MULTIBOOT_MAGIC     equ 0x1badb002
MULTIBOOT_FLAGS     equ 0x10002         ; memory information wanted; addresses in the header
MULTIBOOT_CMDLINE   equ 16              ; in the information
LOAD_ADDRESS        equ 0x100000
CODE_64             equ 0x10            ; selectors
DATA                equ 0x18
; Low memory that is free then.
BOOT_PARAMS         equ 0x7000
BOOT_PARAMS_CMDLINE equ BOOT_PARAMS + 0x228
PML4                equ 0x9000          ; then PDPT and four page directories
PTE                 equ 0x3             ; present, writable
PTE_LARGE           equ 0x83
TABLE_ENTRIES       equ 512
IDENTITY_GIBS       equ 4
CR4_PAE             equ 1 << 5
MSR_IA32_EFER       equ 0xc0000080
EFER_LME            equ 1 << 8
CR0_PG              equ 1 << 31

GATE_INTERRUPT      equ 0x8e00          ; present, 64-bit interrupt gate, as the high half of a dword

extern guest_main, guest_interrupt, guest_paragraphs, guest_init_size, guest_end
global guest_entry64, guest_idt_load, guest_multiboot_magic, guest_multiboot_info

section .header progbits alloc noexec nowrite
bits 16
header:
        times 0x1f1 - ($ - header) db 0
        db 1                            ; setup_sects
        dw 0                            ; root_flags
        dd guest_paragraphs             ; syssize
        dw 0, 0, 0                      ; ram_size, vid_mode, root_dev
        dw 0xaa55                       ; boot_flag
        db 0xeb, setup_end - $ - 2      ; jump
        db "HdrS"
        dw BOOT_PROTOCOL_2_12
        dd 0                            ; realmode_swtch
        dw 0, 0                         ; start_sys_seg, kernel_version
        db 0, LOADED_HIGH               ; type_of_loader, loadflags
        dw 0                            ; setup_move_size
        dd 0x100000                     ; code32_start
        dd 0, 0, 0                      ; ramdisk_image, ramdisk_size, bootsect_kludge
        dw 0                            ; heap_end_ptr
        db 0, 0                         ; ext_loader_ver, ext_loader_type
        dd 0                            ; cmd_line_ptr
        dd 0xffffffff                   ; initrd_addr_max
        dd 0x200000                     ; kernel_alignment
        db 0, 12                        ; relocatable_kernel, min_alignment
        dw XLF_KERNEL_64                ; xloadflags
        dd 2047                         ; cmdline_size
        dd 0                            ; hardware_subarch
        dq 0                            ; hardware_subarch_data
        dd 0, 0                         ; payload_offset, payload_length
        dq 0                            ; setup_data
        dq 0x100000                     ; pref_address
        dd guest_init_size              ; init_size
        dd 0                            ; handover_offset
setup_end:
        times 0x400 - ($ - header) db 0

section .entry progbits alloc exec nowrite
entry:
align 4
multiboot_header:
        dd MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)
        dd multiboot_header, LOAD_ADDRESS, 0, guest_end, multiboot_entry

bits 32
multiboot_entry:
        mov     [guest_multiboot_magic], eax
        mov     [guest_multiboot_info], ebx
        mov     eax, [ebx + MULTIBOOT_CMDLINE]
        mov     [BOOT_PARAMS_CMDLINE], eax
        ; The low 4 GiB one to one.
        mov     edi, PML4
        mov     dword [edi], PML4 + 0x1000 + PTE
        add     edi, 0x1000
        mov     eax, PML4 + 0x2000 + PTE
        mov     ecx, IDENTITY_GIBS
.gib:   mov     [edi], eax
        add     edi, 8
        add     eax, 0x1000
        loop    .gib
        mov     edi, PML4 + 0x2000
        mov     eax, PTE_LARGE
        mov     ecx, IDENTITY_GIBS * TABLE_ENTRIES
.large: mov     [edi], eax
        add     edi, 8
        add     eax, 0x200000
        loop    .large
        mov     eax, CR4_PAE
        mov     cr4, eax
        mov     eax, PML4
        mov     cr3, eax
        mov     ecx, MSR_IA32_EFER
        rdmsr
        or      eax, EFER_LME
        wrmsr
        lgdt    [gdt_pointer]
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax
        jmp     CODE_64:.long
bits 64
.long:  mov     eax, DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esi, BOOT_PARAMS
        jmp     guest_entry64

align 8
gdt:    dq 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
        dw $ - gdt - 1
        dd gdt

        times 0x200 - ($ - entry) db 0xf4
guest_entry64:
        mov     rsp, stack_top
        mov     rdi, rsi                ; struct boot_params
        call    guest_main
.end:   cli
        hlt
        jmp     .end

section .text
; A stub for each vector: guest_interrupt(vector, error, rip, address of the saved rip).
%macro stub 1
stub_%1:
%if %1 == 8 || %1 == 10 || %1 == 11 || %1 == 12 || %1 == 13 || %1 == 14 || %1 == 17 || %1 == 21
%else
        push    qword 0
%endif
        push    qword %1
        jmp     interrupt_common
%endmacro
%assign v 0
%rep IDT_ENTRIES
        stub v
%assign v v + 1
%endrep

interrupt_common:
        push    rax
        push    rcx
        push    rdx
        push    rsi
        push    rdi
        push    r8
        push    r9
        push    r10
        push    r11
        mov     rdi, [rsp + 9 * 8]      ; vector
        mov     rsi, [rsp + 10 * 8]     ; error
        mov     rdx, [rsp + 11 * 8]     ; rip
        lea     rcx, [rsp + 11 * 8]
        mov     r8, rsp
        and     rsp, -16
        push    r8
        push    r8
        cld
        call    guest_interrupt
        pop     rsp
        pop     r11
        pop     r10
        pop     r9
        pop     r8
        pop     rdi
        pop     rsi
        pop     rdx
        pop     rcx
        pop     rax
        add     rsp, 16
        iretq

; Fill and load the IDT; the loader's GDT has the code segment that we run on.
guest_idt_load:
        mov     rdi, idt
        mov     rsi, stub_table
        mov     ecx, IDT_ENTRIES
.next:  mov     rax, [rsi]
        mov     [rdi], ax
        mov     [rdi + 2], cs
        shr     rax, 16
        mov     [rdi + 6], ax
        mov     word [rdi + 4], GATE_INTERRUPT
        shr     rax, 16
        mov     [rdi + 8], eax
        mov     dword [rdi + 12], 0
        add     rdi, GATE_SIZE
        add     rsi, 8
        loop    .next
        lidt    [idt_pointer]
        ret

section .rodata
%macro entry 1
        dq stub_%1
%endmacro
align 8
stub_table:
%assign v 0
%rep IDT_ENTRIES
        entry v
%assign v v + 1
%endrep
idt_pointer:
        dw IDT_ENTRIES * GATE_SIZE - 1
        dq idt

section .data
guest_multiboot_magic: dd 0             ; EAX at the multiboot entry; 0: entered otherwise
guest_multiboot_info:  dd 0

section .bss
align 16
idt:    resb IDT_ENTRIES * GATE_SIZE
stack:  resb STACK_SIZE
stack_top:
