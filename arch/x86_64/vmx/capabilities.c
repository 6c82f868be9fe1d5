// SPDX-License-Identifier: MIT
// Which controls are wanted, one table a control word, and whether this CPU has them. A missing one
// that is needed becomes the reason that the user reads. SDM volume 3, "VMX Capability Reporting
// Facility", "Algorithms for Determining VMX Capabilities".
#include "arch/x86_64/vmx/capabilities.h"
#include "arch/x86_64/vmx/vmcs.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/format.h"
#include "vmm/lib/string.h"

enum control_need {
    REQUIRED, // must be there, is set
    OPTIONAL, // is set if it is there
    DYNAMIC,  // must be there, is set only at times
    CLEAR,    // must be possible to leave clear
};

struct control {
    u32 bit;
    enum control_need need;
    const char *name; // as the manual has it
};

static const struct control pin_controls[] = {
    {PIN_EXTERNAL_INTERRUPT_EXITING, REQUIRED, "external-interrupt exiting"},
    {PIN_NMI_EXITING, REQUIRED, "NMI exiting"},
    {PIN_VIRTUAL_NMIS, REQUIRED, "virtual NMIs"},
    {PIN_PREEMPTION_TIMER, REQUIRED, "VMX-preemption timer"},
};

static const struct control proc_controls[] = {
    {PROC_SECONDARY_CONTROLS, REQUIRED, "secondary controls"},
    {PROC_INTERRUPT_WINDOW_EXITING, DYNAMIC, "interrupt-window exiting"},
    {PROC_NMI_WINDOW_EXITING, DYNAMIC, "NMI-window exiting"},
    {PROC_MOV_DR_EXITING, DYNAMIC, "MOV-DR exiting"},
    {PROC_USE_TSC_OFFSETTING, REQUIRED, "TSC offsetting"},
    {PROC_HLT_EXITING, REQUIRED, "HLT exiting"},
    {PROC_MWAIT_EXITING, REQUIRED, "MWAIT exiting"},
    {PROC_MONITOR_EXITING, REQUIRED, "MONITOR exiting"},
    {PROC_RDPMC_EXITING, REQUIRED, "RDPMC exiting"},
    {PROC_CR8_LOAD_EXITING, REQUIRED, "CR8-load exiting"},
    {PROC_CR8_STORE_EXITING, REQUIRED, "CR8-store exiting"},
    {PROC_USE_IO_BITMAPS, REQUIRED, "I/O bitmaps"},
    {PROC_USE_MSR_BITMAPS, REQUIRED, "MSR bitmaps"},
    {PROC_CR3_LOAD_EXITING, CLEAR, "running without CR3-load exiting"},
    {PROC_CR3_STORE_EXITING, CLEAR, "running without CR3-store exiting"},
    {PROC_INVLPG_EXITING, CLEAR, "running without INVLPG exiting"},
};

static const struct control proc2_controls[] = {
    {PROC2_ENABLE_EPT, REQUIRED, "EPT"},
    {PROC2_UNRESTRICTED_GUEST, REQUIRED, "unrestricted guest"},
    {PROC2_ENABLE_VPID, OPTIONAL, "VPID"},
    {PROC2_ENABLE_RDTSCP, OPTIONAL, "RDTSCP"},
    {PROC2_PAUSE_LOOP_EXITING, OPTIONAL, "PAUSE-loop exiting"},
    {PROC2_ENABLE_INVPCID, OPTIONAL, "INVPCID"},
    {PROC2_WBINVD_EXITING, OPTIONAL, "WBINVD exiting"},
    {PROC2_ENCLS_EXITING, OPTIONAL, "ENCLS exiting"},
};

static const struct control exit_controls[] = {
    {EXIT_CONTROL_HOST_64BIT, REQUIRED, "a 64-bit host"},
    {EXIT_CONTROL_SAVE_DEBUG_CONTROLS, REQUIRED, "saving debug controls"},
    {EXIT_CONTROL_ACKNOWLEDGE, REQUIRED, "acknowledging interrupts on exit"},
    {EXIT_CONTROL_LOAD_PAT, REQUIRED, "loading IA32_PAT on exit"},
    {EXIT_CONTROL_LOAD_EFER, REQUIRED, "loading IA32_EFER on exit"},
};

