// SPDX-License-Identifier: MIT
// Translation as the guest's tables say it: permissions with WP, NX, SMEP and SMAP, accessed and
// dirty flags, reserved bits, pages of 2 MiB and 1 GiB, INVLPG; and instructions on a device's
// registers, which an emulator performs, by the same rules. Then PAE and 32-bit paging.
#include "guests/lib/check.h"

#define IOAPIC        0xfec00000ull
#define IOAPIC_SELECT 0 // its first register keeps 8 bits
#define PTE_RESERVED  BIT(51)
#define PATTERN       0x1122334455667788ull
#define LARGE_VA      (TEST_BASE + PAGE_2M)
#define RET_OPCODE    0xc3

static u64 page[512] ALIGNED(4096), other[512] ALIGNED(4096);

// The test page as `flags` say, in front of `target`.
static volatile u64 *map(u64 target, u64 flags)
{
    test_table[0] = target | flags;
    invlpg((void *)TEST_BASE);
    return (volatile u64 *)TEST_BASE;
}

#define READ  "mov (%0), %%rax", : : "r"(TEST_BASE) : "rax"
#define WRITE "mov %%rax, (%0)", : : "r"(TEST_BASE) : "memory"
#define CALL  "call *%0", : : "r"(TEST_BASE) : "memory"

static void permissions(void)
{
    const u64 target = (u64)page;
    map(target, PTE_P);
    WORKS("a read of a read-only page", READ);
    write_cr0(read_cr0() & ~CR0_WP);
    WORKS("a write to a read-only page without WP", WRITE);
    write_cr0(read_cr0() | CR0_WP);
    FAULTS("a write to a read-only page with WP", VECTOR_PF, PF_PRESENT | PF_WRITE, WRITE);
    USER_FAULTS("read of the supervisor's page", VECTOR_PF, PF_PRESENT | PF_USER, READ);
    map(target, PTE_P | PTE_U);
    USER_WORKS("read of a read-only page", READ);
    USER_FAULTS("write to a read-only page", VECTOR_PF, PF_PRESENT | PF_USER | PF_WRITE, WRITE);
    map(target, PTE_P | PTE_W | PTE_U);
    USER_WORKS("write", WRITE);
    map(target, 0);
    USER_FAULTS("read of nothing", VECTOR_PF, PF_USER, READ);
    map(target, PTE_P | PTE_RESERVED);
    FAULTS("a reserved bit", VECTOR_PF, PF_PRESENT | PF_RESERVED, READ);
    check_equal(trap.cr2, TEST_BASE, "CR2 of a reserved bit");
}

static void no_execute(void)
{
    *(u8 *)page = RET_OPCODE;
    wrmsr(MSR_IA32_EFER, rdmsr(MSR_IA32_EFER) | EFER_NXE);
    map((u64)page, PTE_P | PTE_W | PTE_U);
    WORKS("a call of a page", CALL);
    map((u64)page, PTE_P | PTE_W | PTE_NX);
    WORKS("a read of a no-execute page", READ);
    TRY_SUPERVISOR(CALL);
    check_equal((u64)trap.vector, VECTOR_PF, "a call of a no-execute page");
    check_equal(trap.error, PF_PRESENT | PF_FETCH, "its error code");
    check_equal(trap.rip, TEST_BASE, "its RIP");
    wrmsr(MSR_IA32_EFER, rdmsr(MSR_IA32_EFER) & ~EFER_NXE);
    map((u64)page, PTE_P | PTE_W | PTE_NX);
    FAULTS("NX without NXE is a reserved bit", VECTOR_PF, PF_PRESENT | PF_RESERVED, READ);
    wrmsr(MSR_IA32_EFER, rdmsr(MSR_IA32_EFER) | EFER_NXE);
}

