// SPDX-License-Identifier: MIT
#include "tests/unit/fake_vmx.h"
#define cpuid(leaf, subleaf) fake_cpuid(leaf, subleaf)
static struct cpuid fake_cpuid(u32 leaf, u32 subleaf);
static u64 rdmsr(u32 msr);
#include "arch/x86_64/vmx/capabilities.c"
#include "vmm/lib/format.c"

// A CPU that has everything: any bit may be set, the true MSRs force none.
#define ALL_ALLOWED (0xffffffffull << 32)

static u64 msrs[0x500];
static bool msr_missing[0x500];
static u32 features_ecx;

static void cpu_with_everything(void)
{
    memset(msr_missing, 0, sizeof(msr_missing));
    memset(&vmx_capabilities, 0, sizeof(vmx_capabilities));
    features_ecx = (u32)CPUID_1_ECX_VMX;
    msrs[MSR_IA32_FEATURE_CONTROL] = 0;
    msrs[MSR_IA32_VMX_BASIC] = VMX_BASIC_TRUE_CONTROLS | BIT(31) | 0x2b;
    for (unsigned i = MSR_IA32_VMX_PINBASED_CTLS; i <= MSR_IA32_VMX_ENTRY_CTLS; i++)
        msrs[i] = ALL_ALLOWED;
    for (unsigned i = MSR_IA32_VMX_TRUE_PINBASED_CTLS; i <= MSR_IA32_VMX_TRUE_ENTRY_CTLS; i++)
        msrs[i] = ALL_ALLOWED;
    msrs[MSR_IA32_VMX_PROCBASED_CTLS2] = ALL_ALLOWED;
    msrs[MSR_IA32_VMX_EPT_VPID_CAP] = ~0ull;
    msrs[MSR_IA32_VMX_MISC] = 5;
}

static struct cpuid fake_cpuid(u32 leaf, u32 subleaf)
{
    (void)subleaf;
    struct cpuid r = {0};
    if (leaf == CPUID_FEATURES)
        r.ecx = features_ecx;
    if (leaf == CPUID_EXTENDED)
        r.eax = CPUID_ADDRESS_SIZES;
    if (leaf == CPUID_ADDRESS_SIZES)
        r.eax = 39 | 57 << 8;
    if (leaf == CPUID_EXTENDED_FEATURES)
        r.edx = (u32)CPUID_80000001_EDX_RDTSCP;
    return r;
}

bool rdmsr_safe(u32 msr, u64 *value)
{
    if (msr >= ARRAY_SIZE(msrs) || msr_missing[msr])
        return false;
    *value = msrs[msr];
    return true;
}

static u64 rdmsr(u32 msr)
{
    CHECK(!msr_missing[msr]);
    return msrs[msr];
}

TEST(everything_there)
{
    cpu_with_everything();
    CHECK(!vmx_probe());
    const struct vmx_capabilities *c = &vmx_capabilities;
    CHECK_EQ(c->revision, 0x2b);
    CHECK_EQ(c->controls[CONTROLS_PIN], 0x69);
    CHECK_EQ(c->controls[CONTROLS_PROC] & PROC_INTERRUPT_WINDOW_EXITING, 0);
    CHECK_EQ(c->controls[CONTROLS_PROC] & PROC_CR3_LOAD_EXITING, 0);
    CHECK(c->controls[CONTROLS_PROC] & PROC_HLT_EXITING);
    CHECK_EQ(c->controls[CONTROLS_ENTRY] & ENTRY_CONTROL_IA32E_MODE_GUEST, 0);
    CHECK(c->vpid);
    CHECK(c->accessed_dirty);
    CHECK(c->tsc_aux);
    CHECK_EQ(c->timer_shift, 5);
    CHECK_EQ(c->physical_bits, 39);
    CHECK_EQ(c->linear_bits, 57);
    CHECK_EQ(vmx_stage2_max_leaf(), 3);
}

TEST(a_cpu_that_lacks_what_the_first_has_is_told)
{
    static const u32 words[] = {MSR_IA32_VMX_TRUE_PINBASED_CTLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS,
                                MSR_IA32_VMX_PROCBASED_CTLS2, MSR_IA32_VMX_TRUE_EXIT_CTLS,
                                MSR_IA32_VMX_TRUE_ENTRY_CTLS};
    cpu_with_everything();
    CHECK(!vmx_probe());
    CHECK(vmx_as_first());
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        u64 had = msrs[words[i]];
        msrs[words[i]] = had & ~BIT(32); // one that may not be set
        CHECK(!vmx_as_first());
        msrs[words[i]] = had | BIT(30); // one that must be, and was left clear
        CHECK(!vmx_as_first());
        msrs[words[i]] = had;
        CHECK(vmx_as_first());
    }
    msrs[MSR_IA32_VMX_EPT_VPID_CAP] &= ~EPT_CAP_1G;
    CHECK(!vmx_as_first());
    CHECK(!vmx_probe()); // as the first CPU
    msrs[MSR_IA32_VMX_EPT_VPID_CAP] = ~0ull;
    CHECK(vmx_as_first());
    msrs[MSR_IA32_VMX_BASIC]++;
    CHECK(!vmx_as_first());
    msr_missing[MSR_IA32_VMX_BASIC] = true; // no VT-x at all
    CHECK(!vmx_as_first());
}

TEST(no_vtx)
{
    cpu_with_everything();
    features_ecx = 0;
    CHECK(vmx_probe());
}

