// SPDX-License-Identifier: MIT
// The edges of the machine. Each reserved bit and value of control registers and MSRs gives #GP;
// what CPUID does not show is not there, neither its instructions nor its MSRs; where there is no
// memory, ones are read and writes are lost.
#include "guests/lib/check.h"

#define LEAF_ADDRESS  0x80000008
#define LEAF_EXTENDED 0x80000001
#define ADDRESS_MASK  0xffu
#define NONCANONICAL  0x8000000000000000ull

#define WRMSR(index, value)                                                                        \
    "wrmsr", : : "c"(index), "a"((u32)(value)), "d"((u32)((u64)(value) >> 32)) : "memory"

// --- control registers and EFER ---

// Bits of CR4 by the feature that brings them; a sub-leaf of 1 is in `leaf` as its high half.
#define SUBLEAF(leaf, sub) ((leaf) | (u32)(sub) << 16)
#define ALWAYS             0

static const struct {
    u8 bit, reg, number;
    u32 leaf;
} cr4_needs[] = {
    {0, EDX, 1, 1},
    {1, EDX, 1, 1},
    {2, EDX, 4, 1},
    {3, EDX, 2, 1},
    {4, EDX, 3, 1},
    {5, EDX, 6, 1},
    {6, EDX, 7, 1},
    {7, EDX, 13, 1},
    {8, 0, 0, ALWAYS},
    {9, EDX, 24, 1},
    {10, EDX, 25, 1},
    {11, ECX, 2, 7},
    {12, ECX, 16, 7},
    {13, ECX, 5, 1},
    {14, ECX, 6, 1},
    {16, EBX, 0, 7},
    {17, ECX, 17, 1},
    {18, ECX, 26, 1},
    {19, ECX, 23, 7},
    {20, EBX, 7, 7},
    {21, EBX, 20, 7},
    {22, ECX, 3, 7},
    {23, ECX, 7, 7},
    {24, ECX, 31, 7},
    {25, EDX, 5, 7},
    {28, EAX, 26, SUBLEAF(7, 1)},
    {32, EAX, 17, SUBLEAF(7, 1)},
};

static bool shown(u32 leaf, unsigned reg, unsigned bit)
{
    struct cpuid c = cpuid((u16)leaf, leaf >> 16);
    const u32 words[] = {c.eax, c.ebx, c.ecx, c.edx};
    return words[reg] >> bit & 1;
}

static bool cr4_may(unsigned bit)
{
    for (unsigned i = 0; i < ARRAY_SIZE(cr4_needs); i++)
        if (cr4_needs[i].bit == bit)
            return !cr4_needs[i].leaf ||
                   shown(cr4_needs[i].leaf, cr4_needs[i].reg, cr4_needs[i].number);
    return false;
}

// In 64-bit mode LA57 cannot be changed, shown or not; nor can PAE, which is on.
#define CR4_LA57_BIT 12

static void cr4(void)
{
    u64 before = read_cr4();
    for (unsigned bit = 0; bit < 64; bit++) {
        bool may = cr4_may(bit) && bit != CR4_LA57_BIT;
        FAULTS("a bit of CR4", may ? TRAP_NONE : VECTOR_GP, 0, "mov %0, %%cr4",
               :
               : "r"(before | BIT(bit))
               : "memory");
        write_cr4(before);
    }
}

#define CR0_RESERVED_LOW (BIT(6) | BIT(15) | BIT(17) | BIT(19) | BIT(28))

static void cr0(void)
{
    u64 before = read_cr0();
    for (unsigned bit = 32; bit < 64; bit++)
        FAULTS("a high bit of CR0", VECTOR_GP, 0, "mov %0, %%cr0", : : "r"(before | BIT(bit)));
    WORKS("reserved low bits of CR0", "mov %0, %%cr0", : : "r"(before | CR0_RESERVED_LOW));
    check_equal(read_cr0(), before, "they stay 0");
}

static void cr3(void)
{
    u64 before = read_cr3();
    for (unsigned bit = cpuid(LEAF_ADDRESS, 0).eax & ADDRESS_MASK; bit < 64; bit++)
        FAULTS("a high bit of CR3", VECTOR_GP, 0, "mov %0, %%cr3", : : "r"(before | BIT(bit)));
    check_equal(read_cr3(), before, "CR3 is as before");
}

