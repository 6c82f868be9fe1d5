// SPDX-License-Identifier: MIT
// Is the CPU what CPUID says? Each feature that is shown can be used, each MSR that a shown feature
// implies is there; reserved bits of control registers and MSRs give #GP; the ways into and out of
// long mode.
#include "guests/lib/check.h"

#define LEAF_FEATURES7 7
#define LEAF_XSTATE    0x0d
#define LEAF_EXTENDED  0x80000001
#define LEAF_POWER     0x80000007
#define LEAF_ADDRESS   0x80000008
#define NONCANONICAL   0x8000000000000000ull
#define CR0_RESERVED   BIT(63)
#define CR4_RESERVED   BIT(63)
#define CR8_RESERVED   BIT(4)
#define MSR_APERF      0xe8
#define MSR_UNKNOWN    0x1234
#define PAT_BAD        0x0007040600070402ull // type 2 does not exist
#define EFER_RESERVED  BIT(2)
#define XCR0_BAD_BIT   BIT(62)
#define XCR0_AVX512    (7ull << 5)
#define XSTATE_HEADER  512

// --- features and the bits of CR4 that they allow ---

static const struct {
    u64 bit;
    u32 leaf;
    u8 reg, number;
    const char *name;
} cr4_bits[] = {
    {CR4_VME, 1, EDX, 1, "CR4.VME"},
    {CR4_PVI, 1, EDX, 1, "CR4.PVI"},
    {CR4_TSD, 1, EDX, 4, "CR4.TSD"},
    {CR4_DE, 1, EDX, 2, "CR4.DE"},
    {CR4_PSE, 1, EDX, 3, "CR4.PSE"},
    {CR4_MCE, 1, EDX, 7, "CR4.MCE"},
    {CR4_PGE, 1, EDX, 13, "CR4.PGE"},
    {CR4_OSFXSR, 1, EDX, 24, "CR4.OSFXSR"},
    {CR4_OSXMMEXCPT, 1, EDX, 25, "CR4.OSXMMEXCPT"},
    {CR4_UMIP, 7, ECX, 2, "CR4.UMIP"},
    {CR4_LA57, 7, ECX, 16, "CR4.LA57"},
    {CR4_VMXE, 1, ECX, 5, "CR4.VMXE"},
    {CR4_SMXE, 1, ECX, 6, "CR4.SMXE"},
    {CR4_FSGSBASE, 7, EBX, 0, "CR4.FSGSBASE"},
    {CR4_PCIDE, 1, ECX, 17, "CR4.PCIDE"},
    {CR4_OSXSAVE, 1, ECX, 26, "CR4.OSXSAVE"},
    {CR4_SMEP, 7, EBX, 7, "CR4.SMEP"},
    {CR4_SMAP, 7, EBX, 20, "CR4.SMAP"},
    {CR4_PKE, 7, ECX, 3, "CR4.PKE"},
    {CR4_PKS, 7, ECX, 31, "CR4.PKS"},
};

static void cr4_features(void)
{
    u64 cr4 = read_cr4();
    for (unsigned i = 0; i < ARRAY_SIZE(cr4_bits); i++) {
        bool shown = cpu_has(cr4_bits[i].leaf, cr4_bits[i].reg, cr4_bits[i].number);
        FAULTS(cr4_bits[i].name, shown ? TRAP_NONE : VECTOR_GP, 0, "mov %0, %%cr4",
               :
               : "r"(cr4 | cr4_bits[i].bit)
               : "memory");
        if (shown)
            check_equal(read_cr4(), cr4 | cr4_bits[i].bit, cr4_bits[i].name);
        write_cr4(cr4);
    }
}

// --- reserved bits ---

