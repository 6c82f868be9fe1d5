// SPDX-License-Identifier: MIT
// What the hand-over wants from the ACPI tables. Pure: reads memory at the addresses that the
// tables give.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "boot/boot_info.h"

// True if there is a root pointer with correct checksums at `rsdp`.
bool acpi_root_valid(const void *rsdp);

// Takes the processors, I/O APICs and ISA interrupts from the MADT, the PM timer and keyboard
// controller from the FADT and the console from the SPCR. A table that is missing or damaged leaves
// what `info` had.
void acpi_collect(const void *rsdp, struct boot_info *info);

// Enters a processor, each only once; counts it even when there is no room.
void boot_cpu_add(struct boot_info *info, uint32_t apic_id);
