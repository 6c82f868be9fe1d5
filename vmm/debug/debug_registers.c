// SPDX-License-Identifier: MIT
// Debug registers of a guest that is being debugged: the guest's own values are kept here, and its
// accesses exit; the CPU has them merged with the debugger's breakpoints. A slot that the debugger
// has taken does not work for the guest; it takes those that the guest does not use, the last
// first. SDM volume 3, "Debug Registers".
#include "vmm/debug/debug.h"
#include "vmm/emulate/guest_walk.h"
#include "vmm/vcpu.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/regs.h"

#define DR7_GLOBAL_BIT      1
#define DR7_ENABLE_WIDTH    2
#define DR7_CONDITION_SHIFT 16
#define DR7_CONDITION_WIDTH 4
#define DR7_LENGTH_SHIFT    2 // within a slot's condition
#define DR7_WRITABLE        0xffff23ffull
#define DR6_WRITABLE        (DR6_B_MASK | DR6_BD | DR6_BS | DR6_BT)

#define DR4_ALIAS 4 // of DR6, DR5 of DR7, as CR4.DE is clear
#define DR6_INDEX 6
#define DR7_INDEX 7

static u64 enable_mask(unsigned slot)
{
    return 3ull << (slot * DR7_ENABLE_WIDTH);
}

static u64 slot_mask(unsigned slot)
{
    return enable_mask(slot) | 0xfull << (DR7_CONDITION_SHIFT + slot * DR7_CONDITION_WIDTH);
}

// RW and LEN of a slot's condition.
static u64 condition(const struct debug_slot *slot)
{
    static const u8 access[] = {
        [DEBUG_EXECUTE] = 0, [DEBUG_WRITE] = 1, [DEBUG_READ] = 3, [DEBUG_ACCESS] = 3};
    static const u8 lengths[] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
    return access[slot->kind] | (u64)lengths[slot->size] << DR7_LENGTH_SHIFT;
}

static u64 slot_bits(unsigned slot)
{
    return BIT(slot * DR7_ENABLE_WIDTH + DR7_GLOBAL_BIT) |
           condition(&debug.slots[slot]) << (DR7_CONDITION_SHIFT + slot * DR7_CONDITION_WIDTH);
}

static u64 merged_dr7(const struct debug_vcpu *d)
{
    u64 dr7 = d->dr7 & ~DR7_GD;
    for (unsigned i = 0; i < DEBUG_SLOTS; i++)
        if (debug.slots[i].kind)
            dr7 = (dr7 & ~slot_mask(i)) | slot_bits(i);
    return dr7;
}

// --- to and from the vCPU, which is in no CPU ---

void debug_registers_take(struct vcpu *vcpu)
{
    struct debug_vcpu *d = debug_of(vcpu);
    memcpy(d->dr, vcpu->dr, sizeof(d->dr));
    d->dr6 = vcpu->dr6;
    d->dr7 = debug.real->reg_read(vcpu, REG_DR7);
}

void debug_registers_give(struct vcpu *vcpu)
{
    struct debug_vcpu *d = debug_of(vcpu);
    memcpy(vcpu->dr, d->dr, sizeof(d->dr));
    debug.real->reg_write(vcpu, REG_DR6, d->dr6);
    debug.real->reg_write(vcpu, REG_DR7, d->dr7);
}

void debug_registers_apply(struct vcpu *vcpu)
{
    struct debug_vcpu *d = debug_of(vcpu);
    for (unsigned i = 0; i < DEBUG_SLOTS; i++)
        vcpu->dr[i] = debug.slots[i].kind ? debug.slots[i].gva : d->dr[i];
    debug.real->reg_write(vcpu, REG_DR6, DR6_INIT);
    debug.real->reg_write(vcpu, REG_DR7, merged_dr7(d));
}

// The same from its own thread.
static void apply_here(struct vcpu *vcpu)
{
    vcpu_unload_here(vcpu);
    debug_registers_apply(vcpu);
    vcpu_load_here(vcpu);
}

void debug_registers_reset(struct vcpu *vcpu)
{
    struct debug_vcpu *d = debug_of(vcpu);
    memset(d->dr, 0, sizeof(d->dr));
    d->dr6 = DR6_INIT;
    d->dr7 = DR7_INIT;
    apply_here(vcpu);
}

// --- the guest's view ---

u64 debug_reg_read(struct vcpu *vcpu, enum vcpu_reg reg)
{
    const struct debug_vcpu *d = debug_of(vcpu);
    if (reg == REG_DR6)
        return d->dr6;
    return reg == REG_DR7 ? d->dr7 : debug.real->reg_read(vcpu, reg);
}

void debug_reg_write(struct vcpu *vcpu, enum vcpu_reg reg, u64 value)
{
    struct debug_vcpu *d = debug_of(vcpu);
    if (reg == REG_DR6) {
        d->dr6 = (value & DR6_WRITABLE) | DR6_INIT;
    } else if (reg == REG_DR7) {
        d->dr7 = (value & DR7_WRITABLE) | DR7_INIT;
        debug.real->reg_write(vcpu, REG_DR7, merged_dr7(d));
    } else {
        debug.real->reg_write(vcpu, reg, value);
    }
}