static void control_registers(void)
{
    u64 cr0 = read_cr0(), cr4 = read_cr4();
    u64 beyond = 1ull << (cpuid(LEAF_ADDRESS, 0).eax & 0xff);
    FAULTS("CR0 above 32 bits", VECTOR_GP, 0, "mov %0, %%cr0", : : "r"(cr0 | CR0_RESERVED));
    FAULTS("CR0.NW without CD", VECTOR_GP, 0, "mov %0, %%cr0", : : "r"((cr0 | CR0_NW) & ~CR0_CD));
    FAULTS("CR0.PG without PE", VECTOR_GP, 0, "mov %0, %%cr0", : : "r"(cr0 & ~CR0_PE));
    FAULTS("paging off in 64-bit mode", VECTOR_GP, 0, "mov %0, %%cr0", : : "r"(cr0 & ~CR0_PG));
    WORKS("CR0.CD", "mov %0, %%cr0", : : "r"(cr0 | CR0_CD));
    check_equal(read_cr0(), cr0 | CR0_CD, "CR0.CD is kept");
    write_cr0(cr0);
    FAULTS("CR4 reserved", VECTOR_GP, 0, "mov %0, %%cr4", : : "r"(cr4 | CR4_RESERVED));
    FAULTS("CR4.PAE off in long mode", VECTOR_GP, 0, "mov %0, %%cr4", : : "r"(cr4 & ~CR4_PAE));
    FAULTS("CR3 beyond the physical addresses", VECTOR_GP, 0, "mov %0, %%cr3",
           :
           : "r"(read_cr3() | beyond));
    FAULTS("CR3's bit 63 without PCIDs", VECTOR_GP, 0, "mov %0, %%cr3",
           :
           : "r"(read_cr3() | BIT(63)));
    FAULTS("CR8 reserved", VECTOR_GP, 0, "mov %0, %%cr8", : : "r"(CR8_RESERVED));
    FAULTS("MOV from CR1", VECTOR_UD, 0, "mov %%cr1, %%rax", : : : "rax");
    check_equal(read_cr0(), cr0, "CR0 is as before");
    check_equal(read_cr4(), cr4, "CR4 is as before");
}

static void pcids(void)
{
    u64 cr3 = read_cr3(), cr4 = read_cr4();
    if (!cpu_has(1, ECX, 17))
        return;
    write_cr3(cr3 | 1);
    FAULTS("CR4.PCIDE with a PCID in CR3", VECTOR_GP, 0, "mov %0, %%cr4", : : "r"(cr4 | CR4_PCIDE));
    write_cr3(cr3);
    write_cr4(cr4 | CR4_PCIDE);
    WORKS("CR3 with a PCID, no flush", "mov %0, %%cr3", : : "r"(cr3 | 5 | BIT(63)));
    check_equal(read_cr3(), cr3 | 5, "CR3 shows the PCID without bit 63");
    write_cr3(cr3);
    write_cr4(cr4);
}

// --- MSRs ---

enum expectation { READ_WRITE, READ_ONLY, ABSENT };

static const struct {
    u32 index;
    u8 expected; // if the feature is shown; else ABSENT
    u8 reg, bit;
    u32 leaf; // 0: always
    const char *name;
} msrs[] = {
    {MSR_IA32_TSC, READ_WRITE, EDX, 4, 1, "TSC"},
    {MSR_IA32_APIC_BASE, READ_WRITE, EDX, 9, 1, "APIC_BASE"},
    {MSR_IA32_TSC_ADJUST, READ_WRITE, EBX, 1, 7, "TSC_ADJUST"},
    {MSR_IA32_BIOS_SIGN_ID, READ_WRITE, 0, 0, 0, "BIOS_SIGN_ID"},
    {MSR_IA32_MTRRCAP, READ_ONLY, EDX, 12, 1, "MTRRCAP"},
    {MSR_IA32_MTRR_DEF_TYPE, READ_WRITE, EDX, 12, 1, "MTRR_DEF_TYPE"},
    {MSR_IA32_SYSENTER_CS, READ_WRITE, EDX, 11, 1, "SYSENTER_CS"},
    {MSR_IA32_SYSENTER_EIP, READ_WRITE, EDX, 11, 1, "SYSENTER_EIP"},
    {MSR_IA32_MCG_CAP, READ_ONLY, EDX, 14, 1, "MCG_CAP"},
    {MSR_IA32_MCG_STATUS, READ_WRITE, EDX, 14, 1, "MCG_STATUS"},
    {MSR_IA32_MISC_ENABLE, READ_WRITE, 0, 0, 0, "MISC_ENABLE"},
    {MSR_IA32_DEBUGCTL, READ_WRITE, 0, 0, 0, "DEBUGCTL"},
    {MSR_IA32_PAT, READ_WRITE, EDX, 16, 1, "PAT"},
    {MSR_IA32_TSC_DEADLINE, READ_WRITE, ECX, 24, 1, "TSC_DEADLINE"},
    {MSR_IA32_EFER, READ_WRITE, EDX, 29, LEAF_EXTENDED, "EFER"},
    {MSR_IA32_STAR, READ_WRITE, EDX, 11, LEAF_EXTENDED, "STAR"},
    {MSR_IA32_LSTAR, READ_WRITE, EDX, 11, LEAF_EXTENDED, "LSTAR"},
    {MSR_IA32_FMASK, READ_WRITE, EDX, 11, LEAF_EXTENDED, "FMASK"},
    {MSR_IA32_FS_BASE, READ_WRITE, EDX, 29, LEAF_EXTENDED, "FS_BASE"},
    {MSR_IA32_GS_BASE, READ_WRITE, EDX, 29, LEAF_EXTENDED, "GS_BASE"},
    {MSR_IA32_KERNEL_GS_BASE, READ_WRITE, EDX, 29, LEAF_EXTENDED, "KERNEL_GS_BASE"},
    {MSR_IA32_TSC_AUX, READ_WRITE, EDX, 27, LEAF_EXTENDED, "TSC_AUX"},
    {MSR_IA32_VMX_BASIC, READ_ONLY, ECX, 5, 1, "VMX_BASIC"},
    {MSR_IA32_SPEC_CTRL, READ_WRITE, EDX, 26, 7, "SPEC_CTRL"},
    {MSR_APERF, READ_ONLY, ECX, 0, 6, "APERF"},
    {MSR_UNKNOWN, ABSENT, 0, 0, 0, "an unknown MSR"},
};

