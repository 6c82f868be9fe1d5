// SPDX-License-Identifier: MIT
// One small function for each kind of operation: the result and CF, AF, OF. ZF, SF and PF follow
// from the result.
#include "vmm/emulate/alu.h"
#include "vmm/lib/bits.h"

#define STATUS_FLAGS ALU_STATUS_FLAGS
#define AF_BIT       BIT(4) // the carry into bit 4 is a ^ b ^ result there

struct alu_operation {
    u64 a, b, carry_in;
    u64 sign;   // the operands' top bit
    u64 result; // modulo the size, by alu()
    u64 flags;  // CF, AF, OF
};

static void carry_flags(struct alu_operation *o, u64 carries, u64 overflow)
{
    if (carries & o->sign)
        o->flags |= RFLAGS_CF;
    if (overflow & o->sign)
        o->flags |= RFLAGS_OF;
    if ((o->a ^ o->b ^ o->result) & AF_BIT)
        o->flags |= RFLAGS_AF;
}

static void do_adc(struct alu_operation *o)
{
    o->result = o->a + o->b + o->carry_in;
    carry_flags(o, (o->a & o->b) | ((o->a | o->b) & ~o->result),
                (o->a ^ o->result) & (o->b ^ o->result));
}

static void do_sbb(struct alu_operation *o)
{
    o->result = o->a - o->b - o->carry_in;
    carry_flags(o, (~o->a & o->b) | (~(o->a ^ o->b) & o->result),
                (o->a ^ o->b) & (o->a ^ o->result));
}

static void do_add(struct alu_operation *o)
{
    o->carry_in = 0;
    do_adc(o);
}

static void do_sub(struct alu_operation *o)
{
    o->carry_in = 0;
    do_sbb(o);
}

static void do_inc(struct alu_operation *o)
{
    o->b = 1;
    do_add(o);
}

static void do_dec(struct alu_operation *o)
{
    o->b = 1;
    do_sub(o);
}

static void do_neg(struct alu_operation *o)
{
    o->b = o->a;
    o->a = 0;
    do_sub(o);
}

static void do_or(struct alu_operation *o)
{
    o->result = o->a | o->b;
}

static void do_and(struct alu_operation *o)
{
    o->result = o->a & o->b;
}

static void do_xor(struct alu_operation *o)
{
    o->result = o->a ^ o->b;
}

static void do_not(struct alu_operation *o)
{
    o->result = ~o->a;
}

static const struct alu_row {
    void (*compute)(struct alu_operation *o);
    u64 keeps; // flags that it leaves alone
} alu_rows[INSN_OP_COUNT] = {
    [INSN_ADD] = {do_add, 0},         [INSN_OR] = {do_or, 0},
    [INSN_ADC] = {do_adc, 0},         [INSN_SBB] = {do_sbb, 0},
    [INSN_AND] = {do_and, 0},         [INSN_SUB] = {do_sub, 0},
    [INSN_XOR] = {do_xor, 0},         [INSN_CMP] = {do_sub, 0},
    [INSN_TEST] = {do_and, 0},        [INSN_INC] = {do_inc, RFLAGS_CF},
    [INSN_DEC] = {do_dec, RFLAGS_CF}, [INSN_NOT] = {do_not, STATUS_FLAGS},
    [INSN_NEG] = {do_neg, 0},
};

bool alu_knows(enum insn_op op)
{
    return op < INSN_OP_COUNT && alu_rows[op].compute;
}

static u64 result_flags(u64 result, u64 sign)
{
    u64 flags = 0;
    if (result == 0)
        flags |= RFLAGS_ZF;
    if (result & sign)
        flags |= RFLAGS_SF;
    if (!__builtin_parity((u8)result))
        flags |= RFLAGS_PF;
    return flags;
}

u64 alu(enum insn_op op, unsigned size, u64 a, u64 b, u64 *flags)
{
    u64 mask = bytes_mask(size);
    struct alu_operation o = {
        .a = a & mask, .b = b & mask, .carry_in = *flags & RFLAGS_CF, .sign = BIT(size * 8 - 1)};
    alu_rows[op].compute(&o);
    o.result &= mask;
    u64 changed = STATUS_FLAGS & ~alu_rows[op].keeps;
    *flags = (*flags & ~changed) | ((o.flags | result_flags(o.result, o.sign)) & changed);
    return o.result;
}

// --- shifts: a bit at a time ---

enum shift_in { IN_ZERO, IN_SIGN, IN_AROUND, IN_CARRY, IN_SECOND };

static const struct shift_row {
    bool left;
    u8 in;       // enum shift_in: what comes in at the other end
    u64 changes; // flags
} shift_rows[] = {
    [INSN_ROL - INSN_ROL] = {true, IN_AROUND, RFLAGS_CF | RFLAGS_OF},
    [INSN_ROR - INSN_ROL] = {false, IN_AROUND, RFLAGS_CF | RFLAGS_OF},
    [INSN_RCL - INSN_ROL] = {true, IN_CARRY, RFLAGS_CF | RFLAGS_OF},
    [INSN_RCR - INSN_ROL] = {false, IN_CARRY, RFLAGS_CF | RFLAGS_OF},
    [INSN_SHL - INSN_ROL] = {true, IN_ZERO, STATUS_FLAGS},
    [INSN_SHR - INSN_ROL] = {false, IN_ZERO, STATUS_FLAGS},
    [INSN_SAR - INSN_ROL] = {false, IN_SIGN, STATUS_FLAGS},
    [INSN_SHLD - INSN_ROL] = {true, IN_SECOND, STATUS_FLAGS},
    [INSN_SHRD - INSN_ROL] = {false, IN_SECOND, STATUS_FLAGS},
};

#define COUNT_MASK    31 // of operands up to 32 bits
#define COUNT_MASK_64 63

static void shift_one(const struct shift_row *row, struct alu_operation *o)
{
    u64 first = row->left ? o->sign : 1, last = row->left ? 1 : o->sign;
    bool out = o->a & first;
    const bool in[] = {false, o->a & o->sign, out, o->carry_in, o->b & first};
    o->a = (row->left ? o->a << 1 : o->a >> 1) & ~last & (o->sign | (o->sign - 1));
    o->a |= in[row->in] ? last : 0;
    o->b = row->left ? o->b << 1 : o->b >> 1;
    o->carry_in = out;
}

u64 alu_shift(enum insn_op op, unsigned size, u64 a, u64 b, u64 count, u64 *flags)
{
    const struct shift_row *row = &shift_rows[op - INSN_ROL];
    u64 mask = bytes_mask(size);
    struct alu_operation o = {
        .a = a & mask, .b = b & mask, .carry_in = *flags & RFLAGS_CF, .sign = BIT(size * 8 - 1)};
    count &= size == sizeof(u64) ? COUNT_MASK_64 : COUNT_MASK;
    if (!count)
        return o.a;
    for (u64 i = 0; i < count; i++)
        shift_one(row, &o);
    bool top = o.a & o.sign, next = o.a & (o.sign >> 1);
    o.flags = result_flags(o.a, o.sign);
    if (o.carry_in)
        o.flags |= RFLAGS_CF;
    if (top != (row->left ? (bool)o.carry_in : next))
        o.flags |= RFLAGS_OF;
    *flags = (*flags & ~row->changes) | (o.flags & row->changes);
    return o.a;
}
