// SPDX-License-Identifier: MIT
// A vCPU's life in VT-x: its VMCS, bitmaps and VPID; going to a CPU and leaving it; translations
// dropped.
//
// A VMCS is active on one CPU at most: vmx_vcpu_unload() clears it, so it may go anywhere. State
// that the guest uses directly and the host never touches (a few MSRs, DR0-3, DR6, CR2, the FPU) is
// swapped only here, not at exits. SDM volume 3, "Software Use of Virtual-Machine Control
// Structures", "Caching Translation Information".
#include "arch/x86_64/vmx/vmx.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/regs.h"
#include "arch/x86_64/xstate.h"
#include "mm/frame.h"
#include "mm/heap.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"

// --- VPIDs: one a vCPU, 0 is the host's ---

#define VPID_COUNT 4096

static u64 vpids_used[VPID_COUNT / 64] = {1};
static struct spinlock lock = SPINLOCK_INIT;

// 0: all are taken.
static u16 vpid_alloc(void)
{
    u16 vpid = 0;
    spin_lock(&lock);
    for (unsigned i = 0; i < ARRAY_SIZE(vpids_used) && !vpid; i++) {
        if (!~vpids_used[i])
            continue;
        unsigned bit = bit_lowest(~vpids_used[i]);
        vpids_used[i] |= BIT(bit);
        vpid = (u16)(i * 64 + bit);
    }
    spin_unlock(&lock);
    return vpid;
}

static void vpid_free(u16 vpid)
{
    if (!vpid)
        return;
    spin_lock(&lock);
    vpids_used[vpid / 64] &= ~BIT(vpid % 64);
    spin_unlock(&lock);
}

// --- a VMCS that is not current ---

struct vmx_vcpu *vmcs_borrow(struct vmx_vcpu *v)
{
    struct vmx_cpu *cpu = vmx_this_cpu();
    assert(cpu && v->cpu == VMX_CPU_NONE);
    struct vmx_vcpu *former = cpu->current;
    vmptrld(v->vmcs);
    cpu->current = v;
    return former;
}

void vmcs_return(struct vmx_vcpu *v, struct vmx_vcpu *former)
{
    vmclear(v->vmcs);
    v->launched = 0;
    vmx_this_cpu()->current = former;
    if (former)
        vmptrld(former->vmcs);
}

// --- translations ---

void vmx_flush(struct vcpu *vcpu)
{
    invept(INVALIDATE_CONTEXT, vmx_of(vcpu)->eptp);
}

void vmx_flush_linear(struct vmx_vcpu *v)
{
    if (v->loaded && v->vpid)
        invvpid(INVALIDATE_CONTEXT, v->vpid);
    else
        v->last_cpu = VMX_CPU_NONE; // the next load flushes
}

// The vCPU comes to a CPU that it was not on last: the host state is another, and the translations
// cached here under its VPID and EPTP are from an earlier stay, or an earlier owner's.
static void arrive(struct vmx_vcpu *v)
{
    vmcs_write_host_state(v);
    invept(INVALIDATE_CONTEXT, v->eptp);
    if (v->vpid)
        invvpid(INVALIDATE_CONTEXT, v->vpid);
    v->last_cpu = this_cpu()->index;
}

// --- state that is swapped ---

static const u32 swapped_msrs[VMX_SWAPPED_MSRS] = {
    MSR_IA32_STAR,  MSR_IA32_LSTAR,          MSR_IA32_CSTAR,
    MSR_IA32_FMASK, MSR_IA32_KERNEL_GS_BASE, MSR_IA32_TSC_AUX, // the last may be missing
};

static unsigned swapped_msr_count(void)
{
    return vmx_capabilities.tsc_aux ? VMX_SWAPPED_MSRS : VMX_SWAPPED_MSRS - 1;
}

u64 vmx_swapped_msr_read(const struct vmx_vcpu *v, unsigned index)
{
    return v->loaded && index < swapped_msr_count() ? rdmsr(swapped_msrs[index]) : v->msrs[index];
}

// What the hardware would refuse with #GP is cut to what it takes: the values are the guest's.
static u64 swapped_msr_valid(const struct vcpu *vcpu, u32 msr, u64 value)
{
    if (msr == MSR_IA32_FMASK || msr == MSR_IA32_TSC_AUX)
        return (u32)value;
    return msr == MSR_IA32_STAR ? value : vcpu_canonical_form(vcpu, value);
}

