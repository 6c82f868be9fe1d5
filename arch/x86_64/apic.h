// SPDX-License-Identifier: MIT
// What apic.c, traps.c, smp.c, ioapic.c and panic.c share of the local APIC; what others call is in
// cpu.h.
#pragma once

#include "vmm/lib/types.h"

// In the timer's interrupt: has the armed deadline come? If not (the counter was too short for it),
// goes on waiting.
bool apic_timer_expired(void);
// Tell every other CPU that is online to stop, for a panic; waits for nobody.
void apic_stop_others(void);
// This CPU's id, from the hardware.
u32 apic_id_read(void);
