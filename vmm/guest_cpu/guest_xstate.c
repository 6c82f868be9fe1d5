// SPDX-License-Identifier: MIT
// A vCPU's extended state, in and out. All components that guests may have are switched, not only
// those that its XCR0 has at the moment: a register keeps its value while its component is off.
#include "arch/x86_64/xstate.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/regs.h"
#include "mm/heap.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"
#include "vmm/vm.h"

// A page, and so aligned; no area is larger.
#define AREA_SIZE PAGE_SIZE

#define FCW_RESET   0x0040 // SDM volume 3, "Processor State After Reset"
#define MXCSR_RESET 0x1f80

// The parts of the FXSAVE image that are not 0 after reset, and the header's first word.
struct area {
    u16 fcw, fsw;
    u8 ftw;
    u8 unused[19];
    u32 mxcsr;
    u8 registers[XSTATE_LEGACY_SIZE - 28];
    u64 xstate_bv, xcomp_bv;
};
assert_static(offsetof(struct area, xstate_bv) == XSTATE_LEGACY_SIZE);
assert_static(offsetof(struct area, mxcsr) == 24);

int xstate_create(struct vcpu *vcpu)
{
    vcpu->xstate = heap_alloc(AREA_SIZE);
    if (!vcpu->xstate)
        return ERR_NO_MEMORY;
    xstate_reset(vcpu);
    return OK;
}

void xstate_destroy(struct vcpu *vcpu)
{
    heap_free(vcpu->xstate);
    vcpu->xstate = NULL;
}

void xstate_reset(struct vcpu *vcpu)
{
    struct area *area = vcpu->xstate;
    memset(area, 0, AREA_SIZE);
    area->fcw = FCW_RESET;
    area->mxcsr = MXCSR_RESET;
    area->xstate_bv = XCR0_X87 | XCR0_SSE;
    vcpu->xcr0 = XCR0_X87;
    vcpu->xss = 0;
}

static void xcr0_set(u64 value)
{
    xsetbv(0, value);
}

void xstate_load(struct vcpu *vcpu)
{
    u64 all = xstate_offered();
    if (!xstate_has_xsave()) {
        __asm__ volatile("fxrstor64 (%0)" : : "r"(vcpu->xstate) : "memory");
        return;
    }
    xcr0_set(all);
    xrstor64(vcpu->xstate, all);
    if (vcpu->xcr0 != all)
        xcr0_set(vcpu->xcr0);
}

void xstate_save(struct vcpu *vcpu)
{
    u64 all = xstate_offered();
    if (!xstate_has_xsave()) {
        __asm__ volatile("fxsave64 (%0)" : : "r"(vcpu->xstate) : "memory");
        return;
    }
    if (vcpu->xcr0 != all)
        xcr0_set(all);
    xsave64(vcpu->xstate, all);
}

bool xstate_set_xcr0(struct vcpu *vcpu, u64 value)
{
    if (!xstate_valid(value))
        return false;
    vcpu->xcr0 = value;
    xcr0_set(value);
    return true;
}
