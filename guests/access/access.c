// SPDX-License-Identifier: MIT
// All that the rights of a page hang on, against each other: the flags of its entry and of the one
// above, the size of the page, WP, NXE, SMEP, SMAP and AC, and who wants what. Each combination is
// worked out by the rules of the SDM, volume 3, "Determination of Access Rights" and "Page-Fault
// Exceptions", and tried: on RAM, where the CPU does it by itself; on a device's registers, where
// what the CPU refuses never comes to an emulator; and on RAM as the second operand of an
// instruction whose first is in a device, so that it is the emulator that walks the tables for it,
// and has to find the same fault and mark the same entries. Not all combinations are tried, but
// every so manyth.
#include "guests/lib/check.h"

#define IOAPIC        0xfec00000ull // its first register keeps 8 bits
#define BASE_SHIFT    39
#define BASE_SLOT     5
#define BASE          ((u64)BASE_SLOT << BASE_SHIFT)
#define USER_DEVICE   ((u64)(BASE_SLOT + 1) << BASE_SHIFT) // IOAPIC again, for users
#define DATA_OFFSET   64                                   // in the page, behind its code
#define JUMP_BACK     0xe6ff                               // jmp *%rsi
#define RESERVED_HIGH BIT(51)
#define RESERVED_SIZE BIT(13) // in the entry of a large page
#define ADDRESS_LEAF  0x80000008u
#define ADDRESS_MASK  0xffu
#define ADDRESS_TOP   52
#define NO_FAULT      (~0ull)
#define WRONG_MAX     10 // lines
#define RAM_STEP      13 // primes: no pattern is left out
#define EXIT_STEP     127

// What a combination is made of, lowest bits first; the CPU's state changes last.
enum {
    LEAF_P,
    LEAF_W,
    LEAF_U,
    LEAF_A,
    LEAF_D,
    LEAF_NX,
    LEAF_RESERVED,
    UPPER_W,
    UPPER_U,
    UPPER_A,
    UPPER_NX,
    UPPER_RESERVED,
    ACCESS_WRITE,
    ACCESS_FETCH,
    ACCESS_USER,
    ACCESS_AC,
    CPU_WP,
    CPU_NXE,
    CPU_SMEP,
    CPU_SMAP,
    BITS,
};

static bool has(u64 combination, unsigned bit)
{
    return combination >> bit & 1;
}

static u64 flag(u64 combination, unsigned bit, u64 value)
{
    return has(combination, bit) ? value : 0;
}

// --- the tables ---

static volatile u64 pdpt[512] ALIGNED(4096), directory[512] ALIGNED(4096), table[512] ALIGNED(4096);
static volatile u64 device_pdpt[512] ALIGNED(4096), device_directory[512] ALIGNED(4096);
static u8 page[4096] ALIGNED(4096);

// A page of each size: its entry, the one above, and how far a page reaches.
static const struct size {
    const char *name;
    volatile u64 *leaf, *upper;
    u64 points_to; // the upper entry
    u64 bytes;
} sizes[] = {
    {"4 KiB", table, directory, (u64)table, PAGE_SIZE},
    {"2 MiB", directory, pdpt, (u64)directory, PAGE_2M},
    {"1 GiB", pdpt, NULL, (u64)pdpt, PAGE_1G},
};

static volatile u64 *level4(void)
{
    return (volatile u64 *)(read_cr3() & ~PAGE_MASK);
}

static volatile u64 *upper_of(const struct size *size)
{
    return size->upper ? size->upper : level4() + BASE_SLOT;
}

// What is accessed, and how.
struct target {
    const char *name;
    u64 address;
    u64 step;
    u64 never;   // no such combinations
    bool second; // after a device's register, by one instruction
};

static const struct target targets[] = {
    {"RAM", (u64)page, RAM_STEP, 0, false},
    {"a device", IOAPIC, EXIT_STEP, BIT(ACCESS_FETCH), false},
    {"RAM after a device", (u64)(page + DATA_OFFSET), EXIT_STEP, BIT(ACCESS_FETCH), true},
};

static u64 target_offset(const struct size *size, u64 target)
{
    return target & (size->bytes - 1);
}

static void tables_fill(const struct size *size, u64 c, u64 target)
{
    bool large = size->bytes != PAGE_SIZE;
    *size->leaf = (target & ~(size->bytes - 1)) | (large ? PTE_LARGE : 0) | flag(c, LEAF_P, PTE_P) |
                  flag(c, LEAF_W, PTE_W) | flag(c, LEAF_U, PTE_U) | flag(c, LEAF_A, PTE_A) |
                  flag(c, LEAF_D, PTE_D) | flag(c, LEAF_NX, PTE_NX) |
                  flag(c, LEAF_RESERVED, large ? RESERVED_SIZE : RESERVED_HIGH);
    *upper_of(size) = size->points_to | PTE_P | flag(c, UPPER_W, PTE_W) | flag(c, UPPER_U, PTE_U) |
                      flag(c, UPPER_A, PTE_A) | flag(c, UPPER_NX, PTE_NX) |
                      flag(c, UPPER_RESERVED, RESERVED_HIGH);
}