static void msr_access(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        bool shown = !msrs[i].leaf || cpu_has(msrs[i].leaf, msrs[i].reg, msrs[i].bit);
        unsigned expected = shown ? msrs[i].expected : ABSENT;
        u32 low = 0, high = 0;
        FAULTS(msrs[i].name, expected == ABSENT ? VECTOR_GP : TRAP_NONE, 0, "rdmsr",
               : "=a"(low), "=d"(high)
               : "c"(msrs[i].index));
        if (expected == ABSENT)
            low = high = 0;
        FAULTS(msrs[i].name, expected == READ_WRITE ? TRAP_NONE : VECTOR_GP, 0, "wrmsr",
               :
               : "c"(msrs[i].index), "a"(low), "d"(high)
               : "memory");
    }
}

#define WRMSR_FAULTS(what, index, value)                                                           \
    FAULTS(what, VECTOR_GP, 0, "wrmsr",                                                            \
           :                                                                                       \
           : "c"(index), "a"((u32)(value)), "d"((u32)((u64)(value) >> 32))                         \
           : "memory")

static void msr_rules(void)
{
    WRMSR_FAULTS("LSTAR not canonical", MSR_IA32_LSTAR, NONCANONICAL);
    WRMSR_FAULTS("FS_BASE not canonical", MSR_IA32_FS_BASE, NONCANONICAL);
    WRMSR_FAULTS("GS_BASE not canonical", MSR_IA32_GS_BASE, NONCANONICAL);
    WRMSR_FAULTS("KERNEL_GS_BASE not canonical", MSR_IA32_KERNEL_GS_BASE, NONCANONICAL);
    WRMSR_FAULTS("SYSENTER_EIP not canonical", MSR_IA32_SYSENTER_EIP, NONCANONICAL);
    WRMSR_FAULTS("SYSENTER_ESP not canonical", MSR_IA32_SYSENTER_ESP, NONCANONICAL);
    WRMSR_FAULTS("PAT with a bad type", MSR_IA32_PAT, PAT_BAD);
    WRMSR_FAULTS("EFER reserved", MSR_IA32_EFER, rdmsr(MSR_IA32_EFER) | EFER_RESERVED);
    WRMSR_FAULTS("EFER.LME with paging", MSR_IA32_EFER, rdmsr(MSR_IA32_EFER) & ~EFER_LME);
    WRMSR_FAULTS("MCG_STATUS not 0", MSR_IA32_MCG_STATUS, 1);
    WRMSR_FAULTS("DEBUGCTL reserved", MSR_IA32_DEBUGCTL, BIT(63));
    WRMSR_FAULTS("MTRR_DEF_TYPE with a bad type", MSR_IA32_MTRR_DEF_TYPE, 2);
    u64 efer = rdmsr(MSR_IA32_EFER);
    wrmsr(MSR_IA32_EFER, efer ^ EFER_SCE);
    check_equal(rdmsr(MSR_IA32_EFER), efer ^ EFER_SCE, "EFER keeps SCE");
    wrmsr(MSR_IA32_EFER, efer & ~EFER_LMA);
    check_equal(rdmsr(MSR_IA32_EFER), efer, "EFER.LMA is not the guest's to write");
    wrmsr(MSR_IA32_TSC, 1ull << 40);
    check(rdtsc() >= 1ull << 40 && rdtsc() < 3ull << 39, "TSC goes on from what was written");
}