void vmx_swapped_msr_write(struct vmx_vcpu *v, unsigned index, u64 value)
{
    value = swapped_msr_valid(v->vcpu, swapped_msrs[index], value);
    v->msrs[index] = value;
    if (v->loaded && index < swapped_msr_count())
        wrmsr(swapped_msrs[index], value);
}

static void direct_state_load(struct vmx_vcpu *v)
{
    const struct vcpu *vcpu = v->vcpu;
    for (unsigned i = 0; i < swapped_msr_count(); i++)
        wrmsr(swapped_msrs[i], v->msrs[i]);
    write_dr0(vcpu->dr[0]);
    write_dr1(vcpu->dr[1]);
    write_dr2(vcpu->dr[2]);
    write_dr3(vcpu->dr[3]);
    write_dr6((u32)vcpu->dr6);
    write_cr2(v->cr2);
    v->loaded = true;
}

static void direct_state_save(struct vmx_vcpu *v)
{
    struct vcpu *vcpu = v->vcpu;
    for (unsigned i = 0; i < swapped_msr_count(); i++)
        v->msrs[i] = rdmsr(swapped_msrs[i]);
    vcpu->dr[0] = read_dr0();
    vcpu->dr[1] = read_dr1();
    vcpu->dr[2] = read_dr2();
    vcpu->dr[3] = read_dr3();
    vcpu->dr6 = read_dr6();
    v->cr2 = read_cr2();
    v->loaded = false;
}

void vmx_vcpu_load(struct vcpu *vcpu)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    struct vmx_cpu *cpu = vmx_this_cpu();
    if (cpu->current == v)
        return;
    assert(!cpu->current && v->cpu == VMX_CPU_NONE);
    vmptrld(v->vmcs);
    cpu->current = v;
    v->cpu = this_cpu()->index;
    if (v->last_cpu != v->cpu)
        arrive(v);
    direct_state_load(v);
    xstate_load(vcpu);
}

void vmx_vcpu_unload(struct vcpu *vcpu)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    struct vmx_cpu *cpu = vmx_this_cpu();
    if (cpu->current != v)
        return;
    xstate_save(vcpu);
    direct_state_save(v);
    vmclear(v->vmcs);
    v->launched = 0;
    v->cpu = VMX_CPU_NONE;
    cpu->current = NULL;
}

// --- MSR bitmap ---

void vmx_msr_passthrough(struct vcpu *vcpu, u32 msr, bool read, bool write)
{
    u8 *bitmap = vmx_of(vcpu)->msr_bitmap;
    bool high = msr >= MSR_BITMAP_HIGH_FIRST;
    u32 index = high ? msr - MSR_BITMAP_HIGH_FIRST : msr;
    if (index >= MSR_BITMAP_MSRS)
        return; // has no bit: always exits
    u8 *reads = bitmap + (high ? MSR_BITMAP_READ_HIGH : MSR_BITMAP_READ_LOW) + index / 8;
    u8 *writes = bitmap + (high ? MSR_BITMAP_WRITE_HIGH : MSR_BITMAP_WRITE_LOW) + index / 8;
    u8 bit = (u8)BIT(index % 8);
    *reads = (u8)(read ? *reads & ~bit : *reads | bit);
    *writes = (u8)(write ? *writes & ~bit : *writes | bit);
}

// Those that the VMCS or the swap above keeps for the guest.
static const u32 direct_msrs[] = {
    MSR_IA32_FS_BASE,      MSR_IA32_GS_BASE,      MSR_IA32_KERNEL_GS_BASE, MSR_IA32_STAR,
    MSR_IA32_LSTAR,        MSR_IA32_CSTAR,        MSR_IA32_FMASK,          MSR_IA32_SYSENTER_CS,
    MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
};

static void msr_bitmap_init(struct vcpu *vcpu)
{
    memset(vmx_of(vcpu)->msr_bitmap, 0xff, PAGE_SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(direct_msrs); i++)
        vmx_msr_passthrough(vcpu, direct_msrs[i], true, true);
    if (vmx_capabilities.tsc_aux)
        vmx_msr_passthrough(vcpu, MSR_IA32_TSC_AUX, true, true);
}

// --- creation ---

