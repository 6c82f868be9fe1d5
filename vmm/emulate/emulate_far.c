// SPDX-License-Identifier: MIT
// Far JMP and CALL to code segments of the same privilege level, not through gates; far RET and
// IRET to any level, not to another task or virtual-8086 mode. The pointer, the stack or the
// descriptor table is in a device. SDM volume 2 for each instruction.
#include "vmm/emulate/emulation_system.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/string.h"

// What the CPU is to be in, if it may: the descriptor's checks are common, those of privilege not.
static bool code_read(struct system *s, u16 selector, struct segment *cs)
{
    struct task *t = &s->task;
    if (task_is_null(selector))
        return system_fault(s, VECTOR_GP);
    if (!task_descriptor_read(t, selector, VECTOR_GP, cs))
        return false;
    bool both = system_in_long_mode(s) && (cs->access & SEGMENT_L) && (cs->access & SEGMENT_DB);
    return ((cs->access & ACCESS_S) && (cs->access & ACCESS_CODE) && !both) ||
           task_fault(t, VECTOR_GP, selector);
}

static bool code_present(struct system *s, u16 selector, unsigned level, struct segment *cs)
{
    cs->selector = (u16)((selector & ~SELECTOR_RPL) | level);
    return (cs->access & ACCESS_PRESENT) || task_fault(&s->task, VECTOR_NP, selector);
}

static bool code_to_branch(struct system *s, u16 selector, struct segment *cs)
{
    if (!code_read(s, selector, cs))
        return false;
    unsigned dpl = task_dpl(cs), rpl = selector & SELECTOR_RPL;
    bool reachable =
        cs->access & ACCESS_CONFORMING ? dpl <= s->cpl : dpl == s->cpl && rpl <= s->cpl;
    return reachable ? code_present(s, selector, s->cpl, cs)
                     : task_fault(&s->task, VECTOR_GP, selector);
}

// The selector's RPL is the level to return to.
static bool code_to_return(struct system *s, u16 selector, struct segment *cs)
{
    if (!code_read(s, selector, cs))
        return false;
    unsigned dpl = task_dpl(cs), rpl = selector & SELECTOR_RPL;
    bool fits = cs->access & ACCESS_CONFORMING ? dpl <= rpl : dpl == rpl;
    return rpl >= s->cpl && fits ? code_present(s, selector, rpl, cs)
                                 : task_fault(&s->task, VECTOR_GP, selector);
}

static bool code_real(struct system *s, u16 selector, struct segment *cs)
{
    s->e->vcpu->ops->segment_read(s->e->vcpu, SEG_CS, cs);
    cs->selector = selector;
    cs->base = (u64)selector << SYSTEM_REAL_SHIFT;
    return true;
}

static bool target_inside(struct system *s, const struct segment *cs, u64 target)
{
    bool code64 = system_in_long_mode(s) && (cs->access & SEGMENT_L);
    return (code64 ? guest_canonical(&s->task.paging, target) : target <= cs->limit) ||
           system_fault(s, VECTOR_GP);
}

// The last thing that may fault.
static bool code_use(struct system *s, const struct segment *cs)
{
    if (!s->real)
        return task_segment_use(&s->task, SEG_CS, cs);
    s->e->vcpu->ops->segment_write(s->e->vcpu, SEG_CS, cs);
    return true;
}

static void go_on_at(struct system *s, u64 target)
{
    s->e->vcpu->ops->skip(s->e->vcpu, target);
    s->action = ACTION_RETRY;
}

static bool is_gate(struct system *s, u16 selector)
{
    struct segment gate;
    return !s->real && !task_is_null(selector) &&
           task_descriptor_read(&s->task, selector, VECTOR_GP, &gate) && !(gate.access & ACCESS_S);
}

static bool refuse(struct system *s)
{
    s->action = emulation_cannot(s->e);
    return true;
}

