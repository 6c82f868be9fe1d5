// SPDX-License-Identifier: MIT
// The CPUID leaves and bits that the host's own code asks for (SDM volume 2, "CPUID").
#pragma once

#include "vmm/lib/bits.h"

#define CPUID_VENDOR            0x00
#define CPUID_FEATURES          0x01
#define CPUID_TSC_RATIO         0x15
#define CPUID_FREQUENCY         0x16
#define CPUID_EXTENDED          0x80000000
#define CPUID_EXTENDED_FEATURES 0x80000001
#define CPUID_BRAND_FIRST       0x80000002
#define CPUID_BRAND_LAST        0x80000004

#define CPUID_1_ECX_X2APIC       BIT(21)
#define CPUID_1_ECX_TSC_DEADLINE BIT(24)
#define CPUID_1_ECX_XSAVE        BIT(26)
#define CPUID_80000001_EDX_NX    BIT(20)
