// SPDX-License-Identifier: MIT
// What a guest is shown, on machines made up here.
#include "tests/unit/test.h"
#include "arch/x86_64/asm.h"

static struct cpuid fake_cpuid(u32 leaf, u32 subleaf);
static void fake_xsave(u64 *area, u64 components);
static void fake_xsavec(u64 *area, u64 components);
static void fake_xrstor(const u64 *area, u64 components);
#define cpuid(leaf, subleaf)  fake_cpuid(leaf, subleaf)
#define xsetbv(index, value)  CHECK(index == 0 && xstate_valid(value))
#define xsave64(area, which)  fake_xsave(area, which)
#define xsavec64(area, which) fake_xsavec(area, which)
#define xrstor64(area, which) fake_xrstor(area, which)
#include "arch/x86_64/xstate.c"
#include "vmm/guest_cpu/cpuid_timing.c"
#include "vmm/guest_cpu/cpuid.c"
#undef cpuid

u64 tsc_hz = 2400000000ull;

void *heap_alloc(size_t size)
{
    return calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

static u64 cr4;
static u64 reg_read(struct vcpu *v, enum vcpu_reg reg)
{
    (void)v;
    CHECK_EQ(reg, REG_CR4);
    return cr4;
}
static const struct cpu_ops ops = {.reg_read = reg_read};

// The host: every bit of every feature word, and three components.
static struct {
    u32 max, extended_max, physical_bits;
    u32 xcr0;
    struct cpuid components[16];
} host;

static struct cpuid fake_cpuid(u32 leaf, u32 subleaf)
{
    const struct cpuid none = {0, 0, 0, 0}, all = {~0u, ~0u, ~0u, ~0u};
    if (leaf == 0)
        return (struct cpuid){host.max, 0x756e6547, 0x6c65746e, 0x49656e69};
    if (leaf == 0x80000000)
        return (struct cpuid){host.extended_max, 0, 0, 0};
    if (leaf >= 0x80000000 ? leaf > host.extended_max : leaf > host.max)
        return none;
    switch (leaf) {
    case 1:
        return (struct cpuid){0x806c1, 0x12100834, ~0u, ~0u};
    case 4:
        if (subleaf < 3) // three levels of data cache
            return (struct cpuid){0xfc004000 | 1 | (subleaf + 1) << 5, 0x1c0003f, 63, 0};
        return none;
    case 7:
        return subleaf ? all : (struct cpuid){2, ~0u, ~0u, ~0u};
    case 0xd:
        if (subleaf == 0)
            return (struct cpuid){host.xcr0, 7, 7, 0}; // the totals are wrong on purpose
        if (subleaf == 1)
            return (struct cpuid){0xf, 7, 0x1100, 0};
        return subleaf < 16 ? host.components[subleaf] : none;
    case 0x80000008:
        return (struct cpuid){host.physical_bits | 57 << 8, ~0u, ~0u, ~0u};
    default:
        return all;
    }
}

// Each component's first word is all that there is of it. In the compacted format each follows the
// one before; `skips` is the emulator that leaves out those that are not in use as it restores.
static u64 state[XSTATE_COMPONENTS];
static bool skips;

static u64 *word_at(u64 *area, u32 offset)
{
    CHECK(offset % 8 == 0 && offset < PAGE_SIZE);
    return area + offset / 8;
}

static void fake_xsave(u64 *area, u64 which)
{
    for (unsigned i = 2; i < XSTATE_COMPONENTS; i++)
        if (which & BIT(i))
            *word_at(area, host.components[i].ebx) = state[i];
}

static void fake_xsavec(u64 *area, u64 which)
{
    u32 offset = 576;
    *word_at(area, 512) = 0;
    *word_at(area, 520) = BIT(63) | which;
    for (unsigned i = 2; i < XSTATE_COMPONENTS; i++) {
        if (!(which & BIT(i)))
            continue;
        *word_at(area, offset) = state[i];
        *word_at(area, 512) |= state[i] ? BIT(i) : 0;
        offset += host.components[i].eax;
    }
}

static void fake_xrstor(const u64 *from, u64 which)
{
    u64 *area = (u64 *)from, used = *word_at(area, 512), format = *word_at(area, 520);
    u32 offset = 576;
    for (unsigned i = 2; i < XSTATE_COMPONENTS; i++) {
        if (!(which & BIT(i)))
            continue;
        bool in_use = used & BIT(i);
        state[i] = in_use ? *word_at(area, format ? offset : host.components[i].ebx) : 0;
        if (format & BIT(i) && (in_use || !skips))
            offset += host.components[i].eax;
    }
}

static bool fast_strings = true;
bool rdmsr_safe(u32 msr, u64 *value)
{
    CHECK_EQ(msr, MSR_IA32_MISC_ENABLE);
    *value = fast_strings;
    return true;
}

static struct vm vm;
static struct vcpu vcpu;

static void setup(unsigned cpus)
{
    host.max = 0x20;
    host.extended_max = 0x80000008;
    host.physical_bits = 46;
    host.xcr0 = 0x2e7;
    host.components[2] = (struct cpuid){256, 576, 0, 0};
    host.components[5] = (struct cpuid){64, 1088, 0, 0};
    host.components[6] = (struct cpuid){512, 1152, 0, 0};
    host.components[7] = (struct cpuid){1024, 1664, 2, 0};
    cr4 = 0;
    vm.vcpu_count = cpus;
    vcpu.vm = &vm;
    vcpu.ops = &ops;
    vcpu.lapic.id = cpus - 1;
    vcpu.lapic.base_msr = APIC_BASE_ENABLE;
    vcpu.xcr0 = 1;
}

static void create(void)
{
    xstate_init();
    cpuid_destroy(&vcpu);
    CHECK_EQ(cpuid_create(&vcpu), OK);
}

static struct cpuid show(u32 leaf, u32 subleaf)
{
    struct cpuid c;
    cpuid_guest(&vcpu, leaf, subleaf, &c);
    return c;
}

TEST(vendor_and_range)
{
    setup(1);
    create();
    struct cpuid c = show(0, 0);
    CHECK(c.eax == 0x16 && c.ebx == 0x756e6547 && c.edx == 0x49656e69);
    CHECK_EQ(show(0x80000000, 0).eax, 0x80000008);
    struct cpuid last = show(0x16, 0), beyond = show(0x17, 0), far = show(0x80000009, 0);
    CHECK(memcmp(&last, &beyond, sizeof(last)) == 0);
    CHECK(memcmp(&last, &far, sizeof(last)) == 0);
    CHECK_EQ(show(0xffffffff, 0).eax, last.eax);
}

TEST(hidden_features_stay_hidden)
{
    setup(1);
    create();
    struct cpuid c = show(1, 0);
    // DTES64, MONITOR, DS-CPL, VMX, SMX, EST, TM2, CNXT-ID, SDBG, xTPR, PDCM, DCA, OSXSAVE
    CHECK_EQ(c.ecx & 0x0804cdfc & ~(1u << 9), 0);
    CHECK_EQ(c.edx & (1u << 21 | 1u << 22 | 1u << 29 | 1u << 31 | 1u << 28 | 1u << 18), 0);
    CHECK_EQ(c.ecx & (1u << 31 | 1u << 24 | 1u << 21), 1u << 31 | 1u << 24 | 1u << 21);
    c = show(7, 0);
    CHECK_EQ(c.eax, 0);
    // SGX, HLE, RTM, RDT, MPX, PT
    CHECK_EQ(c.ebx & (1u << 2 | 1u << 4 | 1u << 11 | 1u << 12 | 1u << 14 | 1u << 15 | 1u << 25), 0);
    // PKU, OSPKE, WAITPKG, CET, TME, KL, PKS
    CHECK_EQ(c.ecx & (1u << 3 | 1u << 4 | 1u << 5 | 1u << 7 | 1u << 13 | 1u << 23 | 1u << 31), 0);
    CHECK_EQ(c.edx & (1u << 20 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 29 | 1u << 31), 0);
    c = show(7, 1);
    CHECK_EQ(c.eax | c.ebx | c.ecx | c.edx, 0);
    static const u32 empty[] = {3, 5, 8, 9, 0xa, 0xc, 0xe, 0xf, 0x10, 0x12, 0x14};
    for (unsigned i = 0; i < ARRAY_SIZE(empty); i++) {
        c = show(empty[i], 0);
        CHECK_EQ(c.eax | c.ebx | c.ecx | c.edx, 0);
    }
    CHECK_EQ(show(6, 0).eax, 4);
    CHECK_EQ(show(0x80000007, 0).edx, 1u << 8);
    CHECK_EQ(show(0x80000001, 0).edx, 1u << 11 | 1u << 20 | 1u << 26 | 1u << 27 | 1u << 29);
}

TEST(a_host_that_has_all_is_shown_so_far)
{
    setup(1);
    create();
    CHECK_EQ(show(1, 0).ecx, 0xf7fa3203u);
    CHECK_EQ(show(1, 0).edx, 0x0f8bfbffu);
    CHECK_EQ(show(7, 0).ebx, 0xf1bf27ebu);
    CHECK_EQ(show(7, 0).ecx, 0x00415f47u);
    CHECK_EQ(show(7, 0).edx, 0x00004410u);
    CHECK_EQ(show(0x80000001, 0).ecx, 0x00000121u);
}

TEST(features_go_with_the_state_that_they_need)
{
    setup(1);
    host.xcr0 = 7; // no AVX-512
    create();
    CHECK_EQ(show(1, 0).ecx, 0xf7fa3203u);
    CHECK_EQ(show(7, 0).ebx, 0x219c27ebu);
    CHECK_EQ(show(7, 0).ecx, 0x00410705u);
    host.xcr0 = 3; // nor AVX
    create();
    CHECK_EQ(show(1, 0).ecx, 0xc7fa2203u);
    CHECK_EQ(show(7, 0).ebx, 0x219c27cbu);
    CHECK_EQ(show(7, 0).ecx, 0x00410105u);
}

TEST(what_the_host_lacks_the_guest_lacks)
{
    setup(1);
    host.max = 4;
    host.extended_max = 0x80000004;
    create();
    struct cpuid c = show(7, 0);
    CHECK(c.ebx == 1u << 1 && !c.ecx && !c.edx); // TSC_ADJUST is ours
    CHECK_EQ(show(0x80000008, 0).eax, 36 | 48 << 8);
    CHECK(!vcpu.la57);
    CHECK_EQ(vcpu.gpa_reserved, 0x000ffff000000000ull);
    CHECK_EQ(show(0x80000007, 0).edx, 1u << 8);
}

TEST(fast_strings_only_where_the_host_has_them_on)
{
    setup(1);
    create();
    CHECK(show(7, 0).ebx & BIT(9));
    CHECK(show(7, 0).edx & BIT(4));
    fast_strings = false;
    create();
    CHECK(!(show(7, 0).ebx & BIT(9)));
    CHECK(!(show(7, 0).edx & BIT(4)));
    fast_strings = true;
}

TEST(bits_that_change)
{
    setup(1);
    create();
    CHECK(!(show(1, 0).ecx & 1u << 27) && (show(1, 0).edx & 1u << 9));
    cr4 = CR4_OSXSAVE;
    CHECK(show(1, 0).ecx & 1u << 27);
    vcpu.lapic.base_msr = 0xfee00100; // not enabled
    CHECK(!(show(1, 0).edx & 1u << 9));
    CHECK(cpuid_guest_has(&vcpu, 1, CPUID_ECX, 31));
    CHECK(!cpuid_guest_has(&vcpu, 1, CPUID_ECX, 5));
}

TEST(frequencies_are_rounded)
{
    setup(1);
    tsc_hz = 2399500000ull;
    create();
    struct cpuid c = show(0x16, 0);
    CHECK(c.eax == 2400 && c.ebx == 2400 && c.ecx == 100);
    tsc_hz = 2399499999ull;
    create();
    CHECK_EQ(show(0x16, 0).eax, 2399);
    tsc_hz = 2400000000ull;
}

TEST(topology)
{
    setup(1);
    create();
    CHECK_EQ(show(1, 0).ebx, 0x00010800);
    CHECK_EQ(show(0xb, 1).eax, 0);
    setup(3);
    create();
    CHECK_EQ(show(1, 0).ebx, 0x02040800);
    CHECK(show(1, 0).edx & 1u << 28);
    struct cpuid c = show(0xb, 0);
    CHECK(c.eax == 0 && c.ebx == 1 && c.ecx == 0x100 && c.edx == 2);
    c = show(0xb, 1);
    CHECK(c.eax == 2 && c.ebx == 3 && c.ecx == 0x201 && c.edx == 2);
    c = show(0xb, 2);
    CHECK(c.eax == 0 && c.ebx == 0 && c.ecx == 2 && c.edx == 2);
    CHECK_EQ(show(4, 0).eax, 3u << 26 | 1 << 5 | 1);
    CHECK_EQ(show(4, 2).eax, 3u << 26 | 3u << 14 | 3 << 5 | 1);
    CHECK_EQ(show(4, 3).eax, 0);
    CHECK_EQ(show(4, 0xffffffff).eax, 0);
}

TEST(extended_state)
{
    setup(1);
    create();
    struct cpuid c = show(0xd, 0);
    CHECK(c.eax == 0xe7 && c.ebx == 576 && c.ecx == 2688 && c.edx == 0);
    vcpu.xcr0 = 7;
    CHECK_EQ(show(0xd, 0).ebx, 832);
    c = show(0xd, 1);
    CHECK(c.eax == 7 && c.ebx == 832 && c.ecx == 0);
    vcpu.xcr0 = 0xe7;
    CHECK_EQ(show(0xd, 0).ebx, 2688);
    CHECK_EQ(show(0xd, 1).ebx, 576 + 256 + 64 + 512 + 1024); // already aligned
    c = show(0xd, 7);
    CHECK(c.eax == 1024 && c.ebx == 1664 && c.ecx == 2);
    CHECK_EQ(show(0xd, 9).eax, 0); // PKRU
    CHECK_EQ(show(0xd, 0x80000002).eax, 0);
    CHECK(show(7, 0).ebx & 1u << 16);
    CHECK(xstate_valid(1) && xstate_valid(3) && xstate_valid(7) && xstate_valid(0xe7));
    CHECK(!xstate_valid(0) && !xstate_valid(2) && !xstate_valid(5) && !xstate_valid(0x27));
    CHECK(!xstate_valid(0xe3) && !xstate_valid(0x207) && !xstate_valid(1ull << 63 | 1));
}

TEST(xsavec_is_hidden_where_it_loses_registers)
{
    setup(1);
    skips = true;
    create();
    CHECK_EQ(show(0xd, 1).eax, 5);
    CHECK_EQ(show(0xd, 0).eax, 0xe7);
    skips = false;
    create();
    CHECK_EQ(show(0xd, 1).eax, 7);
    host.xcr0 = 3;
    create();
    CHECK_EQ(show(0xd, 1).eax, 5); // nothing to try it with
}

TEST(extended_state_that_does_not_fit)
{
    setup(1);
    host.components[6].ebx = 1100; // overlaps component 5
    create();
    CHECK_EQ(show(0xd, 0).eax, 7);
    CHECK_EQ(show(0xd, 0).ecx, 832);
    CHECK_EQ(show(7, 0).ebx & 1u << 16, 0);
    CHECK(show(7, 0).ebx & 1u << 5);
    CHECK_EQ(show(0xd, 5).eax, 0);
    CHECK(!xstate_valid(0xe7));
    host.components[2].eax = 0xfffff000;
    create();
    CHECK_EQ(show(0xd, 0).eax, 3);
    CHECK_EQ(show(1, 0).ecx & 1u << 28, 0);
    CHECK_EQ(show(7, 0).ebx & 1u << 5, 0);
}

TEST(physical_addresses)
{
    setup(1);
    create();
    CHECK_EQ(show(0x80000008, 0).eax, 46 | 57 << 8); // the host has LA57
    CHECK(vcpu.la57 && (show(7, 0).ecx & 1u << 16));
    CHECK_EQ(vcpu.gpa_reserved, 0x000fc00000000000ull);
    CHECK_EQ(vcpu.lapic.physical_bits, 46);
    host.physical_bits = 52;
    create();
    CHECK_EQ(show(0x80000008, 0).eax, 52 | 57 << 8 | 48 << 16);
    CHECK_EQ(vcpu.gpa_reserved, 0);
    CHECK_EQ(vcpu.lapic.physical_bits, 52);
}

TEST(hypervisor)
{
    setup(1);
    create();
    struct cpuid c = show(0x40000000, 0);
    CHECK(c.eax == 0x40000010 && memcmp(&c.ebx, "KVMKVMKVM\0\0\0", 12) == 0);
    CHECK_EQ(show(0x40000001, 0).eax, 1u << 24 | 1u << 3 | 1u << 1 | 1u);
    c = show(0x40000010, 0);
    CHECK(c.eax == 2400000 && c.ebx == 1000000);
    c = show(0x40000100, 0);
    CHECK(memcmp(&c.ebx, "PlinthPlinth", 12) == 0);
    CHECK_EQ(show(0x40000200, 0).eax, 0);
}

// As Linux does it (native_calibrate_tsc), in 32 bits.
static u32 linux_tsc_khz(struct cpuid_ratio r)
{
    return r.crystal_hz / 1000 * r.numerator / r.denominator;
}

TEST(the_tsc_ratio_is_exact)
{
    static const u64 rates[] = {50000000,      49999000,   2394374000ull, 2400000000ull,
                                3499999000ull, 1999998000, 4294000000ull, 5800000000ull,
                                1000000000,    999999999,  33333333,      3600000123ull};
    for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
        struct cpuid_ratio r = cpuid_tsc_ratio(rates[i], 1000000000);
        CHECK(r.denominator && r.numerator);
        if (!r.denominator)
            continue;
        CHECK_EQ(linux_tsc_khz(r), rates[i] / 1000);
        s64 off = (s64)r.crystal_hz - 1000000000;
        CHECK(off > -2000000 && off < 2000000); // the timer's clock: within 2000 ppm
    }
    struct cpuid_ratio r = cpuid_tsc_ratio(2400000000ull, 1000000000);
    CHECK(r.crystal_hz == 1000000000 && r.numerator == 12 && r.denominator == 5);
}
