// SPDX-License-Identifier: MIT
// Numbers as people write them.

#include "vmm/lib/parse.h"

// The value of a digit in any base up to 16; 255 for any other character.
static u8 digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return (u8)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (u8)(c - 'a' + 10);
    if (c >= 'A' && c <= 'F')
        return (u8)(c - 'A' + 10);
    return 255;
}

// Reads digits from *text on and leaves it behind them. False: no digit, or more than 64 bits.
static bool scan_number(const char **text, u64 *value)
{
    const char *p = *text;
    u64 base = 10;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
        base = 16;
        p += 2;
    }
    const char *first = p;
    u64 n = 0;
    for (; digit_value(*p) < base; p++)
        if (__builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, digit_value(*p), &n))
            return false;
    if (p == first)
        return false;
    *text = p;
    *value = n;
    return true;
}

bool parse_number(const char *text, u64 *value)
{
    u64 n;
    if (!scan_number(&text, &n) || *text)
        return false;
    *value = n;
    return true;
}

static u64 suffix_factor(char c)
{
    switch (c) {
    case 'k':
    case 'K':
        return KIB;
    case 'm':
    case 'M':
        return MIB;
    case 'g':
    case 'G':
        return GIB;
    case 't':
    case 'T':
        return 1024 * GIB;
    default:
        return 0;
    }
}

bool parse_size(const char *text, u64 *bytes)
{
    u64 n;
    if (!scan_number(&text, &n))
        return false;
    u64 factor = *text ? suffix_factor(*text++) : 1;
    if (!factor || (factor != 1 && *text) || __builtin_mul_overflow(n, factor, &n))
        return false;
    *bytes = n;
    return true;
}
