// SPDX-License-Identifier: MIT
// One table of features, one of fixed and computed leaves. Names of bits as in the Intel SDM,
// volume 2, CPUID.
#include "vmm/guest_cpu/cpuid.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/regs.h"
#include "arch/x86_64/xstate.h"
#include "mm/heap.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"
#include "vmm/vm.h"

#define LEAF_CACHES       0x02
#define LEAF_CACHE_PARAMS 0x04
#define LEAF_THERMAL      0x06
#define LEAF_FEATURES7    0x07
#define LEAF_TOPOLOGY     0x0b
#define LEAF_XSTATE       0x0d
#define BASIC_LEAVES      (CPUID_FREQUENCY + 1)

#define LEAF_KVM          0x40000000
#define LEAF_KVM_FEATURES 0x40000001
#define LEAF_KVM_TIMING   0x40000010 // as VMware and others have it: TSC and APIC bus, in kHz
#define KVM_LEAVES        (LEAF_KVM_TIMING - LEAF_KVM + 1)
#define LEAF_PLINTH       0x40000100

#define LEAF_EXT_CACHE   0x80000006
#define LEAF_EXT_POWER   0x80000007
#define LEAF_EXT_ADDRESS 0x80000008
#define EXTENDED_LEAVES  (LEAF_EXT_ADDRESS - CPUID_EXTENDED + 1)

// Leaf 1.
#define EBX_CLFLUSH_MASK    0x0000ff00u
#define EBX_COUNT_SHIFT     16
#define EBX_APIC_ID_SHIFT   24
#define EDX_APIC            BIT(9)
#define ECX_OSXSAVE         BIT(27)
// Leaf 7.
#define ECX_LA57            BIT(16)
// Leaf 4.
#define CACHE_TYPE_MASK     0x1fu
#define CACHE_LEVEL_SHIFT   5
#define CACHE_LEVEL_MASK    7u
#define CACHE_OWN_MASK      0x00003fffu // the rest of EAX counts CPUs
#define CACHE_SHARING_SHIFT 14
#define CACHE_CORES_SHIFT   26
#define CACHE_LEVEL_SHARED  3
#define CACHE_SUBLEAVES     8
// Leaf 0BH.
#define TOPOLOGY_SMT        1
#define TOPOLOGY_CORE       2
#define TOPOLOGY_TYPE_SHIFT 8
#define TOPOLOGY_ID_MASK    0xffu
// Leaf 0DH, ECX of a component.
#define XSTATE_ALIGNED      BIT(1)
// Leaf 80000008H.
#define ADDRESS_BITS_MASK   0xffu
#define LINEAR_BITS_SHIFT   8
#define LINEAR_BITS         48
#define LINEAR_BITS_LA57    57
#define PHYSICAL_BITS_OLD   36 // of a CPU without the leaf
#define PHYSICAL_BITS_TOP   52
// What a stage-2 table of four levels translates: as AMD has it, bits 23:16 say so where it is
// less.
#define GUEST_BITS_SHIFT    16
#define GUEST_BITS_MAX      48

#define MHZ     1000000
#define KHZ     1000
#define BUS_MHZ 100

#define DYNAMIC_LEAVES                                                                             \
    (BIT(CPUID_FEATURES) | BIT(LEAF_CACHE_PARAMS) | BIT(LEAF_FEATURES7) | BIT(LEAF_TOPOLOGY) |     \
     BIT(LEAF_XSTATE))

struct cpuid_table {
    struct cpuid basic[BASIC_LEAVES]; // sub-leaf 0
    struct cpuid kvm[KVM_LEAVES];
    struct cpuid extended[EXTENDED_LEAVES];
    struct cpuid caches[CACHE_SUBLEAVES];
    u32 xsave_features;
    unsigned core_bits; // of the APIC id
};

