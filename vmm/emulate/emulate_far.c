// SPDX-License-Identifier: MIT
// Far JMP and CALL through a pointer in memory, and far RET with a stack there: to code segments of
// the same privilege level, not through gates. SDM volume 2 for each instruction.
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

static bool code_present(struct system *s, u16 selector, struct segment *cs)
{
    cs->selector = (u16)((selector & ~SELECTOR_RPL) | s->cpl);
    return (cs->access & ACCESS_PRESENT) || task_fault(&s->task, VECTOR_NP, selector);
}

static bool code_to_branch(struct system *s, u16 selector, struct segment *cs)
{
    if (!code_read(s, selector, cs))
        return false;
    unsigned dpl = task_dpl(cs), rpl = selector & SELECTOR_RPL;
    bool reachable =
        cs->access & ACCESS_CONFORMING ? dpl <= s->cpl : dpl == s->cpl && rpl <= s->cpl;
    return reachable ? code_present(s, selector, cs) : task_fault(&s->task, VECTOR_GP, selector);
}

// The selector's RPL is the level to return to: here, that of now.
static bool code_to_return(struct system *s, u16 selector, struct segment *cs)
{
    if (!code_read(s, selector, cs))
        return false;
    unsigned dpl = task_dpl(cs), rpl = selector & SELECTOR_RPL;
    bool fits = cs->access & ACCESS_CONFORMING ? dpl <= rpl : dpl == rpl;
    return rpl == s->cpl && fits ? code_present(s, selector, cs)
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

bool system_far_return(struct system *s)
{
    struct system_pointer to = system_pointer_read(s);
    struct segment cs;
    if (!s->real && (to.selector & SELECTOR_RPL) > s->cpl)
        return refuse(s); // to an outer level
    bool may = s->real ? code_real(s, to.selector, &cs) : code_to_return(s, to.selector, &cs);
    if (!may || !target_inside(s, &cs, to.offset) || !code_use(s, &cs))
        return false;
    emulation_stack_set(s->e, s->mask, s->top + s->e->insn->immediate);
    go_on_at(s, to.offset);
    return true;
}
