// SPDX-License-Identifier: MIT
// Segment registers, descriptor tables and the machine status word with an operand in memory or on
// the stack. SDM volume 2 for each instruction. The CPU has checked the privilege, but perhaps of
// another instruction: the code may have changed since.
#include "vmm/emulate/emulation_system.h"
#include "vmm/guest_cpu/control_registers.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/string.h"

#define TABLE_BASE         2           // behind the limit
#define TABLE_BASE_16_MASK 0xffffffull // what an operand size of 16 bits loads
#define UPPER_TYPE_MASK    0x1f00u     // of the second half of a system descriptor in IA-32e mode
#define CPL_USER           3
#define LAR_ACCESS_SHIFT   8

bool system_fault(struct system *s, u8 vector)
{
    if (vector == VECTOR_UD)
        exit_fault(s->e->exit, vector);
    else
        exit_fault_error(s->e->exit, vector, 0);
    return false;
}

static const struct insn_operand *operand_read(const struct insn *i)
{
    return i->from.kind == INSN_OPERAND_NONE ? &i->to : &i->from;
}

// On the stack or in memory; or in a register, and what is in memory is the descriptor.
static u64 read_word(struct system *s)
{
    const struct insn_operand *o = operand_read(s->e->insn);
    return o->kind == INSN_OPERAND_REGISTER ? emulation_register_read(s->e, o)
                                            : emulation_read(s->e, &s->m);
}

// --- stores ---

static bool do_selector_store(struct system *s)
{
    unsigned which = s->e->insn->op == INSN_STR ? SEG_TR : SEG_LDTR;
    emulation_write(s->e, &s->m, emulation_selector(s->e, which));
    return true;
}

static bool do_smsw(struct system *s)
{
    emulation_write(s->e, &s->m, vcpu_reg(s->e->vcpu, REG_CR0));
    return true;
}

static bool do_table_store(struct system *s)
{
    u8 bytes[TABLE_BASE + sizeof(u64)];
    struct segment table;
    struct vcpu *vcpu = s->e->vcpu;
    vcpu->ops->segment_read(vcpu, s->e->insn->op == INSN_SGDT ? SEG_GDTR : SEG_IDTR, &table);
    memcpy(bytes, &table.limit, TABLE_BASE);
    memcpy(bytes + TABLE_BASE, &table.base, sizeof(table.base));
    emulation_write_bytes(s->e, &s->m, bytes);
    return true;
}

// --- loads ---

static bool do_table_load(struct system *s)
{
    u8 bytes[TABLE_BASE + sizeof(u64)] = {0};
    struct segment table = {0};
    struct vcpu *vcpu = s->e->vcpu;
    const struct insn *i = s->e->insn;
    emulation_read_bytes(s->e, &s->m, bytes);
    memcpy(&table.limit, bytes, TABLE_BASE);
    memcpy(&table.base, bytes + TABLE_BASE, sizeof(table.base));
    if (i->operand_size == sizeof(u16))
        table.base &= TABLE_BASE_16_MASK;
    if (s->e->paging.code64 && !vcpu_canonical(vcpu, table.base))
        return system_fault(s, VECTOR_GP);
    vcpu->ops->segment_write(vcpu, i->op == INSN_LGDT ? SEG_GDTR : SEG_IDTR, &table);
    return true;
}

static bool do_lmsw(struct system *s)
{
    u64 value = cr0_lmsw(vcpu_reg(s->e->vcpu, REG_CR0), read_word(s));
    return control_register_write(s->e->vcpu, 0, value) || system_fault(s, VECTOR_GP);
}

// In IA-32e mode it has two halves; the upper one has more of the base.
static bool system_descriptor_read(struct system *s, u16 selector, struct segment *segment)
{
    struct task *t = &s->task;
    u64 upper;
    gva_t gva;
    if ((selector & SELECTOR_TI) || task_is_null(selector))
        return task_fault(t, VECTOR_GP, selector);
    if (!task_descriptor_read(t, selector, VECTOR_GP, segment))
        return false;
    if (!system_in_long_mode(s))
        return true;
    if (!task_descriptor(t, (u16)(selector + TASK_DESCRIPTOR_SIZE), &gva) ||
        selector + TASK_DESCRIPTOR_SIZE > (u16)~0u)
        return task_fault(t, VECTOR_GP, selector);
    if (!task_read(t, gva, &upper, sizeof(upper)))
        return false;
    segment->base |= upper << 32;
    return (!((upper >> 32) & UPPER_TYPE_MASK) && vcpu_canonical(s->e->vcpu, segment->base)) ||
           task_fault(t, VECTOR_GP, selector);
}

