// SPDX-License-Identifier: MIT
// What each instruction does with its operands. A memory operand is mapped once, for all the
// accesses that the instruction makes, before any is made: a fault then leaves no trace.
// Instructions are restartable.
#include "vmm/emulate/emulation.h"
#include "arch/x86_64/regs.h"
#include "vmm/emulate/alu.h"

#define RMW (PAGE_READ | PAGE_WRITE)

typedef enum exit_action (*instruction)(struct emulation *);

static inline bool map(struct emulation *e, unsigned access, struct emulation_operand *m)
{
    const struct insn *i = e->insn;
    unsigned size = i->to.kind == INSN_OPERAND_MEMORY ? i->to.size : i->from.size;
    u64 offset = emulation_offset(e);
    if (likely(e->paging.code64 && i->segment < SEG_FS &&
               emulation_map_exit(e, offset, size, access, m)))
        return true;
    return emulation_map(e, i->segment, offset, size, access, 0, m);
}

// The second operand where it is not in memory.
static u64 source(struct emulation *e)
{
    const struct insn *i = e->insn;
    if (i->from.kind == INSN_OPERAND_REGISTER)
        return emulation_register_read(e, &i->from);
    if (unlikely(i->from.kind == INSN_OPERAND_SEGMENT))
        return emulation_selector(e, i->from.reg);
    return i->immediate;
}

static bool stores(const struct insn *i)
{
    return i->to.kind == INSN_OPERAND_MEMORY;
}

static enum exit_action do_mov(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand m;
    if (unlikely(!map(e, stores(i) ? PAGE_WRITE : PAGE_READ, &m)))
        return ACTION_FAULT;
    if (stores(i)) {
        emulation_write(e, &m, source(e));
    } else {
        u64 value = emulation_read(e, &m);
        if (i->op == INSN_MOVSX)
            value = (u64)bytes_signed(value, i->from.size);
        emulation_register_write(e, &i->to, value);
    }
    return ACTION_NEXT;
}

static bool only_compares(unsigned op)
{
    return op == INSN_CMP || op == INSN_TEST;
}

static enum exit_action do_alu(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand m;
    bool discard = only_compares(i->op);
    if (!map(e, stores(i) && !discard ? RMW : PAGE_READ, &m))
        return ACTION_FAULT;
    u64 memory = emulation_read(e, &m), flags = emulation_flags(e), result;
    if (stores(i))
        result = alu(i->op, m.size, memory, source(e), &flags);
    else
        result = alu(i->op, m.size, emulation_register_read(e, &i->to), memory, &flags);
    if (!discard && stores(i))
        emulation_write(e, &m, result);
    else if (!discard)
        emulation_register_write(e, &i->to, result);
    emulation_flags_write(e, flags);
    return ACTION_NEXT;
}

static enum exit_action do_unary(struct emulation *e)
{
    struct emulation_operand m;
    if (!map(e, RMW, &m))
        return ACTION_FAULT;
    u64 flags = emulation_flags(e);
    emulation_write(e, &m, alu(e->insn->op, m.size, emulation_read(e, &m), 0, &flags));
    emulation_flags_write(e, flags);
    return ACTION_NEXT;
}

static enum exit_action do_xchg(struct emulation *e)
{
    const struct insn *i = e->insn;
    const struct insn_operand *reg = stores(i) ? &i->from : &i->to;
    struct emulation_operand m;
    if (!map(e, RMW, &m))
        return ACTION_FAULT;
    u64 memory = emulation_read(e, &m);
    emulation_write(e, &m, emulation_register_read(e, reg));
    emulation_register_write(e, reg, memory);
    return ACTION_NEXT;
}

static enum exit_action do_xadd(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand m;
    if (!map(e, RMW, &m))
        return ACTION_FAULT;
    u64 memory = emulation_read(e, &m), flags = emulation_flags(e);
    emulation_write(e, &m, alu(INSN_ADD, m.size, memory, source(e), &flags));
    emulation_register_write(e, &i->from, memory);
    emulation_flags_write(e, flags);
    return ACTION_NEXT;
}

// The destination gets a write either way (SDM volume 2, CMPXCHG).
static enum exit_action do_cmpxchg(struct emulation *e)
{
    struct emulation_operand m;
    if (!map(e, RMW, &m))
        return ACTION_FAULT;
    struct insn_operand accumulator = {
        .kind = INSN_OPERAND_REGISTER, .size = (u8)m.size, .reg = GPR_RAX};
    u64 memory = emulation_read(e, &m), flags = emulation_flags(e);
    u64 expected = emulation_register_read(e, &accumulator);
    alu(INSN_CMP, m.size, expected, memory, &flags);
    emulation_write(e, &m, expected == memory ? source(e) : memory);
    if (expected != memory)
        emulation_register_write(e, &accumulator, memory);
    emulation_flags_write(e, flags);
    return ACTION_NEXT;
}

