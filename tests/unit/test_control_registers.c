// SPDX-License-Identifier: MIT
// vmm/guest_cpu/control_registers.c: a guest's MOV to and from control registers, CLTS, LMSW and
// XSETBV, by the rules of the manual.

#include "tests/unit/exit_rig.h"

#define GARBAGE 0xfedcba9800000000ull

static enum exit_action cr_write(u8 number, u64 value)
{
    exit_of.cr.number = number;
    exit_of.cr.gpr = GPR_RBX;
    exit_of.cr.kind = CR_MOV;
    vcpu.gpr[GPR_RBX] = value;
    return dispatch(EXIT_CR_WRITE);
}

static void enter_long_mode(void)
{
    regs[REG_CR0] = CR0_PE | CR0_ET | CR0_PG;
    regs[REG_CR4] = CR4_PAE;
    regs[REG_EFER] = EFER_LME | EFER_LMA;
    segments[SEG_CS].access = CODE64;
}

TEST(cr0_keeps_its_rules)
{
    static const struct {
        u64 value;
        bool good;
    } cases[] = {
        {CR0_PE, true},           {CR0_PE | CR0_PG, true},          {CR0_PG, false},
        {CR0_PE | CR0_NW, false}, {CR0_PE | CR0_NW | CR0_CD, true}, {CR0_PE | CR0_CD, true}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        reset();
        enum exit_action action = cr_write(0, cases[i].value);
        CHECK(cases[i].good ? action == ACTION_NEXT : faults(action, VECTOR_GP, true));
        CHECK_EQ(regs[REG_CR0], cases[i].good ? cases[i].value | CR0_ET : CR0_PE | CR0_ET);
    }
}

TEST(cr0_ignores_undefined_low_bits_and_refuses_high_ones)
{
    reset();
    CHECK(cr_write(0, CR0_PE | BIT(6) | BIT(28)) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR0], CR0_PE | CR0_ET);
    enter_long_mode();
    CHECK(faults(cr_write(0, regs[REG_CR0] | BIT(32)), VECTOR_GP, true));
}

TEST(paging_on_enters_long_mode_by_the_rules)
{
    reset();
    regs[REG_EFER] = EFER_LME;
    CHECK(faults(cr_write(0, CR0_PE | CR0_PG), VECTOR_GP, true)); // without PAE
    regs[REG_CR4] = CR4_PAE;
    CHECK(cr_write(0, CR0_PE | CR0_PG) == ACTION_NEXT);
    reset();
    regs[REG_EFER] = EFER_LME;
    regs[REG_CR4] = CR4_PAE;
    segments[SEG_CS].access = CODE64; // CS.L
    CHECK(faults(cr_write(0, CR0_PE | CR0_PG), VECTOR_GP, true));
}

TEST(paging_off_is_refused_in_64_bit_code_and_with_pcids)
{
    reset();
    enter_long_mode();
    CHECK(faults(cr_write(0, CR0_PE), VECTOR_GP, true));
    CHECK(regs[REG_CR0] & CR0_PG);
    segments[SEG_CS].access = CODE32; // compatibility mode
    regs[REG_CR4] = CR4_PAE | CR4_PCIDE;
    CHECK(faults(cr_write(0, CR0_PE), VECTOR_GP, true));
    regs[REG_CR4] = CR4_PAE;
    CHECK(cr_write(0, CR0_PE) == ACTION_NEXT);
    CHECK(!(regs[REG_CR0] & CR0_PG));
}

TEST(control_registers_are_32_bits_wide_outside_64_bit_code)
{
    reset();
    CHECK(cr_write(0, GARBAGE | CR0_PE | CR0_TS) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR0], CR0_PE | CR0_TS | CR0_ET);
    CHECK(cr_write(3, GARBAGE | 0x5000) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR3], 0x5000);
    features[1].edx = BIT(6);
    CHECK(cr_write(4, GARBAGE | CR4_PAE) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR4], CR4_PAE);
    enter_long_mode();
    CHECK(cr_write(3, BIT(63) | 0x6000) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR3], BIT(63) | 0x6000);
    CHECK(faults(cr_write(4, GARBAGE | CR4_PAE), VECTOR_GP, true));
}