static bool do_lldt(struct system *s)
{
    struct segment ldt = {.selector = (u16)read_word(s), .access = (u32)SEGMENT_UNUSABLE};
    u16 selector = ldt.selector;
    if (!task_is_null(selector)) {
        if (!system_descriptor_read(s, selector, &ldt))
            return false;
        if ((ldt.access & ACCESS_TYPE_MASK) != ACCESS_LDT)
            return task_fault(&s->task, VECTOR_GP, selector);
        if (!(ldt.access & ACCESS_PRESENT))
            return task_fault(&s->task, VECTOR_NP, selector);
    }
    s->e->vcpu->ops->segment_write(s->e->vcpu, SEG_LDTR, &ldt);
    return true;
}

static bool do_ltr(struct system *s)
{
    struct segment tss;
    u16 selector = (u16)read_word(s);
    u32 optional = system_in_long_mode(s) ? 0 : TSS_32;
    if (!system_descriptor_read(s, selector, &tss))
        return false;
    if (((tss.access | optional) & ACCESS_TYPE_MASK) != (TSS_AVAILABLE | TSS_32))
        return task_fault(&s->task, VECTOR_GP, selector);
    if (!(tss.access & ACCESS_PRESENT))
        return task_fault(&s->task, VECTOR_NP, selector);
    if (!task_descriptor_mark(&s->task, selector, TSS_BUSY, 0))
        return false;
    tss.access |= TSS_BUSY;
    s->e->vcpu->ops->segment_write(s->e->vcpu, SEG_TR, &tss);
    return true;
}

// Real mode leaves limit and access as they are.
static void load_real(struct system *s, enum vcpu_segment which, u16 selector)
{
    struct segment segment;
    struct vcpu *vcpu = s->e->vcpu;
    vcpu->ops->segment_read(vcpu, which, &segment);
    segment.selector = selector;
    segment.base = (u64)selector << SYSTEM_REAL_SHIFT;
    vcpu->ops->segment_write(vcpu, which, &segment);
}

// The CPU takes its privilege level from SS, also if that cannot be used.
static bool load_null(struct system *s, enum vcpu_segment which, u16 selector)
{
    struct segment segment = {.selector = selector,
                              .access = (u32)SEGMENT_UNUSABLE | s->cpl << ACCESS_DPL_SHIFT};
    bool may = s->e->paging.code64 && s->cpl < CPL_USER && (selector & SELECTOR_RPL) == s->cpl;
    if (which == SEG_SS && !may)
        return system_fault(s, VECTOR_GP);
    s->e->vcpu->ops->segment_write(s->e->vcpu, which, &segment);
    return true;
}

// After a load of SS, interrupts and traps wait for the next instruction.
static void stack_shadow(struct system *s)
{
    struct vcpu *vcpu = s->e->vcpu;
    vcpu->ops->skip(vcpu, s->e->exit->rip + s->e->exit->length);
    vcpu->ops->reg_write(vcpu, REG_INTERRUPTIBILITY,
                         vcpu_reg(vcpu, REG_INTERRUPTIBILITY) | BLOCKED_MOV_SS);
    s->action = ACTION_RETRY;
}

static bool segment_load(struct system *s, enum vcpu_segment which, u16 selector)
{
    if (s->real)
        load_real(s, which, selector);
    else if (task_is_null(selector))
        return load_null(s, which, selector);
    else if (which == SEG_SS)
        return task_load_stack(&s->task, selector, s->cpl);
    else
        return task_load_data(&s->task, which, selector, s->cpl);
    return true;
}

static bool do_mov_segment(struct system *s)
{
    enum vcpu_segment which = s->e->insn->to.reg;
    if (which == SEG_CS)
        return system_fault(s, VECTOR_UD);
    if (!segment_load(s, which, (u16)read_word(s)))
        return false;
    if (which == SEG_SS)
        stack_shadow(s);
    return true;
}

static bool do_pop_segment(struct system *s)
{
    enum vcpu_segment which = s->e->insn->to.reg;
    if (!segment_load(s, which, (u16)read_word(s)))
        return false;
    emulation_stack_set(s->e, s->mask, s->top);
    if (which == SEG_SS)
        stack_shadow(s);
    return true;
}

