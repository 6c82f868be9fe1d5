// SPDX-License-Identifier: MIT
// Private to vmm/emulate*.c: one instruction on its way, and its operands. A function that returns
// false has put the fault into emulation->exit.
#pragma once

#include "arch/x86_64/insn.h"
#include "vmm/emulate.h"
#include "vmm/guest_walk.h"

#define EMULATION_MEMOS 2

// A translation that this instruction has used already. As in a TLB, it may be used again.
struct emulation_memo {
    gva_t page; // bit 0 is set while there is none
    gpa_t gpa;
    unsigned access;
};

struct emulation {
    struct vcpu *vcpu;
    struct vm_exit *exit;
    const struct insn *insn;
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

u64 emulation_register_read(struct emulation *e, const struct insn_operand *o);
void emulation_register_write(struct emulation *e, const struct insn_operand *o, u64 value);
// A register of the address size: the count and the pointers of string instructions.
u64 emulation_address_register(struct emulation *e, unsigned gpr);
void emulation_address_register_write(struct emulation *e, unsigned gpr, u64 value);
u64 emulation_address_mask(const struct emulation *e);

// The address that the instruction's memory operand names, within its segment.
u64 emulation_offset(struct emulation *e);
// Put a #PF into the exit; always false.
bool emulation_page_fault(struct vm_exit *exit, gva_t gva, u32 error);
// Segment checks, translation, permission. memo: which of e->memos to use.
MUST_CHECK bool emulation_map(struct emulation *e, unsigned segment, u64 offset, unsigned size,
                              unsigned access, unsigned memo, struct emulation_operand *operand);
u64 emulation_read(struct emulation *e, const struct emulation_operand *operand);
void emulation_write(struct emulation *e, const struct emulation_operand *operand, u64 value);

// The guest does what Plinth does not: it is stopped, and the reason says which instruction it was.
enum exit_action emulation_cannot(struct emulation *e);

// vmm/emulate_string.c
enum exit_action emulation_string(struct emulation *e);