// --- what must come ---

static bool allowed(u64 c)
{
    bool user_page = has(c, LEAF_U) && has(c, UPPER_U);
    bool writable = has(c, LEAF_W) && has(c, UPPER_W);
    bool user = has(c, ACCESS_USER);
    if (user && !user_page)
        return false;
    if (has(c, ACCESS_WRITE) && !writable && (user || has(c, CPU_WP)))
        return false;
    if (has(c, ACCESS_FETCH))
        return !has(c, LEAF_NX) && !has(c, UPPER_NX) && (user || !user_page || !has(c, CPU_SMEP));
    return user || !user_page || !has(c, CPU_SMAP) || has(c, ACCESS_AC);
}

// The error code, or NO_FAULT.
static u64 expected(u64 c)
{
    u64 error = flag(c, ACCESS_WRITE, PF_WRITE) | flag(c, ACCESS_USER, PF_USER);
    if (has(c, ACCESS_FETCH) && (has(c, CPU_NXE) || has(c, CPU_SMEP)))
        error |= PF_FETCH;
    bool upper_bad = has(c, UPPER_RESERVED) || (has(c, UPPER_NX) && !has(c, CPU_NXE));
    bool leaf_bad = has(c, LEAF_RESERVED) || (has(c, LEAF_NX) && !has(c, CPU_NXE));
    if (!upper_bad && !has(c, LEAF_P))
        return error;
    if (upper_bad || leaf_bad)
        return error | PF_PRESENT | PF_RESERVED;
    return allowed(c) ? NO_FAULT : error | PF_PRESENT;
}

// --- trying ---

#define FETCH   "lea 55f(%%rip), %%rsi; jmp *%%rdi\n55:", : : "D"(gva) : "rsi", "memory"
#define READ    "movl (%%rdi), %%eax", : : "D"(gva) : "rax", "memory"
#define WRITE   "movl %%eax, (%%rdi)", : : "D"(gva), "a"(JUMP_BACK) : "memory"
#define MOVE    "movsl", : "+S"(device), "+D"(gva) : : "memory"
#define COMPARE "cmpsl", : "+S"(device), "+D"(gva) : : "memory", "cc"

static void access(u64 c, u64 gva)
{
    trap_user_flags = RFLAGS_RESERVED;
    if (has(c, ACCESS_USER)) {
        if (has(c, ACCESS_FETCH))
            TRY_USER(FETCH);
        else if (has(c, ACCESS_WRITE))
            TRY_USER(WRITE);
        else
            TRY_USER(READ);
        return;
    }
    if (has(c, ACCESS_AC))
        __asm__ volatile("stac");
    if (has(c, ACCESS_FETCH))
        TRY_SUPERVISOR(FETCH);
    else if (has(c, ACCESS_WRITE))
        TRY_SUPERVISOR(WRITE);
    else
        TRY_SUPERVISOR(READ);
    if (has(c, ACCESS_AC))
        __asm__ volatile("clac");
}

// A device's register is read first, from where it may be.
static void access_second(u64 c, u64 gva)
{
    u64 device = has(c, ACCESS_USER) ? USER_DEVICE : IOAPIC;
    trap_user_flags = RFLAGS_RESERVED;
    if (has(c, ACCESS_USER)) {
        if (has(c, ACCESS_WRITE))
            TRY_USER(MOVE);
        else
            TRY_USER(COMPARE);
        return;
    }
    if (has(c, ACCESS_AC))
        __asm__ volatile("stac");
    if (has(c, ACCESS_WRITE))
        TRY_SUPERVISOR(MOVE);
    else
        TRY_SUPERVISOR(COMPARE);
    if (has(c, ACCESS_AC))
        __asm__ volatile("clac");
}

static unsigned wrong_lines;

static void wrong(const struct size *size, u64 c, const struct target *target, u64 wanted)
{
    if (wrong_lines++ >= WRONG_MAX)
        return;
    guest_print(target->name);
    guest_print(", ");
    guest_print(size->name);
    guest_print(": combination ");
    guest_print_hex(c);
    guest_print(" vector ");
    guest_print_hex((u64)trap.vector);
    guest_print(" error ");
    guest_print_hex(trap.error);
    guest_print(", wanted error ");
    guest_print_hex(wanted);
    guest_print("; entries ");
    guest_print_hex(*upper_of(size));
    guest_print(" ");
    guest_print_hex(*size->leaf);
    guest_print("\n");
}