// --- extended state ---

static u8 save_area[4096] ALIGNED(64);

#define XSTATE_INSTRUCTION(name, components)                                                       \
    __asm__ volatile(name " (%0)"                                                                  \
                     :                                                                             \
                     : "r"(save_area), "a"((u32)(components)), "d"((u32)((components) >> 32))      \
                     : "memory")

static void area_clear(void)
{
    for (volatile u8 *at = save_area; at < save_area + sizeof(save_area); at++)
        *at = 0;
}

// With one component in use: from the standard format through the compacted one and back.
static void compacted_keeps(u64 offered, unsigned bit, u32 at)
{
    const u64 mark = 0x5aull << 8 | bit;
    u64 *const plain = (u64 *)(save_area + cpuid(LEAF_XSTATE, bit).ebx);
    u64 *const compacted = (u64 *)(save_area + at);
    area_clear();
    *(u64 *)(save_area + XSTATE_HEADER) = BIT(bit);
    *plain = mark;
    XSTATE_INSTRUCTION("xrstor64", offered);
    area_clear();
    XSTATE_INSTRUCTION("xsavec64", offered);
    check_equal(*compacted, mark, "XSAVEC stores a component where CPUID has it");
    XSTATE_INSTRUCTION("xrstor64", offered);
    area_clear();
    XSTATE_INSTRUCTION("xsave64", offered);
    check_equal(*plain, mark, "XRSTOR loads a component from there");
}

static void compacted(u64 offered)
{
    u32 at = XSTATE_HEADER + 64;
    if (!(cpuid(LEAF_XSTATE, 1).eax & BIT(1)))
        return;
    for (unsigned bit = 2; bit < 63; bit++) {
        if (!(offered >> bit & 1))
            continue;
        struct cpuid c = cpuid(LEAF_XSTATE, bit);
        if (c.ecx & BIT(1))
            at = (at + 63) & ~63u;
        compacted_keeps(offered, bit, at);
        at += c.eax;
    }
}