// With CALL, the return address is the far pointer behind this instruction.
bool system_far_branch(struct system *s)
{
    struct emulation *e = s->e;
    struct system_pointer to = system_pointer_read(s);
    struct emulation_operand stacked;
    struct segment cs;
    unsigned size = e->insn->operand_size;
    u64 top, mask, bytes[2] = {0}, behind = e->exit->rip + e->exit->length;
    u16 selector = emulation_selector(e, SEG_CS);
    bool calls = e->insn->op == INSN_CALL_FAR;
    if (is_gate(s, to.selector))
        return refuse(s);
    bool may = s->real ? code_real(s, to.selector, &cs) : code_to_branch(s, to.selector, &cs);
    if (!may || !target_inside(s, &cs, to.offset) ||
        (calls && !emulation_map_top(e, 2 * size, &top, &mask, &stacked)) || !code_use(s, &cs))
        return false;
    if (calls) {
        memcpy(bytes, &behind, size);
        memcpy((u8 *)bytes + size, &selector, sizeof(selector));
        emulation_write_bytes(e, &stacked, bytes);
        emulation_stack_set(e, mask, top);
    }
    go_on_at(s, to.offset);
    return true;
}

// --- RET and IRET: what is popped ---

struct popped {
    u64 flags, rsp;
    u16 ss;
    u64 new_mask; // the bits of RSP that the new stack segment has
};

static bool to_outer(const struct system *s, u16 selector)
{
    return (selector & SELECTOR_RPL) > s->cpl;
}

// In 64-bit mode IRET pops a stack pointer always.
static bool pops_stack(const struct system *s, u16 selector)
{
    return to_outer(s, selector) || (s->e->insn->op == INSN_IRET && s->e->paging.code64);
}

static u64 popped_word(const u8 *bytes, unsigned index, unsigned size)
{
    u64 value = 0;
    memcpy(&value, bytes + index * size, size);
    return value;
}

static bool pop_stack(struct system *s, struct popped *p)
{
    u8 bytes[2 * sizeof(u64)];
    struct emulation_operand m;
    struct emulation *e = s->e;
    unsigned size = e->insn->operand_size;
    if (!emulation_map(e, SEG_SS, (s->top + e->insn->immediate) & s->mask, 2 * size, PAGE_READ, 1,
                       &m))
        return false;
    emulation_read_bytes(e, &m, bytes);
    p->rsp = popped_word(bytes, 0, size);
    p->ss = (u16)popped_word(bytes, 1, size);
    return true;
}

// Only 64-bit code of an inner level does without a stack segment.
static bool stack_use(struct system *s, const struct segment *cs, u16 selector)
{
    unsigned rpl = cs->selector & SELECTOR_RPL;
    struct segment none = {.selector = selector,
                           .access = (u32)SEGMENT_UNUSABLE | rpl << ACCESS_DPL_SHIFT};
    bool code64 = system_in_long_mode(s) && (cs->access & SEGMENT_L);
    if (!task_is_null(selector))
        return task_load_stack(&s->task, selector, rpl);
    if (!code64 || rpl == SELECTOR_RPL || (selector & SELECTOR_RPL) != rpl)
        return system_fault(s, VECTOR_GP);
    s->e->vcpu->ops->segment_write(s->e->vcpu, SEG_SS, &none);
    return true;
}

// What an outer level may not use goes out of the registers.
static void data_segments_check(struct system *s, unsigned level)
{
    static const u8 data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    const u32 conforming = ACCESS_CODE | ACCESS_CONFORMING;
    struct vcpu *vcpu = s->e->vcpu;
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
        struct segment d;
        vcpu->ops->segment_read(vcpu, data[i], &d);
        if ((d.access & SEGMENT_UNUSABLE) || (d.access & conforming) == conforming ||
            task_dpl(&d) >= level)
            continue;
        d = (struct segment){.access = (u32)SEGMENT_UNUSABLE};
        vcpu->ops->segment_write(vcpu, data[i], &d);
    }
}

