// SPDX-License-Identifier: MIT
// Operands of more than 8 bytes: CMPXCHG8B and CMPXCHG16B, and moves to and from vector registers,
// which are the guest's own in this CPU. They reach a device as accesses of 8 bytes, lowest first.
#include "vmm/emulation.h"
#include "arch/x86_64/regs.h"
#include "arch/x86_64/vector.h"
#include "vmm/lib/string.h"

static void read_bytes(struct emulation *e, const struct emulation_operand *m, u8 *to)
{
    for (unsigned at = 0, size; at < m->size; at += size) {
        size = MIN(m->size - at, (unsigned)sizeof(u64));
        struct emulation_operand part = emulation_part(m, at, size);
        u64 value = emulation_read(e, &part);
        memcpy(to + at, &value, size);
    }
}

static void write_bytes(struct emulation *e, const struct emulation_operand *m, const u8 *from)
{
    for (unsigned at = 0, size; at < m->size; at += size) {
        u64 value = 0;
        size = MIN(m->size - at, (unsigned)sizeof(u64));
        struct emulation_operand part = emulation_part(m, at, size);
        memcpy(&value, from + at, size);
        emulation_write(e, &part, value);
    }
}

static bool map_whole(struct emulation *e, unsigned size, unsigned access,
                      struct emulation_operand *m)
{
    return emulation_map(e, e->insn->segment, emulation_offset(e), size, access, 0, m);
}

// --- CMPXCHG8B, CMPXCHG16B ---

// Two registers, each half of the operand's size.
static void pair_read(struct emulation *e, unsigned low, unsigned high, unsigned half, u8 *to)
{
    memcpy(to, &e->vcpu->gpr[low], half);
    memcpy(to + half, &e->vcpu->gpr[high], half);
}

static void half_write(struct emulation *e, unsigned gpr, unsigned half, const u8 *from)
{
    u64 value = 0;
    memcpy(&value, from, half);
    e->vcpu->gpr[gpr] = value;
}

static bool is_aligned(const struct emulation_operand *m)
{
    return m->size <= sizeof(u64) || !(m->gpa[0] & (m->size - 1));
}

// The destination gets a write either way (SDM volume 2).
enum exit_action emulation_cmpxchg8b(struct emulation *e)
{
    u8 memory[2 * sizeof(u64)], expected[2 * sizeof(u64)];
    unsigned size = e->insn->to.size, half = size / 2;
    struct emulation_operand m;
    u64 flags = vcpu_reg(e->vcpu, REG_RFLAGS) & ~RFLAGS_ZF;
    if (!map_whole(e, size, PAGE_READ | PAGE_WRITE, &m))
        return ACTION_FAULT;
    if (!is_aligned(&m))
        return exit_fault_error(e->exit, VECTOR_GP, 0);
    read_bytes(e, &m, memory);
    pair_read(e, GPR_RAX, GPR_RDX, half, expected);
    if (memcmp(memory, expected, size) == 0) {
        pair_read(e, GPR_RBX, GPR_RCX, half, expected);
        write_bytes(e, &m, expected);
        flags |= RFLAGS_ZF;
    } else {
        write_bytes(e, &m, memory);
        half_write(e, GPR_RAX, half, memory);
        half_write(e, GPR_RDX, half, memory + half);
    }
    e->vcpu->ops->reg_write(e->vcpu, REG_RFLAGS, flags);
    return ACTION_NEXT;
}

// --- vectors ---

static enum vector_form form_of(const struct insn *i, const struct insn_operand *reg)
{
    if (!(i->prefixes & INSN_VEX))
        return VECTOR_SSE;
    return reg->size == VECTOR_BYTES_MAX ? VECTOR_VEX_256 : VECTOR_VEX_128;
}

// A load shorter than the register clears the rest of its low 16 bytes.
enum exit_action emulation_vector(struct emulation *e)
{
    const struct insn *i = e->insn;
    bool store = i->to.kind == INSN_OPERAND_MEMORY;
    const struct insn_operand *reg = store ? &i->from : &i->to;
    enum vector_form form = form_of(i, reg);
    u8 bytes[VECTOR_BYTES_MAX] = {0};
    struct emulation_operand m;
    // The CPU saw to it, but the code may have changed since: here it would be our own #UD.
    if (form != VECTOR_SSE && !(e->vcpu->xcr0 & XCR0_AVX))
        return exit_fault(e->exit, VECTOR_UD);
    if (!map_whole(e, store ? i->to.size : i->from.size, store ? PAGE_WRITE : PAGE_READ, &m))
        return ACTION_FAULT;
    if (store) {
        vector_read(reg->reg, bytes, form);
        write_bytes(e, &m, bytes);
    } else {
        read_bytes(e, &m, bytes);
        vector_write(reg->reg, bytes, form);
    }
    return ACTION_NEXT;
}
