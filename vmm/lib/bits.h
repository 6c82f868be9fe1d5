// SPDX-License-Identifier: MIT
// Bit scanning, field extraction, 128-bit scaling, and bitmaps of u64 words.
#pragma once

#include "vmm/lib/types.h"

// Index of the lowest / highest set bit. The argument must not be 0.
static inline unsigned bit_lowest(u64 x)
{
    return (unsigned)__builtin_ctzll(x);
}

static inline unsigned bit_highest(u64 x)
{
    return 63u ^ (unsigned)__builtin_clzll(x); // the form that GCC makes one instruction of
}

static inline u64 bits_get(u64 x, unsigned shift, unsigned width)
{
    return (x >> shift) & (BIT(width) - 1);
}

// All ones in the low `size` bytes, size 1 to 8.
static inline u64 bytes_mask(unsigned size)
{
    static const u64 masks[] = {0,           0xff,        0xffff,     0xffffff, 0xffffffff,
                                ~0ull >> 24, ~0ull >> 16, ~0ull >> 8, ~0ull};
    return masks[size];
}

// The low `size` bytes as a signed number, size 1 to 8.
static inline s64 bytes_signed(u64 value, unsigned size)
{
    unsigned unused = 64 - size * 8;
    return (s64)(value << unused) >> unused;
}

// a * b / c with a 128-bit product; the quotient must fit in 64 bits (else it is cut).
// For scaling times: never let a guest choose c = 0.
static inline u64 mul_div(u64 a, u64 b, u64 c)
{
    return (u64)((unsigned __int128)a * b / c);
}
