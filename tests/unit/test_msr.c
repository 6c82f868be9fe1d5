// SPDX-License-Identifier: MIT
// RDMSR and WRMSR: values, and what gives #GP.
#include "tests/unit/test.h"
#include "vmm/guest_cpu/msr.c"
#include "vmm/guest_cpu/msr_mtrr.c"

static u64 regs[REG_COUNT];
static struct segment segments[SEG_COUNT];
static u64 tsc_offset;
static unsigned odd, published, passed;
static bool features_shown = true;
static u64 apic_value;
static struct vm vm;
static struct vcpu vcpu;

static u64 reg_read(struct vcpu *v, enum vcpu_reg reg)
{
    (void)v;
    return regs[reg];
}
static void reg_write(struct vcpu *v, enum vcpu_reg reg, u64 value)
{
    (void)v;
    regs[reg] = value;
}
static void segment_read(struct vcpu *v, enum vcpu_segment which, struct segment *s)
{
    (void)v;
    *s = segments[which];
}
static void segment_write(struct vcpu *v, enum vcpu_segment which, const struct segment *s)
{
    (void)v;
    segments[which] = *s;
}
static void set_tsc_offset(struct vcpu *v, u64 offset)
{
    (void)v;
    tsc_offset = offset;
}
static void fake_passthrough(struct vcpu *v, u32 msr, bool read, bool write)
{
    (void)v;
    bool checked = msr == MSR_IA32_EFER || msr == MSR_IA32_PAT || msr == MSR_IA32_TSC;
    CHECK(read);
    CHECK_EQ(write, !checked); // or else software has to hear of it
    CHECK(msr < MSR_X2APIC_FIRST || msr > MSR_X2APIC_LAST);
    passed++;
}
static const struct cpu_ops ops = {.reg_read = reg_read,
                                   .reg_write = reg_write,
                                   .segment_read = segment_read,
                                   .segment_write = segment_write,
                                   .set_tsc_offset = set_tsc_offset,
                                   .msr_passthrough = fake_passthrough};

bool cpuid_guest_has(struct vcpu *v, u32 leaf, enum cpuid_register reg, unsigned bit)
{
    (void)v;
    CHECK(leaf == 0x80000001 && reg == CPUID_EDX && bit < 32);
    return features_shown;
}
void vm_odd_access(struct vm *m, const char *format, ...)
{
    (void)m;
    (void)format;
    odd++;
}
bool lapic_msr_read(struct lapic *lapic, u32 msr, u64 *value)
{
    (void)lapic;
    CHECK(spin_is_locked(&vm.lock));
    *value = apic_value + msr;
    return msr != 0x80e;
}
bool lapic_msr_write(struct lapic *lapic, u32 msr, u64 value)
{
    (void)lapic;
    CHECK(spin_is_locked(&vm.lock));
    apic_value = value;
    return msr != 0x802;
}
void lapic_set_tsc_adjust(struct lapic *lapic, u64 adjust)
{
    lapic->tsc_adjust = adjust;
}
void pvclock_publish(struct vcpu *v)
{
    (void)v;
    published++;
}
bool pvclock_enable(struct vcpu *v, u64 value)
{
    v->pvclock_gpa = value;
    return true;
}
bool pvclock_wall_clock(struct vcpu *v, gpa_t gpa)
{
    (void)v;
    return gpa != 2;
}

static void setup(void)
{
    memset(regs, 0, sizeof(regs));
    vcpu = (struct vcpu){.vm = &vm, .ops = &ops, .gpa_reserved = 0x000fc00000000000ull};
    odd = published = 0;
    features_shown = true;
    msr_reset(&vcpu);
}

static u64 rd(u32 index)
{
    u64 value = 0xdeadbeef;
    CHECK(msr_guest_read(&vcpu, index, &value));
    return value;
}
static bool wr(u32 index, u64 value)
{
    return msr_guest_write(&vcpu, index, value);
}
static bool readable(u32 index)
{
    u64 value;
    return msr_guest_read(&vcpu, index, &value);
}

TEST(after_reset)
{
    setup();
    CHECK_EQ(rd(0x1a0), 1 | 1 << 11 | 1 << 12);
    CHECK_EQ(rd(0xfe), 0x508);
    CHECK_EQ(rd(0x2ff), 0);
    CHECK_EQ(rd(0x3a), 1);
    CHECK_EQ(rd(0x179), 0);
    CHECK_EQ(rd(0x17), 0);
    CHECK_EQ(rd(0x17a), 0);
    CHECK_EQ(rd(0x4b564d00), 0);
    CHECK_EQ(rd(0x11), 0);
    CHECK(rd(0x8b) >> 32);
    CHECK_EQ(odd, 0);
}

