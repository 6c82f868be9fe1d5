// SPDX-License-Identifier: MIT
// A test guest's other CPUs.
#pragma once

#include "vmm/lib/types.h"

// By INIT and start-up IPI from the local APIC as it is, into a function that must not return, in
// 64-bit mode with the caller's GDT and page tables and no IDT.
void guest_start_cpu(u32 apic_id, void *stack_top, void (*entry)(void));