// The two segments, or none of them.
static bool segments_use(struct system *s, const struct segment *cs, struct popped *p)
{
    struct vcpu *vcpu = s->e->vcpu;
    struct segment former, ss;
    bool code64 = system_in_long_mode(s) && (cs->access & SEGMENT_L);
    vcpu->ops->segment_read(vcpu, SEG_CS, &former);
    if (!code_use(s, cs))
        return false;
    if (!stack_use(s, cs, p->ss)) {
        vcpu->ops->segment_write(vcpu, SEG_CS, &former);
        return false;
    }
    vcpu->ops->segment_read(vcpu, SEG_SS, &ss);
    p->new_mask = code64 ? ~0ull : bytes_mask(ss.access & SEGMENT_DB ? sizeof(u32) : sizeof(u16));
    return true;
}

static u64 flags_popped(struct system *s, u64 value)
{
    u64 loaded = emulation_flags_loadable(s->e) | RFLAGS_RF;
    if (!s->cpl && !s->real)
        loaded |= RFLAGS_VIF | RFLAGS_VIP;
    loaded &= bytes_mask(s->e->insn->operand_size);
    return (emulation_flags(s->e) & ~loaded) | (value & loaded);
}

// To another task, or to virtual-8086 mode. `done`: a fault, if it is false.
static bool is_special(struct system *s, u64 flags, bool *done)
{
    bool nested = !s->real && (emulation_flags(s->e) & RFLAGS_NT);
    *done = true;
    if (s->e->insn->op != INSN_IRET)
        return false;
    if (s->real && (emulation_flags(s->e) & RFLAGS_VM) &&
        (emulation_flags(s->e) & RFLAGS_IOPL) != RFLAGS_IOPL)
        *done = system_fault(s, VECTOR_GP);
    else if (nested && system_in_long_mode(s))
        *done = system_fault(s, VECTOR_GP);
    else if (nested || (!s->real && !system_in_long_mode(s) && !s->cpl && (flags & RFLAGS_VM)))
        *done = refuse(s);
    else
        return false;
    return true;
}

static void unblock_nmi(struct vcpu *vcpu)
{
    u64 blocked = vcpu_reg(vcpu, REG_INTERRUPTIBILITY);
    vcpu->ops->reg_write(vcpu, REG_INTERRUPTIBILITY, blocked & ~(u64)BLOCKED_NMI);
}

static void stack_leave(struct system *s, u16 selector, const struct popped *p)
{
    if (!pops_stack(s, selector))
        emulation_stack_set(s->e, s->mask, s->top + s->e->insn->immediate);
    else
        emulation_stack_set(s->e, p->new_mask, p->rsp + s->e->insn->immediate);
    if (to_outer(s, selector))
        data_segments_check(s, selector & SELECTOR_RPL);
}

static bool segments_return(struct system *s, const struct system_pointer *to, struct popped *p)
{
    struct segment cs;
    if (s->real)
        return code_real(s, to->selector, &cs) && target_inside(s, &cs, to->offset) &&
               code_use(s, &cs);
    if (!code_to_return(s, to->selector, &cs))
        return false;
    if (!pops_stack(s, to->selector))
        return target_inside(s, &cs, to->offset) && code_use(s, &cs);
    return pop_stack(s, p) && target_inside(s, &cs, to->offset) && segments_use(s, &cs, p);
}

bool system_far_return(struct system *s)
{
    struct emulation *e = s->e;
    struct popped p = {0};
    bool iret = e->insn->op == INSN_IRET, done;
    u8 bytes[3 * sizeof(u64)] = {0};
    unsigned size = e->insn->operand_size;
    emulation_read_bytes(e, &s->m, bytes);
    struct system_pointer to = {popped_word(bytes, 0, size), (u16)popped_word(bytes, 1, size)};
    p.flags = popped_word(bytes, 2, size);
    if (is_special(s, p.flags, &done))
        return done;
    u64 flags = flags_popped(s, p.flags);
    if (!segments_return(s, &to, &p))
        return false;
    stack_leave(s, to.selector, &p);
    go_on_at(s, to.offset);
    if (iret) {
        emulation_flags_write(e, flags);
        unblock_nmi(e->vcpu);
    }
    return true;
}