// Every port exits: a page of ones, for both halves of the ports and all vCPUs. HPA_NONE if there
// is no memory.
static hpa_t io_bitmap_get(void)
{
    static hpa_t page = HPA_NONE;
    spin_lock(&lock);
    if (page == HPA_NONE) {
        page = frame_alloc(FRAME_ORDER_4K, FRAME_ENGINE);
        if (page != HPA_NONE)
            memset(hpa_to_hva(page), 0xff, PAGE_SIZE);
    }
    hpa_t hpa = page;
    spin_unlock(&lock);
    return hpa;
}

static int resources_alloc(struct vmx_vcpu *v)
{
    v->io_bitmap = io_bitmap_get();
    v->vmcs = frame_alloc_zero(FRAME_ORDER_4K, FRAME_ENGINE);
    hpa_t bitmap = frame_alloc(FRAME_ORDER_4K, FRAME_ENGINE);
    v->msr_bitmap = bitmap == HPA_NONE ? NULL : hpa_to_hva(bitmap);
    v->vpid = vmx_capabilities.vpid ? vpid_alloc() : 0;
    bool vpid_missing = vmx_capabilities.vpid && !v->vpid;
    if (v->io_bitmap == HPA_NONE || v->vmcs == HPA_NONE || !v->msr_bitmap || vpid_missing)
        return ERR_NO_MEMORY;
    *(u32 *)hpa_to_hva(v->vmcs) = vmx_capabilities.revision;
    return OK;
}

static void resources_free(struct vmx_vcpu *v)
{
    vmx_apic_destroy(v);
    vpid_free(v->vpid);
    if (v->msr_bitmap)
        frame_free(hva_to_hpa(v->msr_bitmap), FRAME_ORDER_4K);
    if (v->vmcs != HPA_NONE)
        frame_free(v->vmcs, FRAME_ORDER_4K);
    heap_free(v);
}

int vmx_vcpu_create(struct vcpu *vcpu)
{
    struct vmx_vcpu *v = heap_alloc(sizeof(*v));
    if (!v)
        return ERR_NO_MEMORY;
    v->vcpu = vcpu;
    v->cpu = v->last_cpu = VMX_CPU_NONE;
    int error = resources_alloc(v);
    if (!error)
        error = vmx_apic_create(v);
    if (error) {
        resources_free(v);
        return error;
    }
    vcpu->engine = v;
    msr_bitmap_init(vcpu);
    vmclear(v->vmcs);
    struct vmx_vcpu *former = vmcs_acquire(v);
    vmcs_write_controls(v);
    vmcs_release(v, former);
    vmx_vcpu_reset(vcpu);
    return OK;
}

void vmx_vcpu_destroy(struct vcpu *vcpu)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    if (!v)
        return;
    assert(v->cpu == VMX_CPU_NONE);
    resources_free(v);
    vcpu->engine = NULL;
}

// The registers outside the VMCS. EDX names the CPU after a reset, as CPUID does.
static void direct_state_reset(struct vmx_vcpu *v)
{
    struct vcpu *vcpu = v->vcpu;
    memset(vcpu->gpr, 0, sizeof(vcpu->gpr));
    vcpu->gpr[GPR_RDX] = cpuid(CPUID_FEATURES, 0).eax;
    memset(vcpu->dr, 0, sizeof(vcpu->dr));
    vcpu->dr6 = DR6_INIT;
    memset(v->msrs, 0, sizeof(v->msrs));
    v->cr2 = 0;
    if (v->loaded)
        direct_state_load(v);
}

void vmx_vcpu_reset(struct vcpu *vcpu)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    struct vmx_vcpu *former = vmcs_acquire(v);
    memset(&vcpu->event, 0, sizeof(vcpu->event));
    direct_state_reset(v);
    vmcs_write_guest_reset(v);
    vmwrite(VMCS_ENTRY_INTERRUPTION_INFO, 0);
    vmcs_write_eptp(v); // the stage-2 table may be a new one
    vmx_want_window(vcpu, false);
    vmx_want_nmi_window(vcpu, false);
    v->instruction_error = 0;
    if (v->loaded)
        arrive(v);
    else
        v->last_cpu = VMX_CPU_NONE;
    vmcs_release(v, former);
}

void vmx_set_tsc_offset(struct vcpu *vcpu, u64 offset)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    struct vmx_vcpu *former = vmcs_acquire(v);
    vmwrite(VMCS_TSC_OFFSET, offset);
    vmcs_release(v, former);
}
