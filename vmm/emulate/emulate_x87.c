// SPDX-License-Identifier: MIT
// x87 instructions with an operand in memory. The registers are the guest's own in this CPU, so the
// instruction itself is run, on a copy of the operand.
#include "vmm/emulate/emulation.h"
#include "arch/x86_64/regs.h"
#include "arch/x86_64/x87.h"
#include "vmm/lib/string.h"

#define UNTOUCHED 0xa5 // what hardly a store leaves

// These do not look at pending exceptions.
static bool is_no_wait(unsigned number)
{
    return number == X87_FNSTCW || number == X87_FNSTSW;
}

// Control instructions leave the pointers to the last instruction and its operand alone.
static bool is_control(unsigned number)
{
    return is_no_wait(number) || number == X87_FLDCW;
}

// A store that raises an exception which is not masked has stored nothing.
static bool has_stored(unsigned number, const u8 *bytes, unsigned size)
{
    unsigned same = 0;
    if (is_no_wait(number) || !x87_faults())
        return true;
    while (same < size && bytes[same] == UNTOUCHED)
        same++;
    return same < size;
}

bool emulation_fpu_is_on(struct emulation *e, u8 without)
{
    u64 cr0 = vcpu_reg(e->vcpu, REG_CR0);
    if (e->insn->prefixes & INSN_VEX)
        cr0 &= ~(u64)CR0_EM; // emulation is for what there was before AVX
    if (!(cr0 & (CR0_EM | CR0_TS)))
        return true;
    exit_fault(e->exit, cr0 & CR0_EM ? without : VECTOR_NM);
    return false;
}

enum exit_action emulation_x87(struct emulation *e)
{
    const struct insn *i = e->insn;
    bool store = i->to.kind == INSN_OPERAND_MEMORY;
    u8 bytes[X87_OPERAND_MAX];
    struct emulation_operand m;
    if (!emulation_fpu_is_on(e, VECTOR_NM))
        return ACTION_FAULT;
    if (!is_no_wait(i->x87) && x87_faults())
        return exit_fault(e->exit, VECTOR_MF);
    if (!emulation_map_memory(e, store ? PAGE_WRITE : PAGE_READ, &m))
        return ACTION_FAULT;
    memset(bytes, UNTOUCHED, sizeof(bytes));
    if (!store)
        emulation_read_bytes(e, &m, bytes);
    x87_run(i->x87, bytes);
    if (store && has_stored(i->x87, bytes, m.size))
        emulation_write_bytes(e, &m, bytes);
    if (!is_control(i->x87))
        x87_pointers_set(e->exit->rip, emulation_offset(e));
    return ACTION_NEXT;
}