// What a feature needs besides the host having it.
enum need {
    HOST,   // nothing
    ALWAYS, // not even that: Plinth does it
    XSAVE,  // the host's XSAVE
    AVX,    // the state component of AVX
    AVX512, // and those of AVX-512
    // Fast strings enabled (IA32_MISC_ENABLE bit 0): an emulator that has them off runs REP STOSB
    // byte by byte, and a guest that is told otherwise clears its pages that way.
    FAST_STRINGS,
};

#define EAX CPUID_EAX
#define EBX CPUID_EBX
#define ECX CPUID_ECX
#define EDX CPUID_EDX

static const struct feature {
    u32 leaf;
    u8 reg, bit, need;
    const char *name;
} features[] = {
    {0x01, ECX, 0, HOST, "SSE3"},
    {0x01, ECX, 1, HOST, "PCLMULQDQ"},
    {0x01, ECX, 9, HOST, "SSSE3"},
    {0x01, ECX, 12, AVX, "FMA"},
    {0x01, ECX, 13, HOST, "CMPXCHG16B"},
    {0x01, ECX, 17, HOST, "PCID"},
    {0x01, ECX, 19, HOST, "SSE4.1"},
    {0x01, ECX, 20, HOST, "SSE4.2"},
    {0x01, ECX, 21, ALWAYS, "x2APIC"},
    {0x01, ECX, 22, HOST, "MOVBE"},
    {0x01, ECX, 23, HOST, "POPCNT"},
    {0x01, ECX, 24, ALWAYS, "TSC-deadline"},
    {0x01, ECX, 25, HOST, "AES"},
    {0x01, ECX, 26, XSAVE, "XSAVE"},
    {0x01, ECX, 28, AVX, "AVX"},
    {0x01, ECX, 29, AVX, "F16C"},
    {0x01, ECX, 30, HOST, "RDRAND"},
    {0x01, ECX, 31, ALWAYS, "hypervisor"},
    {0x01, EDX, 0, HOST, "FPU"},
    {0x01, EDX, 1, HOST, "VME"},
    {0x01, EDX, 2, HOST, "DE"},
    {0x01, EDX, 3, HOST, "PSE"},
    {0x01, EDX, 4, HOST, "TSC"},
    {0x01, EDX, 5, HOST, "MSR"},
    {0x01, EDX, 6, HOST, "PAE"},
    {0x01, EDX, 7, HOST, "MCE"},
    {0x01, EDX, 8, HOST, "CMPXCHG8B"},
    {0x01, EDX, 9, ALWAYS, "APIC"},
    {0x01, EDX, 11, HOST, "SEP"},
    {0x01, EDX, 12, ALWAYS, "MTRR"},
    {0x01, EDX, 13, HOST, "PGE"},
    {0x01, EDX, 14, HOST, "MCA"},
    {0x01, EDX, 15, HOST, "CMOV"},
    {0x01, EDX, 16, HOST, "PAT"},
    {0x01, EDX, 17, HOST, "PSE-36"},
    {0x01, EDX, 19, HOST, "CLFLUSH"},
    {0x01, EDX, 23, HOST, "MMX"},
    {0x01, EDX, 24, HOST, "FXSR"},
    {0x01, EDX, 25, HOST, "SSE"},
    {0x01, EDX, 26, HOST, "SSE2"},
    {0x01, EDX, 27, HOST, "SS"},
    {0x06, EAX, 2, ALWAYS, "ARAT"},
    {0x07, EBX, 0, HOST, "FSGSBASE"},
    {0x07, EBX, 1, ALWAYS, "TSC_ADJUST"},
    {0x07, EBX, 3, HOST, "BMI1"},
    {0x07, EBX, 5, AVX, "AVX2"},
    {0x07, EBX, 6, HOST, "FDP_EXCPTN_ONLY"},
    {0x07, EBX, 7, HOST, "SMEP"},
    {0x07, EBX, 8, HOST, "BMI2"},
    {0x07, EBX, 9, FAST_STRINGS, "ERMS"},
    {0x07, EBX, 10, HOST, "INVPCID"},
    {0x07, EBX, 13, HOST, "no FPU CS and DS"},
    {0x07, EBX, 16, AVX512, "AVX512F"},
    {0x07, EBX, 17, AVX512, "AVX512DQ"},
    {0x07, EBX, 18, HOST, "RDSEED"},
    {0x07, EBX, 19, HOST, "ADX"},
    {0x07, EBX, 20, HOST, "SMAP"},
    {0x07, EBX, 21, AVX512, "AVX512_IFMA"},
    {0x07, EBX, 23, HOST, "CLFLUSHOPT"},
    {0x07, EBX, 24, HOST, "CLWB"},
    {0x07, EBX, 28, AVX512, "AVX512CD"},
    {0x07, EBX, 29, HOST, "SHA"},
    {0x07, EBX, 30, AVX512, "AVX512BW"},
    {0x07, EBX, 31, AVX512, "AVX512VL"},
    {0x07, ECX, 0, HOST, "PREFETCHWT1"},
    {0x07, ECX, 1, AVX512, "AVX512_VBMI"},
    {0x07, ECX, 2, HOST, "UMIP"},
    {0x07, ECX, 6, AVX512, "AVX512_VBMI2"},
    {0x07, ECX, 8, HOST, "GFNI"},
    {0x07, ECX, 9, AVX, "VAES"},
    {0x07, ECX, 10, AVX, "VPCLMULQDQ"},
    {0x07, ECX, 11, AVX512, "AVX512_VNNI"},
    {0x07, ECX, 12, AVX512, "AVX512_BITALG"},
    {0x07, ECX, 14, AVX512, "AVX512_VPOPCNTDQ"},
    {0x07, ECX, 16, HOST, "LA57"},
    {0x07, ECX, 22, HOST, "RDPID"},
    {0x07, EDX, 4, FAST_STRINGS, "FSRM"},
    {0x07, EDX, 10, HOST, "MD_CLEAR"},
    {0x07, EDX, 14, HOST, "SERIALIZE"},
    {0x80000001, ECX, 0, HOST, "LAHF in 64-bit mode"},
    {0x80000001, ECX, 5, HOST, "LZCNT"},
    {0x80000001, ECX, 8, HOST, "PREFETCHW"},
    {0x80000001, EDX, 11, HOST, "SYSCALL"},
    {0x80000001, EDX, 20, HOST, "NX"},
    {0x80000001, EDX, 26, HOST, "1 GiB pages"},
    {0x80000001, EDX, 27, HOST, "RDTSCP"},
    {0x80000001, EDX, 29, HOST, "64-bit mode"},
    {0x80000007, EDX, 8, ALWAYS, "invariant TSC"},
};