TEST(cr4_takes_what_cpuid_shows)
{
    static const struct {
        u64 bit;
        u32 leaf;
        unsigned reg, feature;
    } cases[] = {{CR4_PSE, 1, CPUID_EDX, 3},      {CR4_PAE, 1, CPUID_EDX, 6},
                 {CR4_PGE, 1, CPUID_EDX, 13},     {CR4_OSFXSR, 1, CPUID_EDX, 24},
                 {CR4_OSXSAVE, 1, CPUID_ECX, 26}, {CR4_FSGSBASE, 7, CPUID_EBX, 0},
                 {CR4_SMEP, 7, CPUID_EBX, 7},     {CR4_SMAP, 7, CPUID_EBX, 20},
                 {CR4_UMIP, 7, CPUID_ECX, 2},     {CR4_PKE, 7, CPUID_ECX, 3},
                 {CR4_VME, 1, CPUID_EDX, 1},      {CR4_PVI, 1, CPUID_EDX, 1},
                 {CR4_DE, 1, CPUID_EDX, 2},       {CR4_TSD, 1, CPUID_EDX, 4},
                 {CR4_MCE, 1, CPUID_EDX, 7},      {CR4_OSXMMEXCPT, 1, CPUID_EDX, 25},
                 {CR4_CET, 7, CPUID_ECX, 7},      {CR4_LA57, 7, CPUID_ECX, 16},
                 {CR4_PKS, 7, CPUID_ECX, 31}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        reset();
        CHECK(faults(cr_write(4, cases[i].bit), VECTOR_GP, true));
        CHECK_EQ(regs[REG_CR4], 0);
        (&features[cases[i].leaf].eax)[cases[i].reg] = 1u << cases[i].feature;
        CHECK(cr_write(4, cases[i].bit) == ACTION_NEXT);
        CHECK_EQ(regs[REG_CR4], cases[i].bit);
    }
}

TEST(cr4_never_has_vmx_smx_or_undefined_bits)
{
    reset();
    memset(features, 0xff, sizeof(features));
    CHECK(faults(cr_write(4, CR4_VMXE), VECTOR_GP, true));
    CHECK(faults(cr_write(4, CR4_SMXE), VECTOR_GP, true));
    CHECK(faults(cr_write(4, BIT(15)), VECTOR_GP, true));
    CHECK(faults(cr_write(4, BIT(31)), VECTOR_GP, true));
    CHECK_EQ(regs[REG_CR4], 0);
}

TEST(cr4_keeps_pae_and_la57_in_long_mode)
{
    reset();
    memset(features, 0xff, sizeof(features));
    enter_long_mode();
    CHECK(faults(cr_write(4, 0), VECTOR_GP, true));
    CHECK(faults(cr_write(4, CR4_PAE | CR4_LA57), VECTOR_GP, true));
    CHECK_EQ(regs[REG_CR4], CR4_PAE);
    CHECK(cr_write(4, CR4_PAE | CR4_PGE) == ACTION_NEXT);
}

TEST(pcids_go_on_in_long_mode_with_a_zero_pcid)
{
    reset();
    memset(features, 0xff, sizeof(features));
    CHECK(faults(cr_write(4, CR4_PCIDE), VECTOR_GP, true));
    enter_long_mode();
    regs[REG_CR3] = 0x1001;
    CHECK(faults(cr_write(4, CR4_PAE | CR4_PCIDE), VECTOR_GP, true));
    regs[REG_CR3] = 0x1000;
    CHECK(cr_write(4, CR4_PAE | CR4_PCIDE) == ACTION_NEXT);
    regs[REG_CR3] = 0x1001;
    CHECK(cr_write(4, CR4_PAE | CR4_PCIDE | CR4_PGE) == ACTION_NEXT); // it stays on
}

static void pae_reset(void)
{
    reset();
    memset(features, 0xff, sizeof(features));
    memset(pdptes, 0, sizeof(pdptes));
    pdptes_in_ram = true;
    vcpu.gpa_reserved = BIT(51);
    regs[REG_CR0] = CR0_PE | CR0_PG;
    regs[REG_CR3] = 0x5038; // the low bits do not count
    regs[REG_CR4] = CR4_PAE;
}

TEST(pae_paging_refuses_reserved_bits_in_pdptes)
{
    static const u64 bad[] = {BIT(1), BIT(2), BIT(5), BIT(8), BIT(51), BIT(52), BIT(63)};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        pae_reset();
        pdptes[3] = bad[i];
        CHECK(cr_write(3, 0x5020) == ACTION_NEXT); // it is not present
        pdptes[3] |= 0x1000 | BIT(0) | BIT(3) | BIT(9);
        CHECK(faults(cr_write(3, 0x5020), VECTOR_GP, true));
        CHECK(faults(cr_write(4, CR4_PAE | CR4_PSE), VECTOR_GP, true));
        CHECK(faults(cr_write(4, CR4_PAE | CR4_PGE), VECTOR_GP, true));
        CHECK(faults(cr_write(4, CR4_PAE | CR4_SMEP), VECTOR_GP, true));
        CHECK(faults(cr_write(0, CR0_PE | CR0_PG | CR0_CD), VECTOR_GP, true));
        CHECK(cr_write(0, CR0_PE | CR0_PG | CR0_WP) == ACTION_NEXT); // loads none
        regs[REG_CR0] = CR0_PE | CR0_PG | CR0_CD | CR0_NW;
        CHECK(faults(cr_write(0, CR0_PE | CR0_PG | CR0_CD), VECTOR_GP, true));
        CHECK(cr_write(4, CR4_PAE | CR4_TSD) == ACTION_NEXT); // loads none
        regs[REG_CR0] = CR0_PE;
        CHECK(faults(cr_write(0, CR0_PE | CR0_PG), VECTOR_GP, true));
        CHECK_EQ(regs[REG_CR0], CR0_PE);
        regs[REG_CR0] = CR0_PE | CR0_PG;
        regs[REG_CR4] = 0;
        CHECK(faults(cr_write(4, CR4_PAE), VECTOR_GP, true));
        regs[REG_CR0] = CR0_PE;
        regs[REG_CR4] = CR4_PAE;
        pdptes[3] &= ~bad[i];
        CHECK(cr_write(0, CR0_PE | CR0_PG) == ACTION_NEXT);
    }
    pdptes_in_ram = false;
    CHECK(faults(cr_write(3, 0x5020), VECTOR_GP, true));
}