// LDS and kin.
static bool do_pointer_load(struct system *s)
{
    static const u8 segments[] = {SEG_ES, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
    const struct insn *i = s->e->insn;
    struct system_pointer p = system_pointer_read(s);
    if (!segment_load(s, segments[i->op - INSN_LES], p.selector))
        return false;
    emulation_register_write(s->e, &i->to, p.offset);
    return true;
}

// --- looks at a descriptor ---

#define TYPE(number) BIT(number)
#define TYPES_LIMIT  (TYPE(0x1) | TYPE(0x2) | TYPE(0x3) | TYPE(0x9) | TYPE(0xb))

// The types of system descriptors that LAR and LSL know: both modes', and those of IA-32e mode.
static u32 types_known(const struct system *s)
{
    u32 types = TYPES_LIMIT | TYPE(0x4) | TYPE(0x5) | TYPE(0xc);
    if (s->e->insn->op >= INSN_VERR)
        return 0;
    if (s->e->insn->op == INSN_LSL)
        types = TYPES_LIMIT;
    return system_in_long_mode(s) ? types & (TYPE(0x2) | TYPE(0x9) | TYPE(0xb) | TYPE(0xc)) : types;
}

static bool type_fits(const struct system *s, const struct segment *d)
{
    bool code = d->access & ACCESS_CODE, rw = d->access & ACCESS_RW;
    if (!(d->access & ACCESS_S))
        return types_known(s) & TYPE(d->access & ACCESS_TYPE_MASK);
    if (s->e->insn->op == INSN_VERW)
        return !code && rw;
    return s->e->insn->op != INSN_VERR || !code || rw;
}

static bool level_fits(const struct system *s, const struct segment *d)
{
    const u32 conforming = ACCESS_S | ACCESS_CODE | ACCESS_CONFORMING;
    return (d->access & conforming) == conforming ||
           task_dpl(d) >= MAX(s->cpl, d->selector & SELECTOR_RPL);
}

// LAR, LSL, VERR, VERW: a selector that is no good makes no fault.
static bool do_probe(struct system *s)
{
    struct emulation *e = s->e;
    struct segment d;
    gva_t at;
    u16 selector = (u16)read_word(s);
    unsigned op = e->insn->op;
    bool there = !task_is_null(selector) && task_descriptor(&s->task, selector, &at);
    if (there && !task_descriptor_read(&s->task, selector, VECTOR_GP, &d))
        return false;
    bool good = there && type_fits(s, &d) && level_fits(s, &d);
    if (good && op <= INSN_LSL)
        emulation_register_write(e, &e->insn->to,
                                 op == INSN_LAR ? d.access << LAR_ACCESS_SHIFT : d.limit);
    emulation_flags_write(e, (emulation_flags(e) & ~RFLAGS_ZF) | (good ? RFLAGS_ZF : 0));
    return true;
}

struct system_pointer system_pointer_read(struct system *s)
{
    u8 bytes[2 * sizeof(u64)] = {0};
    struct system_pointer p = {0};
    const struct insn *i = s->e->insn;
    unsigned size = i->operand_size;
    if (i->to.kind == INSN_OPERAND_IMMEDIATE && i->op != INSN_RET_FAR)
        return (struct system_pointer){i->immediate & bytes_mask(size), (u16)i->displacement};
    emulation_read_bytes(s->e, &s->m, bytes);
    memcpy(&p.offset, bytes, size);
    memcpy(&p.selector, bytes + size, sizeof(p.selector));
    return p;
}

// --- which ---

enum system_need {
    NEED_NOTHING,
    NEED_CPL0 = 1,
    NEED_PROTECTED = 2, // #UD in real and virtual-8086 mode
    NEED_UMIP = 4,      // level 0, if CR4.UMIP says so
    NEED_STACK = 8,     // the operand is on the stack: one address
    NEED_STACK_TWO = 16,
    NEED_STACK_THREE = 32,
};

static const struct system_row {
    bool (*perform)(struct system *s);
    u8 access;
    u8 needs; // enum system_need bits
} rows[] = {
    [INSN_MOV_SEGMENT - INSN_MOV_SEGMENT] = {do_mov_segment, PAGE_READ, NEED_NOTHING},
    [INSN_SLDT - INSN_MOV_SEGMENT] = {do_selector_store, PAGE_WRITE, NEED_PROTECTED | NEED_UMIP},
    [INSN_STR - INSN_MOV_SEGMENT] = {do_selector_store, PAGE_WRITE, NEED_PROTECTED | NEED_UMIP},
    [INSN_SMSW - INSN_MOV_SEGMENT] = {do_smsw, PAGE_WRITE, NEED_UMIP},
    [INSN_LMSW - INSN_MOV_SEGMENT] = {do_lmsw, PAGE_READ, NEED_CPL0},
    [INSN_LLDT - INSN_MOV_SEGMENT] = {do_lldt, PAGE_READ, NEED_PROTECTED | NEED_CPL0},
    [INSN_LTR - INSN_MOV_SEGMENT] = {do_ltr, PAGE_READ, NEED_PROTECTED | NEED_CPL0},
    [INSN_LAR - INSN_MOV_SEGMENT... INSN_VERW -
        INSN_MOV_SEGMENT] = {do_probe, PAGE_READ, NEED_PROTECTED},
    [INSN_SGDT - INSN_MOV_SEGMENT] = {do_table_store, PAGE_WRITE, NEED_UMIP},
    [INSN_SIDT - INSN_MOV_SEGMENT] = {do_table_store, PAGE_WRITE, NEED_UMIP},
    [INSN_LGDT - INSN_MOV_SEGMENT] = {do_table_load, PAGE_READ, NEED_CPL0},
    [INSN_LIDT - INSN_MOV_SEGMENT] = {do_table_load, PAGE_READ, NEED_CPL0},
    [INSN_JMP_FAR - INSN_MOV_SEGMENT] = {system_far_branch, PAGE_READ, NEED_NOTHING},
    [INSN_CALL_FAR - INSN_MOV_SEGMENT] = {system_far_branch, PAGE_READ, NEED_NOTHING},
    [INSN_LES - INSN_MOV_SEGMENT... INSN_LGS -
        INSN_MOV_SEGMENT] = {do_pointer_load, PAGE_READ, NEED_NOTHING},
    [INSN_RET_FAR - INSN_MOV_SEGMENT] = {system_far_return, PAGE_READ, NEED_STACK_TWO},
    [INSN_POP_SEGMENT - INSN_MOV_SEGMENT] = {do_pop_segment, PAGE_READ, NEED_STACK},
    [INSN_IRET - INSN_MOV_SEGMENT] = {system_far_return, PAGE_READ, NEED_STACK_THREE},
};
_Static_assert(ARRAY_SIZE(rows) == INSN_OP_COUNT - INSN_MOV_SEGMENT, "one for each of the last");

static bool permitted(struct system *s, unsigned needs)
{
    bool umip = (needs & NEED_UMIP) && (vcpu_reg(s->e->vcpu, REG_CR4) & CR4_UMIP);
    if ((needs & NEED_PROTECTED) && s->real)
        return system_fault(s, VECTOR_UD);
    return !s->cpl || !(umip || (needs & NEED_CPL0)) || system_fault(s, VECTOR_GP);
}

static unsigned addresses_stacked(unsigned needs)
{
    return needs & NEED_STACK ? 1 : needs & NEED_STACK_TWO ? 2 : needs & NEED_STACK_THREE ? 3 : 0;
}

static bool map_system(struct system *s, const struct system_row *row)
{
    const struct insn *i = s->e->insn;
    unsigned addresses = addresses_stacked(row->needs);
    if (!addresses)
        return (i->to.kind != INSN_OPERAND_MEMORY && i->from.kind != INSN_OPERAND_MEMORY) ||
               emulation_map_memory(s->e, row->access, &s->m);
    return emulation_map_stacked(s->e, addresses * s->e->insn->operand_size, &s->top, &s->mask,
                                 &s->m);
}

enum exit_action emulation_system(struct emulation *e)
{
    const struct system_row *row = &rows[e->insn->op - INSN_MOV_SEGMENT];
    struct vcpu *vcpu = e->vcpu;
    struct segment ss;
    struct system s = {.e = e,
                       .task = {.vcpu = vcpu, .exit = e->exit, .invalid = VECTOR_GP},
                       .action = ACTION_NEXT};
    guest_paging_complete(&e->paging);
    task_paging(&s.task);
    vcpu->ops->segment_read(vcpu, SEG_SS, &ss);
    s.cpl = task_dpl(&ss);
    s.real = !(vcpu_reg(vcpu, REG_CR0) & CR0_PE) || (vcpu_reg(vcpu, REG_RFLAGS) & RFLAGS_VM);
    if (!permitted(&s, row->needs) || !map_system(&s, row) || !row->perform(&s))
        return ACTION_FAULT;
    return s.action;
}
