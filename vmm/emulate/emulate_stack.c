// SPDX-License-Identifier: MIT
// What uses the stack: PUSH, POP, their forms for the flags and for all registers, LEAVE, ENTER,
// near CALL and RET; and near JMP through an operand in memory. SDM volume 1, "Procedure Stack",
// and volume 2 for each instruction.
#include "vmm/emulate/emulation.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/string.h"

#define MEMO_OPERAND 0
#define MEMO_STACK   1

#define ENTER_LEVELS 32

static u64 stack_mask(struct emulation *e)
{
    struct segment ss;
    if (e->paging.code64)
        return ~0ull;
    e->vcpu->ops->segment_read(e->vcpu, SEG_SS, &ss);
    return bytes_mask(ss.access & SEGMENT_DB ? sizeof(u32) : sizeof(u16));
}

void emulation_stack_set(struct emulation *e, u64 mask, u64 top)
{
    vcpu_gpr_write(e->vcpu, GPR_RSP, (emulation_gpr(e, GPR_RSP) & ~mask) | (top & mask));
}

bool emulation_map_top(struct emulation *e, unsigned size, u64 *top, u64 *mask,
                       struct emulation_operand *m)
{
    *mask = stack_mask(e);
    *top = (emulation_gpr(e, GPR_RSP) - size) & *mask;
    return emulation_map(e, SEG_SS, *top, size, PAGE_WRITE, MEMO_STACK, m);
}

bool emulation_map_stacked(struct emulation *e, unsigned size, u64 *top, u64 *mask,
                           struct emulation_operand *m)
{
    u64 rsp = emulation_gpr(e, GPR_RSP);
    *mask = stack_mask(e);
    *top = rsp + size;
    return emulation_map(e, SEG_SS, rsp & *mask, size, PAGE_READ, MEMO_STACK, m);
}

static bool map_operand(struct emulation *e, u64 offset, unsigned access,
                        struct emulation_operand *m)
{
    const struct insn *i = e->insn;
    return emulation_map(e, i->segment, offset & emulation_address_mask(e), i->to.size, access,
                         MEMO_OPERAND, m);
}

// An operand that is not in memory.
static u64 operand_value(struct emulation *e, const struct insn_operand *o)
{
    switch (o->kind) {
    case INSN_OPERAND_REGISTER:
        return emulation_register_read(e, o);
    case INSN_OPERAND_SEGMENT:
        return emulation_selector(e, o->reg);
    default:
        return e->insn->immediate;
    }
}

enum exit_action emulation_push(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand from, to;
    u64 top, mask;
    bool in_memory = i->to.kind == INSN_OPERAND_MEMORY;
    if ((in_memory && !map_operand(e, emulation_offset(e), PAGE_READ, &from)) ||
        !emulation_map_top(e, i->operand_size, &top, &mask, &to))
        return ACTION_FAULT;
    emulation_write(e, &to, in_memory ? emulation_read(e, &from) : operand_value(e, &i->to));
    emulation_stack_set(e, mask, top);
    return ACTION_NEXT;
}

// An operand that RSP is the base of lies where RSP points afterwards; POP of RSP ends with what
// was popped.
enum exit_action emulation_pop(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand from, to;
    bool in_memory = i->to.kind == INSN_OPERAND_MEMORY;
    u64 top, mask, offset = emulation_offset(e) + (i->base == GPR_RSP ? i->operand_size : 0);
    if (!emulation_map_stacked(e, i->operand_size, &top, &mask, &from) ||
        (in_memory && !map_operand(e, offset, PAGE_WRITE, &to)))
        return ACTION_FAULT;
    u64 value = emulation_read(e, &from);
    emulation_stack_set(e, mask, top);
    if (in_memory)
        emulation_write(e, &to, value);
    else
        emulation_register_write(e, &i->to, value);
    return ACTION_NEXT;
}

// --- flags ---

#define FLAGS_ANYBODY                                                                              \
    (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_TF | RFLAGS_DF |           \
     RFLAGS_OF | RFLAGS_NT)