// With a register, the bit string goes as far as the register reaches, in both directions (SDM
// volume 1, "Bit String"): by how many bytes.
static u64 bit_string_offset(const struct insn *i, u64 bit)
{
    if (i->from.kind != INSN_OPERAND_REGISTER)
        return 0;
    s64 signed_bit = bytes_signed(bit, i->from.size);
    s64 bits = i->to.size * 8;
    s64 units = signed_bit >= 0 ? signed_bit / bits : -((bits - 1 - signed_bit) / bits);
    return (u64)(units * i->to.size);
}

static u64 bit_result(unsigned op, u64 value, u64 bit)
{
    switch (op) {
    case INSN_BTS:
        return value | bit;
    case INSN_BTR:
        return value & ~bit;
    default:
        return value ^ bit;
    }
}

static enum exit_action do_bit(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand m;
    u64 number = source(e);
    u64 offset = emulation_offset(e) + bit_string_offset(i, number);
    unsigned access = i->op == INSN_BT ? PAGE_READ : RMW;
    if (!emulation_map(e, i->segment, offset & emulation_address_mask(e), i->to.size, access, 0,
                       &m))
        return ACTION_FAULT;
    u64 value = emulation_read(e, &m), bit = BIT(number & (i->to.size * 8u - 1));
    if (i->op != INSN_BT)
        emulation_write(e, &m, bit_result(i->op, value, bit));
    emulation_flags_write(e, (emulation_flags(e) & ~RFLAGS_CF) | (value & bit ? RFLAGS_CF : 0));
    return ACTION_NEXT;
}

static enum exit_action do_shift(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand m;
    if (!map(e, RMW, &m))
        return ACTION_FAULT;
    bool two = i->op == INSN_SHLD || i->op == INSN_SHRD;
    u64 flags = emulation_flags(e), second = source(e), count = two ? i->immediate : second;
    if (i->count_in_cl)
        count = emulation_gpr(e, GPR_RCX);
    emulation_write(e, &m, alu_shift(i->op, m.size, emulation_read(e, &m), second, count, &flags));
    emulation_flags_write(e, flags);
    return ACTION_NEXT;
}

static u64 bytes_swap(u64 value, unsigned size)
{
    return __builtin_bswap64(value) >> (64 - size * 8);
}

static enum exit_action do_movbe(struct emulation *e)
{
    const struct insn *i = e->insn;
    struct emulation_operand m;
    if (!map(e, stores(i) ? PAGE_WRITE : PAGE_READ, &m))
        return ACTION_FAULT;
    if (stores(i))
        emulation_write(e, &m, bytes_swap(source(e), m.size));
    else
        emulation_register_write(e, &i->to, bytes_swap(emulation_read(e, &m), m.size));
    return ACTION_NEXT;
}

static enum exit_action do_xlat(struct emulation *e)
{
    static const struct insn_operand al = {
        .kind = INSN_OPERAND_REGISTER, .size = 1, .reg = GPR_RAX};
    struct emulation_operand m;
    u64 offset = emulation_gpr(e, GPR_RBX) + emulation_register_read(e, &al);
    if (!emulation_map(e, e->insn->segment, offset & emulation_address_mask(e), 1, PAGE_READ, 0,
                       &m))
        return ACTION_FAULT;
    emulation_register_write(e, &al, emulation_read(e, &m));
    return ACTION_NEXT;
}

static const instruction instructions[INSN_OP_COUNT] = {
    [INSN_MOV] = do_mov,
    [INSN_MOVZX] = do_mov,
    [INSN_MOVSX] = do_mov,
    [INSN_ADD] = do_alu,
    [INSN_OR] = do_alu,
    [INSN_ADC] = do_alu,
    [INSN_SBB] = do_alu,
    [INSN_AND] = do_alu,
    [INSN_SUB] = do_alu,
    [INSN_XOR] = do_alu,
    [INSN_CMP] = do_alu,
    [INSN_TEST] = do_alu,
    [INSN_INC] = do_unary,
    [INSN_DEC] = do_unary,
    [INSN_NOT] = do_unary,
    [INSN_NEG] = do_unary,
    [INSN_XCHG] = do_xchg,
    [INSN_CMPXCHG] = do_cmpxchg,
    [INSN_XADD] = do_xadd,
    [INSN_BT] = do_bit,
    [INSN_BTS] = do_bit,
    [INSN_BTR] = do_bit,
    [INSN_BTC] = do_bit,
    [INSN_MOVS] = emulation_string,
    [INSN_STOS] = emulation_string,
    [INSN_LODS] = emulation_string,
    [INSN_CMPS] = emulation_string,
    [INSN_SCAS] = emulation_string,
    [INSN_XLAT] = do_xlat,
    [INSN_ROL] = do_shift,
    [INSN_ROR] = do_shift,
    [INSN_RCL] = do_shift,
    [INSN_RCR] = do_shift,
    [INSN_SHL] = do_shift,
    [INSN_SHR] = do_shift,
    [INSN_SAR] = do_shift,
    [INSN_SHLD] = do_shift,
    [INSN_SHRD] = do_shift,
    [INSN_MOVBE] = do_movbe,
    [INSN_MUL] = emulation_multiply,
    [INSN_IMUL] = emulation_multiply,
    [INSN_DIV] = emulation_divide,
    [INSN_IDIV] = emulation_divide,
    [INSN_BSF] = emulation_count,
    [INSN_BSR] = emulation_count,
    [INSN_TZCNT] = emulation_count,
    [INSN_LZCNT] = emulation_count,
    [INSN_POPCNT] = emulation_count,
    [INSN_CMOV] = emulation_cmov,
    [INSN_SET] = emulation_set,
    [INSN_CLFLUSH] = emulation_clflush,
    [INSN_PUSH] = emulation_push,
    [INSN_POP] = emulation_pop,
    [INSN_CALL] = emulation_branch,
    [INSN_RET] = emulation_ret,
    [INSN_LEAVE] = emulation_leave,
    [INSN_ENTER] = emulation_enter,
    [INSN_PUSHF] = emulation_pushf,
    [INSN_POPF] = emulation_popf,
    [INSN_PUSHA] = emulation_pusha,
    [INSN_POPA] = emulation_popa,
    [INSN_JMP] = emulation_branch,
    [INSN_CMPXCHG8B] = emulation_cmpxchg8b,
    [INSN_VECTOR] = emulation_vector,
    [INSN_VECTOR_LANE] = emulation_vector_lane,
    [INSN_VECTOR_COPY] = emulation_vector_copy,
    [INSN_VECTOR_MASK] = emulation_vector_mask,
    [INSN_X87] = emulation_x87,
    [INSN_NATIVE] = emulation_native,
    [INSN_MOV_SEGMENT... INSN_IRET] = emulation_system,
};