static const struct control entry_controls[] = {
    {ENTRY_CONTROL_LOAD_DEBUG_CONTROLS, REQUIRED, "loading debug controls"},
    {ENTRY_CONTROL_IA32E_MODE_GUEST, DYNAMIC, "64-bit guests"},
    {ENTRY_CONTROL_LOAD_PAT, REQUIRED, "loading IA32_PAT on entry"},
    {ENTRY_CONTROL_LOAD_EFER, REQUIRED, "loading IA32_EFER on entry"},
};

// For VMs whose local APICs the hardware is a part of: not in the common words, each VMCS has what
// it needs at the moment. One of the two ways to the registers is enough.
static const struct apic_part {
    u8 word; // enum vmx_control_word
    u32 bit;
    bool required;
    const char *name;
} apic_parts[] = {
    {CONTROLS_PROC, PROC_USE_TPR_SHADOW, true, "TPR shadow"},
    {CONTROLS_PROC2, PROC2_APIC_REGISTER_VIRTUALIZATION, true, "APIC-register virtualization"},
    {CONTROLS_PROC2, PROC2_VIRTUAL_INTERRUPT_DELIVERY, true, "virtual-interrupt delivery"},
    {CONTROLS_PROC2, PROC2_VIRTUALIZE_APIC_ACCESSES, false, "APIC accesses"},
    {CONTROLS_PROC2, PROC2_VIRTUALIZE_X2APIC_MODE, false, "x2APIC mode"},
    {CONTROLS_PIN, PIN_PROCESS_POSTED_INTERRUPTS, false, "posted interrupts"},
};

static const struct control_table {
    u32 msr;
    u32 true_msr; // says also which of the "default1" bits may be clear
    const struct control *controls;
    unsigned count;
} control_tables[CONTROLS_COUNT] = {
    // The primary processor-based word says whether there is a secondary one, so it comes before
    // it.
    [CONTROLS_PIN] = {MSR_IA32_VMX_PINBASED_CTLS, MSR_IA32_VMX_TRUE_PINBASED_CTLS, pin_controls,
                      ARRAY_SIZE(pin_controls)},
    [CONTROLS_PROC] = {MSR_IA32_VMX_PROCBASED_CTLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS, proc_controls,
                       ARRAY_SIZE(proc_controls)},
    [CONTROLS_PROC2] = {MSR_IA32_VMX_PROCBASED_CTLS2, MSR_IA32_VMX_PROCBASED_CTLS2, proc2_controls,
                        ARRAY_SIZE(proc2_controls)},
    [CONTROLS_EXIT] = {MSR_IA32_VMX_EXIT_CTLS, MSR_IA32_VMX_TRUE_EXIT_CTLS, exit_controls,
                       ARRAY_SIZE(exit_controls)},
    [CONTROLS_ENTRY] = {MSR_IA32_VMX_ENTRY_CTLS, MSR_IA32_VMX_TRUE_ENTRY_CTLS, entry_controls,
                        ARRAY_SIZE(entry_controls)},
};

struct vmx_capabilities vmx_capabilities;

#define REASON_MAX 240

// What the CPU would need and does not have, as "A, B, C".
struct missing {
    char names[REASON_MAX - 56];
};

static void missing_add(struct missing *missing, const char *name)
{
    size_t used = strlen(missing->names);
    format_text(missing->names + used, sizeof(missing->names) - used, "%s%s", used ? ", " : "",
                name);
}

// Make a control word from a capability MSR: low half the bits that must be set, high half those
// that may be. Names in `missing` what is needed and not there.
static void controls_choose(const struct control *controls, unsigned count, u64 capability,
                            u32 *word, struct missing *missing)
{
    u32 must = (u32)capability, may = (u32)(capability >> 32);
    *word = must;
    for (unsigned i = 0; i < count; i++) {
        const struct control *c = &controls[i];
        bool there = c->need == CLEAR ? !(must & c->bit) : (may & c->bit) != 0;
        if (!there && c->need != OPTIONAL)
            missing_add(missing, c->name);
        if (there && (c->need == REQUIRED || c->need == OPTIONAL))
            *word |= c->bit;
    }
}

static bool part_is_there(const struct apic_part *part)
{
    return vmx_capabilities.allowed[part->word] & part->bit;
}