TEST(only_pae_paging_has_pdptes)
{
    pae_reset();
    pdptes[0] = ~0ull;
    regs[REG_CR4] = 0;
    CHECK(cr_write(3, 0x5020) == ACTION_NEXT);
    regs[REG_CR4] = CR4_PAE;
    regs[REG_EFER] = EFER_LME;
    regs[REG_CR0] = CR0_PE;
    CHECK(cr_write(0, CR0_PE | CR0_PG) == ACTION_NEXT);
}

TEST(cr8_is_the_task_priority)
{
    reset();
    enter_long_mode();
    CHECK(cr_write(8, 0xf) == ACTION_NEXT);
    CHECK_EQ(cr8, 0xf);
    CHECK(!spin_is_locked(&vm.lock));
    CHECK(faults(cr_write(8, 0x10), VECTOR_GP, true));
    CHECK_EQ(cr8, 0xf);
    exit_of.cr.number = 8;
    exit_of.cr.gpr = GPR_RSP;
    CHECK(dispatch(EXIT_CR_READ) == ACTION_NEXT);
    CHECK_EQ(regs[REG_RSP], 0xf);
}

TEST(control_registers_that_do_not_exist_fault)
{
    reset();
    CHECK(faults(cr_write(1, 0), VECTOR_GP, true));
    CHECK(faults(cr_write(15, 0), VECTOR_GP, true));
}

TEST(control_registers_are_read)
{
    static const enum vcpu_reg of[] = {[0] = REG_CR0, [3] = REG_CR3, [4] = REG_CR4};
    static const u8 numbers[] = {0, 3, 4};
    reset();
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
        regs[of[numbers[i]]] = 0x100 + i;
        exit_of.cr.number = numbers[i];
        exit_of.cr.gpr = GPR_R15;
        CHECK(dispatch(EXIT_CR_READ) == ACTION_NEXT);
        CHECK_EQ(vcpu.gpr[GPR_R15], 0x100 + i);
    }
}

TEST(clts_clears_ts_alone)
{
    reset();
    regs[REG_CR0] = CR0_PE | CR0_ET | CR0_TS | CR0_MP;
    exit_of.cr.kind = CR_CLTS;
    CHECK(dispatch(EXIT_CR_WRITE) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR0], CR0_PE | CR0_ET | CR0_MP);
}

TEST(lmsw_sets_four_bits_and_never_clears_pe)
{
    reset();
    regs[REG_CR0] = CR0_PE | CR0_ET | CR0_WP | CR0_MP;
    exit_of.cr.kind = CR_LMSW;
    exit_of.cr.value = CR0_TS;
    CHECK(dispatch(EXIT_CR_WRITE) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR0], CR0_PE | CR0_ET | CR0_WP | CR0_TS);
    regs[REG_CR0] = CR0_ET;
    exit_of.cr.value = 0xffff;
    CHECK(dispatch(EXIT_CR_WRITE) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR0], CR0_ET | CR0_LMSW);
}

// --- the rest ---

TEST(xsetbv_is_for_level_0_alone)
{
    reset();
    vcpu.gpr[GPR_RAX] = 7;
    vcpu.gpr[GPR_RDX] = vcpu.gpr[GPR_RCX] = 0;
    segments[SEG_SS].access = SEGMENT_DPL;
    CHECK(faults(dispatch(EXIT_XSETBV), VECTOR_GP, true));
    segments[SEG_SS].access = ~SEGMENT_DPL & 0xffff;
    CHECK(dispatch(EXIT_XSETBV) == ACTION_NEXT);
}

TEST(xsetbv_takes_register_0_and_what_the_state_allows)
{
    reset();
    vcpu.gpr[GPR_RAX] = GARBAGE | 7;
    vcpu.gpr[GPR_RDX] = GARBAGE | 1;
    vcpu.gpr[GPR_RCX] = GARBAGE;
    CHECK(dispatch(EXIT_XSETBV) == ACTION_NEXT);
    CHECK_EQ(vcpu.xcr0, 7 | BIT(32));
    vcpu.gpr[GPR_RCX] = 1;
    CHECK(faults(dispatch(EXIT_XSETBV), VECTOR_GP, true));
    vcpu.gpr[GPR_RCX] = 0;
    vcpu.gpr[GPR_RAX] = 3;
    xcr0_refused = BIT(1);
    CHECK(faults(dispatch(EXIT_XSETBV), VECTOR_GP, true));
    CHECK_EQ(vcpu.xcr0, 7 | BIT(32));
}
