// SPDX-License-Identifier: MIT
// Products, quotients, counts of bits, and what happens on a condition, with an operand in memory.
#include "vmm/emulate/emulation.h"
#include "vmm/emulate/alu.h"

static struct insn_operand whole(unsigned gpr, unsigned size)
{
    return (struct insn_operand){.kind = INSN_OPERAND_REGISTER, .size = (u8)size, .reg = (u8)gpr};
}

// The other half of the accumulator: RDX, EDX, DX, or AH.
static struct insn_operand upper(unsigned size)
{
    struct insn_operand o = whole(size == 1 ? GPR_RAX : GPR_RDX, size);
    o.high = size == 1;
    return o;
}

static void pair_write(struct emulation *e, unsigned size, struct alu_pair pair)
{
    struct insn_operand low = whole(GPR_RAX, size), high = upper(size);
    emulation_register_write(e, &low, pair.low);
    emulation_register_write(e, &high, pair.high);
}

enum exit_action emulation_multiply(struct emulation *e)
{
    const struct insn *i = e->insn;
    bool wide = i->to.kind == INSN_OPERAND_MEMORY;
    struct emulation_operand m;
    if (!emulation_map_memory(e, PAGE_READ, &m))
        return ACTION_FAULT;
    struct insn_operand accumulator = whole(GPR_RAX, m.size);
    u64 flags = emulation_flags(e), factor = i->immediate;
    if (i->operands < 3)
        factor = emulation_register_read(e, wide ? &accumulator : &i->to);
    struct alu_pair product = alu_multiply(i->op, m.size, emulation_read(e, &m), factor, &flags);
    if (wide)
        pair_write(e, m.size, product);
    else
        emulation_register_write(e, &i->to, product.low);
    emulation_flags_write(e, flags);
    return ACTION_NEXT;
}

enum exit_action emulation_divide(struct emulation *e)
{
    struct emulation_operand m;
    if (!emulation_map_memory(e, PAGE_READ, &m))
        return ACTION_FAULT;
    struct insn_operand low = whole(GPR_RAX, m.size), high = upper(m.size);
    struct alu_pair pair = {emulation_register_read(e, &low), emulation_register_read(e, &high)};
    if (!alu_divide(e->insn->op, m.size, pair, emulation_read(e, &m), &pair))
        return exit_fault(e->exit, VECTOR_DE);
    pair_write(e, m.size, pair);
    return ACTION_NEXT;
}

enum exit_action emulation_count(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand m;
    if (!emulation_map_memory(e, PAGE_READ, &m))
        return ACTION_FAULT;
    u64 flags = emulation_flags(e), old = emulation_register_read(e, &i->to);
    u64 result = alu_count(i->op, m.size, emulation_read(e, &m), old, &flags);
    emulation_register_write(e, &i->to, result);
    emulation_flags_write(e, flags);
    return ACTION_NEXT;
}

// It reads, and clears the upper half of a 32-bit register, even if the condition does not hold.
enum exit_action emulation_cmov(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand m;
    if (!emulation_map_memory(e, PAGE_READ, &m))
        return ACTION_FAULT;
    u64 value = emulation_read(e, &m);
    if (!alu_condition(i->condition, emulation_flags(e)))
        value = emulation_register_read(e, &i->to);
    emulation_register_write(e, &i->to, value);
    return ACTION_NEXT;
}

enum exit_action emulation_set(struct emulation *e)
{
    struct emulation_operand m;
    if (!emulation_map_memory(e, PAGE_WRITE, &m))
        return ACTION_FAULT;
    emulation_write(e, &m, alu_condition(e->insn->condition, emulation_flags(e)));
    return ACTION_NEXT;
}

// It is checked as a read of a byte; there is no cache in front of a device.
enum exit_action emulation_clflush(struct emulation *e)
{
    struct emulation_operand m;
    const struct insn *i = e->insn;
    bool reachable = emulation_map(e, i->segment, emulation_offset(e), 1, PAGE_READ, 0, &m);
    return reachable ? ACTION_NEXT : ACTION_FAULT;
}
