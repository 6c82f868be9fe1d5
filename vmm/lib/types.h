// SPDX-License-Identifier: MIT
// The integer types, the four kinds of address, and the few macros that every file uses.
// A name that holds an address says which kind: gva, gpa, hva, hpa.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

typedef u64 gva_t; // guest virtual (linear)
typedef u64 gpa_t; // guest physical
typedef u64 hpa_t; // host physical; a host virtual address is a plain pointer

#define HPA_NONE (~(hpa_t)0)

#define KIB (1024ull)
#define MIB (1024ull * KIB)
#define GIB (1024ull * MIB)

#define PAGE_SHIFT 12
#define PAGE_SIZE  (1ull << PAGE_SHIFT)
#define PAGE_MASK  (PAGE_SIZE - 1)
#define PAGE_2M    (1ull << 21)
#define PAGE_1G    (1ull << 30)

#define ARRAY_SIZE(a)         (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)             ((a) < (b) ? (a) : (b))
#define MAX(a, b)             ((a) > (b) ? (a) : (b))
#define ALIGN_DOWN(x, a)      ((x) & ~((__typeof__(x))(a)-1))
#define ALIGN_UP(x, a)        ALIGN_DOWN((x) + ((__typeof__(x))(a)-1), a)
#define IS_ALIGNED(x, a)      (((x) & ((__typeof__(x))(a)-1)) == 0)
#define BIT(n)                (1ull << (n))
#define container_of(p, t, m) ((t *)((char *)(p)-offsetof(t, m)))

#define likely(x)    __builtin_expect(!!(x), 1)
#define unlikely(x)  __builtin_expect(!!(x), 0)
#define NORETURN     __attribute__((noreturn))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
#define PACKED       __attribute__((packed))
#define ALIGNED(n)   __attribute__((aligned(n)))
#define MUST_CHECK   __attribute__((warn_unused_result))
#define UNUSED       __attribute__((unused))
#define COLD         __attribute__((cold, noinline))