#define XSAVE_XSAVEC   BIT(1)
#define XSAVE_FEATURES (BIT(0) | XSAVE_XSAVEC | BIT(2)) // XSAVEOPT, XGETBV with ECX = 1

#define KVM_FEATURE_CLOCKSOURCE        BIT(0)
#define KVM_FEATURE_NOP_IO_DELAY       BIT(1)
#define KVM_FEATURE_CLOCKSOURCE2       BIT(3)
#define KVM_FEATURE_CLOCKSOURCE_STABLE BIT(24)
#define KVM_FEATURES                                                                               \
    (KVM_FEATURE_CLOCKSOURCE | KVM_FEATURE_NOP_IO_DELAY | KVM_FEATURE_CLOCKSOURCE2 |               \
     KVM_FEATURE_CLOCKSOURCE_STABLE)

// --- making the table ---

static u32 *leaf_register(struct cpuid *c, unsigned reg)
{
    u32 *const registers[] = {&c->eax, &c->ebx, &c->ecx, &c->edx};
    return registers[reg];
}

static bool host_has_leaf(u32 leaf)
{
    return leaf <= cpuid(leaf & CPUID_EXTENDED, 0).eax;
}

static struct cpuid host_leaf(u32 leaf, u32 subleaf)
{
    return host_has_leaf(leaf) ? cpuid(leaf, subleaf) : (struct cpuid){0, 0, 0, 0};
}

