// SPDX-License-Identifier: MIT
// PUSH, POP, and near CALL and JMP through an operand in memory. SDM volume 1, "Procedure Stack",
// and volume 2 for each instruction.
#include "vmm/emulation.h"
#include "arch/x86_64/regs.h"

#define MEMO_OPERAND 0
#define MEMO_STACK   1

static u64 stack_mask(struct emulation *e)
{
    struct segment ss;
    if (e->paging.code64)
        return ~0ull;
    e->vcpu->ops->segment_read(e->vcpu, SEG_SS, &ss);
    return bytes_mask(ss.access & SEGMENT_DB ? sizeof(u32) : sizeof(u16));
}

static void stack_set(struct emulation *e, u64 mask, u64 top)
{
    vcpu_gpr_write(e->vcpu, GPR_RSP, (emulation_gpr(e, GPR_RSP) & ~mask) | (top & mask));
}

// `size` bytes on top of what is there; *top is RSP after that.
static bool map_top(struct emulation *e, unsigned size, u64 *top, u64 *mask,
                    struct emulation_operand *m)
{
    *mask = stack_mask(e);
    *top = (emulation_gpr(e, GPR_RSP) - size) & *mask;
    return emulation_map(e, SEG_SS, *top, size, PAGE_WRITE, MEMO_STACK, m);
}

static bool map_operand(struct emulation *e, u64 offset, unsigned access,
                        struct emulation_operand *m)
{
    const struct insn *i = e->insn;
    return emulation_map(e, i->segment, offset & emulation_address_mask(e), i->to.size, access,
                         MEMO_OPERAND, m);
}

enum exit_action emulation_push(struct emulation *e)
{
    struct emulation_operand from, to;
    u64 top, mask;
    if (!map_operand(e, emulation_offset(e), PAGE_READ, &from) ||
        !map_top(e, from.size, &top, &mask, &to))
        return ACTION_FAULT;
    emulation_write(e, &to, emulation_read(e, &from));
    stack_set(e, mask, top);
    return ACTION_NEXT;
}

// An operand that RSP is the base of lies where RSP points afterwards.
enum exit_action emulation_pop(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand from, to;
    u64 mask = stack_mask(e), rsp = emulation_gpr(e, GPR_RSP);
    u64 offset = emulation_offset(e) + (i->base == GPR_RSP ? i->to.size : 0);
    if (!emulation_map(e, SEG_SS, rsp & mask, i->to.size, PAGE_READ, MEMO_STACK, &from) ||
        !map_operand(e, offset, PAGE_WRITE, &to))
        return ACTION_FAULT;
    emulation_write(e, &to, emulation_read(e, &from));
    stack_set(e, mask, rsp + i->to.size);
    return ACTION_NEXT;
}

static bool may_jump(struct emulation *e, u64 target)
{
    struct segment cs;
    guest_paging_complete(&e->paging);
    e->vcpu->ops->segment_read(e->vcpu, SEG_CS, &cs);
    if (e->paging.code64 ? guest_canonical(&e->paging, target) : target <= cs.limit)
        return true;
    exit_fault_error(e->exit, VECTOR_GP, 0);
    return false;
}

// It ends at its target instead of behind itself: stepped over like any other.
enum exit_action emulation_branch(struct emulation *e)
{
    struct emulation_operand from, to;
    u64 top = 0, mask = 0;
    bool calls = e->insn->op == INSN_CALL;
    unsigned size = e->insn->to.size;
    if (!map_operand(e, emulation_offset(e), PAGE_READ, &from) ||
        (calls && !map_top(e, size, &top, &mask, &to)))
        return ACTION_FAULT;
    u64 target = emulation_read(e, &from);
    if (!may_jump(e, target))
        return ACTION_FAULT;
    if (calls) {
        emulation_write(e, &to, (e->exit->rip + e->exit->length) & bytes_mask(size));
        stack_set(e, mask, top);
    }
    e->vcpu->ops->skip(e->vcpu, target);
    return ACTION_RETRY;
}
