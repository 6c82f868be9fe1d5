; SPDX-License-Identifier: MIT
; The guest's ACPI tables as iasl compiled them, for vmm/load/acpi_tables.c.

section .rodata

%macro table 2 ; name, file
global acpi_%1, acpi_%1_end
align 16
acpi_%1:
    incbin %2
acpi_%1_end:
%endmacro

table dsdt, "build/acpi/dsdt.aml"
table facp, "build/acpi/facp.aml"
table facs, "build/acpi/facs.aml"
table mcfg, "build/acpi/mcfg.aml"

section .note.GNU-stack noalloc noexec nowrite progbits