static void efer(void)
{
    u64 before = rdmsr(MSR_IA32_EFER);
    for (unsigned bit = 0; bit < 64; bit++) {
        u64 other = before ^ BIT(bit);
        bool may = (bit == 0 && cpu_has(LEAF_EXTENDED, EDX, 11)) ||
                   (bit == 11 && cpu_has(LEAF_EXTENDED, EDX, 20)) || bit == 10;
        FAULTS("a bit of EFER", may ? TRAP_NONE : VECTOR_GP, 0, WRMSR(MSR_IA32_EFER, other));
        wrmsr(MSR_IA32_EFER, before);
    }
    check_equal(rdmsr(MSR_IA32_EFER), before, "EFER is as before");
}

// --- INVPCID and PCIDs ---

enum { INVPCID_ADDRESS, INVPCID_ONE, INVPCID_ALL_AND_GLOBAL, INVPCID_ALL };

static volatile struct {
    u64 pcid, address;
} descriptor ALIGNED(16);

#define INVPCID(type) "invpcid %1, %0", : : "r"((u64)(type)), "m"(descriptor)

static void invpcid_of(const char *what, u64 type, u64 pcid, u64 address, s64 vector)
{
    descriptor.pcid = pcid;
    descriptor.address = address;
    FAULTS(what, vector, 0, INVPCID(type));
}

static void invpcid(void)
{
    if (!cpu_has(7, EBX, 10))
        return;
    check(cpu_has(1, ECX, 17), "with INVPCID there are PCIDs");
    invpcid_of("INVPCID of an address", INVPCID_ADDRESS, 0, 0, TRAP_NONE);
    invpcid_of("INVPCID of PCID 0", INVPCID_ONE, 0, 0, TRAP_NONE);
    invpcid_of("INVPCID of a PCID without PCIDE", INVPCID_ONE, 1, 0, VECTOR_GP);
    invpcid_of("INVPCID of an address of a PCID without PCIDE", INVPCID_ADDRESS, 1, 0, VECTOR_GP);
    write_cr4(read_cr4() | CR4_PCIDE);
    for (u64 type = 0; type < 4; type++)
        invpcid_of("INVPCID of each type", type, 10, 0, TRAP_NONE);
    invpcid_of("INVPCID of no type", 4, 0, 0, VECTOR_GP);
    invpcid_of("INVPCID of no address", INVPCID_ADDRESS, 10, NONCANONICAL, VECTOR_GP);
    invpcid_of("INVPCID with a reserved bit", INVPCID_ONE, BIT(12), 0, VECTOR_GP);
    USER_FAULTS("INVPCID", VECTOR_GP, 0, INVPCID(INVPCID_ALL));
    u64 cr0 = read_cr0();
    FAULTS("paging off with PCIDE", VECTOR_GP, 0, "mov %0, %%cr0", : : "r"(cr0 & ~CR0_PG));
    write_cr4(read_cr4() & ~CR4_PCIDE);
}

// --- memory types ---

#define MTRR_PHYSBASE0 0x200
#define MTRR_FIX64K    0x250
#define MTRR_TYPES     0x73u // bit n: type n exists
#define PAT_TYPES      0xf3u
#define TYPES          256
#define TYPES_PER_MSR  8
#define TYPE_BITS      8
#define PAT_DEFAULT    0x0007040600070406ull
#define MTRRCAP_COUNT  0xffu
#define DEF_TYPE_GOOD  (BIT(10) | BIT(11))
#define PHYS_MASK_GOOD BIT(11)

static bool type_good(u64 type, u32 types)
{
    return type < 8 && (types >> type & 1);
}

static void memory_types(u32 msr, u32 types, unsigned count, u64 other)
{
    u64 before = rdmsr(msr);
    for (unsigned i = 0; i < count; i++)
        for (u64 type = 0; type < TYPES; type++) {
            unsigned shift = i * TYPE_BITS;
            u64 value = (other & ~((TYPES - 1ull) << shift)) | type << shift;
            bool good = type_good(type, types);
            FAULTS("a memory type", good ? TRAP_NONE : VECTOR_GP, 0, WRMSR(msr, value));
            if (good)
                check_equal(rdmsr(msr), value, "a memory type is kept");
        }
    wrmsr(msr, before);
}