static void xstate(void)
{
    u64 cr4 = read_cr4();
    FAULTS("XGETBV without OSXSAVE", VECTOR_UD, 0, "xgetbv", : : "c"(0) : "rax", "rdx");
    check(!cpu_has(1, ECX, 27), "CPUID shows OSXSAVE off");
    if (!cpu_has(1, ECX, 26))
        return;
    write_cr4(cr4 | CR4_OSXSAVE | CR4_OSFXSR);
    check(cpu_has(1, ECX, 27), "CPUID shows OSXSAVE on");
    struct cpuid c = cpuid(LEAF_XSTATE, 0);
    u64 offered = c.eax | (u64)c.edx << 32;
#define XSETBV_FAULTS(what, index, value)                                                          \
    FAULTS(what, VECTOR_GP, 0, "xsetbv",                                                           \
           :                                                                                       \
           : "c"(index), "a"((u32)(value)), "d"((u32)((u64)(value) >> 32)))
    XSETBV_FAULTS("XCR0 without x87", 0, XCR0_SSE);
    XSETBV_FAULTS("XCR0 with AVX, without SSE", 0, XCR0_X87 | XCR0_AVX);
    XSETBV_FAULTS("XCR0 with half of AVX-512", 0, XCR0_X87 | XCR0_SSE | XCR0_AVX | BIT(5));
    XSETBV_FAULTS("XCR0 reserved", 0, XCR0_X87 | XCR0_BAD_BIT);
    XSETBV_FAULTS("XCR1", 1, XCR0_X87);
    USER_FAULTS("XSETBV", VECTOR_GP, 0, "xsetbv", : : "c"(0), "a"(1), "d"(0));
    if (!(cpuid(LEAF_XSTATE, 1).eax & BIT(3))) {
        FAULTS("XSAVES is hidden", VECTOR_UD, 0, "xsaves (%0)", : : "r"(gdt), "a"(0), "d"(0));
        FAULTS("XRSTORS is hidden", VECTOR_UD, 0, "xrstors (%0)", : : "r"(gdt), "a"(0), "d"(0));
    }
    for (unsigned bit = 2; bit < 63; bit++)
        if (!(offered >> bit & 1))
            XSETBV_FAULTS("XCR0 with a component that is not shown", 0,
                          XCR0_X87 | XCR0_SSE | BIT(bit));
    xsetbv(0, XCR0_X87);
    u32 small = cpuid(LEAF_XSTATE, 0).ebx;
    WORKS("XCR0 with all that is shown", "xsetbv",
          :
          : "c"(0), "a"((u32)offered), "d"((u32)(offered >> 32)));
    check_equal(xgetbv(0), offered, "XGETBV shows XCR0");
    check_equal(cpuid(LEAF_XSTATE, 0).ebx, c.ecx, "with all components the area has its full size");
    check(small < c.ecx || offered == (XCR0_X87 | XCR0_SSE), "with fewer it is smaller");
    check_equal(cpu_has(1, ECX, 28), (offered & XCR0_AVX) != 0, "AVX is shown if its state is");
    check_equal(cpu_has(7, EBX, 16), (offered & XCR0_AVX512) == XCR0_AVX512,
                "AVX-512 is shown if its state is");
    compacted(offered);
    write_cr4(cr4);
}

static void instructions(void)
{
    write_cr4(read_cr4() | CR4_OSFXSR);
    WORKS("FXSAVE", "fxsave64 (%0)", : : "r"(save_area) : "memory");
    if (cpu_has(1, EDX, 19))
        WORKS("CLFLUSH", "clflush (%0)", : : "r"(save_area) : "memory");
#define INSTRUCTION(name, leaf, reg, bit, ...)                                                     \
    if (cpu_has(leaf, reg, bit))                                                                   \
        WORKS(name, __VA_ARGS__);                                                                  \
    else                                                                                           \
        (void)0
    INSTRUCTION("POPCNT", 1, ECX, 23, "popcnt %%rax, %%rax", : : : "rax", "cc");
    INSTRUCTION("MOVBE", 1, ECX, 22, "movbe (%0), %%eax", : : "r"(save_area) : "rax");
    INSTRUCTION("CRC32", 1, ECX, 20, "crc32 %%eax, %%eax", : : : "rax");
    INSTRUCTION("RDRAND", 1, ECX, 30, "rdrand %%rax", : : : "rax", "cc");
    INSTRUCTION("AES", 1, ECX, 25, "aesenc %%xmm0, %%xmm0", :);
    INSTRUCTION("PCLMULQDQ", 1, ECX, 1, "pclmulqdq $0, %%xmm0, %%xmm0", :);
    INSTRUCTION("CMPXCHG16B", 1, ECX, 13, "cmpxchg16b (%0)",
                :
                : "r"(save_area), "a"(0), "b"(0), "c"(0), "d"(0)
                : "memory", "cc");
    INSTRUCTION("ANDN", 7, EBX, 3, "andn %%rax, %%rax, %%rax", : : : "rax", "cc");
    INSTRUCTION("BZHI", 7, EBX, 8, "bzhi %%rax, %%rax, %%rax", : : : "rax", "cc");
    INSTRUCTION("ADCX", 7, EBX, 19, "adcx %%rax, %%rax", : : : "rax", "cc");
    INSTRUCTION("RDSEED", 7, EBX, 18, "rdseed %%rax", : : : "rax", "cc");
    INSTRUCTION("CLFLUSHOPT", 7, EBX, 23, "clflushopt (%0)", : : "r"(save_area) : "memory");
    INSTRUCTION("CLWB", 7, EBX, 24, "clwb (%0)", : : "r"(save_area) : "memory");
    INSTRUCTION("INVPCID", 7, EBX, 10, "invpcid (%0), %1",
                :
                : "r"(save_area), "r"(2ull)
                : "memory");
    INSTRUCTION("SHA", 7, EBX, 29, "sha256msg1 %%xmm0, %%xmm0", :);
    INSTRUCTION("RDPID", 7, ECX, 22, "rdpid %%rax", : : : "rax");
    INSTRUCTION("SERIALIZE", 7, EDX, 14, ".byte 0x0f, 0x01, 0xe8", :);
    INSTRUCTION("LZCNT", LEAF_EXTENDED, ECX, 5, "lzcnt %%rax, %%rax", : : : "rax", "cc");
    INSTRUCTION("RDTSCP", LEAF_EXTENDED, EDX, 27, "rdtscp", : : : "rax", "rcx", "rdx");
    wrmsr(MSR_IA32_TSC_AUX, 77);
    u32 aux = 0;
    WORKS("RDTSCP", "rdtscp", : "=c"(aux) : : "rax", "rdx");
    check_equal(aux, 77, "RDTSCP shows TSC_AUX");
    if (!cpu_has(7, EBX, 10))
        FAULTS("INVPCID is hidden", VECTOR_UD, 0, "invpcid (%0), %1",
               :
               : "r"(save_area), "r"(2ull));
}