// What the CPU accesses while it delivers an event: it reads its tables, and writes to the stack.
static unsigned delivery_access(struct vcpu *vcpu, gva_t gva)
{
    static const u8 tables[] = {SEG_IDTR, SEG_GDTR, SEG_LDTR, SEG_TR};
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
        struct segment table;
        vcpu->ops->segment_read(vcpu, tables[i], &table);
        if (gva - table.base <= table.limit)
            return PAGE_READ | GUEST_WALK_SYSTEM;
    }
    return PAGE_WRITE | GUEST_WALK_SYSTEM;
}

// The instruction finds its fault itself, and knows whether it was to read, to write or to be
// fetched.
static enum exit_action fault_of_instruction(struct vcpu *vcpu, struct vm_exit *exit, u32 error)
{
    struct emulation e;
    enum exit_action action;
    if (!emulation_begin(&e, vcpu, exit, &action))
        return action;
    if (instructions[e.insn->op])
        return instructions[e.insn->op](&e);
    emulation_page_fault(exit, exit->memory.gva, error);
    return ACTION_FAULT;
}

// The CPU could not read a guest page table, because it is in no RAM, or not mark it: there,
// everything reads as ones, which is a page fault with a reserved bit set, or #GP where CR3 is
// loaded. If the table has come back meanwhile, or is marked now, the guest may try again. The
// access that is reported is that to the table.
static enum exit_action table_missing(struct vcpu *vcpu, struct vm_exit *exit)
{
    gpa_t gpa;
    u32 error;
    gva_t gva = exit->memory.gva;
    if (!exit->memory.gva_valid) // PDPTEs
        return exit_fault_error(exit, VECTOR_GP, 0);
    if (guest_walk(vcpu, gva, exit->memory.access, &gpa, &error) ||
        guest_walk(vcpu, gva, PAGE_READ, &gpa, &error))
        return ACTION_RETRY;
    if (!vcpu->event.valid)
        return fault_of_instruction(vcpu, exit, error);
    if (guest_walk(vcpu, gva, delivery_access(vcpu, gva), &gpa, &error))
        return ACTION_RETRY;
    emulation_page_fault(exit, gva, error);
    return ACTION_FAULT;
}

// There, all ones are read, which is no instruction. A kernel that got there is stopped instead, so
// that one sees from where.
static COLD enum exit_action jumped_away(struct vcpu *vcpu, struct vm_exit *exit)
{
    struct guest_paging p;
    guest_paging_read(vcpu, &p);
    if (p.user)
        return exit_fault(exit, VECTOR_UD);
    vm_kill(vcpu->vm, "the guest jumped to 0x%llx, where there is no memory (physical 0x%llx)",
            (unsigned long long)exit->rip, (unsigned long long)exit->memory.gpa);
    return ACTION_STOP;
}

enum exit_action emulate_mmio(struct vcpu *vcpu, struct vm_exit *exit)
{
    struct emulation e;
    enum exit_action action;
    if (unlikely(exit->memory.walk))
        return table_missing(vcpu, exit);
    if (unlikely(exit->memory.access & PAGE_EXECUTE))
        return jumped_away(vcpu, exit);
    if (unlikely(!emulation_begin(&e, vcpu, exit, &action)))
        return action;
    instruction run = instructions[e.insn->op];
    return likely(run != NULL) ? run(&e) : emulation_cannot(&e);
}