static void single_bits(const char *what, u32 msr, u64 good)
{
    u64 before = rdmsr(msr);
    for (unsigned bit = 0; bit < 64; bit++)
        FAULTS(what, good & BIT(bit) ? TRAP_NONE : VECTOR_GP, 0, WRMSR(msr, BIT(bit)));
    wrmsr(msr, before);
}

static void mtrrs(void)
{
    u64 cap = rdmsr(MSR_IA32_MTRRCAP), address = cpuid(LEAF_ADDRESS, 0).eax & ADDRESS_MASK;
    u32 beyond = (u32)(MTRR_PHYSBASE0 + 2 * (cap & MTRRCAP_COUNT));
    u64 pages = (BIT(address) - 1) & ~PAGE_MASK;
    memory_types(MSR_IA32_PAT, PAT_TYPES, TYPES_PER_MSR, PAT_DEFAULT);
    memory_types(MTRR_FIX64K, MTRR_TYPES, TYPES_PER_MSR, 0);
    single_bits("a bit of MTRR_DEF_TYPE", MSR_IA32_MTRR_DEF_TYPE, DEF_TYPE_GOOD | BIT(0) | BIT(2));
    single_bits("a bit of MTRR_PHYSBASE0", MTRR_PHYSBASE0, pages | BIT(0) | BIT(2));
    single_bits("a bit of MTRR_PHYSMASK0", MTRR_PHYSBASE0 + 1, pages | PHYS_MASK_GOOD);
    for (u64 bit = address; bit < 64; bit++)
        FAULTS("a high bit of APIC_BASE", VECTOR_GP, 0,
               WRMSR(MSR_IA32_APIC_BASE, rdmsr(MSR_IA32_APIC_BASE) | BIT(bit)));
    FAULTS("MTRRCAP", VECTOR_GP, 0, WRMSR(MSR_IA32_MTRRCAP, cap));
    FAULTS("a range beyond MTRRCAP's count", VECTOR_GP, 0, "rdmsr", : : "c"(beyond) : "rax", "rdx");
}

// --- what is hidden ---

static const struct {
    u32 first, last;
    u32 leaf; // 0: hidden from everybody
    u8 reg, bit;
} hidden_msrs[] = {
    {0x480, 0x492, 1, ECX, 5},               // VMX
    {0xc0010114, 0xc0010117, 0, 0, 0},       // VM_CR to VM_HSAVE_PA
    {0x48, 0x49, 7, EDX, 26},                // SPEC_CTRL, PRED_CMD
    {0x10a, 0x10a, 7, EDX, 29},              // ARCH_CAPABILITIES
    {0x10b, 0x10b, 7, EDX, 28},              // FLUSH_CMD
    {0x122, 0x122, 0, 0, 0},                 // TSX_CTRL
    {0xc1, 0xc8, 0, 0, 0},                   // PMC0 to PMC7
    {0x186, 0x18d, 0, 0, 0},                 // PERFEVTSEL0 to 7
    {0x309, 0x30b, 0, 0, 0},                 // FIXED_CTR0 to 2
    {0x38d, 0x390, 0, 0, 0},                 // performance monitoring, global
    {0x345, 0x345, 1, ECX, 15},              // PERF_CAPABILITIES
    {0x570, 0x572, 7, EBX, 25},              // PT
    {0x600, 0x600, 1, EDX, 21},              // DS_AREA
    {0x6a0, 0x6a0, 7, ECX, 7},               // U_CET
    {0x6a2, 0x6a2, 7, ECX, 7},               // S_CET
    {0x6a4, 0x6a8, 7, ECX, 7},               // shadow stacks
    {0x6e1, 0x6e1, 7, ECX, 31},              // PKRS
    {0xda0, 0xda0, SUBLEAF(0xd, 1), EAX, 3}, // XSS
    {0xe1, 0xe1, 7, ECX, 5},                 // UMWAIT_CONTROL
    {0xc90, 0xc91, 7, EBX, 15},              // RDT
};

