// SPDX-License-Identifier: MIT
// Private to vmm/emulate*.c and vmm/task*.c: one instruction on its way, and its operands. A
// function that returns false has put the fault into emulation->exit.
#pragma once

#include "arch/x86_64/insn.h"
#include "vmm/emulate.h"
#include "vmm/guest_walk.h"
#include "vmm/vm_io.h"

#define EMULATION_MEMOS   2
#define EMULATION_NOWHERE BIT(62) // no address that the CPU translates

// A translation that this instruction has used already. As in a TLB, it may be used again.
struct emulation_memo {
    gva_t page; // or EMULATION_NOWHERE
    gpa_t gpa;
    unsigned access;
};

struct emulation {
    struct vcpu *vcpu;
    struct vm_exit *exit;
    const struct insn *insn;
    gva_t reported; // the linear address of exit->memory, or EMULATION_NOWHERE
    struct guest_paging paging;
    struct emulation_memo memos[EMULATION_MEMOS];
    struct insn decoded; // where insn points if there is no memory for a cache
};

// A memory operand that has been translated and may be accessed.
struct emulation_operand {
    gpa_t gpa[2];
    unsigned size;
    unsigned first;                 // bytes on the first page; the rest is at gpa[1]
    bool device_read, device_write; // known to be no RAM for that
};

// Fetch and decode the instruction at CS:RIP; sets exit->length. False: *action says what comes of
// it instead.
MUST_CHECK bool emulation_begin(struct emulation *e, struct vcpu *vcpu, struct vm_exit *exit,
                                enum exit_action *action);

// vcpu_gpr_read without a call.
static inline u64 emulation_gpr(struct emulation *e, unsigned gpr)
{
    return likely(gpr != GPR_RSP) ? e->vcpu->gpr[gpr] : vcpu_reg(e->vcpu, REG_RSP);
}

static inline u64 emulation_address_mask(const struct emulation *e)
{
    return bytes_mask(e->insn->address_size);
}

u64 emulation_register_read(struct emulation *e, const struct insn_operand *o);
void emulation_register_write(struct emulation *e, const struct insn_operand *o, u64 value);
// A register of the address size: the count and the pointers of string instructions.
u64 emulation_address_register(struct emulation *e, unsigned gpr);
void emulation_address_register_write(struct emulation *e, unsigned gpr, u64 value);

// The address that the instruction's memory operand names, within its segment.
static inline u64 emulation_offset(struct emulation *e)
{
    const struct insn *i = e->insn;
    u64 offset = (u64)i->displacement;
    if (likely(i->base < INSN_REG_NONE))
        offset += emulation_gpr(e, i->base);
    else if (i->base == INSN_REG_RIP)
        offset += e->exit->rip + i->length;
    if (i->index < INSN_REG_NONE)
        offset += emulation_gpr(e, i->index) * i->scale;
    return offset & emulation_address_mask(e);
}
// Put a #PF into the exit; always false.
bool emulation_page_fault(struct vm_exit *exit, gva_t gva, u32 error);
// Segment checks, translation, permission. memo: which of e->memos to use.
MUST_CHECK bool emulation_map(struct emulation *e, unsigned segment, u64 offset, unsigned size,
                              unsigned access, unsigned memo, struct emulation_operand *operand);
// The operand within its page, if it is where the hardware reported the access that made this exit:
// the hardware has translated and checked it.
static inline bool emulation_map_exit(struct emulation *e, gva_t gva, unsigned size,
                                      unsigned access, struct emulation_operand *operand)
{
    const struct vm_exit *exit = e->exit;
    if (((gva ^ e->reported) & ~PAGE_MASK) || (access & ~exit->memory.access) ||
        (gva & PAGE_MASK) + size > PAGE_SIZE)
        return false;
    operand->gpa[0] = (exit->memory.gpa & ~PAGE_MASK) | (gva & PAGE_MASK);
    operand->size = operand->first = size;
    operand->device_write = true;
    operand->device_read = !(exit->memory.access & PAGE_WRITE); // else it may be ROM
    return true;
}

u64 emulation_read_any(struct emulation *e, const struct emulation_operand *operand);
void emulation_write_any(struct emulation *e, const struct emulation_operand *operand, u64 value);

static inline u64 emulation_read(struct emulation *e, const struct emulation_operand *operand)
{
    u64 value;
    if (unlikely(!operand->device_read))
        return emulation_read_any(e, operand);
    vm_mmio_read(e->vcpu, operand->gpa[0], operand->size, &value);
    return value & bytes_mask(operand->size);
}

static inline void emulation_write(struct emulation *e, const struct emulation_operand *operand,
                                   u64 value)
{
    if (unlikely(!operand->device_write))
        emulation_write_any(e, operand, value);
    else
        vm_mmio_write(e->vcpu, operand->gpa[0], operand->size, value & bytes_mask(operand->size));
}

// The guest does what Plinth does not: it is stopped, and the reason says which instruction it was.
enum exit_action emulation_cannot(struct emulation *e);

// Part of an operand, `size` bytes at `at`, none of them beyond its end: for those that are too
// long for the two above.
struct emulation_operand emulation_part(const struct emulation_operand *operand, unsigned at,
                                        unsigned size);

// vmm/emulate_stack.c
enum exit_action emulation_push(struct emulation *e);
enum exit_action emulation_pop(struct emulation *e);
enum exit_action emulation_branch(struct emulation *e); // near CALL and JMP
// vmm/emulate_wide.c
enum exit_action emulation_cmpxchg8b(struct emulation *e);
enum exit_action emulation_vector(struct emulation *e);
// vmm/emulate_string.c
enum exit_action emulation_string(struct emulation *e);