static bool state_offered(unsigned need)
{
    u64 offered = xstate_offered(), misc_enable;
    switch (need) {
    case XSAVE:
        return xstate_has_xsave();
    case AVX:
        return offered & XCR0_AVX;
    case AVX512:
        return (offered & XCR0_AVX512) == XCR0_AVX512;
    case FAST_STRINGS:
        return rdmsr_safe(MSR_IA32_MISC_ENABLE, &misc_enable) && (misc_enable & 1);
    default:
        return true;
    }
}

static struct cpuid *table_leaf(struct cpuid_table *t, u32 leaf)
{
    return leaf >= CPUID_EXTENDED ? &t->extended[leaf - CPUID_EXTENDED] : &t->basic[leaf];
}

static void features_fill(struct cpuid_table *t)
{
    struct cpuid host = {0, 0, 0, 0};
    u32 host_is = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        const struct feature *f = &features[i];
        if (f->leaf != host_is)
            host = host_leaf(f->leaf, 0);
        host_is = f->leaf;
        u32 bit = (u32)BIT(f->bit);
        bool has = f->need == ALWAYS || (*leaf_register(&host, f->reg) & bit);
        if (has && state_offered(f->need))
            *leaf_register(table_leaf(t, f->leaf), f->reg) |= bit;
    }
    if (xstate_has_xsave())
        t->xsave_features = host_leaf(LEAF_XSTATE, 1).eax & XSAVE_FEATURES;
    if (!xstate_compacts())
        t->xsave_features &= ~(u32)XSAVE_XSAVEC;
}

static unsigned bits_for(unsigned count)
{
    return count > 1 ? bit_highest(count - 1) + 1 : 0;
}

static void identity_fill(struct cpuid_table *t, const struct vcpu *vcpu)
{
    struct cpuid host = cpuid(CPUID_FEATURES, 0);
    unsigned slots = 1u << t->core_bits;
    t->basic[CPUID_VENDOR] = cpuid(CPUID_VENDOR, 0);
    t->basic[CPUID_VENDOR].eax = BASIC_LEAVES - 1;
    struct cpuid *c = &t->basic[CPUID_FEATURES];
    c->eax = host.eax;
    c->ebx = (host.ebx & EBX_CLFLUSH_MASK) | slots << EBX_COUNT_SHIFT |
             vcpu->lapic.id << EBX_APIC_ID_SHIFT;
    if (slots > 1)
        c->edx |= (u32)BIT(28); // HTT: the count above means something
    t->basic[LEAF_CACHES] = host_leaf(LEAF_CACHES, 0);
}

// The host's caches; each CPU has its own, but for the last level.
static void caches_fill(struct cpuid_table *t)
{
    u32 others = (1u << t->core_bits) - 1;
    for (unsigned i = 0; i < CACHE_SUBLEAVES; i++) {
        struct cpuid c = host_leaf(LEAF_CACHE_PARAMS, i);
        if (!(c.eax & CACHE_TYPE_MASK))
            break;
        u32 level = (c.eax >> CACHE_LEVEL_SHIFT) & CACHE_LEVEL_MASK;
        u32 sharing = level >= CACHE_LEVEL_SHARED ? others : 0;
        c.eax =
            (c.eax & CACHE_OWN_MASK) | sharing << CACHE_SHARING_SHIFT | others << CACHE_CORES_SHIFT;
        t->caches[i] = c;
    }
}

static void timing_fill(struct cpuid_table *t)
{
    struct cpuid_ratio ratio = cpuid_tsc_ratio(tsc_hz, LAPIC_TIMER_HZ);
    u32 mhz = (u32)((tsc_hz + MHZ / 2) / MHZ);
    t->basic[CPUID_TSC_RATIO] =
        (struct cpuid){ratio.denominator, ratio.numerator, ratio.crystal_hz, 0};
    t->basic[CPUID_FREQUENCY] = (struct cpuid){mhz, mhz, BUS_MHZ, 0};
}

