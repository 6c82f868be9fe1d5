// SPDX-License-Identifier: MIT
// The hardware's part of a guest's local APIC. For one that is software it is TPR alone, for CR8
// (the "TPR shadow"). Else priorities, delivery, the end of edge-triggered
// interrupts, reads of most registers and writes of TPR, EOI and self-IPI go without an exit. What
// is where is io/lapic_page.c's. SDM volume 3, "APIC Virtualization and Virtual Interrupts".
//
// The xAPIC page is reached through the stage-2 table, which all vCPUs share, while the control
// that makes its frame the APIC-access page is a vCPU's own. So the frame is mapped only while
// every vCPU has the control; else each access is a stage-2 fault, and emulated.
#include "arch/x86_64/vmx/vmx.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/regs.h"
#include "mm/frame.h"
#include "vmm/lib/error.h"

// Counted from the first x2APIC MSR, and by 16 bytes from the page's begin.
#define X2APIC_REGISTERS 0x40u
#define X2APIC_TPR       0x08u
#define X2APIC_PPR       0x0au
#define X2APIC_EOI       0x0bu
#define X2APIC_SELF_IPI  0x3fu

#define PAGE_WORD(reg)       ((reg)*4)
#define PRIORITY_CLASS(bits) ((bits)&0xf0u)

static struct spinlock lock = SPINLOCK_INIT; // who is inside, and the frame's mappings

// What is mapped is never reached, so one frame serves all. HPA_NONE: there was no memory.
static hpa_t access_page = HPA_NONE;

static bool access_page_make(void)
{
    spin_lock(&lock);
    if (access_page == HPA_NONE)
        access_page = frame_alloc_zero(FRAME_ORDER_4K, FRAME_ENGINE);
    bool there = access_page != HPA_NONE;
    spin_unlock(&lock);
    return there;
}

static int posted_create(struct vmx_vcpu *v)
{
    if (!(vmx_capabilities.allowed[CONTROLS_PIN] & PIN_PROCESS_POSTED_INTERRUPTS))
        return OK;
    hpa_t frame = frame_alloc_zero(FRAME_ORDER_4K, FRAME_ENGINE); // it must be aligned
    if (frame == HPA_NONE)
        return ERR_NO_MEMORY;
    v->posted = hpa_to_hva(frame);
    lapic_posted_attach(&v->vcpu->lapic, v->posted);
    return OK;
}

int vmx_apic_create(struct vmx_vcpu *v)
{
    bool hardware = v->vcpu->vm->apic_hardware;
    if (!hardware && !(vmx_capabilities.allowed[CONTROLS_PROC] & PROC_USE_TPR_SHADOW))
        return OK;
    hpa_t page = frame_alloc_zero(FRAME_ORDER_4K, FRAME_ENGINE);
    if (page == HPA_NONE)
        return ERR_NO_MEMORY;
    v->apic_page = hpa_to_hva(page);
    if (!hardware) {
        lapic_tpr_attach(&v->vcpu->lapic, &v->apic_page[PAGE_WORD(X2APIC_TPR)]);
        return OK;
    }
    if (!access_page_make())
        return ERR_NO_MEMORY;
    lapic_page_attach(&v->vcpu->lapic, v->apic_page);
    return posted_create(v);
}

void vmx_apic_destroy(struct vmx_vcpu *v)
{
    if (!v->apic_page)
        return;
    lapic_page_attach(&v->vcpu->lapic, NULL);
    frame_free(hva_to_hpa(v->apic_page), FRAME_ORDER_4K);
    if (!v->posted)
        return;
    lapic_posted_attach(&v->vcpu->lapic, NULL);
    frame_free(hva_to_hpa(v->posted), FRAME_ORDER_4K);
}

// `access`: how the guest reaches its registers.
static u32 proc2_controls(u32 access)
{
    return vmx_capabilities.controls[CONTROLS_PROC2] | PROC2_APIC_REGISTER_VIRTUALIZATION |
           PROC2_VIRTUAL_INTERRUPT_DELIVERY | access;
}

static void write_delivery(struct vmx_vcpu *v)
{
    vmwrite(VMCS_SECONDARY_PROCESSOR_CONTROLS, proc2_controls(0));
    vmwrite(VMCS_APIC_ACCESS_ADDRESS, access_page);
    vmwrite(VMCS_GUEST_INTERRUPT_STATUS, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(v->eoi_exits); i++)
        vmwrite(VMCS_EOI_EXIT_BITMAP_0 + VMCS_EOI_EXIT_STRIDE * i, 0);
    if (!v->posted)
        return;
    vmwrite(VMCS_PIN_BASED_CONTROLS,
            vmx_capabilities.controls[CONTROLS_PIN] | PIN_PROCESS_POSTED_INTERRUPTS);
    vmwrite(VMCS_POSTED_INTERRUPT_NOTIFICATION_VECTOR, HOST_VECTOR_POSTED);
    vmwrite(VMCS_POSTED_INTERRUPT_DESCRIPTOR, hva_to_hpa(v->posted));
}

void vmcs_write_apic(struct vmx_vcpu *v)
{
    v->proc_controls &= ~(u32)(PROC_CR8_LOAD_EXITING | PROC_CR8_STORE_EXITING);
    v->proc_controls |= PROC_USE_TPR_SHADOW;
    vmwrite(VMCS_PRIMARY_PROCESSOR_CONTROLS, v->proc_controls);
    vmwrite(VMCS_VIRTUAL_APIC_ADDRESS, hva_to_hpa(v->apic_page));
    vmwrite(VMCS_TPR_THRESHOLD, 0);
    if (v->vcpu->vm->apic_hardware)
        write_delivery(v);
}

