// SPDX-License-Identifier: MIT
// The slots are in the core's text, which is read-only: only here, with interrupts off, this CPU's
// own is written. What goes in was made by insn_relocate(), which knows the instructions that are
// harmless.
#include "arch/x86_64/native.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/string.h"

#define NATIVE_SLOT_SIZE 16 // as in native_call.asm
#define NATIVE_SLOTS     64
#define OPCODE_RET       0xc3

_Static_assert(CPU_MAX == NATIVE_SLOTS, "native_call.asm has one for each CPU");
_Static_assert(offsetof(struct native, gpr) == 128 && offsetof(struct native, flags) == 256,
               "native_call.asm knows the struct");

extern u8 native_slots[NATIVE_SLOTS][NATIVE_SLOT_SIZE];
extern u8 native_failed[];
unsigned native_call(struct native *n, const void *slot);

// Writing CR0 serializes, so that the new bytes are what is fetched.
unsigned native_run(struct native *n, const u8 *code, unsigned length)
{
    u8 *slot = native_slots[this_cpu()->index];
    u64 cr0 = read_cr0();
    assert(length < NATIVE_SLOT_SIZE);
    write_cr0(cr0 & ~CR0_WP);
    memcpy(slot, code, length);
    slot[length] = OPCODE_RET;
    write_cr0(cr0);
    return native_call(n, slot);
}

bool native_trap(struct trap_frame *frame)
{
    const u32 expected =
        (u32)(BIT(VECTOR_UD) | BIT(VECTOR_NM) | BIT(VECTOR_GP) | BIT(VECTOR_MF) | BIT(VECTOR_XM));
    if (frame->rip - (u64)native_slots >= sizeof(native_slots) ||
        !((expected >> frame->vector) & 1))
        return false;
    frame->rax = frame->vector;
    frame->rip = (u64)native_failed;
    return true;
}