static u64 guest_dr_read(struct vcpu *vcpu, unsigned number)
{
    if (number < DEBUG_SLOTS)
        return debug_of(vcpu)->dr[number];
    return debug_reg_read(vcpu, number == DR6_INDEX ? REG_DR6 : REG_DR7);
}

static void guest_dr_write(struct vcpu *vcpu, unsigned number, u64 value)
{
    if (number >= DEBUG_SLOTS) {
        debug_reg_write(vcpu, number == DR6_INDEX ? REG_DR6 : REG_DR7, value);
        return;
    }
    debug_of(vcpu)->dr[number] = value;
    apply_here(vcpu);
}

enum exit_action debug_register_access(struct vcpu *vcpu, struct vm_exit *exit)
{
    struct debug_vcpu *d = debug_of(vcpu);
    struct guest_paging mode;
    unsigned number = exit->dr.number & (DR4_ALIAS | (DEBUG_SLOTS - 1));
    if (number >= DR4_ALIAS)
        number |= DR6_INDEX;
    guest_paging_read(vcpu, &mode);
    // Not every CPU makes these checks before it exits.
    if (exit->dr.number != number && (mode.cr4 & CR4_DE))
        return exit_fault(exit, VECTOR_UD);
    if (mode.user)
        return exit_fault_error(exit, VECTOR_GP, 0);
    if (d->dr7 & DR7_GD) {
        d->dr7 &= ~DR7_GD;
        d->dr6 |= DR6_BD;
        return exit_fault(exit, VECTOR_DB);
    }
    if (exit->dr.read) {
        u64 value = guest_dr_read(vcpu, number);
        vcpu_gpr_write(vcpu, exit->dr.gpr, mode.code64 ? value : (u32)value);
        return ACTION_NEXT;
    }
    u64 value = vcpu_gpr_read(vcpu, exit->dr.gpr);
    if (!mode.code64)
        value = (u32)value;
    if (number >= DR6_INDEX && value != (u32)value)
        return exit_fault_error(exit, VECTOR_GP, 0);
    guest_dr_write(vcpu, number, value);
    return ACTION_NEXT;
}

// --- what a #DB found ---

struct debug_found debug_exception(struct vcpu *vcpu)
{
    struct debug_vcpu *d = debug_of(vcpu);
    struct debug_found found = {.slot = -1};
    u64 dr6 = debug.real->reg_read(vcpu, REG_DR6), guests = 0;
    debug.real->reg_write(vcpu, REG_DR6, DR6_INIT);
    for (int i = 0; i < DEBUG_SLOTS; i++) {
        if (!(dr6 & BIT(i)))
            continue;
        if (debug.slots[i].kind)
            found.slot = i;
        else if (d->dr7 & enable_mask((unsigned)i))
            guests |= BIT(i);
    }
    found.stepped = dr6 & DR6_BS;
    found.guests = guests;
    if (guests) {
        d->dr6 = (d->dr6 & ~DR6_B_MASK) | guests;
        d->dr7 &= ~DR7_GD; // as the delivery does
    }
    return found;
}

void debug_guest_step(struct vcpu *vcpu)
{
    debug_of(vcpu)->dr6 |= DR6_BS;
    debug_of(vcpu)->dr7 &= ~DR7_GD;
}

// --- the debugger's ---

static bool guest_uses(unsigned slot)
{
    bool uses = false;
    for (unsigned i = 0; i < debug.vm->vcpu_count; i++)
        uses |= debug.vcpus[i].dr7 & enable_mask(slot);
    return uses;
}

static void apply_all(void)
{
    for (unsigned i = 0; i < debug.vm->vcpu_count; i++)
        debug_registers_apply(&debug.vm->vcpus[i]);
}

int debug_slot_set(enum debug_kind kind, gva_t gva, u64 size)
{
    if (kind == DEBUG_EXECUTE)
        size = 1; // an instruction's first byte
    if ((size != 1 && size != 2 && size != 4 && size != 8) || !IS_ALIGNED(gva, size))
        return ERR_INVALID;
    for (unsigned i = DEBUG_SLOTS; i-- > 0;) {
        if (debug.slots[i].kind || guest_uses(i))
            continue;
        debug.slots[i] = (struct debug_slot){.kind = kind, .size = (u8)size, .gva = gva};
        apply_all();
        return OK;
    }
    return ERR_RANGE;
}

int debug_slot_clear(enum debug_kind kind, gva_t gva, u64 size)
{
    for (unsigned i = 0; i < DEBUG_SLOTS; i++) {
        struct debug_slot *slot = &debug.slots[i];
        if (slot->kind != kind || slot->gva != gva || (kind != DEBUG_EXECUTE && slot->size != size))
            continue;
        slot->kind = DEBUG_NONE;
        apply_all();
        return OK;
    }
    return ERR_INVALID;
}