static void gs_bases(void)
{
    if (!cpu_has(7, EBX, 0))
        return;
    FAULTS("WRGSBASE without FSGSBASE", VECTOR_UD, 0, "wrgsbase %0", : : "r"(0ull));
    write_cr4(read_cr4() | CR4_FSGSBASE);
    WORKS("WRGSBASE", "wrgsbase %0", : : "r"((u64)save_area));
    check_equal(rdmsr(MSR_IA32_GS_BASE), (u64)save_area, "GS_BASE shows it");
    wrmsr(MSR_IA32_KERNEL_GS_BASE, (u64)gdt);
    __asm__ volatile("swapgs");
    check_equal(rdmsr(MSR_IA32_GS_BASE), (u64)gdt, "SWAPGS");
    check_equal(rdmsr(MSR_IA32_KERNEL_GS_BASE), (u64)save_area, "SWAPGS, the other way");
    write_cr4(read_cr4() & ~CR4_FSGSBASE);
}

// --- out of long mode and back ---

// Compatibility mode, paging off, long mode off; then PAE on, long mode on, paging on.
static volatile u32 cr0_without, efer_without;

static void mode_switch(void)
{
    __asm__ volatile("mov %[data], %%ds; mov %[data], %%es\n" // a user's attempt left nulls
                     "pushq %[code32]; pushq $1f; lretq\n"
                     ".code32\n"
                     "1: mov %%cr0, %%eax; btr $31, %%eax; mov %%eax, %%cr0\n"
                     "mov %%cr0, %%eax; mov %%eax, cr0_without\n"
                     "mov %[efer], %%ecx; rdmsr; mov %%eax, efer_without\n"
                     "btr $8, %%eax; wrmsr\n"
                     "mov %%cr4, %%eax; btr $5, %%eax; mov %%eax, %%cr4\n"
                     "bts $5, %%eax; mov %%eax, %%cr4\n"
                     "mov %%esi, %%cr3\n"
                     "mov %[efer], %%ecx; rdmsr; bts $8, %%eax; wrmsr\n"
                     "mov %%cr0, %%eax; bts $31, %%eax; mov %%eax, %%cr0\n"
                     "ljmp %[code], $9f\n"
                     ".code64\n"
                     "9:"
                     :
                     : [code32] "i"(SELECTOR_CODE32), [code] "i"(SELECTOR_CODE),
                       [data] "r"(SELECTOR_DATA), [efer] "i"(MSR_IA32_EFER), "S"(read_cr3())
                     : "rax", "rcx", "rdx", "memory", "cc");
    check(!(cr0_without & CR0_PG), "paging was off");
    check_equal(efer_without & (EFER_LME | EFER_LMA), EFER_LME, "without paging LMA is off");
    check_equal(rdmsr(MSR_IA32_EFER) & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA,
                "LMA is on again");
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    check_setup();
    cr4_features();
    control_registers();
    pcids();
    msr_access();
    msr_rules();
    xstate();
    instructions();
    gs_bases();
    mode_switch();
    check_finish();
}
