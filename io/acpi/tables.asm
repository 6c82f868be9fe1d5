; SPDX-License-Identifier: MIT
; The guest's ACPI tables as iasl compiled them, for vmm/acpi_tables.c.

section .rodata

%macro table 1
global acpi_%1, acpi_%1_end
align 16
acpi_%1:
    incbin "build/acpi/%1.aml"
acpi_%1_end:
%endmacro

table dsdt
table facp
table facs
table mcfg

section .note.GNU-stack noalloc noexec nowrite progbits
