// SPDX-License-Identifier: MIT
// The order matters twice. A request is there before "outstanding notification" is set, and the
// flag is clear before the requests are read. So one that comes while they are read is either read,
// or finds the flag clear and is notified of.
#include "io/posted_interrupts.h"

#define OUTSTANDING_NOTIFICATION BIT(0)

bool posted_add(struct posted_interrupts *posted, u8 vector)
{
    __atomic_fetch_or(&posted->requests[vector / 32], 1u << vector % 32, __ATOMIC_SEQ_CST);
    u32 former =
        __atomic_fetch_or(&posted->control, (u32)OUTSTANDING_NOTIFICATION, __ATOMIC_SEQ_CST);
    return !(former & OUTSTANDING_NOTIFICATION);
}

bool posted_take(struct posted_interrupts *posted, u32 requests[8])
{
    u32 all = 0;
    if (!(__atomic_load_n(&posted->control, __ATOMIC_SEQ_CST) & OUTSTANDING_NOTIFICATION))
        return false; // the hardware took all, or who adds is about to notify
    __atomic_fetch_and(&posted->control, ~(u32)OUTSTANDING_NOTIFICATION, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < ARRAY_SIZE(posted->requests); i++) {
        u32 taken = __atomic_exchange_n(&posted->requests[i], 0, __ATOMIC_SEQ_CST);
        requests[i] |= taken;
        all |= taken;
    }
    return all;
}
