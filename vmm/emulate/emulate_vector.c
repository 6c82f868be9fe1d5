// SPDX-License-Identifier: MIT
// Moves between memory and vector registers, which are the guest's own in this CPU: of the low
// bytes, of one part, to all parts, and of those that a mask has.
#include "vmm/emulate/emulation.h"
#include "arch/x86_64/regs.h"
#include "arch/x86_64/vector.h"
#include "arch/x86_64/x87.h"
#include "vmm/lib/string.h"

#define PARTS_MAX      8 // of 4 bytes
#define PART_SIGN_BITS 8 // a byte's

static enum vector_form vector_form_of(const struct insn *i, const struct insn_operand *reg)
{
    if (reg->kind == INSN_OPERAND_MMX)
        return VECTOR_MMX;
    if (!(i->prefixes & INSN_VEX))
        return VECTOR_SSE;
    return reg->size == VECTOR_BYTES_MAX ? VECTOR_VEX_256 : VECTOR_VEX_128;
}

// The CPU saw to it, but the code may have changed since: here it would be our own fault.
static bool usable(struct emulation *e, enum vector_form form)
{
    bool avx = form == VECTOR_VEX_128 || form == VECTOR_VEX_256;
    if (avx && !(e->vcpu->xcr0 & XCR0_AVX))
        exit_fault(e->exit, VECTOR_UD);
    else if (!emulation_fpu_is_on(e, VECTOR_UD))
        return false;
    else if (form == VECTOR_MMX && x87_faults())
        exit_fault(e->exit, VECTOR_MF);
    else
        return true;
    return false;
}

// A load shorter than the register clears the rest of its low 16 bytes.
enum exit_action emulation_vector(struct emulation *e)
{
    const struct insn *i = e->insn;
    bool store = i->to.kind == INSN_OPERAND_MEMORY;
    const struct insn_operand *reg = store ? &i->from : &i->to;
    enum vector_form form = vector_form_of(i, reg);
    u8 bytes[VECTOR_BYTES_MAX] = {0};
    struct emulation_operand m;
    if (!usable(e, form) || !emulation_map_memory(e, store ? PAGE_WRITE : PAGE_READ, &m))
        return ACTION_FAULT;
    if (store) {
        vector_read(reg->reg, bytes, form);
        emulation_write_bytes(e, &m, bytes);
    } else {
        emulation_read_bytes(e, &m, bytes);
        vector_write(reg->reg, bytes, form);
    }
    return ACTION_NEXT;
}

// How the one of `to` and `from` that is a register is moved.
static enum vector_form form_named(const struct insn *i)
{
    return vector_form_of(i, i->to.kind == INSN_OPERAND_VECTOR ? &i->to : &i->from);
}

// A load takes the other parts from its second register.
enum exit_action emulation_vector_lane(struct emulation *e)
{
    const struct insn *i = e->insn;
    bool store = i->to.kind == INSN_OPERAND_MEMORY;
    enum vector_form form = form_named(i);
    u8 bytes[VECTOR_BYTES_MAX];
    struct emulation_operand m;
    if (!usable(e, form) || !emulation_map_memory(e, store ? PAGE_WRITE : PAGE_READ, &m))
        return ACTION_FAULT;
    unsigned width = store ? i->from.size : i->to.size;
    unsigned at = (unsigned)i->immediate % (width / m.size) * m.size;
    vector_read(store ? i->from.reg : i->second, bytes, form);
    if (store) {
        emulation_write_bytes(e, &m, bytes + at);
    } else {
        emulation_read_bytes(e, &m, bytes + at);
        vector_write(i->to.reg, bytes, form);
    }
    return ACTION_NEXT;
}

enum exit_action emulation_vector_copy(struct emulation *e)
{
    const struct insn *i = e->insn;
    enum vector_form form = form_named(i);
    u8 bytes[VECTOR_BYTES_MAX];
    struct emulation_operand m;
    if (!usable(e, form) || !emulation_map_memory(e, PAGE_READ, &m))
        return ACTION_FAULT;
    emulation_read_bytes(e, &m, bytes);
    for (unsigned at = m.size; at < i->to.size; at += m.size)
        memcpy(bytes + at, bytes, m.size);
    vector_write(i->to.reg, bytes, form);
    return ACTION_NEXT;
}

// Parts without the mask's top bit are not looked at, and cannot fault.
static bool map_parts(struct emulation *e, const u8 *mask, unsigned access,
                      struct emulation_operand *parts)
{
    const struct insn *i = e->insn;
    unsigned size = i->operand_size, width = access == PAGE_WRITE ? i->to.size : i->from.size;
    for (unsigned n = 0; n < width / size; n++) {
        u64 offset = (emulation_offset(e) + n * size) & emulation_address_mask(e);
        parts[n].size = 0;
        if (mask[n * size + size - 1] >> (PART_SIGN_BITS - 1) &&
            !emulation_map(e, i->segment, offset, size, access, 0, &parts[n]))
            return false;
    }
    return true;
}

enum exit_action emulation_vector_mask(struct emulation *e)
{
    const struct insn *i = e->insn;
    bool store = i->to.kind == INSN_OPERAND_MEMORY;
    enum vector_form form = form_named(i);
    u8 mask[VECTOR_BYTES_MAX], bytes[VECTOR_BYTES_MAX] = {0};
    struct emulation_operand parts[PARTS_MAX] = {0};
    if (!usable(e, form))
        return ACTION_FAULT;
    vector_read(i->second, mask, form);
    if (!map_parts(e, mask, store ? PAGE_WRITE : PAGE_READ, parts))
        return ACTION_FAULT;
    if (store)
        vector_read(i->from.reg, bytes, form);
    for (unsigned n = 0; n < PARTS_MAX; n++) {
        if (parts[n].size && store)
            emulation_write_bytes(e, &parts[n], bytes + n * i->operand_size);
        else if (parts[n].size)
            emulation_read_bytes(e, &parts[n], bytes + n * i->operand_size);
    }
    if (!store)
        vector_write(i->to.reg, bytes, form);
    return ACTION_NEXT;
}
