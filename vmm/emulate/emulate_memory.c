// SPDX-License-Identifier: MIT
// Operands: registers; and memory, which is segmentation (Intel SDM volume 3, "Protection", and
// volume 1, "Canonical Addressing"), then paging, then RAM or a device. An operand may straddle two
// pages with different things behind.
#include "vmm/emulate/emulation.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/string.h"

#define SEGMENT_TYPE_RW     BIT(1) // data: writable; code: readable
#define SEGMENT_TYPE_EXPAND BIT(2) // data: expand-down
#define SEGMENT_TYPE_CODE   BIT(3)
#define HIGH_BYTE_SHIFT     8
#define OPERAND_MAX         8

u64 emulation_register_read(struct emulation *e, const struct insn_operand *o)
{
    u64 value = emulation_gpr(e, o->reg);
    if (unlikely(o->high))
        value >>= HIGH_BYTE_SHIFT;
    return value & bytes_mask(o->size);
}

// 32-bit results clear the upper half; shorter ones leave the rest as it is.
static void register_merge(struct vcpu *vcpu, unsigned gpr, u64 value, u64 mask)
{
    if (mask < bytes_mask(4))
        value = (vcpu_gpr_read(vcpu, gpr) & ~mask) | (value & mask);
    vcpu_gpr_write(vcpu, gpr, value);
}

void emulation_register_write(struct emulation *e, const struct insn_operand *o, u64 value)
{
    u64 mask = bytes_mask(o->size);
    value &= mask;
    if (unlikely(o->high))
        register_merge(e->vcpu, o->reg, value << HIGH_BYTE_SHIFT, mask << HIGH_BYTE_SHIFT);
    else
        register_merge(e->vcpu, o->reg, value, mask);
}

u16 emulation_selector(struct emulation *e, unsigned segment)
{
    struct segment s;
    e->vcpu->ops->segment_read(e->vcpu, (enum vcpu_segment)segment, &s);
    return s.selector;
}

u64 emulation_address_register(struct emulation *e, unsigned gpr)
{
    return emulation_gpr(e, gpr) & emulation_address_mask(e);
}

void emulation_address_register_write(struct emulation *e, unsigned gpr, u64 value)
{
    u64 mask = emulation_address_mask(e);
    register_merge(e->vcpu, gpr, value & mask, mask);
}

// --- segmentation ---

static bool segment_fault(struct emulation *e, unsigned segment)
{
    exit_fault_error(e->exit, segment == SEG_SS ? VECTOR_SS : VECTOR_GP, 0);
    return false;
}

static bool within_limit(const struct segment *s, u64 offset, unsigned size)
{
    u64 last = offset + size - 1;
    if ((s->access & (SEGMENT_TYPE_CODE | SEGMENT_TYPE_EXPAND)) != SEGMENT_TYPE_EXPAND)
        return last <= s->limit;
    return offset > s->limit && last <= (s->access & SEGMENT_DB ? (u32)~0u : (u16)~0u);
}

// Real mode and virtual-8086 mode do not look at a segment's type.
static bool type_allows(struct emulation *e, const struct segment *s, unsigned access)
{
    struct vcpu *vcpu = e->vcpu;
    if (!(vcpu_reg(vcpu, REG_CR0) & CR0_PE) || (vcpu_reg(vcpu, REG_RFLAGS) & RFLAGS_VM))
        return true;
    if (s->access & SEGMENT_UNUSABLE)
        return false;
    bool code = s->access & SEGMENT_TYPE_CODE, rw = s->access & SEGMENT_TYPE_RW;
    if (access & PAGE_WRITE)
        return !code && rw;
    return !code || rw;
}

// 64-bit mode: bases of FS and GS only, no limits; that the address is canonical is looked at with
// the translation.
static inline bool linear(struct emulation *e, unsigned segment, u64 offset, unsigned size,
                          unsigned access, gva_t *gva)
{
    struct segment s;
    *gva = offset;
    if (likely(e->paging.code64 && segment != SEG_FS && segment != SEG_GS))
        return true;
    e->vcpu->ops->segment_read(e->vcpu, segment, &s);
    *gva += s.base;
    if (e->paging.code64)
        return true;
    *gva = (u32)*gva;
    return (type_allows(e, &s, access) && within_limit(&s, offset, size)) ||
           segment_fault(e, segment);
}

// --- paging ---

bool emulation_page_fault(struct vm_exit *exit, gva_t gva, u32 error)
{
    exit_fault_error(exit, VECTOR_PF, error);
    exit->fault.cr2 = gva;
    exit->fault.has_cr2 = true;
    return false;
}

static bool translate(struct emulation *e, gva_t gva, unsigned access, unsigned memo, gpa_t *gpa)
{
    u32 error;
    if (!guest_paging_walk(&e->paging, gva, access, gpa, &error))
        return emulation_page_fault(e->exit, gva, error);
    e->memos[memo] = (struct emulation_memo){
        .page = gva & ~PAGE_MASK, .gpa = *gpa & ~PAGE_MASK, .access = access};
    return true;
}

// Both pages' faults come before any access, as in the CPU.
static COLD bool map_walk(struct emulation *e, unsigned segment, gva_t gva, unsigned access,
                          unsigned memo, struct emulation_operand *o)
{
    gva_t next = gva + o->first;
    guest_paging_complete(&e->paging);
    if (!e->paging.code64)
        next = (u32)next;
    else if (!guest_canonical(&e->paging, gva) || !guest_canonical(&e->paging, gva + o->size - 1))
        return segment_fault(e, segment);
    return translate(e, gva, access, memo, &o->gpa[0]) &&
           (o->first == o->size || translate(e, next, access, memo, &o->gpa[1]));
}

