// SPDX-License-Identifier: MIT
// Leaf 15H holds one ratio and one frequency, and two clocks hang on them: the TSC (crystal *
// ratio), which must be exact, and the local APIC's timer (the crystal itself). So: the fraction
// that comes closest with terms small enough for 32-bit arithmetic, and the crystal bent by some
// parts in a million until the TSC comes out right.
#include "vmm/guest_cpu/cpuid.h"
#include "vmm/lib/bits.h"

#define KHZ             1000
#define PRODUCT_LIMIT   0xffffffffull // crystal_khz * numerator
#define DENOMINATOR_MAX 5000

static u64 distance(u64 a, u64 b)
{
    return a > b ? a - b : b - a;
}

// The least crystal that gives at least tsc_khz; 0 if none gives exactly that.
static u64 crystal_for(u64 tsc_khz, u64 numerator, u64 denominator)
{
    u64 crystal = (tsc_khz * denominator + numerator - 1) / numerator;
    if (crystal * numerator > PRODUCT_LIMIT || crystal * numerator / denominator != tsc_khz)
        return 0;
    return crystal;
}

struct cpuid_ratio cpuid_tsc_ratio(u64 tsc_hz, u64 crystal_hz)
{
    u64 tsc_khz = tsc_hz / KHZ, wanted = crystal_hz / KHZ, best = 0;
    struct cpuid_ratio ratio = {0, 0, 0};
    for (u64 denominator = 1; denominator <= DENOMINATOR_MAX && best != wanted; denominator++) {
        u64 numerator = (tsc_khz * denominator + wanted / 2) / wanted;
        u64 crystal = numerator ? crystal_for(tsc_khz, numerator, denominator) : 0;
        if (!crystal || (best && distance(crystal, wanted) >= distance(best, wanted)))
            continue;
        best = crystal;
        ratio = (struct cpuid_ratio){.denominator = (u32)denominator,
                                     .numerator = (u32)numerator,
                                     .crystal_hz = (u32)(crystal * KHZ)};
    }
    return ratio;
}
