// SPDX-License-Identifier: MIT
// One-instruction wrappers, in the order: CPUID and time, ports, control registers, MSRs, flags,
// descriptors, caches.
#pragma once

#include "vmm/lib/types.h"

struct cpuid {
    u32 eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

static inline u64 rdtsc(void)
{
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
}

static inline u8 in8(u16 port)
{
    u8 v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline u16 in16(u16 port)
{
    u16 v;
    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline u32 in32(u16 port)
{
    u32 v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline void out8(u16 port, u8 v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline void out16(u16 port, u16 v)
{
    __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

static inline void out32(u16 port, u32 v)
{
    __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

#define CONTROL_REGISTER(n)                                                                        \
    static inline u64 read_cr##n(void)                                                             \
    {                                                                                              \
        u64 v;                                                                                     \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v) : : "memory");                             \
        return v;                                                                                  \
    }                                                                                              \
    static inline void write_cr##n(u64 v)                                                          \
    {                                                                                              \
        __asm__ volatile("mov %0, %%cr" #n : : "r"(v) : "memory");                                 \
    }
CONTROL_REGISTER(0)
CONTROL_REGISTER(2)
CONTROL_REGISTER(3)
CONTROL_REGISTER(4)
#undef CONTROL_REGISTER

#define DEBUG_REGISTER(n)                                                                          \
    static inline u64 read_dr##n(void)                                                             \
    {                                                                                              \
        u64 v;                                                                                     \
        __asm__ volatile("mov %%db" #n ", %0" : "=r"(v));                                          \
        return v;                                                                                  \
    }                                                                                              \
    static inline void write_dr##n(u64 v)                                                          \
    {                                                                                              \
        __asm__ volatile("mov %0, %%db" #n : : "r"(v));                                            \
    }
DEBUG_REGISTER(0)
DEBUG_REGISTER(1)
DEBUG_REGISTER(2)
DEBUG_REGISTER(3)
DEBUG_REGISTER(6)
DEBUG_REGISTER(7)
#undef DEBUG_REGISTER

static inline u64 rdmsr(u32 msr)
{
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (u64)high << 32 | low;
}

static inline void wrmsr(u32 msr, u64 v)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

static inline u64 xgetbv(u32 index)
{
    u32 low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(index));
    return (u64)high << 32 | low;
}

static inline void xsetbv(u32 index, u64 v)
{
    __asm__ volatile("xsetbv" : : "c"(index), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

// Extended state of these components, out and in; `area` is aligned to 64 bytes.
static inline void xsave64(void *area, u64 components)
{
    __asm__ volatile("xsave64 (%0)"
                     :
                     : "r"(area), "a"((u32)components), "d"((u32)(components >> 32))
                     : "memory");
}

static inline void xsavec64(void *area, u64 components)
{
    __asm__ volatile("xsavec64 (%0)"
                     :
                     : "r"(area), "a"((u32)components), "d"((u32)(components >> 32))
                     : "memory");
}

static inline void xrstor64(const void *area, u64 components)
{
    __asm__ volatile("xrstor64 (%0)"
                     :
                     : "r"(area), "a"((u32)components), "d"((u32)(components >> 32))
                     : "memory");
}

static inline void interrupts_disable(void)
{
    __asm__ volatile("cli" : : : "memory");
}

// Take the interrupts that are pending, then hold them off again.
static inline void interrupts_take(void)
{
    __asm__ volatile("sti; nop; cli" : : : "memory");
}

// Sleep until an interrupt has been taken.
static inline void interrupts_wait(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline NORETURN void halt_forever(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

static inline void cpu_pause(void)
{
    __builtin_ia32_pause();
}

static inline void invlpg(const void *hva)
{
    __asm__ volatile("invlpg (%0)" : : "r"(hva) : "memory");
}
