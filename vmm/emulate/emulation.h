// SPDX-License-Identifier: MIT
// Private to vmm/emulate/emulate*.c and vmm/emulate/task*.c: one instruction on its way, and its
// operands. A function that returns false has put the fault into emulation->exit.
#pragma once

#include "arch/x86_64/insn.h"
#include "vmm/emulate/emulate.h"
#include "vmm/emulate/guest_walk.h"
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

static inline u64 emulation_flags(struct emulation *e)
{
    return vcpu_reg(e->vcpu, REG_RFLAGS);
}

static inline void emulation_flags_write(struct emulation *e, u64 flags)
{
    e->vcpu->ops->reg_write(e->vcpu, REG_RFLAGS, flags);
}

static inline u64 emulation_address_mask(const struct emulation *e)
{
    return bytes_mask(e->insn->address_size);
}

u64 emulation_register_read(struct emulation *e, const struct insn_operand *o);
void emulation_register_write(struct emulation *e, const struct insn_operand *o, u64 value);
u16 emulation_selector(struct emulation *e, unsigned segment);
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
// The instruction's operand in memory.
MUST_CHECK bool emulation_map_memory(struct emulation *e, unsigned access,
                                     struct emulation_operand *operand);
// The operand, if it is where the hardware reported the access that made this exit: the hardware
// has translated and checked it. size: a power of two; whatever is not aligned takes the longer
// way, be it for the next page or for #AC.
static inline bool emulation_map_exit(struct emulation *e, gva_t gva, unsigned size,
                                      unsigned access, struct emulation_operand *operand)
{
    const struct vm_exit *exit = e->exit;
    if (((gva ^ e->reported) & ~PAGE_MASK) || (access & ~exit->memory.access) || (gva & (size - 1)))
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

// The instruction's bytes, once more; false: they are no longer there.
MUST_CHECK bool emulation_code(struct emulation *e, u8 *bytes);
// The guest does what Plinth does not: it is stopped, and the reason says which instruction it was.
enum exit_action emulation_cannot(struct emulation *e);

// Part of an operand, `size` bytes at `at`, none of them beyond its end: for those that are too
// long for the two above.
struct emulation_operand emulation_part(const struct emulation_operand *operand, unsigned at,
                                        unsigned size);

// An operand of any size, as accesses of 8 bytes and a rest, lowest first
// (vmm/emulate/emulate_wide.c).
void emulation_read_bytes(struct emulation *e, const struct emulation_operand *operand, void *to);
void emulation_write_bytes(struct emulation *e, const struct emulation_operand *operand,
                           const void *from);

// vmm/emulate/emulate_arithmetic.c
enum exit_action emulation_multiply(struct emulation *e);
enum exit_action emulation_divide(struct emulation *e);
enum exit_action emulation_count(struct emulation *e);
enum exit_action emulation_cmov(struct emulation *e);
enum exit_action emulation_set(struct emulation *e);
enum exit_action emulation_clflush(struct emulation *e);
// vmm/emulate/emulate_stack.c
// `size` bytes on top of what is there; *top is what RSP will be, in the bits of *mask.
MUST_CHECK bool emulation_map_top(struct emulation *e, unsigned size, u64 *top, u64 *mask,
                                  struct emulation_operand *operand);
// `size` bytes that are there.
MUST_CHECK bool emulation_map_stacked(struct emulation *e, unsigned size, u64 *top, u64 *mask,
                                      struct emulation_operand *operand);
void emulation_stack_set(struct emulation *e, u64 mask, u64 top);
enum exit_action emulation_push(struct emulation *e);
enum exit_action emulation_pop(struct emulation *e);
enum exit_action emulation_branch(struct emulation *e); // near CALL and JMP
enum exit_action emulation_ret(struct emulation *e);
enum exit_action emulation_leave(struct emulation *e);
enum exit_action emulation_enter(struct emulation *e);
enum exit_action emulation_pushf(struct emulation *e);
enum exit_action emulation_popf(struct emulation *e);
enum exit_action emulation_pusha(struct emulation *e);
enum exit_action emulation_popa(struct emulation *e);
// The flags that POPF and IRET of this operand size take over, at this privilege level.
u64 emulation_flags_loadable(struct emulation *e);
// vmm/emulate/emulate_x87.c
// The CPU has seen to CR0.EM and CR0.TS, but perhaps for another instruction: the code may have
// changed since, and the registers be those of another of the guest's tasks. Else there is a fault,
// with EM `without` (EM says nothing about AVX).
MUST_CHECK bool emulation_fpu_is_on(struct emulation *e, u8 without);
enum exit_action emulation_x87(struct emulation *e);
// vmm/emulate/emulate_native.c
enum exit_action emulation_native(struct emulation *e);
// vmm/emulate/emulate_wide.c
enum exit_action emulation_cmpxchg8b(struct emulation *e);
// vmm/emulate/emulate_vector.c
enum exit_action emulation_vector(struct emulation *e);
enum exit_action emulation_vector_lane(struct emulation *e);
enum exit_action emulation_vector_copy(struct emulation *e);
enum exit_action emulation_vector_mask(struct emulation *e);
// vmm/emulate/emulate_system.c: segment registers, descriptor tables, machine status word; and far
// branches.
enum exit_action emulation_system(struct emulation *e);
// vmm/emulate/emulate_string.c
enum exit_action emulation_string(struct emulation *e);