static void supervisor_prevention(void)
{
    map((u64)page, PTE_P | PTE_W | PTE_U);
    if (cpu_has(7, EBX, 7)) {
        write_cr4(read_cr4() | CR4_SMEP);
        TRY_SUPERVISOR(CALL);
        check_equal((u64)trap.vector, VECTOR_PF, "a call of a user's page with SMEP");
        check_equal(trap.error, PF_PRESENT | PF_FETCH, "its error code");
        WORKS("a read of a user's page with SMEP", READ);
        write_cr4(read_cr4() & ~CR4_SMEP);
    }
    if (cpu_has(7, EBX, 20)) {
        write_cr4(read_cr4() | CR4_SMAP);
        FAULTS("a read of a user's page with SMAP", VECTOR_PF, PF_PRESENT, READ);
        FAULTS("a write to a user's page with SMAP", VECTOR_PF, PF_PRESENT | PF_WRITE, WRITE);
        __asm__ volatile("stac");
        WORKS("a read of a user's page with AC", READ);
        __asm__ volatile("clac");
        USER_WORKS("read of its page with SMAP", READ);
        write_cr4(read_cr4() & ~CR4_SMAP);
    }
}

static void accessed_dirty(void)
{
    volatile u64 *p = map((u64)page, PTE_P | PTE_W);
    check_equal(test_table[0] & (PTE_A | PTE_D), 0, "not accessed yet");
    (void)*p;
    check_equal(test_table[0] & (PTE_A | PTE_D), PTE_A, "a read sets A");
    *p = PATTERN;
    check_equal(test_table[0] & (PTE_A | PTE_D), PTE_A | PTE_D, "a write sets D");
    check(test_directory[0] & PTE_A, "the directory's entry is accessed");
    p = map(IOAPIC, PTE_P | PTE_W);
    (void)*(volatile u32 *)p;
    check_equal(test_table[0] & (PTE_A | PTE_D), PTE_A, "a read of a device sets A");
    *(volatile u32 *)p = 0;
    check_equal(test_table[0] & (PTE_A | PTE_D), PTE_A | PTE_D, "a write to a device sets D");
}

static void remapping(void)
{
    page[0] = PATTERN;
    other[0] = ~PATTERN;
    check_equal(*map((u64)page, PTE_P | PTE_W), PATTERN, "a page");
    check_equal(*map((u64)other, PTE_P | PTE_W), ~PATTERN, "another after INVLPG");
    test_table[0] = (u64)page | PTE_P | PTE_W;
    write_cr3(read_cr3());
    check_equal(*(volatile u64 *)TEST_BASE, PATTERN, "the first after MOV to CR3");
    test_directory[1] = ALIGN_DOWN((u64)page, PAGE_2M) | PTE_P | PTE_W | PTE_LARGE;
    volatile u64 *large = (volatile u64 *)(LARGE_VA + (u64)page % PAGE_2M);
    check_equal(*large, PATTERN, "by a page of 2 MiB");
    *large = PATTERN + 1;
    check_equal(page[0], PATTERN + 1, "a write by a page of 2 MiB");
    check(test_directory[1] & PTE_D, "it is dirty");
    test_directory[1] = PAGE_SIZE | PTE_P | PTE_W | PTE_LARGE | BIT(13);
    invlpg((void *)LARGE_VA);
    FAULTS("a page of 2 MiB with a reserved bit", VECTOR_PF, PF_PRESENT | PF_RESERVED,
           "mov (%0), %%rax",
           :
           : "r"(LARGE_VA)
           : "rax");
    test_directory[1] = 0;
}