TEST(unknown_ones_fault_and_are_told)
{
    static const u32 unknown[] = {0x0,        0x48,       0x49,       0x10a,      0x345,
                                  0x3ff,      0x400,      0x480,      0x7ff,      0x900,
                                  0xda0,      0x4b564d02, 0x4b564d04, 0xbfffffff, 0xc0000085,
                                  0xc0000104, 0xc000010f, 0xc0000110, 0xc0010015, 0xffffffff};
    setup();
    for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++) {
        CHECK(!readable(unknown[i]));
        CHECK(!wr(unknown[i], 0));
    }
    CHECK_EQ(odd, 2 * ARRAY_SIZE(unknown));
}

TEST(read_only_ones)
{
    static const u32 read_only[] = {0x17, 0x3a, 0xfe, 0x179};
    setup();
    for (unsigned i = 0; i < ARRAY_SIZE(read_only); i++)
        CHECK(readable(read_only[i]) && !wr(read_only[i], 0));
    CHECK(wr(0x8b, 0) && wr(0x79, 0x1000));
    CHECK(wr(0x17a, 0) && !wr(0x17a, 4));
    CHECK_EQ(rd(0x17a), 0); // what was refused is not kept
}

TEST(apic_under_the_lock)
{
    setup();
    CHECK(wr(0x6e0, 77));
    CHECK_EQ(rd(0x6e0), 77 + 0x6e0);
    CHECK(wr(0x80b, 0) && !wr(0x802, 1) && !readable(0x80e));
    CHECK(readable(0x8ff) && readable(0x800) && readable(0x1b));
    CHECK(!spin_is_locked(&vm.lock));
}

TEST(efer)
{
    setup();
    CHECK(wr(0xc0000080, EFER_SCE | EFER_LME | EFER_NXE));
    CHECK_EQ(rd(0xc0000080), EFER_SCE | EFER_LME | EFER_NXE);
    CHECK(!wr(0xc0000080, BIT(12)) && !wr(0xc0000080, BIT(1)) && !wr(0xc0000080, BIT(63)));
    regs[REG_CR0] = CR0_PG;
    regs[REG_EFER] = EFER_LME | EFER_LMA;
    CHECK(!wr(0xc0000080, 0));
    CHECK(wr(0xc0000080, EFER_LME | EFER_NXE));
    CHECK_EQ(regs[REG_EFER], EFER_LME | EFER_LMA | EFER_NXE); // LMA is not the guest's to clear
    regs[REG_EFER] = 0;
    CHECK(wr(0xc0000080, EFER_LMA));
    CHECK_EQ(regs[REG_EFER], 0); // nor to set
    features_shown = false;
    CHECK(!wr(0xc0000080, EFER_NXE) && !wr(0xc0000080, EFER_SCE) && wr(0xc0000080, 0));
}

TEST(pat_and_mtrrs)
{
    setup();
    CHECK(wr(0x277, 0x0007040600070406ull));
    CHECK_EQ(rd(0x277), 0x0007040600070406ull);
    CHECK(wr(0x277, 0x0604040600070406ull)); // no address
    CHECK(!wr(0x277, 2) && !wr(0x277, 3ull << 56) && !wr(0x277, 8));
    CHECK(wr(0x200, 0x80000006) && wr(0x201, 0x00003fff80000800ull));
    CHECK_EQ(rd(0x200), 0x80000006);
    CHECK_EQ(rd(0x201), 0x00003fff80000800ull);
    CHECK(!wr(0x202, 7) && !wr(0x202, 2) && !wr(0x202, 0x100) && !wr(0x202, 1ull << 46));
    CHECK(!wr(0x203, 1) && !wr(0x203, 1ull << 52));
    CHECK(wr(0x20f, 0x800) && !readable(0x210));
    CHECK(wr(0x250, 0x0606060606060606ull) && !wr(0x250, 7));
    CHECK(wr(0x26f, 0x0505050505050505ull));
    CHECK_EQ(rd(0x26f), 0x0505050505050505ull);
    CHECK_EQ(rd(0x268), 0);
    CHECK(wr(0x2ff, 0xc06) && !wr(0x2ff, 0x1006) && !wr(0x2ff, 7) && !wr(0x2ff, 0x100));
    CHECK_EQ(rd(0x2ff), 0xc06);
    CHECK_EQ(rd(0x200), 0x80000006);
    msr_reset(&vcpu);
    CHECK_EQ(rd(0x200) | rd(0x201) | rd(0x26f) | rd(0x2ff), 0);
    mtrr_write_back(&vcpu);
    CHECK_EQ(rd(0x2ff), 0x806);
    CHECK(wr(0x2ff, rd(0x2ff)) && !(rd(0x200) | rd(0x201) | rd(0x26f)));
}