static u32 word(const char *text)
{
    u32 w;
    memcpy(&w, text, sizeof(w));
    return w;
}

static void hypervisor_fill(struct cpuid_table *t)
{
    t->kvm[0] = (struct cpuid){LEAF_KVM_TIMING, word("KVMK"), word("VMKV"), word("M\0\0")};
    t->kvm[LEAF_KVM_FEATURES - LEAF_KVM] = (struct cpuid){(u32)KVM_FEATURES, 0, 0, 0};
    t->kvm[LEAF_KVM_TIMING - LEAF_KVM] =
        (struct cpuid){(u32)(tsc_hz / KHZ), (u32)(LAPIC_TIMER_HZ / KHZ), 0, 0};
}

// The host's: its CPU walks the guest's tables, and takes its own width for what is reserved there.
static unsigned physical_bits(void)
{
    unsigned bits = host_leaf(LEAF_EXT_ADDRESS, 0).eax & ADDRESS_BITS_MASK;
    return bits ? MIN(bits, (unsigned)PHYSICAL_BITS_TOP) : PHYSICAL_BITS_OLD;
}

static u32 address_sizes(bool la57)
{
    unsigned bits = physical_bits();
    u32 guest = bits > GUEST_BITS_MAX ? GUEST_BITS_MAX << GUEST_BITS_SHIFT : 0;
    u32 linear = la57 ? LINEAR_BITS_LA57 : LINEAR_BITS;
    return guest | linear << LINEAR_BITS_SHIFT | bits;
}

static void extended_fill(struct cpuid_table *t)
{
    for (u32 leaf = CPUID_BRAND_FIRST; leaf <= CPUID_BRAND_LAST; leaf++)
        *table_leaf(t, leaf) = host_leaf(leaf, 0);
    *table_leaf(t, LEAF_EXT_CACHE) = host_leaf(LEAF_EXT_CACHE, 0);
    t->extended[0].eax = LEAF_EXT_ADDRESS;
}

int cpuid_create(struct vcpu *vcpu)
{
    struct cpuid_table *t = heap_alloc(sizeof(*t));
    if (!t)
        return ERR_NO_MEMORY;
    t->core_bits = bits_for(vcpu->vm->vcpu_count);
    features_fill(t);
    identity_fill(t, vcpu);
    caches_fill(t);
    timing_fill(t);
    hypervisor_fill(t);
    extended_fill(t);
    vcpu->cpuid = t;
    vcpu->la57 = table_leaf(t, LEAF_FEATURES7)->ecx & ECX_LA57;
    table_leaf(t, LEAF_EXT_ADDRESS)->eax = address_sizes(vcpu->la57);
    vcpu->lapic.physical_bits = (u8)physical_bits();
    vcpu->gpa_reserved = (BIT(PHYSICAL_BITS_TOP) - 1) & ~(BIT(physical_bits()) - 1);
    return OK;
}

void cpuid_destroy(struct vcpu *vcpu)
{
    heap_free(vcpu->cpuid);
    vcpu->cpuid = NULL;
}

// --- looking it up ---

static void leaf_features(struct vcpu *vcpu, u32 subleaf, struct cpuid *out)
{
    (void)subleaf;
    if (vcpu_reg(vcpu, REG_CR4) & CR4_OSXSAVE)
        out->ecx |= (u32)ECX_OSXSAVE;
    if (!(vcpu->lapic.base_msr & APIC_BASE_ENABLE))
        out->edx &= (u32)~EDX_APIC;
}

static void leaf_cache_params(struct vcpu *vcpu, u32 subleaf, struct cpuid *out)
{
    if (subleaf < CACHE_SUBLEAVES)
        *out = vcpu->cpuid->caches[subleaf];
}