static void try(const struct size *size, u64 c, const struct target *target)
{
    u64 gva = BASE + target_offset(size, target->address);
    u64 wanted = expected(c);
    tables_fill(size, c, target->address);
    u64 leaf = *size->leaf, upper = *upper_of(size);
    invlpg((const void *)gva);
    if (target->second)
        access_second(c, gva);
    else
        access(c, gva);
    bool good;
    if (wanted == NO_FAULT) {
        leaf |= PTE_A | flag(c, ACCESS_WRITE, PTE_D);
        good = trap.vector == TRAP_NONE && *upper_of(size) == (upper | PTE_A);
    } else {
        // Whether a walk that ends in a fault leaves marks above the last entry is the CPU's
        // matter.
        good = trap.vector == VECTOR_PF && trap.error == wanted && trap.cr2 == gva &&
               (*upper_of(size) | PTE_A) == (upper | PTE_A);
    }
    if (!good || *size->leaf != leaf)
        wrong(size, c, target, wanted);
}

static u64 set(u64 value, u64 bit, bool on)
{
    return on ? value | bit : value & ~bit;
}

static void cpu_state(u64 c)
{
    static u64 now = ~0ull;
    u64 state = c >> CPU_WP << CPU_WP;
    if (state == now)
        return;
    now = state;
    write_cr0(set(read_cr0(), CR0_WP, has(c, CPU_WP)));
    wrmsr(MSR_IA32_EFER, set(rdmsr(MSR_IA32_EFER), EFER_NXE, has(c, CPU_NXE)));
    write_cr4(set(set(read_cr4(), CR4_SMEP, has(c, CPU_SMEP)), CR4_SMAP, has(c, CPU_SMAP)));
}

// Bits that mean nothing on this CPU.
static u64 impossible(void)
{
    u64 bits = 0;
    if (!cpu_has(7, EBX, 7))
        bits |= BIT(CPU_SMEP);
    if (!cpu_has(7, EBX, 20))
        bits |= BIT(CPU_SMAP) | BIT(ACCESS_AC);
    if (!cpu_has(0x80000001, EDX, 20))
        bits |= BIT(CPU_NXE);
    if ((cpuid(ADDRESS_LEAF, 0).eax & ADDRESS_MASK) >= ADDRESS_TOP)
        bits |= BIT(UPPER_RESERVED) | BIT(LEAF_RESERVED);
    return bits;
}

static bool sensible(u64 c)
{
    return !(has(c, ACCESS_WRITE) && has(c, ACCESS_FETCH)) &&
           !(has(c, ACCESS_USER) && has(c, ACCESS_AC));
}

static u64 tried;

static void report(const struct size *size, const struct target *target)
{
    guest_print(target->name);
    guest_print(" by ");
    guest_print(size->name);
    guest_print(": ");
    guest_print_number(tried);
    guest_print(" combinations\n");
}

static void all(const struct size *size, const struct target *target, u64 never)
{
    tried = 0;
    for (u64 c = 0; c < BIT(BITS); c += target->step) {
        if ((c & (never | target->never)) || !sensible(c))
            continue;
        cpu_state(c);
        try(size, c, target);
        tried++;
    }
    cpu_state(0);
    *upper_of(size) = 0;
    *size->leaf = 0;
    invlpg((const void *)BASE);
    report(size, target);
    check(tried > 0, "something was tried");
}

// The entries above those that are tried.
static void tables_begin(const struct size *size)
{
    if (size->bytes < PAGE_1G)
        level4()[BASE_SLOT] = (u64)pdpt | PTE_P | PTE_W | PTE_U;
    if (size->bytes < PAGE_2M)
        pdpt[0] = (u64)directory | PTE_P | PTE_W | PTE_U;
}

static void sizes_try(u64 never)
{
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        if (sizes[i].bytes == PAGE_1G && !cpu_has(0x80000001, EDX, 26))
            continue;
        for (unsigned n = 0; n < ARRAY_SIZE(targets); n++) {
            tables_begin(&sizes[i]);
            all(&sizes[i], &targets[n], never);
        }
    }
}

static void user_device_setup(void)
{
    level4()[BASE_SLOT + 1] = (u64)device_pdpt | PTE_P | PTE_W | PTE_U;
    device_pdpt[0] = (u64)device_directory | PTE_P | PTE_W | PTE_U;
    device_directory[0] = IOAPIC | PTE_P | PTE_W | PTE_U | PTE_LARGE;
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    check_setup();
    user_device_setup();
    *(volatile u16 *)page = JUMP_BACK;
    sizes_try(impossible());
    check_equal(wrong_lines, 0, "combinations that are wrong");
    check_finish();
}