static unsigned privilege(struct emulation *e)
{
    struct segment ss;
    e->vcpu->ops->segment_read(e->vcpu, SEG_SS, &ss);
    return (unsigned)(ss.access & SEGMENT_DPL) / (SEGMENT_DPL & -SEGMENT_DPL);
}

static unsigned io_privilege(struct emulation *e)
{
    return (unsigned)((emulation_flags(e) & RFLAGS_IOPL) / (RFLAGS_IOPL & -RFLAGS_IOPL));
}

static bool in_real_mode(struct emulation *e)
{
    return !(vcpu_reg(e->vcpu, REG_CR0) & CR0_PE);
}

// Virtual-8086 mode runs at level 3.
u64 emulation_flags_loadable(struct emulation *e)
{
    unsigned level = in_real_mode(e) ? 0 : privilege(e);
    u64 mask = FLAGS_ANYBODY | RFLAGS_AC | RFLAGS_ID;
    if (level <= io_privilege(e))
        mask |= RFLAGS_IF;
    if (level == 0)
        mask |= RFLAGS_IOPL;
    return mask & bytes_mask(e->insn->operand_size);
}

// Virtual-8086 mode asks for an I/O privilege level of 3; CR4.VME makes exceptions that the CPU
// sees to itself.
static bool flags_allowed(struct emulation *e)
{
    if (!(emulation_flags(e) & RFLAGS_VM) || io_privilege(e) == 3)
        return true;
    exit_fault_error(e->exit, VECTOR_GP, 0);
    return false;
}

enum exit_action emulation_pushf(struct emulation *e)
{
    struct emulation_operand to;
    u64 top, mask;
    if (!flags_allowed(e) || !emulation_map_top(e, e->insn->operand_size, &top, &mask, &to))
        return ACTION_FAULT;
    emulation_write(e, &to, emulation_flags(e) & ~(RFLAGS_RF | RFLAGS_VM));
    emulation_stack_set(e, mask, top);
    return ACTION_NEXT;
}

enum exit_action emulation_popf(struct emulation *e)
{
    struct emulation_operand from;
    u64 top, mask;
    if (!flags_allowed(e) || !emulation_map_stacked(e, e->insn->operand_size, &top, &mask, &from))
        return ACTION_FAULT;
    u64 loaded = emulation_flags_loadable(e), flags = emulation_flags(e) & ~(loaded | RFLAGS_RF);
    flags |= emulation_read(e, &from) & loaded;
    emulation_stack_set(e, mask, top);
    e->vcpu->ops->skip(e->vcpu, e->exit->rip + e->exit->length); // by the former trap flag
    emulation_flags_write(e, flags);
    return ACTION_RETRY;
}

// --- all registers: the first one is on top ---

#define REGISTERS 8

enum exit_action emulation_pusha(struct emulation *e)
{
    u8 bytes[REGISTERS * sizeof(u32)];
    unsigned size = e->insn->operand_size;
    struct emulation_operand to;
    u64 top, mask;
    if (!emulation_map_top(e, REGISTERS * size, &top, &mask, &to))
        return ACTION_FAULT;
    for (unsigned i = 0; i < REGISTERS; i++) {
        u64 value = emulation_gpr(e, REGISTERS - 1 - i);
        memcpy(bytes + i * size, &value, size);
    }
    emulation_write_bytes(e, &to, bytes);
    emulation_stack_set(e, mask, top);
    return ACTION_NEXT;
}

enum exit_action emulation_popa(struct emulation *e)
{
    u8 bytes[REGISTERS * sizeof(u32)];
    u8 size = e->insn->operand_size;
    struct emulation_operand from;
    u64 top, mask;
    if (!emulation_map_stacked(e, REGISTERS * size, &top, &mask, &from))
        return ACTION_FAULT;
    emulation_read_bytes(e, &from, bytes);
    for (unsigned i = 0; i < REGISTERS; i++) {
        struct insn_operand reg = {
            .kind = INSN_OPERAND_REGISTER, .size = size, .reg = (u8)(REGISTERS - 1 - i)};
        u64 value = 0;
        memcpy(&value, bytes + i * size, size);
        if (reg.reg != GPR_RSP)
            emulation_register_write(e, &reg, value);
    }
    emulation_stack_set(e, mask, top);
    return ACTION_NEXT;
}

