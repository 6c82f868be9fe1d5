// SPDX-License-Identifier: MIT
// String instructions (Intel SDM volume 1, "String Operations"), on memory and on ports. Registers
// move with each element, so that a fault or the end of the budget leaves the instruction where the
// CPU would: restartable.
#include "vmm/emulate/emulation.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/regs.h"
#include "vmm/emulate/alu.h"
#include "vmm/vm_io.h"

#define ELEMENTS_PER_EXIT 256 // then the guest is entered again, so that interrupts get their turn
#define ELEMENTS_PER_LOOK 16  // at the time: some devices do a lot for one access
#define MEMO_TO           0
#define MEMO_FROM         1

struct string {
    struct emulation *e;
    unsigned size; // of an element
    u64 flags;
};

static bool map_source(struct string *s, struct emulation_operand *m)
{
    struct emulation *e = s->e;
    u64 offset = emulation_address_register(e, GPR_RSI);
    return emulation_map(e, e->insn->segment, offset, s->size, PAGE_READ, MEMO_FROM, m);
}

static bool map_destination(struct string *s, unsigned access, struct emulation_operand *m)
{
    u64 offset = emulation_address_register(s->e, GPR_RDI);
    return emulation_map(s->e, SEG_ES, offset, s->size, access, MEMO_TO, m);
}

static void advance(struct string *s, unsigned gpr)
{
    u64 step = s->flags & RFLAGS_DF ? (u64) - (s64)s->size : s->size;
    u64 value = emulation_address_register(s->e, gpr) + step;
    emulation_address_register_write(s->e, gpr, value);
}

static struct insn_operand accumulator(const struct string *s)
{
    return (struct insn_operand){
        .kind = INSN_OPERAND_REGISTER, .size = (u8)s->size, .reg = GPR_RAX};
}

static bool step_movs(struct string *s)
{
    struct emulation_operand from, to;
    if (!map_source(s, &from) || !map_destination(s, PAGE_WRITE, &to))
        return false;
    emulation_write(s->e, &to, emulation_read(s->e, &from));
    advance(s, GPR_RSI);
    advance(s, GPR_RDI);
    return true;
}

static bool step_stos(struct string *s)
{
    struct emulation_operand to;
    struct insn_operand a = accumulator(s);
    if (!map_destination(s, PAGE_WRITE, &to))
        return false;
    emulation_write(s->e, &to, emulation_register_read(s->e, &a));
    advance(s, GPR_RDI);
    return true;
}

static bool step_lods(struct string *s)
{
    struct emulation_operand from;
    struct insn_operand a = accumulator(s);
    if (!map_source(s, &from))
        return false;
    emulation_register_write(s->e, &a, emulation_read(s->e, &from));
    advance(s, GPR_RSI);
    return true;
}

static void compare(struct string *s, u64 a, u64 b)
{
    alu(INSN_CMP, s->size, a, b, &s->flags);
    s->e->vcpu->ops->reg_write(s->e->vcpu, REG_RFLAGS, s->flags);
}

static bool step_cmps(struct string *s)
{
    struct emulation_operand from, to;
    if (!map_source(s, &from) || !map_destination(s, PAGE_READ, &to))
        return false;
    u64 first = emulation_read(s->e, &from);
    compare(s, first, emulation_read(s->e, &to));
    advance(s, GPR_RSI);
    advance(s, GPR_RDI);
    return true;
}

static bool step_scas(struct string *s)
{
    struct emulation_operand to;
    struct insn_operand a = accumulator(s);
    if (!map_destination(s, PAGE_READ, &to))
        return false;
    compare(s, emulation_register_read(s->e, &a), emulation_read(s->e, &to));
    advance(s, GPR_RDI);
    return true;
}

static bool step_ins(struct string *s)
{
    struct emulation_operand to;
    u64 value;
    if (!map_destination(s, PAGE_WRITE, &to))
        return false;
    vm_port_read(s->e->vcpu, s->e->exit->io.port, s->size, &value);
    emulation_write(s->e, &to, value);
    advance(s, GPR_RDI);
    return true;
}

static bool step_outs(struct string *s)
{
    struct emulation_operand from;
    if (!map_source(s, &from))
        return false;
    vm_port_write(s->e->vcpu, s->e->exit->io.port, s->size, emulation_read(s->e, &from));
    advance(s, GPR_RSI);
    return true;
}

static const struct string_row {
    bool (*step)(struct string *s);
    bool compares; // REPE and REPNE look at ZF
} string_rows[INSN_OP_COUNT] = {
    [INSN_MOVS] = {step_movs, false}, [INSN_STOS] = {step_stos, false},
    [INSN_LODS] = {step_lods, false}, [INSN_CMPS] = {step_cmps, true},
    [INSN_SCAS] = {step_scas, true},  [INSN_INS] = {step_ins, false},
    [INSN_OUTS] = {step_outs, false},
};

static bool compare_ends(const struct string *s)
{
    bool wanted = s->e->insn->prefixes & INSN_REP;
    return string_rows[s->e->insn->op].compares && wanted != !!(s->flags & RFLAGS_ZF);
}

// As after an interrupt between two elements: RF is set, so that the rest does not meet the
// instruction's breakpoint again. A single-step trap comes behind each element.
static enum exit_action unfinished(struct string *s)
{
    struct emulation *e = s->e;
    if (s->flags & RFLAGS_TF)
        e->vcpu->ops->skip(e->vcpu, e->exit->rip);
    emulation_flags_write(e, emulation_flags(e) | RFLAGS_RF);
    return ACTION_RETRY;
}

// Other threads wait for this CPU, or a timer.
static bool time_is_over(const struct string *s, unsigned done)
{
    return done % ELEMENTS_PER_LOOK == 0 && rdtsc() >= s->e->vcpu->run_until;
}

static enum exit_action repeat(struct string *s)
{
    u64 count = emulation_address_register(s->e, GPR_RCX);
    unsigned budget = s->flags & RFLAGS_TF ? 1 : ELEMENTS_PER_EXIT;
    for (unsigned done = 0; count && done < budget;) {
        if (!string_rows[s->e->insn->op].step(s))
            return ACTION_FAULT;
        emulation_address_register_write(s->e, GPR_RCX, --count);
        if (compare_ends(s))
            return ACTION_NEXT;
        if (time_is_over(s, ++done))
            break;
    }
    return count ? unfinished(s) : ACTION_NEXT;
}

enum exit_action emulation_string(struct emulation *e)
{
    struct string s = {
        .e = e, .size = e->insn->operand_size, .flags = vcpu_reg(e->vcpu, REG_RFLAGS)};
    if (e->insn->prefixes & (INSN_REP | INSN_REPNE))
        return repeat(&s);
    return string_rows[e->insn->op].step(&s) ? ACTION_NEXT : ACTION_FAULT;
}

enum exit_action emulate_string_io(struct vcpu *vcpu, struct vm_exit *exit)
{
    struct emulation e;
    enum exit_action action;
    if (!emulation_begin(&e, vcpu, exit, &action))
        return action;
    // The CPU checked the privilege for the instruction that it saw: do that one, or let it look
    // again.
    unsigned op = exit->io.write ? INSN_OUTS : INSN_INS;
    if (e.insn->op != op || e.insn->operand_size != exit->io.size)
        return ACTION_RETRY;
    return emulation_string(&e);
}
