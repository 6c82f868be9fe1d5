// SPDX-License-Identifier: MIT
// Products and quotients of twice an operand's size, counting of bits, and conditions. What the SDM
// leaves undefined of the flags stays as it was.
#include "vmm/emulate/alu.h"
#include "vmm/lib/bits.h"
#include "arch/x86_64/regs.h"

typedef unsigned __int128 u128;

static bool is_signed(enum insn_op op)
{
    return op == INSN_IMUL || op == INSN_IDIV;
}

static void flags_set(u64 *flags, u64 which, bool on)
{
    *flags = on ? *flags | which : *flags & ~which;
}

struct alu_pair alu_multiply(enum insn_op op, unsigned size, u64 a, u64 b, u64 *flags)
{
    u64 mask = bytes_mask(size);
    u128 product = (u128)(a & mask) * (b & mask);
    if (is_signed(op))
        product = (u128)((__int128)bytes_signed(a, size) * bytes_signed(b, size));
    struct alu_pair result = {.low = (u64)product & mask,
                              .high = (u64)(product >> size * 8) & mask};
    u64 fits = is_signed(op) && bytes_signed(result.low, size) < 0 ? mask : 0;
    flags_set(flags, RFLAGS_CF | RFLAGS_OF, result.high != fits);
    return result;
}

// By magnitudes: the remainder has the dividend's sign.
bool alu_divide(enum insn_op op, unsigned size, struct alu_pair dividend, u64 divisor,
                struct alu_pair *result)
{
    u64 mask = bytes_mask(size), sign = BIT(size * 8 - 1);
    bool negative = is_signed(op) && (dividend.high & sign);
    bool opposite = is_signed(op) && !(dividend.high & sign) != !(divisor & sign);
    u128 n = (u128)(dividend.high & mask) << size * 8 | (dividend.low & mask);
    u128 whole = (u128)mask << size * 8 | mask;
    u64 d = divisor & mask, limit = !is_signed(op) ? mask : opposite ? sign : sign - 1;
    if (negative)
        n = (0 - n) & whole;
    if (is_signed(op) && (d & sign))
        d = (0 - d) & mask;
    // So that the quotient has 64 bits at most.
    if (n >> size * 8 >= d)
        return false;
    u64 quotient = (u64)(n / d), remainder = (u64)n - quotient * d;
    if (quotient > limit)
        return false;
    result->low = (opposite ? 0 - quotient : quotient) & mask;
    result->high = (negative ? 0 - remainder : remainder) & mask;
    return true;
}

static u64 ones(u64 value)
{
    u64 count = 0;
    for (; value; value &= value - 1)
        count++;
    return count;
}

u64 alu_count(enum insn_op op, unsigned size, u64 value, u64 old, u64 *flags)
{
    unsigned bits = size * 8;
    value &= bytes_mask(size);
    u64 top = value ? bit_highest(value) : 0, bottom = value ? bit_lowest(value) : bits;
    u64 leading = value ? bits - 1 - top : bits;
    switch (op) {
    case INSN_BSF:
    case INSN_BSR:
        flags_set(flags, RFLAGS_ZF, !value);
        return !value ? old : op == INSN_BSF ? bottom : top;
    case INSN_TZCNT:
    case INSN_LZCNT:
        old = op == INSN_TZCNT ? bottom : leading;
        flags_set(flags, RFLAGS_CF, !value);
        flags_set(flags, RFLAGS_ZF, !old);
        return old;
    default:
        *flags &= ~(u64)ALU_STATUS_FLAGS;
        flags_set(flags, RFLAGS_ZF, !value);
        return ones(value);
    }
}

bool alu_condition(unsigned condition, u64 flags)
{
    bool less = !(flags & RFLAGS_SF) != !(flags & RFLAGS_OF);
    const bool holds[] = {flags & RFLAGS_OF,
                          flags & RFLAGS_CF,
                          flags & RFLAGS_ZF,
                          flags & (RFLAGS_CF | RFLAGS_ZF),
                          flags & RFLAGS_SF,
                          flags & RFLAGS_PF,
                          less,
                          less || (flags & RFLAGS_ZF)};
    return holds[condition >> 1] != (condition & 1);
}