const char *vmx_apic_missing(void)
{
    static struct missing missing;
    missing.names[0] = '\0';
    for (unsigned i = 0; i < ARRAY_SIZE(apic_parts); i++)
        if (apic_parts[i].required && !part_is_there(&apic_parts[i]))
            missing_add(&missing, apic_parts[i].name);
    return missing.names[0] ? missing.names : NULL;
}

bool vmx_apic_sound(void)
{
    return !vmx_apic_missing() && !vmx_capabilities.vectoring_stale;
}

static const char *lacking(const char *what)
{
    static char reason[REASON_MAX];
    format_text(reason, sizeof(reason), "this CPU's VT-x lacks %s: use a newer CPU", what);
    return reason;
}

static u64 control_capability(enum vmx_control_word word, bool true_controls)
{
    const struct control_table *t = &control_tables[word];
    u64 capability;
    return rdmsr_safe(true_controls ? t->true_msr : t->msr, &capability) ? capability : 0;
}

static const char *controls_probe(struct vmx_capabilities *caps, bool true_controls)
{
    struct missing missing = {.names = ""};
    for (unsigned i = 0; i < CONTROLS_COUNT; i++) {
        const struct control_table *t = &control_tables[i];
        u64 capability = control_capability(i, true_controls);
        if (i == CONTROLS_PROC2 && !(caps->controls[CONTROLS_PROC] & PROC_SECONDARY_CONTROLS))
            capability = 0; // the MSR is not there, whatever reading it gave
        controls_choose(t->controls, t->count, capability, &caps->controls[i], &missing);
        caps->allowed[i] = (u32)(capability >> 32);
    }
    return missing.names[0] ? lacking(missing.names) : NULL;
}

// SDM volume 3, "Enabling and Entering VMX Operation": IA32_FEATURE_CONTROL, once locked, cannot be
// changed before a reset.
static const char *firmware_refuses(void)
{
    u64 control = 0;
    if (!rdmsr_safe(MSR_IA32_FEATURE_CONTROL, &control))
        return "VT-x is there but IA32_FEATURE_CONTROL is not: the hypervisor below hides it";
    if ((control & FEATURE_CONTROL_LOCK) && !(control & FEATURE_CONTROL_VMXON_OUTSIDE_SMX))
        return "VT-x is locked off by the firmware: enable it in setup";
    return NULL;
}