// --- RBP ---

static struct insn_operand frame_register(const struct emulation *e)
{
    return (struct insn_operand){
        .kind = INSN_OPERAND_REGISTER, .size = e->insn->operand_size, .reg = GPR_RBP};
}

enum exit_action emulation_leave(struct emulation *e)
{
    struct emulation_operand from;
    struct insn_operand rbp = frame_register(e);
    u64 frame = emulation_gpr(e, GPR_RBP), mask = stack_mask(e);
    if (!emulation_map(e, SEG_SS, frame & mask, rbp.size, PAGE_READ, MEMO_STACK, &from))
        return ACTION_FAULT;
    u64 value = emulation_read(e, &from);
    emulation_stack_set(e, mask, frame + rbp.size);
    emulation_register_write(e, &rbp, value);
    return ACTION_NEXT;
}

// With a nesting level, the frames that enclose this one are copied from the former frame, and this
// one's address goes below them.
enum exit_action emulation_enter(struct emulation *e)
{
    struct emulation_operand from, to;
    struct insn_operand rbp = frame_register(e);
    u8 frames[(ENTER_LEVELS + 1) * sizeof(u64)];
    u64 top, mask, former = emulation_gpr(e, GPR_RBP);
    unsigned level = e->insn->immediate % ENTER_LEVELS, size = rbp.size;
    unsigned copied = level ? (level - 1) * size : 0, above = level ? copied + size : 0;
    if (!emulation_map_top(e, above + size, &top, &mask, &to) ||
        (copied && !emulation_map(e, SEG_SS, (former - copied) & mask, copied, PAGE_READ,
                                  MEMO_OPERAND, &from)))
        return ACTION_FAULT;
    u64 frame = (emulation_gpr(e, GPR_RSP) & ~mask) | ((top + above) & mask);
    if (copied)
        emulation_read_bytes(e, &from, frames + size);
    if (level)
        memcpy(frames, &frame, size);
    memcpy(frames + above, &former, size);
    emulation_write_bytes(e, &to, frames);
    emulation_register_write(e, &rbp, frame);
    emulation_stack_set(e, mask, top - (u64)e->insn->displacement);
    return ACTION_NEXT;
}

// --- branches: they end at their targets instead of behind themselves ---

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

static u64 address_behind(const struct emulation *e)
{
    return (e->exit->rip + e->exit->length) & bytes_mask(e->insn->operand_size);
}

static u64 branch_target(struct emulation *e, const struct emulation_operand *from)
{
    const struct insn *i = e->insn;
    switch (i->to.kind) {
    case INSN_OPERAND_MEMORY:
        return emulation_read(e, from);
    case INSN_OPERAND_REGISTER:
        return emulation_register_read(e, &i->to);
    default:
        return (address_behind(e) + i->immediate) & bytes_mask(i->operand_size);
    }
}

enum exit_action emulation_branch(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand from = {.size = 0}, to;
    u64 top = 0, mask = 0;
    bool calls = i->op == INSN_CALL;
    if ((i->to.kind == INSN_OPERAND_MEMORY &&
         !map_operand(e, emulation_offset(e), PAGE_READ, &from)) ||
        (calls && !emulation_map_top(e, i->operand_size, &top, &mask, &to)))
        return ACTION_FAULT;
    u64 target = branch_target(e, &from);
    if (!may_jump(e, target))
        return ACTION_FAULT;
    if (calls) {
        emulation_write(e, &to, address_behind(e));
        emulation_stack_set(e, mask, top);
    }
    e->vcpu->ops->skip(e->vcpu, target);
    return ACTION_RETRY;
}

enum exit_action emulation_ret(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand from;
    u64 top, mask;
    if (!emulation_map_stacked(e, i->operand_size, &top, &mask, &from))
        return ACTION_FAULT;
    u64 target = emulation_read(e, &from);
    if (!may_jump(e, target))
        return ACTION_FAULT;
    emulation_stack_set(e, mask, top + i->immediate);
    e->vcpu->ops->skip(e->vcpu, target);
    return ACTION_RETRY;
}