// "TPR Virtualization". The vCPU is loaded.
void vmx_tpr_threshold(struct vcpu *vcpu, unsigned threshold)
{
    (void)vcpu;
    vmwrite(VMCS_TPR_THRESHOLD, threshold);
}

// --- how the guest reaches its registers ---

// Lock held. It may be there already: a VM's reset has dropped it, or has not.
static void access_page_update(struct vm *vm)
{
    bool wanted = vm->apic_inside == vm->vcpu_count && !vm->apic_page_dropped;
    // If there is no memory for the table, each access goes on being a fault.
    int error = wanted ? guest_memory_map_frame(&vm->memory, LAPIC_BASE_DEFAULT, access_page)
                       : guest_memory_unmap(&vm->memory, LAPIC_BASE_DEFAULT, PAGE_SIZE);
    (void)error;
}

static void inside_set(struct vmx_vcpu *v, bool inside)
{
    struct vm *vm = v->vcpu->vm;
    spin_lock(&lock);
    if (inside != v->apic_inside)
        vm->apic_inside += inside ? 1u : -1u;
    v->apic_inside = inside;
    access_page_update(vm);
    spin_unlock(&lock);
}

static void x2apic_msrs_set(struct vcpu *vcpu, bool on)
{
    for (unsigned reg = 0; reg < X2APIC_REGISTERS; reg++) {
        bool write = reg == X2APIC_TPR || reg == X2APIC_EOI || reg == X2APIC_SELF_IPI;
        vmx_msr_passthrough(vcpu, MSR_X2APIC_FIRST + reg, on && lapic_page_serves(reg),
                            on && write);
    }
}

void vmx_apic_mode(struct vcpu *vcpu)
{
    struct vmx_vcpu *v = vmx_of(vcpu);
    enum lapic_page_mode mode = lapic_page_mode(&vcpu->lapic);
    u32 allowed = vmx_capabilities.allowed[CONTROLS_PROC2];
    bool x2apic = mode == LAPIC_PAGE_X2APIC && (allowed & PROC2_VIRTUALIZE_X2APIC_MODE);
    // A vCPU that does not run yet accesses nothing.
    bool inside = (mode == LAPIC_PAGE_XAPIC || vcpu->waiting_for_startup) &&
                  (allowed & PROC2_VIRTUALIZE_APIC_ACCESSES);
    struct vmx_vcpu *former = vmcs_acquire(v);
    vmwrite(VMCS_SECONDARY_PROCESSOR_CONTROLS,
            proc2_controls(inside   ? PROC2_VIRTUALIZE_APIC_ACCESSES
                           : x2apic ? PROC2_VIRTUALIZE_X2APIC_MODE
                                    : 0));
    vmcs_release(v, former);
    x2apic_msrs_set(vcpu, x2apic);
    inside_set(v, inside);
    vmx_flush(vcpu);
}

void vmx_apic_page_drop(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    spin_lock(&lock);
    vm->apic_page_dropped = true;
    access_page_update(vm);
    spin_unlock(&lock);
    // What other CPUs have cached does no harm: the access is still virtualised there.
    vmx_flush(vcpu);
}

// --- interrupts ---

// Only the end of a level-triggered interrupt is the I/O APIC's affair too.
static void eoi_exits_write(struct vmx_vcpu *v)
{
    const u32 *tmr = v->vcpu->lapic.tmr;
    for (unsigned i = 0; i < ARRAY_SIZE(v->eoi_exits); i++) {
        u64 exits = (u64)tmr[2 * i + 1] << 32 | tmr[2 * i];
        if (likely(exits == v->eoi_exits[i]))
            continue;
        v->eoi_exits[i] = exits;
        vmwrite(VMCS_EOI_EXIT_BITMAP_0 + VMCS_EOI_EXIT_STRIDE * i, exits);
    }
}

void vmx_apic_push(struct vcpu *vcpu)
{
    u8 requested, in_service;
    if (!lapic_page_push(&vcpu->lapic, &requested, &in_service))
        return;
    vmwrite(VMCS_GUEST_INTERRUPT_STATUS,
            (u64)in_service << INTERRUPT_STATUS_IN_SERVICE_SHIFT | requested);
    eoi_exits_write(vmx_of(vcpu));
}

// Such an emulator reports the event before the virtual interrupt. With interrupts enabled and one
// in service it is that one, as far as can be known.
COLD u32 vmx_apic_vectoring(struct vcpu *vcpu, u32 info)
{
    u64 in_service = vmread(VMCS_GUEST_INTERRUPT_STATUS) >> INTERRUPT_STATUS_IN_SERVICE_SHIFT;
    if (!vcpu->vm->apic_hardware || !in_service || !(vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF))
        return info;
    return (u32)(INTERRUPTION_VALID | (u64)EVENT_EXTERNAL << INTERRUPTION_TYPE_SHIFT | in_service);
}

bool vmx_apic_pending(struct vcpu *vcpu)
{
    u64 requested = vmread(VMCS_GUEST_INTERRUPT_STATUS) & INTERRUPT_STATUS_REQUESTED_MASK;
    u32 ppr = vmx_of(vcpu)->apic_page[PAGE_WORD(X2APIC_PPR)];
    return PRIORITY_CLASS(requested) > PRIORITY_CLASS(ppr) &&
           (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF);
}