static const char *ept_refuses(const struct vmx_capabilities *caps)
{
    const struct {
        u64 bits;
        const char *name;
    } needs[] = {
        {EPT_CAP_WALK_4, "four-level EPT"},
        {EPT_CAP_WRITE_BACK, "write-back EPT tables"},
        {EPT_CAP_INVEPT | EPT_CAP_INVEPT_SINGLE, "single-context INVEPT"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(needs); i++)
        if ((caps->ept_vpid & needs[i].bits) != needs[i].bits)
            return lacking(needs[i].name);
    return NULL;
}

// SDM volume 2, "CPUID", leaf 80000008H.
#define CPUID_ADDRESS_SIZES      0x80000008
#define ADDRESS_BITS_MASK        0xffu
#define LINEAR_BITS_SHIFT        8
#define PHYSICAL_BITS_UNREPORTED 36
#define LINEAR_BITS_UNREPORTED   48

static unsigned address_bits_probe(unsigned shift, unsigned unreported)
{
    if (cpuid(CPUID_EXTENDED, 0).eax < CPUID_ADDRESS_SIZES)
        return unreported;
    return cpuid(CPUID_ADDRESS_SIZES, 0).eax >> shift & ADDRESS_BITS_MASK;
}

static void features_probe(struct vmx_capabilities *caps)
{
    const u64 invvpid = VPID_CAP_INVVPID | VPID_CAP_INVVPID_CONTEXT;
    // A VPID that cannot be flushed alone is worth nothing: without one, each transition flushes.
    if ((caps->ept_vpid & invvpid) != invvpid)
        caps->controls[CONTROLS_PROC2] &= ~(u32)PROC2_ENABLE_VPID;
    caps->vectoring_stale = caps->revision == VMX_REVISION_BOCHS;
    caps->vpid = caps->controls[CONTROLS_PROC2] & PROC2_ENABLE_VPID;
    caps->accessed_dirty = caps->ept_vpid & EPT_CAP_ACCESSED_DIRTY;
    caps->physical_bits = address_bits_probe(0, PHYSICAL_BITS_UNREPORTED);
    caps->linear_bits = address_bits_probe(LINEAR_BITS_SHIFT, LINEAR_BITS_UNREPORTED);
    caps->timer_shift = (unsigned)(rdmsr(MSR_IA32_VMX_MISC) & VMX_MISC_TIMER_MASK);
    caps->cr0_fixed0 = rdmsr(MSR_IA32_VMX_CR0_FIXED0);
    caps->cr0_fixed1 = rdmsr(MSR_IA32_VMX_CR0_FIXED1);
    caps->cr4_fixed0 = rdmsr(MSR_IA32_VMX_CR4_FIXED0);
    caps->cr4_fixed1 = rdmsr(MSR_IA32_VMX_CR4_FIXED1);
    caps->tsc_aux = cpuid(CPUID_EXTENDED, 0).eax >= CPUID_EXTENDED_FEATURES &&
                    (cpuid(CPUID_EXTENDED_FEATURES, 0).edx & CPUID_80000001_EDX_RDTSCP);
}

const char *vmx_probe(void)
{
    struct vmx_capabilities *caps = &vmx_capabilities;
    if (!(cpuid(CPUID_FEATURES, 0).ecx & CPUID_1_ECX_VMX))
        return "this CPU has no VT-x, or the hypervisor below does not pass it on";
    const char *reason = firmware_refuses();
    if (reason)
        return reason;
    u64 basic = rdmsr(MSR_IA32_VMX_BASIC);
    caps->revision = (u32)(basic & VMX_BASIC_REVISION_MASK);
    reason = controls_probe(caps, basic & VMX_BASIC_TRUE_CONTROLS);
    if (reason)
        return reason;
    if (!rdmsr_safe(MSR_IA32_VMX_EPT_VPID_CAP, &caps->ept_vpid))
        return lacking("EPT");
    reason = ept_refuses(caps);
    if (!reason)
        features_probe(caps);
    return reason;
}

// What a CPU has beyond the first does no harm.
bool vmx_as_first(void)
{
    const struct vmx_capabilities *caps = &vmx_capabilities;
    u64 basic, ept_vpid;
    if (!rdmsr_safe(MSR_IA32_VMX_BASIC, &basic) ||
        (basic & VMX_BASIC_REVISION_MASK) != caps->revision ||
        !rdmsr_safe(MSR_IA32_VMX_EPT_VPID_CAP, &ept_vpid) || (caps->ept_vpid & ~ept_vpid))
        return false;
    for (unsigned i = 0; i < CONTROLS_COUNT; i++) {
        u64 capability = control_capability(i, basic & VMX_BASIC_TRUE_CONTROLS);
        u32 may = (u32)(capability >> 32), must = (u32)capability;
        if ((caps->allowed[i] & ~may) || (must & ~caps->controls[i]))
            return false;
    }
    return true;
}

unsigned vmx_stage2_max_leaf(void)
{
    if (vmx_capabilities.ept_vpid & EPT_CAP_1G)
        return 3;
    return vmx_capabilities.ept_vpid & EPT_CAP_2M ? 2 : 1;
}

// The optional parts that are on, in the order of their tables.
static void describe_optional(char *to, size_t size)
{
    for (unsigned i = 0; i < ARRAY_SIZE(proc2_controls); i++) {
        const struct control *c = &proc2_controls[i];
        size_t used = strlen(to);
        if (c->need == OPTIONAL && (vmx_capabilities.controls[CONTROLS_PROC2] & c->bit))
            format_text(to + used, size - used, ", %s", c->name);
    }
}

static void describe_apic(char *to, size_t size)
{
    for (unsigned i = 0; i < ARRAY_SIZE(apic_parts); i++) {
        size_t used = strlen(to);
        if (part_is_there(&apic_parts[i]))
            format_text(to + used, size - used, ", %s", apic_parts[i].name);
    }
}

void vmx_describe(char *to, size_t size)
{
    static const char *const pages[] = {"4K", "4K/2M", "4K/2M/1G"};
    if (!size)
        return;
    format_text(to, size, "EPT %s%s, unrestricted guest, timer TSC/%u",
                pages[vmx_stage2_max_leaf() - 1], vmx_capabilities.accessed_dirty ? " A/D" : "",
                1u << vmx_capabilities.timer_shift);
    describe_optional(to, size);
    describe_apic(to, size);
}