// The emulator walks the tables too, and must find the same faults.
static void devices(void)
{
    u64 value = 0;
    map(IOAPIC, PTE_P | PTE_W);
    WORKS("MOV to a device", "movl $1, (%0)", : : "r"(TEST_BASE + IOAPIC_SELECT) : "memory");
    WORKS("MOV from a device", "movl (%1), %k0", : "=r"(value) : "r"(TEST_BASE + IOAPIC_SELECT));
    check_equal(value, 1, "the device keeps it");
    USER_FAULTS("MOV to the supervisor's device", VECTOR_PF, PF_PRESENT | PF_USER | PF_WRITE,
                "movl $1, (%0)",
                :
                : "r"(TEST_BASE)
                : "memory");
    map(IOAPIC, PTE_P | PTE_U);
    USER_WORKS("MOV from a device", "movl (%1), %k0", : "=r"(value) : "r"(TEST_BASE));
    USER_FAULTS("MOV to a read-only device", VECTOR_PF, PF_PRESENT | PF_USER | PF_WRITE,
                "movl $1, (%0)",
                :
                : "r"(TEST_BASE)
                : "memory");
    FAULTS("MOV to a read-only device", VECTOR_PF, PF_PRESENT | PF_WRITE, "movl $1, (%0)",
           :
           : "r"(TEST_BASE)
           : "memory");
    map(IOAPIC, PTE_P | PTE_W | PTE_U);
    WORKS("ADD to a device", "addl $2, (%0)", : : "r"(TEST_BASE) : "memory", "cc");
    USER_WORKS("XCHG with a device", "xchgl %k0, (%1)", : "+r"(value) : "r"(TEST_BASE) : "memory");
    check_equal(value, 3, "XCHG gives the sum");
    test_table[1] = 0;
    invlpg((void *)(TEST_BASE + PAGE_SIZE));
    TRY_SUPERVISOR("movq (%0), %%rax", : : "r"(TEST_BASE + PAGE_SIZE - 4) : "rax");
    check_equal((u64)trap.vector, VECTOR_PF, "MOV from a device into nothing");
    check_equal(trap.cr2, TEST_BASE + PAGE_SIZE, "CR2 is the second page's");
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(SELECTOR_DATA));
    WORKS("REP MOVSL from a device", "rep movsl",
          :
          : "S"(TEST_BASE), "D"(other), "c"(1)
          : "memory");
    check_equal((u32)other[0], 1, "REP MOVSL read it");
    test_table[2] = (u64)other | PTE_P;
    TRY_SUPERVISOR("movsl", : : "S"(TEST_BASE), "D"(TEST_BASE + 2 * PAGE_SIZE) : "memory");
    check_equal((u64)trap.vector, VECTOR_PF, "MOVSL from a device to a read-only page");
    check_equal(trap.error, PF_PRESENT | PF_WRITE, "its error code");
    if (cpu_has(7, EBX, 20)) {
        write_cr4(read_cr4() | CR4_SMAP);
        FAULTS("MOV from a user's device with SMAP", VECTOR_PF, PF_PRESENT, "movl (%0), %%eax",
               :
               : "r"(TEST_BASE)
               : "rax");
        write_cr4(read_cr4() & ~CR4_SMAP);
    }
}

// The first 4 GiB once more by pages of 1 GiB; where CPUID shows none, bit 7 is reserved there.
#define HUGE_SHIFT       39
#define HUGE_SLOT        3
#define CPUID_EXTENDED_1 0x80000001u
#define HUGE_VA          ((u64)HUGE_SLOT << HUGE_SHIFT)
#define HUGE_BAD_BIT     BIT(13)

static volatile u64 huge_table[512] ALIGNED(4096);

static void huge_pages(void)
{
    volatile u64 *level4 = (volatile u64 *)(read_cr3() & ~PAGE_MASK);
    volatile u64 *huge = (volatile u64 *)(HUGE_VA + (u64)page);
    u64 value = 0;
    for (u64 i = 0; i < 4; i++)
        huge_table[i] = i * PAGE_1G | PTE_P | PTE_W | PTE_LARGE;
    level4[HUGE_SLOT] = (u64)huge_table | PTE_P | PTE_W;
    volatile u64 *small = (volatile u64 *)page;
    *small = PATTERN;
    if (!cpu_has(CPUID_EXTENDED_1, EDX, 26)) {
        FAULTS("a page of 1 GiB", VECTOR_PF, PF_PRESENT | PF_RESERVED, "mov (%0), %%rax",
               :
               : "r"(huge)
               : "rax");
        return;
    }
    check_equal(*huge, PATTERN, "by a page of 1 GiB");
    check_equal(huge_table[0] & (PTE_A | PTE_D), PTE_A, "a read sets its A");
    *huge = PATTERN + 1;
    check_equal(*small, PATTERN + 1, "a write by a page of 1 GiB");
    check(huge_table[0] & PTE_D, "it is dirty");
    WORKS("MOV to a device by a page of 1 GiB", "movl $1, (%0)",
          :
          : "r"(HUGE_VA + IOAPIC)
          : "memory");
    WORKS("MOV from a device by a page of 1 GiB", "movl (%1), %k0",
          : "=r"(value)
          : "r"(HUGE_VA + IOAPIC));
    check_equal(value, 1, "the device keeps that");
    check(huge_table[3] & PTE_D, "the device's page is dirty");
    huge_table[0] |= HUGE_BAD_BIT;
    invlpg((const void *)huge);
    FAULTS("a page of 1 GiB with a reserved bit", VECTOR_PF, PF_PRESENT | PF_RESERVED,
           "mov (%0), %%rax",
           :
           : "r"(huge)
           : "rax");
}

