// SPDX-License-Identifier: MIT
// VMX operation on and off, on each CPU. SDM volume 3, "Enabling and Entering VMX Operation",
// "Restrictions on VMX Operation".
#include "arch/x86_64/vmx/vmx.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/regs.h"
#include "mm/frame.h"
#include "mm/heap.h"
#include "vmm/lib/error.h"
#include "vmm/lib/log.h"

static struct vmx_cpu *cpu_alloc(void)
{
    struct vmx_cpu *cpu = heap_alloc(sizeof(*cpu));
    if (!cpu)
        return NULL;
    cpu->vmxon_region = frame_alloc_zero(FRAME_ORDER_4K, FRAME_ENGINE);
    if (cpu->vmxon_region == HPA_NONE) {
        heap_free(cpu);
        return NULL;
    }
    *(u32 *)hpa_to_hva(cpu->vmxon_region) = vmx_capabilities.revision;
    return cpu;
}

// False: this CPU's firmware setting differs from that of the one that was probed.
static bool feature_control_allow(void)
{
    u64 control = rdmsr(MSR_IA32_FEATURE_CONTROL);
    if (!(control & FEATURE_CONTROL_LOCK)) {
        control |= FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMXON_OUTSIDE_SMX;
        wrmsr(MSR_IA32_FEATURE_CONTROL, control);
    }
    return control & FEATURE_CONTROL_VMXON_OUTSIDE_SMX;
}

static void control_registers_fix(const struct vmx_capabilities *caps)
{
    write_cr0((read_cr0() | caps->cr0_fixed0) & caps->cr0_fixed1);
    write_cr4((read_cr4() | caps->cr4_fixed0 | CR4_VMXE) & caps->cr4_fixed1);
}

int vmx_cpu_enable(void)
{
    const struct vmx_capabilities *caps = &vmx_capabilities;
    struct percpu *self = this_cpu();
    if (self->engine_on)
        return OK;
    if (!vmx_as_first()) {
        log_error("CPU %u: its VT-x lacks what the first CPU's has: no guest runs on it",
                  self->index);
        return ERR_UNSUPPORTED;
    }
    if (!feature_control_allow()) {
        log_error("CPU %u: the firmware locked VT-x off on it: update the firmware", self->index);
        return ERR_UNSUPPORTED;
    }
    struct vmx_cpu *cpu = cpu_alloc();
    if (!cpu)
        return ERR_NO_MEMORY;
    control_registers_fix(caps);
    vmxon(cpu->vmxon_region);
    // Whatever used VMX before us may have left translations behind ("Guidelines for Use of the
    // INVEPT Instruction").
    if (caps->ept_vpid & EPT_CAP_INVEPT_ALL)
        invept(INVALIDATE_ALL, 0);
    if ((caps->ept_vpid & VPID_CAP_INVVPID) && (caps->ept_vpid & VPID_CAP_INVVPID_ALL))
        invvpid(INVALIDATE_ALL, 0);
    self->engine = cpu;
    self->engine_on = true;
    return OK;
}

void vmx_cpu_disable(void)
{
    struct percpu *self = this_cpu();
    struct vmx_cpu *cpu = self->engine;
    if (!self->engine_on)
        return;
    vmxoff();
    write_cr4(read_cr4() & ~CR4_VMXE);
    self->engine_on = false;
    self->engine = NULL;
    frame_free(cpu->vmxon_region, FRAME_ORDER_4K);
    heap_free(cpu);
}