static void msrs(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(hidden_msrs); i++) {
        if (hidden_msrs[i].leaf &&
            shown(hidden_msrs[i].leaf, hidden_msrs[i].reg, hidden_msrs[i].bit))
            continue;
        for (u32 msr = hidden_msrs[i].first; msr <= hidden_msrs[i].last; msr++) {
            FAULTS("RDMSR of a hidden MSR", VECTOR_GP, 0, "rdmsr", : : "c"(msr) : "rax", "rdx");
            FAULTS("WRMSR of a hidden MSR", VECTOR_GP, 0, WRMSR(msr, 0));
        }
    }
}

static u8 area[4096] ALIGNED(4096);

#define HIDDEN(what, leaf, reg, bit, ...)                                                          \
    if (!shown(leaf, reg, bit))                                                                    \
        FAULTS(what, VECTOR_UD, 0, __VA_ARGS__);                                                   \
    else                                                                                           \
        (void)0
#define ON_AREA : : "D"(area), "a"(0), "d"(0), "c"(0) : "memory"

static void instructions(void)
{
    if (!cpu_has(1, ECX, 5)) {
        FAULTS("VMXON", VECTOR_UD, 0, "vmxon (%%rdi)", ON_AREA);
        FAULTS("VMXOFF", VECTOR_UD, 0, "vmxoff", :);
        FAULTS("VMCLEAR", VECTOR_UD, 0, "vmclear (%%rdi)", ON_AREA);
        FAULTS("VMPTRLD", VECTOR_UD, 0, "vmptrld (%%rdi)", ON_AREA);
        FAULTS("VMPTRST", VECTOR_UD, 0, "vmptrst (%%rdi)", ON_AREA);
        FAULTS("VMREAD", VECTOR_UD, 0, "vmread %%rax, %%rdx", ON_AREA);
        FAULTS("VMWRITE", VECTOR_UD, 0, "vmwrite %%rax, %%rdx", ON_AREA);
        FAULTS("VMLAUNCH", VECTOR_UD, 0, "vmlaunch", :);
        FAULTS("VMRESUME", VECTOR_UD, 0, "vmresume", :);
        FAULTS("INVEPT", VECTOR_UD, 0, "invept (%%rdi), %%rax", ON_AREA);
        FAULTS("INVVPID", VECTOR_UD, 0, "invvpid (%%rdi), %%rax", ON_AREA);
        FAULTS("VMFUNC", VECTOR_UD, 0, "vmfunc", : : "a"(0), "c"(0));
        USER_FAULTS("VMXOFF", VECTOR_UD, 0, "vmxoff", :);
    }
    HIDDEN("VMRUN", LEAF_EXTENDED, ECX, 2, "vmrun", ON_AREA);
    HIDDEN("VMLOAD", LEAF_EXTENDED, ECX, 2, "vmload", ON_AREA);
    HIDDEN("STGI", LEAF_EXTENDED, ECX, 2, "stgi", :);
    HIDDEN("GETSEC", 1, ECX, 6, "getsec", : : "a"(0));
    HIDDEN("MONITOR", 1, ECX, 3, "monitor", ON_AREA);
    HIDDEN("MWAIT", 1, ECX, 3, "mwait", ON_AREA);
    HIDDEN("TPAUSE", 7, ECX, 5, "tpause %%ecx", ON_AREA);
    HIDDEN("ENCLS", 7, EBX, 2, "encls", : : "a"(0));
    HIDDEN("RDPKRU", 7, ECX, 4, "rdpkru", : : "c"(0) : "rax", "rdx");
    HIDDEN("WRPKRU", 7, ECX, 4, "wrpkru", : : "a"(0), "c"(0), "d"(0));
    HIDDEN("INCSSP", 7, ECX, 7, ".byte 0xf3, 0x48, 0x0f, 0xae, 0xe8", : : "a"(0));
    HIDDEN("PCONFIG", 7, EDX, 18, "pconfig", : : "a"(0));
    HIDDEN("PCOMMIT", 7, EBX, 22, ".byte 0x66, 0x0f, 0xae, 0xf8", :);
    FAULTS("CLWB of a register", VECTOR_UD, 0, ".byte 0x66, 0x0f, 0xae, 0xf0", :);
    FAULTS("RSM", VECTOR_UD, 0, "rsm", :);
    FAULTS("UD1", VECTOR_UD, 0, "ud1 %%eax, %%eax", :);
}

