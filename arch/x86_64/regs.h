// SPDX-License-Identifier: MIT
// Bits of the architectural registers, and MSR numbers, named as the Intel SDM names them (volume 3
// section 2.5 "Control Registers", volume 3 chapter 4, volume 4 "Model-Specific Registers").
#pragma once

#include "vmm/lib/types.h"

// The general registers, as instructions number them (volume 2 section 2.1.5, "ModR/M and SIB").
enum gpr {
    GPR_RAX,
    GPR_RCX,
    GPR_RDX,
    GPR_RBX,
    GPR_RSP,
    GPR_RBP,
    GPR_RSI,
    GPR_RDI,
    GPR_R8,
    GPR_R9,
    GPR_R10,
    GPR_R11,
    GPR_R12,
    GPR_R13,
    GPR_R14,
    GPR_R15,
    GPR_COUNT
};

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)

#define CR4_VME        BIT(0)
#define CR4_PVI        BIT(1)
#define CR4_TSD        BIT(2)
#define CR4_DE         BIT(3)
#define CR4_PSE        BIT(4)
#define CR4_PAE        BIT(5)
#define CR4_MCE        BIT(6)
#define CR4_PGE        BIT(7)
#define CR4_PCE        BIT(8)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP       BIT(11)
#define CR4_LA57       BIT(12)
#define CR4_VMXE       BIT(13)
#define CR4_SMXE       BIT(14)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)
#define CR4_PKE        BIT(22)
#define CR4_CET        BIT(23)
#define CR4_PKS        BIT(24)

#define RFLAGS_CF       BIT(0)
#define RFLAGS_RESERVED BIT(1) // always 1
#define RFLAGS_PF       BIT(2)
#define RFLAGS_AF       BIT(4)
#define RFLAGS_ZF       BIT(6)
#define RFLAGS_SF       BIT(7)
#define RFLAGS_TF       BIT(8)
#define RFLAGS_IF       BIT(9)
#define RFLAGS_DF       BIT(10)
#define RFLAGS_OF       BIT(11)
#define RFLAGS_IOPL     (3ull << 12)
#define RFLAGS_NT       BIT(14)
#define RFLAGS_RF       BIT(16)
#define RFLAGS_VM       BIT(17)
#define RFLAGS_AC       BIT(18)
#define RFLAGS_VIF      BIT(19)
#define RFLAGS_VIP      BIT(20)
#define RFLAGS_ID       BIT(21)

#define DR6_B_MASK 0xfull // one bit for each of DR0 to DR3
#define DR6_BD     BIT(13)
#define DR6_BS     BIT(14)
#define DR6_BT     BIT(15)
#define DR6_INIT   0xffff0ff0ull
#define DR7_GD     BIT(13)
#define DR7_INIT   0x400ull

#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

#define XCR0_X87 BIT(0)
#define XCR0_SSE BIT(1)
#define XCR0_AVX BIT(2)

enum vector {
    VECTOR_DE = 0,
    VECTOR_DB = 1,
    VECTOR_NMI = 2,
    VECTOR_BP = 3,
    VECTOR_OF = 4,
    VECTOR_BR = 5,
    VECTOR_UD = 6,
    VECTOR_NM = 7,
    VECTOR_DF = 8,
    VECTOR_TS = 10,
    VECTOR_NP = 11,
    VECTOR_SS = 12,
    VECTOR_GP = 13,
    VECTOR_PF = 14,
    VECTOR_MF = 16,
    VECTOR_AC = 17,
    VECTOR_MC = 18,
    VECTOR_XM = 19,
    VECTOR_VE = 20,
    VECTOR_CP = 21,
};

// Page-fault error code.
#define PF_PRESENT  BIT(0)
#define PF_WRITE    BIT(1)
#define PF_USER     BIT(2)
#define PF_RESERVED BIT(3)
#define PF_FETCH    BIT(4)

#define MSR_IA32_TSC             0x10
#define MSR_IA32_PLATFORM_ID     0x17
#define MSR_IA32_APIC_BASE       0x1b
#define MSR_IA32_FEATURE_CONTROL 0x3a
#define MSR_IA32_TSC_ADJUST      0x3b
#define MSR_IA32_SPEC_CTRL       0x48
#define MSR_IA32_BIOS_SIGN_ID    0x8b
#define MSR_IA32_MTRRCAP         0xfe
#define MSR_IA32_SYSENTER_CS     0x174
#define MSR_IA32_SYSENTER_ESP    0x175
#define MSR_IA32_SYSENTER_EIP    0x176
#define MSR_IA32_MCG_CAP         0x179
#define MSR_IA32_MCG_STATUS      0x17a
#define MSR_IA32_MISC_ENABLE     0x1a0
#define MSR_IA32_DEBUGCTL        0x1d9
#define MSR_IA32_PAT             0x277
#define MSR_IA32_MTRR_DEF_TYPE   0x2ff
#define MSR_IA32_VMX_BASIC       0x480
#define MSR_IA32_TSC_DEADLINE    0x6e0
#define MSR_X2APIC_FIRST         0x800
#define MSR_X2APIC_LAST          0x8ff
#define MSR_IA32_XSS             0xda0
#define MSR_IA32_EFER            0xc0000080
#define MSR_IA32_STAR            0xc0000081
#define MSR_IA32_LSTAR           0xc0000082
#define MSR_IA32_CSTAR           0xc0000083
#define MSR_IA32_FMASK           0xc0000084
#define MSR_IA32_FS_BASE         0xc0000100
#define MSR_IA32_GS_BASE         0xc0000101
#define MSR_IA32_KERNEL_GS_BASE  0xc0000102
#define MSR_IA32_TSC_AUX         0xc0000103

#define APIC_BASE_BSP    BIT(8)
#define APIC_BASE_EXTD   BIT(10)
#define APIC_BASE_ENABLE BIT(11)