static void leaf_features7(struct vcpu *vcpu, u32 subleaf, struct cpuid *out)
{
    (void)vcpu;
    if (subleaf != 0)
        *out = (struct cpuid){0, 0, 0, 0};
}

// One thread a core, all cores in one package.
static void leaf_topology(struct vcpu *vcpu, u32 subleaf, struct cpuid *out)
{
    out->ecx = subleaf & TOPOLOGY_ID_MASK;
    out->edx = vcpu->lapic.id;
    if (subleaf == 0) {
        out->ebx = 1;
        out->ecx |= TOPOLOGY_SMT << TOPOLOGY_TYPE_SHIFT;
    } else if (subleaf == 1) {
        out->eax = vcpu->cpuid->core_bits;
        out->ebx = vcpu->vm->vcpu_count;
        out->ecx |= TOPOLOGY_CORE << TOPOLOGY_TYPE_SHIFT;
    }
}

static void leaf_xstate(struct vcpu *vcpu, u32 subleaf, struct cpuid *out)
{
    u64 offered = xstate_offered();
    if (!xstate_has_xsave())
        return;
    if (subleaf == 0) {
        *out = (struct cpuid){(u32)offered, xstate_size(vcpu->xcr0), xstate_size(offered),
                              (u32)(offered >> 32)};
    } else if (subleaf == 1) {
        out->eax = vcpu->cpuid->xsave_features;
        out->ebx = xstate_compacted_size(vcpu->xcr0);
    } else {
        const struct xstate_component *c = xstate_component(subleaf);
        *out = (struct cpuid){c->size, c->offset, c->aligned ? XSTATE_ALIGNED : 0, 0};
    }
}

static void (*const dynamic_leaves[BASIC_LEAVES])(struct vcpu *, u32, struct cpuid *) = {
    [CPUID_FEATURES] = leaf_features,  [LEAF_CACHE_PARAMS] = leaf_cache_params,
    [LEAF_FEATURES7] = leaf_features7, [LEAF_TOPOLOGY] = leaf_topology,
    [LEAF_XSTATE] = leaf_xstate,
};

static struct cpuid other_leaf(const struct cpuid_table *t, u32 leaf)
{
    if (leaf - CPUID_EXTENDED < EXTENDED_LEAVES)
        return t->extended[leaf - CPUID_EXTENDED];
    if (leaf - LEAF_KVM < KVM_LEAVES)
        return t->kvm[leaf - LEAF_KVM];
    if (leaf == LEAF_PLINTH)
        return (struct cpuid){LEAF_PLINTH, word("Plin"), word("thPl"), word("inth")};
    if (leaf >= LEAF_KVM && leaf < CPUID_EXTENDED)
        return (struct cpuid){0, 0, 0, 0};
    return t->basic[BASIC_LEAVES - 1]; // SDM: beyond the highest, the highest basic leaf
}

// Apart, so that the common leaves pay for no registers saved.
static __attribute__((noinline)) void out_of_basic(const struct cpuid_table *t, u32 leaf,
                                                   struct cpuid *out)
{
    *out = other_leaf(t, leaf);
}

void cpuid_guest(struct vcpu *vcpu, u32 leaf, u32 subleaf, struct cpuid *out)
{
    const struct cpuid_table *t = vcpu->cpuid;
    if (unlikely(leaf >= BASIC_LEAVES)) {
        out_of_basic(t, leaf, out);
        return;
    }
    *out = t->basic[leaf];
    if (unlikely(DYNAMIC_LEAVES & BIT(leaf)))
        dynamic_leaves[leaf](vcpu, subleaf, out);
}

bool cpuid_guest_has(struct vcpu *vcpu, u32 leaf, enum cpuid_register reg, unsigned bit)
{
    struct cpuid c;
    cpuid_guest(vcpu, leaf, 0, &c);
    return *leaf_register(&c, reg) & BIT(bit);
}
