// SPDX-License-Identifier: MIT
// Operands of more than 8 bytes, and those of CMPXCHG8B and CMPXCHG16B. They reach a device as
// accesses of 8 bytes, lowest first.
#include "vmm/emulate/emulation.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/string.h"

void emulation_read_bytes(struct emulation *e, const struct emulation_operand *m, void *to)
{
    for (unsigned at = 0, size; at < m->size; at += size) {
        size = MIN(m->size - at, (unsigned)sizeof(u64));
        struct emulation_operand part = emulation_part(m, at, size);
        u64 value = emulation_read(e, &part);
        memcpy((u8 *)to + at, &value, size);
    }
}

void emulation_write_bytes(struct emulation *e, const struct emulation_operand *m, const void *from)
{
    for (unsigned at = 0, size; at < m->size; at += size) {
        u64 value = 0;
        size = MIN(m->size - at, (unsigned)sizeof(u64));
        struct emulation_operand part = emulation_part(m, at, size);
        memcpy(&value, (const u8 *)from + at, size);
        emulation_write(e, &part, value);
    }
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

static bool is_pair_aligned(const struct emulation_operand *m)
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
    if (!emulation_map_memory(e, PAGE_READ | PAGE_WRITE, &m))
        return ACTION_FAULT;
    if (!is_pair_aligned(&m))
        return exit_fault_error(e->exit, VECTOR_GP, 0);
    emulation_read_bytes(e, &m, memory);
    pair_read(e, GPR_RAX, GPR_RDX, half, expected);
    if (memcmp(memory, expected, size) == 0) {
        pair_read(e, GPR_RBX, GPR_RCX, half, expected);
        emulation_write_bytes(e, &m, expected);
        flags |= RFLAGS_ZF;
    } else {
        emulation_write_bytes(e, &m, memory);
        half_write(e, GPR_RAX, half, memory);
        half_write(e, GPR_RDX, half, memory + half);
    }
    e->vcpu->ops->reg_write(e->vcpu, REG_RFLAGS, flags);
    return ACTION_NEXT;
}
