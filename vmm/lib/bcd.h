// SPDX-License-Identifier: MIT
// Binary-coded decimal as the PC's clock and timer chips use it: one decimal digit in each four
// bits.
#pragma once

#include "vmm/lib/types.h"

// Digits above 9 count as what they are, so any bits give a number.
static inline u32 bcd_decode(u32 bcd)
{
    u32 number = 0;
    for (u32 weight = 1; bcd; bcd >>= 4, weight *= 10)
        number += (bcd & 15) * weight;
    return number;
}

static inline u32 bcd_encode(u32 number)
{
    u32 bcd = 0;
    for (unsigned shift = 0; number && shift < 32; shift += 4, number /= 10)
        bcd |= number % 10 << shift;
    return bcd;
}