// --- where nothing is ---

#define BOOT_PARAMS_E820_COUNT 0x1e8
#define BOOT_PARAMS_E820       0x2d0
#define E820_RAM               1
#define VIDEO_HOLE             0xa0000ull
#define EMPTY_PORT             0x5678
#define WIDE_ONES              (~0ull)
#define PATTERN                0x1122334455667788ull

struct e820_entry {
    u64 base, size;
    u32 type;
} PACKED;

static u64 memory_end(const u8 *boot_params)
{
    const struct e820_entry *map = (const void *)(boot_params + BOOT_PARAMS_E820);
    u64 end = 0;
    for (unsigned i = 0; i < boot_params[BOOT_PARAMS_E820_COUNT]; i++)
        if (map[i].type == E820_RAM && map[i].base + map[i].size > end)
            end = map[i].base + map[i].size;
    return end;
}

static volatile u64 *map(unsigned slot, u64 target)
{
    test_table[slot] = (target & ~PAGE_MASK) | PTE_P | PTE_W | PTE_U;
    volatile u8 *at = (volatile u8 *)(TEST_BASE + slot * PAGE_SIZE);
    invlpg((void *)at);
    return (volatile u64 *)(at + (target & PAGE_MASK));
}

static void hole(u64 target)
{
    volatile u64 *p = map(0, target);
    u64 value = PATTERN;
    *p = PATTERN;
    check_equal(*p, WIDE_ONES, "8 bytes of nothing");
    check_equal(*(volatile u32 *)p, (u32)WIDE_ONES, "4 bytes of nothing");
    check_equal(*(volatile u16 *)p, (u16)WIDE_ONES, "2 bytes of nothing");
    check_equal(*(volatile u8 *)p, (u8)WIDE_ONES, "a byte of nothing");
    WORKS("XCHG with nothing", "xchg %0, (%1)", : "+r"(value) : "r"(p) : "memory");
    check_equal(value, WIDE_ONES, "XCHG with nothing gives ones");
    WORKS("INC of nothing", "incq (%1); setz %b0", : "+r"(value) : "r"(p) : "memory", "cc");
    check_equal(value & 1, 1, "ones and one are 0");
    check_equal(*p, WIDE_ONES, "nothing is kept");
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(SELECTOR_DATA));
    volatile u64 *from = p;
    u64 *to = (u64 *)area, count = 2;
    WORKS("REP MOVSQ from nothing", "rep movsq", : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    check_equal(*(volatile u64 *)(area + 8), WIDE_ONES, "it moves ones");
}

static void memory_edge(u64 end)
{
    map(1, end);
    volatile u64 *p = map(0, end - sizeof(u32));
    *p = PATTERN;
    check_equal(*p, (u64)(u32)WIDE_ONES << 32 | (u32)PATTERN, "half RAM, half nothing");
    volatile u8 *last = (volatile u8 *)map(0, end - 1);
    *last = 0;
    check_equal(*last, 0, "the last byte of RAM");
}

static void ports(void)
{
    u32 value = 0;
    WORKS("OUT to nothing", "outl %0, %w1", : : "a"(value), "d"(EMPTY_PORT));
    WORKS("IN from nothing", "inl %w1, %0", : "=a"(value) : "d"(EMPTY_PORT));
    check_equal(value, (u32)WIDE_ONES, "4 bytes of an empty port");
    value = 0;
    WORKS("IN of a byte from nothing", "inb %w1, %b0", : "+a"(value) : "d"(EMPTY_PORT));
    check_equal(value, (u8)WIDE_ONES, "a byte of an empty port");
}

static void nothing(const u8 *boot_params)
{
    u64 end = memory_end(boot_params);
    hole(end);
    hole(VIDEO_HOLE);
    hole(BIT(cpuid(LEAF_ADDRESS, 0).eax & ADDRESS_MASK) - PAGE_SIZE);
    memory_edge(end);
    ports();
}

void guest_main(const u8 *boot_params)
{
    check_setup();
    cr4();
    cr0();
    cr3();
    efer();
    invpcid();
    mtrrs();
    msrs();
    instructions();
    nothing(boot_params);
    check_finish();
}