// --- paging outside long mode ---

#define PAE_ENTRIES    4
#define LEGACY_LARGE   0x83u // present, writable, 4 MiB
#define LEGACY_ENTRIES 1024

static volatile u64 pae_table[PAE_ENTRIES] ALIGNED(32);
static volatile u64 pae_directory[512] ALIGNED(4096);
static volatile u32 legacy_directory[LEGACY_ENTRIES] ALIGNED(4096);
static volatile u32 seen_pae, seen_legacy;
static volatile u32 written;

// Compatibility mode; long mode off; PAE paging; 32-bit paging; and back. In each mode a variable
// is read through a mapping that the other modes do not have.
#define ALIAS 0x800000 // 8 MiB: in both modes the first 4 MiB again

static void legacy_modes(void)
{
    for (unsigned i = 0; i < 4; i++)
        pae_directory[i] = i * PAGE_2M | PTE_P | PTE_W | PTE_LARGE;
    pae_directory[ALIAS / PAGE_2M] = PTE_P | PTE_W | PTE_LARGE;
    pae_table[0] = (u64)pae_directory | PTE_P;
    legacy_directory[0] = LEGACY_LARGE;
    legacy_directory[ALIAS >> 22] = LEGACY_LARGE;
    written = (u32)PATTERN;
    __asm__ volatile("mov %[data], %%ds; mov %[data], %%es\n"
                     "pushq %[code32]; pushq $1f; lretq\n"
                     ".code32\n"
                     "1: mov %%cr0, %%ebx; btr $31, %%ebx; mov %%ebx, %%cr0\n"
                     "mov %[efer], %%ecx; rdmsr; btr $8, %%eax; wrmsr\n"
                     "mov $pae_table, %%eax; mov %%eax, %%cr3\n"
                     "bts $31, %%ebx; mov %%ebx, %%cr0\n"
                     "mov written + %c[alias], %%eax; mov %%eax, seen_pae\n"
                     "btr $31, %%ebx; mov %%ebx, %%cr0\n"
                     "mov %%cr4, %%edx; mov %%edx, %%edi; btr $5, %%edx; bts $4, %%edx\n"
                     "mov %%edx, %%cr4; mov $legacy_directory, %%eax; mov %%eax, %%cr3\n"
                     "bts $31, %%ebx; mov %%ebx, %%cr0\n"
                     "mov written + %c[alias], %%eax; mov %%eax, seen_legacy\n"
                     "btr $31, %%ebx; mov %%ebx, %%cr0; mov %%edi, %%cr4\n"
                     "mov %%esi, %%cr3; rdmsr; bts $8, %%eax; wrmsr\n"
                     "bts $31, %%ebx; mov %%ebx, %%cr0\n"
                     "ljmp %[code], $9f\n"
                     ".code64\n"
                     "9:"
                     :
                     : [code32] "i"(SELECTOR_CODE32), [code] "i"(SELECTOR_CODE),
                       [data] "r"(SELECTOR_DATA), [efer] "i"(MSR_IA32_EFER), [alias] "i"(ALIAS),
                       "S"(read_cr3())
                     : "rax", "rbx", "rcx", "rdx", "rdi", "memory", "cc");
    check_equal(seen_pae, (u32)PATTERN, "a read by PAE paging");
    check_equal(seen_legacy, (u32)PATTERN, "a read by 32-bit paging");
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    check_setup();
    write_cr0(read_cr0() | CR0_WP);
    permissions();
    no_execute();
    supervisor_prevention();
    accessed_dirty();
    remapping();
    devices();
    huge_pages();
    legacy_modes();
    check_finish();
}