// Another pattern of types for each number below 16.
static u64 types_of(unsigned n)
{
    u64 types = 0;
    for (unsigned bit = 0; bit < 4; bit++)
        types |= (n >> bit & 1 ? 6ull : 0) << 8 * bit;
    return types;
}

TEST(each_mtrr_is_one_of_its_own)
{
    static const u32 fixed[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
                                0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
    setup();
    for (u32 i = 0; i < 8; i++)
        CHECK(wr(0x200 + 2 * i, i << 12 | 6) && wr(0x201 + 2 * i, i << 20 | 0x800));
    for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++)
        CHECK(wr(fixed[i], types_of(i + 1)));
    CHECK(wr(0x2ff, 0x806));
    for (u32 i = 0; i < 8; i++)
        CHECK(rd(0x200 + 2 * i) == (i << 12 | 6) && rd(0x201 + 2 * i) == (i << 20 | 0x800));
    for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++)
        CHECK_EQ(rd(fixed[i]), types_of(i + 1));
    CHECK_EQ(rd(0x2ff), 0x806);
}

TEST(tsc)
{
    setup();
    vm.tsc_offset = 0 - rdtsc();
    u64 before = rd(0x10);
    CHECK(before < 1ull << 40);
    CHECK(wr(0x10, 1ull << 50));
    u64 now = rd(0x10);
    CHECK(now >= 1ull << 50 && now < (1ull << 50) + (1ull << 40));
    CHECK(rd(0x3b) < 1ull << 50 && rd(0x3b) > (1ull << 50) - (1ull << 40));
    CHECK_EQ(tsc_offset, vm.tsc_offset + rd(0x3b));
    CHECK_EQ(published, 1);
    CHECK(wr(0x3b, (u64)-1000));
    CHECK_EQ(rd(0x3b), (u64)-1000);
    CHECK_EQ(tsc_offset, vm.tsc_offset - 1000);
}

TEST(bases_must_be_canonical)
{
    static const u32 addresses[] = {0x175,      0x176,      0xc0000082, 0xc0000083,
                                    0xc0000100, 0xc0000101, 0xc0000102};
    setup();
    segments[SEG_GS].selector = 0x23;
    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
        CHECK(wr(addresses[i], 0xffff800000000000ull + i));
        CHECK_EQ(rd(addresses[i]), 0xffff800000000000ull + i);
        CHECK(!wr(addresses[i], 0x0000800000000000ull));
    }
    CHECK_EQ(segments[SEG_GS].base, 0xffff800000000005ull);
    vcpu.la57 = true; // as wide as it could have them, 5-level paging or not
    CHECK(wr(0xc0000102, 0x00ff800000000000ull));
    CHECK(wr(0xc0000102, 0xff00000000000000ull));
    CHECK(!wr(0xc0000102, 0x0100000000000000ull));
    vcpu.la57 = false;
    CHECK_EQ(segments[SEG_GS].selector, 0x23); // the rest of it stays
    CHECK(wr(0xc0000081, ~0ull) && rd(0xc0000081) == ~0ull);
    CHECK(wr(0x174, 0x10) && rd(0x174) == 0x10);
    CHECK(wr(0xc0000103, 5) && rd(0xc0000103) == 5 && !wr(0xc0000103, 1ull << 32));
    features_shown = false;
    CHECK(!wr(0xc0000103, 5) && !readable(0xc0000103));
}

TEST(switches)
{
    setup();
    CHECK(wr(0x1a0, 0));
    CHECK_EQ(rd(0x1a0), 1 << 11 | 1 << 12);
    CHECK(wr(0x1a0, ~0ull));
    CHECK_EQ(rd(0x1a0), 0x400c50009 | 1 << 11 | 1 << 12);
    CHECK(wr(0x1d9, 3));
    CHECK_EQ(rd(0x1d9), 2);
    CHECK(!wr(0x1d9, 4));
}

TEST(kvm_clock)
{
    setup();
    CHECK(wr(0x4b564d01, 0x1001));
    CHECK_EQ(rd(0x4b564d01), 0x1001);
    CHECK_EQ(rd(0x12), 0x1001);
    CHECK(wr(0x4b564d00, 0x2000) && rd(0x4b564d00) == 0x2000 && !wr(0x11, 2));
    CHECK_EQ(rd(0x11), 0);
    CHECK(wr(0x11, 0x3000) && rd(0x11) == 0x3000 && rd(0x4b564d00) == 0x2000);
}

TEST(passed_through)
{
    setup();
    passed = 0;
    msr_passthrough_setup(&vcpu);
    CHECK_EQ(passed, ARRAY_SIZE(passthrough));
}
