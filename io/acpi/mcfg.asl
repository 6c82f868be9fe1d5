// SPDX-License-Identifier: MIT
// MCFG, ACPI data table language: where PCI configuration space is in memory.
#include "io/acpi/platform.h"

Signature : "MCFG"
Table Length : 0000003C
Revision : 01
Checksum : 00
Oem ID : "PLINTH"
Oem Table ID : "PLINTHPC"
Oem Revision : 00000001
Asl Compiler ID : "INTL"
Asl Compiler Revision : 20200925

Reserved : 0000000000000000

Base Address : ACPI_ECAM_BASE
Segment Group Number : 0000
Start Bus Number : 00
End Bus Number : FF
Reserved : 00000000
