// SPDX-License-Identifier: MIT
// The posted-interrupt descriptor: interrupts for a vCPU that is in its guest on another CPU. Who
// has one for it sets a bit here and interrupts that CPU with the notification vector; the CPU
// takes them over into the virtual local APIC without leaving the guest. Intel SDM volume 3,
// "Posted-Interrupt Processing". All accesses are atomic: the hardware's are.
#pragma once

#include "vmm/lib/types.h"

struct posted_interrupts {
    u32 requests[8]; // a bit a vector
    u32 control;
    u32 unused[7];
} ALIGNED(64);

// True: no notification is on its way, send one.
MUST_CHECK bool posted_add(struct posted_interrupts *posted, u8 vector);
// Nothing that was added before this call is left behind: it is added to `requests`. Whoever adds
// later sends a notification. True: there was some.
bool posted_take(struct posted_interrupts *posted, u32 requests[8]);
