// SPDX-License-Identifier: MIT
// The guests' way to the local APIC, by either face: registers are numbered as offset >> 4 of the
// page, which is the MSR's number less 800H. SDM volume 3, "Local APIC Register Address Map".
#pragma once

#include "guests/lib/guest.h"

#define APIC_PAGE 0xfee00000ull

enum apic_register {
    APIC_ID = 0x02,
    APIC_VERSION = 0x03,
    APIC_TPR = 0x08,
    APIC_PPR = 0x0a,
    APIC_EOI = 0x0b,
    APIC_LDR = 0x0d,
    APIC_DFR = 0x0e,
    APIC_SVR = 0x0f,
    APIC_ISR = 0x10,
    APIC_TMR = 0x18,
    APIC_IRR = 0x20,
    APIC_ESR = 0x28,
    APIC_ICR = 0x30,
    APIC_ICR_HIGH = 0x31,
    APIC_LVT_TIMER = 0x32,
    APIC_LVT_LINT0 = 0x35,
    APIC_LVT_LINT1 = 0x36,
    APIC_LVT_ERROR = 0x37,
    APIC_TIMER_INITIAL = 0x38,
    APIC_TIMER_CURRENT = 0x39,
    APIC_TIMER_DIVIDE = 0x3e,
    APIC_SELF_IPI = 0x3f,
};

#define APIC_SVR_ENABLE       BIT(8)
#define APIC_LVT_MASKED       BIT(16)
#define APIC_LVT_PERIODIC     BIT(17)
#define APIC_LVT_TSC_DEADLINE BIT(18)
#define APIC_ICR_ASSERT       BIT(14)
#define APIC_ICR_SELF         BIT(18)
#define APIC_DIVIDE_BY_1      0x0b

static inline bool apic_is_x2apic(void)
{
    return rdmsr(MSR_IA32_APIC_BASE) & APIC_BASE_EXTD;
}

static inline u32 apic_read(enum apic_register reg)
{
    if (apic_is_x2apic())
        return (u32)rdmsr(MSR_X2APIC_FIRST + reg);
    return *(volatile u32 *)(APIC_PAGE + ((u64)reg << 4));
}

static inline void apic_write(enum apic_register reg, u64 value)
{
    if (apic_is_x2apic())
        wrmsr(MSR_X2APIC_FIRST + reg, value);
    else
        *(volatile u32 *)(APIC_PAGE + ((u64)reg << 4)) = (u32)value;
}