TEST(locked_off_and_locked_on)
{
    cpu_with_everything();
    msrs[MSR_IA32_FEATURE_CONTROL] = FEATURE_CONTROL_LOCK;
    CHECK_STR(vmx_probe(), "VT-x is locked off by the firmware: enable it in setup");
    msrs[MSR_IA32_FEATURE_CONTROL] |= FEATURE_CONTROL_VMXON_OUTSIDE_SMX;
    CHECK(!vmx_probe());
}

TEST(old_cpu_without_secondary_controls)
{
    cpu_with_everything();
    msrs[MSR_IA32_VMX_BASIC] = 0;
    for (unsigned i = MSR_IA32_VMX_PROCBASED_CTLS2; i < ARRAY_SIZE(msr_missing); i++)
        msr_missing[i] = true;
    msrs[MSR_IA32_VMX_PROCBASED_CTLS] &= ~((u64)PROC_SECONDARY_CONTROLS << 32);
    CHECK_STR(vmx_probe(), "this CPU's VT-x lacks secondary controls, EPT, unrestricted guest: use "
                           "a newer CPU");
}

TEST(no_unrestricted_guest)
{
    cpu_with_everything();
    msrs[MSR_IA32_VMX_PROCBASED_CTLS2] &= ~((u64)PROC2_UNRESTRICTED_GUEST << 32);
    CHECK_STR(vmx_probe(), "this CPU's VT-x lacks unrestricted guest: use a newer CPU");
}

TEST(forced_control_that_must_be_clear)
{
    cpu_with_everything();
    msrs[MSR_IA32_VMX_TRUE_PROCBASED_CTLS] |= PROC_CR3_LOAD_EXITING;
    CHECK_STR(vmx_probe(),
              "this CPU's VT-x lacks running without CR3-load exiting: use a newer CPU");
}

TEST(optional_controls_may_be_missing)
{
    cpu_with_everything();
    msrs[MSR_IA32_VMX_PROCBASED_CTLS2] = (PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST) << 32;
    CHECK(!vmx_probe());
    CHECK_EQ(vmx_capabilities.controls[CONTROLS_PROC2], 0x82);
    CHECK(!vmx_capabilities.vpid);
}

TEST(vpid_without_its_invalidation_is_not_used)
{
    cpu_with_everything();
    msrs[MSR_IA32_VMX_EPT_VPID_CAP] &= ~VPID_CAP_INVVPID_CONTEXT;
    CHECK(!vmx_probe());
    CHECK(!vmx_capabilities.vpid);
    CHECK_EQ(vmx_capabilities.controls[CONTROLS_PROC2] & PROC2_ENABLE_VPID, 0);
}

TEST(ept_parts)
{
    cpu_with_everything();
    msrs[MSR_IA32_VMX_EPT_VPID_CAP] &= ~EPT_CAP_INVEPT_SINGLE;
    CHECK_STR(vmx_probe(), "this CPU's VT-x lacks single-context INVEPT: use a newer CPU");
    cpu_with_everything();
    msrs[MSR_IA32_VMX_EPT_VPID_CAP] &= ~EPT_CAP_1G;
    CHECK(!vmx_probe());
    CHECK_EQ(vmx_stage2_max_leaf(), 2);
    msrs[MSR_IA32_VMX_EPT_VPID_CAP] &= ~EPT_CAP_2M;
    CHECK(!vmx_probe());
    CHECK_EQ(vmx_stage2_max_leaf(), 1);
}

TEST(description_is_cut_to_its_buffer)
{
    cpu_with_everything();
    CHECK(!vmx_probe());
    char text[160];
    vmx_describe(text, sizeof(text));
    CHECK(strncmp(text, "EPT 4K/2M/1G A/D, unrestricted guest", 36) == 0);
    char small[12];
    vmx_describe(small, sizeof(small));
    CHECK(strlen(small) < sizeof(small));
}

TEST(apic_parts_that_are_missing_are_named)
{
    cpu_with_everything();
    msrs[MSR_IA32_VMX_BASIC] = VMX_BASIC_TRUE_CONTROLS | 4;
    CHECK(!vmx_probe());
    CHECK(!vmx_apic_missing());
    CHECK(vmx_apic_sound());
    // None of it is in the controls that every VM has.
    CHECK(!(vmx_capabilities.controls[CONTROLS_PROC] & PROC_USE_TPR_SHADOW));
    CHECK(!(vmx_capabilities.controls[CONTROLS_PROC2] & PROC2_VIRTUAL_INTERRUPT_DELIVERY));
    msrs[MSR_IA32_VMX_TRUE_PROCBASED_CTLS] &= ~(PROC_USE_TPR_SHADOW << 32);
    msrs[MSR_IA32_VMX_PROCBASED_CTLS2] &= ~(PROC2_VIRTUAL_INTERRUPT_DELIVERY << 32);
    CHECK(!vmx_probe()); // guests can run all the same
    CHECK_STR(vmx_apic_missing(), "TPR shadow, virtual-interrupt delivery");
    CHECK(!vmx_apic_sound());
}

TEST(an_emulator_with_errors_in_it_is_known)
{
    cpu_with_everything();
    CHECK(!vmx_probe());
    CHECK(!vmx_apic_missing());
    CHECK(!vmx_apic_sound());
    CHECK(vmx_capabilities.vectoring_stale);
}
