// SPDX-License-Identifier: MIT
// One instruction by the trap flag, which is set for that one run only and hidden from the guest.
// The monitor trap flag would be simpler, but not every machine has a working one. SDM volume 3,
// "Single-Step Exception Condition".
#include "vmm/debug/debug_step.h"
#include "vmm/emulate/guest_walk.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/regs.h"

#define INSTRUCTION_MAX 15
#define REX_FIRST       0x40
#define REX_LAST        0x4f
#define OPCODE_TWO_BYTE 0x0f
#define TRAP_FLAG_BYTE  1 // of the flags' image
#define R11_TRAP_FLAG   RFLAGS_TF

struct special {
    u8 opcode;
    u8 kind; // enum step_kind
};

static const struct special one_byte[] = {
    {0x9c, STEP_STORES_FLAGS}, // PUSHF
    {0x9d, STEP_LOADS_FLAGS},  // POPF
    {0xcd, STEP_INTERRUPT},    // INT n
    {0xcf, STEP_LOADS_FLAGS},  // IRET
};
static const struct special two_bytes[] = {
    {0x05, STEP_SYSCALL}, {0x07, STEP_LOADS_FLAGS}, // SYSRET
};

static enum step_kind kind_of(const struct special *table, unsigned count, u8 opcode)
{
    for (unsigned i = 0; i < count; i++)
        if (table[i].opcode == opcode)
            return (enum step_kind)table[i].kind;
    return STEP_PLAIN;
}

static bool is_prefix(u8 byte, bool code64)
{
    static const u8 prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3};
    for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (prefixes[i] == byte)
            return true;
    return code64 && byte >= REX_FIRST && byte <= REX_LAST;
}

void step_look(struct vcpu *vcpu, struct step *step)
{
    u8 bytes[INSTRUCTION_MAX + 1] = {0};
    struct guest_paging mode;
    unsigned at = 0;
    guest_paging_begin(vcpu, &mode);
    debug_read(vcpu, debug_linear_rip(vcpu), bytes, INSTRUCTION_MAX);
    while (at < INSTRUCTION_MAX - 1 && is_prefix(bytes[at], mode.code64))
        at++;
    if (bytes[at] == OPCODE_TWO_BYTE)
        step->kind = kind_of(two_bytes, ARRAY_SIZE(two_bytes), bytes[at + 1]);
    else
        step->kind = kind_of(one_byte, ARRAY_SIZE(one_byte), bytes[at]);
    step->vector = bytes[at + 1];
    step->length = (u8)(at + 2);
}

// An interrupt shadow would hold the trap back; interrupts wait while the guest steps anyway.
void step_arm(struct vcpu *vcpu, struct step *step)
{
    const struct cpu_ops *real = debug.real;
    u64 rflags = real->reg_read(vcpu, REG_RFLAGS);
    u64 shadow = real->reg_read(vcpu, REG_INTERRUPTIBILITY);
    step->trap_flag = rflags & RFLAGS_TF;
    real->reg_write(vcpu, REG_INTERRUPTIBILITY, shadow & BLOCKED_NMI);
    real->reg_write(vcpu, REG_RFLAGS, rflags | RFLAGS_TF);
    if (step->kind != STEP_SYSCALL)
        return;
    step->mask = real->reg_read(vcpu, REG_FMASK);
    real->reg_write(vcpu, REG_FMASK, step->mask & ~RFLAGS_TF);
}

static gva_t stack_top(struct vcpu *vcpu)
{
    struct guest_paging mode;
    struct segment ss;
    u64 rsp = vcpu_reg(vcpu, REG_RSP);
    guest_paging_begin(vcpu, &mode);
    if (mode.code64)
        return rsp;
    vcpu->ops->segment_read(vcpu, SEG_SS, &ss);
    return (u32)(ss.base + (ss.access & SEGMENT_DB ? (u32)rsp : (u16)rsp));
}

static void hide_in_pushed(struct vcpu *vcpu)
{
    gva_t gva = stack_top(vcpu) + TRAP_FLAG_BYTE;
    u8 byte;
    if (debug_read(vcpu, gva, &byte, sizeof(byte)) != sizeof(byte))
        return;
    byte &= (u8) ~(RFLAGS_TF >> 8);
    (void)debug_write(vcpu, gva, &byte, sizeof(byte));
}

void step_disarm(struct vcpu *vcpu, const struct step *step, bool done)
{
    const struct cpu_ops *real = debug.real;
    u64 rflags = real->reg_read(vcpu, REG_RFLAGS);
    if (step->kind == STEP_SYSCALL)
        real->reg_write(vcpu, REG_FMASK, step->mask);
    if (done && step->kind == STEP_SYSCALL)
        rflags &= ~(step->mask & RFLAGS_TF);
    bool loaded = done && step->kind == STEP_LOADS_FLAGS;
    if (!loaded && !step->trap_flag)
        rflags &= ~RFLAGS_TF;
    real->reg_write(vcpu, REG_RFLAGS, rflags);
    if (!done)
        real->drop_step_trap(vcpu);
    if (!done || step->trap_flag)
        return;
    if (step->kind == STEP_STORES_FLAGS)
        hide_in_pushed(vcpu);
    else if (step->kind == STEP_SYSCALL)
        vcpu->gpr[GPR_R11] &= ~R11_TRAP_FLAG;
}
