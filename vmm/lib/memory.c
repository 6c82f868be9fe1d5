// SPDX-License-Identifier: MIT
// Copy, fill and compare memory. Short blocks go by two overlapping words; long ones by the string
// instructions in words of 8 bytes, which no CPU model makes slow (Bochs counts an iteration as an
// instruction).

#include "vmm/lib/string.h"

// The compiler would see memcpy and memset in the loops below, and call them from within
// themselves.
#pragma GCC optimize("no-tree-loop-distribute-patterns")

// An object of any alignment and type, as a word.
struct any16 {
    u16 v;
} __attribute__((packed, may_alias));
struct any32 {
    u32 v;
} __attribute__((packed, may_alias));
struct any64 {
    u64 v;
} __attribute__((packed, may_alias));

#define LOAD(type, p)     (((const struct type *)(p))->v)
#define STORE(type, p, x) (((struct type *)(p))->v = (x))

// 0 to 16 bytes. All is read before anything is written, so the blocks may overlap.
static inline void copy_short(char *to, const char *from, size_t size)
{
    if (size >= 8) {
        u64 first = LOAD(any64, from), last = LOAD(any64, from + size - 8);
        STORE(any64, to, first);
        STORE(any64, to + size - 8, last);
    } else if (size >= 4) {
        u32 first = LOAD(any32, from), last = LOAD(any32, from + size - 4);
        STORE(any32, to, first);
        STORE(any32, to + size - 4, last);
    } else if (size >= 2) {
        u16 first = LOAD(any16, from), last = LOAD(any16, from + size - 2);
        STORE(any16, to, first);
        STORE(any16, to + size - 2, last);
    } else if (size) {
        *to = *from;
    }
}

// Upwards; right for overlapping blocks when `to` is below `from`.
static inline void copy_up(char *to, const char *from, size_t size)
{
    size_t words = size / 8, rest = size % 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
}

// Downwards, by words: the string instructions are slow in this direction.
static inline void copy_down(char *to, const char *from, size_t size)
{
    while (size >= 8) {
        size -= 8;
        STORE(any64, to + size, LOAD(any64, from + size));
    }
    while (size) {
        size--;
        to[size] = from[size];
    }
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    if (size <= 16)
        copy_short(to, from, size);
    else
        copy_up(to, from, size);
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    if (size <= 16)
        copy_short(to, from, size);
    else if ((uintptr_t)to - (uintptr_t)from >= size)
        copy_up(to, from, size);
    else
        copy_down(to, from, size);
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    u64 pattern = 0x0101010101010101ull * (u8)byte;
    char *p = to;
    size_t words = size / 8, rest = size % 8;
    __asm__ volatile("rep stosq" : "+D"(p), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(rest) : "a"(pattern) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const u8 *x = a, *y = b;
    while (size >= 8 && LOAD(any64, x) == LOAD(any64, y)) {
        x += 8;
        y += 8;
        size -= 8;
    }
    for (; size; size--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}
