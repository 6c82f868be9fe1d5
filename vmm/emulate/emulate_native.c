// SPDX-License-Identifier: MIT
// Instructions that compute with registers which are the guest's own in this CPU: run as they are,
// on a copy of the operand that is aligned as the operand is. Exceptions, rounding and flags are
// the CPU's then, by the guest's MXCSR and XCR0.
#include "vmm/emulate/emulation.h"
#include "arch/x86_64/native.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/string.h"

#define FLAGS_ARITHMETIC (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

// The guest's own switch for numeric exceptions; the host's is on.
static enum exit_action native_fault(struct emulation *e, unsigned vector)
{
    if (vector == VECTOR_GP)
        return exit_fault_error(e->exit, VECTOR_GP, 0);
    if (vector == VECTOR_XM && !(vcpu_reg(e->vcpu, REG_CR4) & CR4_OSXMMEXCPT))
        vector = VECTOR_UD;
    return exit_fault(e->exit, (u8)vector);
}

static void native_load(struct emulation *e, struct native *n)
{
    memcpy(n->gpr, e->vcpu->gpr, sizeof(n->gpr));
    n->flags = (emulation_flags(e) & FLAGS_ARITHMETIC) | RFLAGS_RESERVED;
}

static void native_store(struct emulation *e, const struct native *n)
{
    u64 flags = emulation_flags(e) & ~(u64)FLAGS_ARITHMETIC;
    for (unsigned i = 0; i < ARRAY_SIZE(n->gpr); i++)
        if (i != GPR_RSP)
            e->vcpu->gpr[i] = n->gpr[i];
    emulation_flags_write(e, flags | (n->flags & FLAGS_ARITHMETIC));
}

enum exit_action emulation_native(struct emulation *e)
{
    const struct insn *i = e->insn;
    u8 bytes[INSN_LENGTH_MAX], code[INSN_LENGTH_MAX];
    struct native n = {.flags = 0};
    struct emulation_operand m;
    bool loads = i->from.kind == INSN_OPERAND_MEMORY, stores = i->to.kind == INSN_OPERAND_MEMORY;
    if (!i->integer && !emulation_fpu_is_on(e, VECTOR_UD))
        return ACTION_FAULT;
    if (!emulation_map_memory(e, (loads ? PAGE_READ : 0u) | (stores ? PAGE_WRITE : 0u), &m))
        return ACTION_FAULT;
    unsigned at = (unsigned)m.gpa[0] % NATIVE_OPERAND_ALIGNED;
    unsigned length = emulation_code(e, bytes) ? insn_relocate(bytes, i->length, i->mode_bits,
                                                               NATIVE_OPERAND_AT + at, code)
                                               : 0;
    if (!length)
        return emulation_cannot(e);
    native_load(e, &n);
    if (loads)
        emulation_read_bytes(e, &m, n.operand + at);
    unsigned vector = native_run(&n, code, length);
    if (vector)
        return native_fault(e, vector);
    native_store(e, &n);
    if (stores)
        emulation_write_bytes(e, &m, n.operand + at);
    return ACTION_NEXT;
}
