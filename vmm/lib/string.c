// SPDX-License-Identifier: MIT
// Terminated strings: the C library's functions that are needed, and ours.

#include "vmm/lib/string.h"

// Else the loop in strlen() becomes a call of strlen().
#pragma GCC optimize("no-tree-loop-distribute-patterns")

size_t strlen(const char *s)
{
    size_t length = 0;
    while (s[length])
        length++;
    return length;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return (u8)*a - (u8)*b;
}

int strncmp(const char *a, const char *b, size_t size)
{
    for (; size; size--, a++, b++)
        if (*a != *b || !*a)
            return (u8)*a - (u8)*b;
    return 0;
}

char *strchr(const char *s, int c)
{
    for (; *s != (char)c; s++)
        if (!*s)
            return NULL;
    return (char *)(uintptr_t)s;
}

char *strrchr(const char *s, int c)
{
    for (size_t i = strlen(s) + 1; i--;)
        if (s[i] == (char)c)
            return (char *)(uintptr_t)(s + i);
    return NULL;
}

bool string_copy(char *to, size_t size, const char *from)
{
    if (!size)
        return false;
    size_t i = 0;
    for (; i < size - 1 && from[i]; i++)
        to[i] = from[i];
    to[i] = 0;
    return !from[i];
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool string_equal_nocase(const char *a, const char *b)
{
    for (; lower(*a) == lower(*b); a++, b++)
        if (!*a)
            return true;
    return false;
}

bool string_starts(const char *s, const char *prefix)
{
    for (; *prefix; s++, prefix++)
        if (*s != *prefix)
            return false;
    return true;
}