// "Interrupt 17 - Alignment Check Exception", which is last: the address is good otherwise.
static COLD bool may_be_unaligned(struct emulation *e)
{
    const u64 cr0 = vcpu_reg(e->vcpu, REG_CR0), rflags = vcpu_reg(e->vcpu, REG_RFLAGS);
    guest_paging_complete(&e->paging);
    if (!e->paging.user || !(cr0 & CR0_AM) || !(rflags & RFLAGS_AC))
        return true;
    exit_fault_error(e->exit, VECTOR_AC, 0);
    return false;
}

// Operands of vectors, far pointers and tables are not checked.
static bool is_aligned(gva_t gva, unsigned size)
{
    return size > OPERAND_MAX || (size & (size - 1)) || !(gva & (size - 1));
}

bool emulation_map(struct emulation *e, unsigned segment, u64 offset, unsigned size,
                   unsigned access, unsigned memo, struct emulation_operand *o)
{
    gva_t gva;
    if (unlikely(!linear(e, segment, offset, size, access, &gva)))
        return false;
    if (!(size & (size - 1)) && emulation_map_exit(e, gva, size, access, o))
        return true;
    const struct emulation_memo *m = &e->memos[memo];
    u64 room = PAGE_SIZE - (gva & PAGE_MASK);
    o->size = size;
    o->first = (unsigned)MIN(room, (u64)size);
    if (likely(m->page == (gva & ~PAGE_MASK) && !(access & ~m->access) && room >= size))
        o->gpa[0] = m->gpa | (gva & PAGE_MASK);
    else if (!map_walk(e, segment, gva, access, memo, o))
        return false;
    if (unlikely(!is_aligned(gva, size)) && !may_be_unaligned(e))
        return false;
    o->device_read = o->device_write = false; // not known
    return true;
}

bool emulation_map_memory(struct emulation *e, unsigned access, struct emulation_operand *o)
{
    const struct insn *i = e->insn;
    unsigned size = i->to.kind == INSN_OPERAND_MEMORY ? i->to.size : i->from.size;
    return emulation_map(e, i->segment, emulation_offset(e), size, access, 0, o);
}

// --- RAM or device ---

// Largest power of two that is not above n; n is 1 to 8.
static unsigned device_chunk(unsigned n)
{
    return 1u << bit_highest(n);
}

// One access, so that the guest's other CPUs see an aligned value whole.
static void ram_copy(void *to, const void *from, unsigned size)
{
    switch (size) {
    case 8:
        __builtin_memcpy(to, from, 8);
        break;
    case 4:
        __builtin_memcpy(to, from, 4);
        break;
    case 2:
        __builtin_memcpy(to, from, 2);
        break;
    default:
        memcpy(to, from, size);
    }
}

static void read_piece(struct emulation *e, gpa_t gpa, unsigned size, u8 *to)
{
    u64 length = size;
    const void *hva = guest_ram(e->vcpu, gpa, PAGE_READ, &length);
    if (hva && length >= size) {
        ram_copy(to, hva, size);
        return;
    }
    for (unsigned done = 0, chunk; done < size; done += chunk) {
        u64 value;
        chunk = device_chunk(size - done);
        vm_mmio_read(e->vcpu, gpa + done, chunk, &value);
        memcpy(to + done, &value, chunk);
    }
}

static void write_piece(struct emulation *e, gpa_t gpa, unsigned size, const u8 *from)
{
    u64 length = size;
    void *hva = guest_ram(e->vcpu, gpa, PAGE_WRITE, &length);
    if (hva && length >= size) {
        ram_copy(hva, from, size);
        return;
    }
    for (unsigned done = 0, chunk; done < size; done += chunk) {
        u64 value = 0;
        chunk = device_chunk(size - done);
        memcpy(&value, from + done, chunk);
        vm_mmio_write(e->vcpu, gpa + done, chunk, value);
    }
}

u64 emulation_read_any(struct emulation *e, const struct emulation_operand *o)
{
    u64 value = 0;
    u8 bytes[OPERAND_MAX];
    read_piece(e, o->gpa[0], o->first, bytes);
    if (o->first < o->size)
        read_piece(e, o->gpa[1], o->size - o->first, bytes + o->first);
    memcpy(&value, bytes, o->size);
    return value;
}

void emulation_write_any(struct emulation *e, const struct emulation_operand *o, u64 value)
{
    u8 bytes[OPERAND_MAX];
    memcpy(bytes, &value, o->size);
    write_piece(e, o->gpa[0], o->first, bytes);
    if (o->first < o->size)
        write_piece(e, o->gpa[1], o->size - o->first, bytes + o->first);
}

struct emulation_operand emulation_part(const struct emulation_operand *o, unsigned at,
                                        unsigned size)
{
    struct emulation_operand part = *o;
    part.size = size;
    if (at >= o->first) {
        part.gpa[0] = o->gpa[1] + (at - o->first);
        part.first = size;
    } else {
        part.gpa[0] = o->gpa[0] + at;
        part.first = MIN(size, o->first - at);
    }
    return part;
}
