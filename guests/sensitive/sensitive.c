// SPDX-License-Identifier: MIT
// The seventeen instructions of the x86 that are sensitive but not privileged, which a classical
// trap-and-emulate monitor gets wrong: each must show the guest its own tables, flags, segments and
// privilege level, at level 0 and at level 3. With UMIP, users are refused the first five.
#include "guests/lib/check.h"

#define LEAF_FEATURES7 7
#define UMIP_BIT       2 // of leaf 7, ECX
#define LAR_DATA       0x00cf9300
#define LAR_USER_DATA  0x00cff300
#define TEST_LIMIT     0x7f
#define TEST_ADDRESS   0xffff812345678000ull
#define USER_PTR(p)    ((void *)((u64)(p) + USER_ALIAS))

struct table_pointer {
    u16 limit;
    u64 base;
} PACKED;

static struct table_pointer pointer, saved;
static u64 word;

// --- SGDT, SIDT, SLDT, STR, SMSW ---

static void tables(void)
{
    const struct table_pointer test = {TEST_LIMIT, TEST_ADDRESS};
    __asm__ volatile("sgdt %0" : "=m"(saved));
    check_equal(saved.base, (u64)gdt, "SGDT: base");
    check_equal(saved.limit, sizeof(gdt) - 1, "SGDT: limit");
    __asm__ volatile("lgdt %1; sgdt %0; lgdt %2" : "=m"(pointer) : "m"(test), "m"(saved));
    check_equal(pointer.base, TEST_ADDRESS, "SGDT shows the base that LGDT loaded");
    check_equal(pointer.limit, TEST_LIMIT, "SGDT shows the limit that LGDT loaded");
    __asm__ volatile("sidt %0" : "=m"(saved));
    __asm__ volatile("lidt %1; sidt %0; lidt %2" : "=m"(pointer) : "m"(test), "m"(saved));
    check_equal(pointer.base, TEST_ADDRESS, "SIDT shows the base that LIDT loaded");
    check_equal(pointer.limit, TEST_LIMIT, "SIDT shows the limit that LIDT loaded");
}

static void selectors(void)
{
    u64 value = ~0ull;
    __asm__ volatile("lldt %w1; sldt %w0" : "+r"(value) : "r"(SELECTOR_LDT));
    check_equal(value & 0xffff, SELECTOR_LDT, "SLDT shows what LLDT loaded");
    __asm__ volatile("lldt %w1; sldt %0" : "=r"(value) : "r"(0));
    check_equal(value, 0, "SLDT shows no LDT");
    __asm__ volatile("str %0" : "=r"(value));
    check_equal(value, SELECTOR_TSS, "STR shows what LTR loaded");
}

static void machine_status(void)
{
    u64 value, cr0 = read_cr0();
    __asm__ volatile("smsw %0" : "=r"(value));
    check_equal(value & 0xffffffff, cr0 & 0xffffffff, "SMSW shows the guest's CR0");
    write_cr0(cr0 ^ CR0_TS ^ CR0_MP);
    __asm__ volatile("smsw %w0" : "=m"(word));
    check_equal(word & 0xffff, (cr0 ^ CR0_TS ^ CR0_MP) & 0xffff, "SMSW to memory");
    __asm__ volatile("lmsw %w0" : : "r"(cr0));
    check_equal(read_cr0(), cr0, "LMSW puts it back");
    __asm__ volatile("lmsw %w0" : : "r"(0));
    check_equal(read_cr0(), cr0 & ~(CR0_MP | CR0_EM | CR0_TS), "LMSW cannot clear PE");
    write_cr0(cr0);
}

static void user_tables(void)
{
    void *where = USER_PTR(&pointer);
    USER_WORKS("SGDT", "sgdt (%0)", : : "r"(where));
    check_equal(pointer.base, (u64)gdt, "a user's SGDT: base");
    USER_WORKS("SIDT", "sidt (%0)", : : "r"(where));
    u64 value = 0;
    USER_WORKS("STR", "str %0", : "=r"(value));
    check_equal(value, SELECTOR_TSS, "a user's STR");
    USER_WORKS("SLDT", "sldt %0", : "=r"(value));
    USER_WORKS("SMSW", "smsw %0", : "=r"(value));
    check_equal(value & 0xffff, read_cr0() & 0xffff, "a user's SMSW");
}

static void user_tables_refused(void)
{
    void *where = USER_PTR(&pointer);
    u64 value;
    if (!cpu_has(LEAF_FEATURES7, ECX, UMIP_BIT))
        return;
    write_cr4(read_cr4() | CR4_UMIP);
    USER_FAULTS("SGDT with UMIP", VECTOR_GP, 0, "sgdt (%0)", : : "r"(where));
    USER_FAULTS("SIDT with UMIP", VECTOR_GP, 0, "sidt (%0)", : : "r"(where));
    USER_FAULTS("SLDT with UMIP", VECTOR_GP, 0, "sldt %0", : "=r"(value));
    USER_FAULTS("STR with UMIP", VECTOR_GP, 0, "str %0", : "=r"(value));
    USER_FAULTS("SMSW with UMIP", VECTOR_GP, 0, "smsw %0", : "=r"(value));
    write_cr4(read_cr4() & ~CR4_UMIP);
}

// --- PUSHF, POPF ---

static void flags(void)
{
    u64 on, off, user;
    __asm__ volatile("sti; pushf; pop %0; cli; pushf; pop %1" : "=r"(on), "=r"(off));
    check(on & RFLAGS_IF, "PUSHF shows IF set");
    check(!(off & RFLAGS_IF), "PUSHF shows IF clear");
    __asm__ volatile("push %1; popf; pushf; pop %0; cli" : "=r"(on) : "r"(off | RFLAGS_IF));
    check(on & RFLAGS_IF, "POPF sets IF at level 0");
    __asm__ volatile("push %1; popf; pushf; pop %0; push %2; popf"
                     : "=&r"(on)
                     : "r"(off | RFLAGS_IOPL), "r"(off)
                     : "cc");
    check_equal(on & RFLAGS_IOPL, RFLAGS_IOPL, "POPF sets IOPL at level 0");
    USER_WORKS("POPF", "push %1; popf; pushf; pop %0",
               : "=&r"(user)
               : "r"(RFLAGS_RESERVED | RFLAGS_IF | RFLAGS_IOPL)
               : "cc");
    check_equal(user & (RFLAGS_IF | RFLAGS_IOPL), 0, "a user's POPF changes neither IF nor IOPL");
}

// --- LAR, LSL, VERR, VERW ---

#define PROBE(instruction, selector, value)                                                        \
    ({                                                                                             \
        bool good_;                                                                                \
        __asm__ volatile(instruction "; setz %0"                                                   \
                         : "=q"(good_), "+r"(value)                                                \
                         : "r"(selector)                                                           \
                         : "cc");                                                                  \
        good_;                                                                                     \
    })
#define VERIFY(instruction, selector)                                                              \
    ({                                                                                             \
        bool good_;                                                                                \
        __asm__ volatile(instruction " %w1; setz %0" : "=q"(good_) : "r"(selector) : "cc");        \
        good_;                                                                                     \
    })

static void rights(void)
{
    u32 value = 0;
    check(PROBE("lar %2, %1", SELECTOR_DATA, value) &&
              (value & 0x00ffff00) == (LAR_DATA & 0x00ffff00),
          "LAR of data");
    check(PROBE("lsl %2, %1", SELECTOR_SMALL, value) && value == SMALL_LIMIT, "LSL of bytes");
    check(PROBE("lsl %2, %1", SELECTOR_DATA, value) && value == 0xffffffff, "LSL of pages");
    check(!PROBE("lar %2, %1", SELECTOR_BEYOND, value), "LAR past the table");
    check(!PROBE("lar %2, %1", 0, value), "LAR of a null selector");
    check(VERIFY("verr", SELECTOR_READ_ONLY), "VERR of read-only data");
    check(!VERIFY("verw", SELECTOR_READ_ONLY), "VERW of read-only data");
    check(!VERIFY("verr", SELECTOR_EXECUTE_ONLY), "VERR of execute-only code");
    check(VERIFY("verr", SELECTOR_CODE), "VERR of readable code");
    check(VERIFY("verw", SELECTOR_DATA), "VERW of data");
}

static void user_rights(void)
{
    u32 value = 0;
    u8 good;
    USER_WORKS("LAR", "lar %2, %1; setz %0",
               : "=&q"(good), "+r"(value)
               : "r"(SELECTOR_DATA)
               : "cc");
    check(!good, "a user's LAR of level 0");
    USER_WORKS("LAR", "lar %2, %1; setz %0",
               : "=&q"(good), "+r"(value)
               : "r"(SELECTOR_USER_DATA)
               : "cc");
    check(good && (value & 0xff00) == (LAR_USER_DATA & 0xff00), "a user's LAR of level 3");
    USER_WORKS("VERW", "verw %w1; setz %0", : "=q"(good) : "r"(SELECTOR_DATA) : "cc");
    check(!good, "a user's VERW of level 0");
    USER_WORKS("VERR", "verr %w1; setz %0", : "=q"(good) : "r"(SELECTOR_USER_DATA) : "cc");
    check(good, "a user's VERR of level 3");
}

// --- PUSH, POP and MOV of segments ---

static void segments(void)
{
    u64 value;
    __asm__ volatile("mov %1, %%fs; push %%fs; pop %0" : "=r"(value) : "r"(SELECTOR_SMALL));
    check_equal(value & 0xffff, SELECTOR_SMALL, "PUSH shows the segment that MOV loaded");
    __asm__ volatile("push %1; pop %%gs; mov %%gs, %0" : "=r"(value) : "r"((u64)SELECTOR_DATA));
    check_equal(value, SELECTOR_DATA, "MOV shows the segment that POP loaded");
    __asm__ volatile("mov %%cs, %0" : "=r"(value));
    check_equal(value, SELECTOR_CODE, "MOV from CS shows level 0");
    USER_WORKS("MOV from CS", "mov %%cs, %0", : "=r"(value));
    check_equal(value, SELECTOR_USER_CODE, "a user's MOV from CS shows level 3");
    USER_FAULTS("MOV of level 0 to SS", VECTOR_GP, SELECTOR_DATA, "mov %0, %%ss",
                :
                : "r"(SELECTOR_DATA));
    USER_FAULTS("MOV of level 0 to DS", VECTOR_GP, SELECTOR_DATA, "mov %0, %%ds",
                :
                : "r"(SELECTOR_DATA));
    FAULTS("POP of a null SS by level 3's RPL", VECTOR_GP, 0, "mov %0, %%ss", : : "r"(3));
    FAULTS("MOV to a segment that is not there", VECTOR_NP, SELECTOR_NOT_PRESENT, "mov %0, %%fs",
           :
           : "r"(SELECTOR_NOT_PRESENT));
    FAULTS("MOV of a stack that is not there", VECTOR_SS, SELECTOR_NOT_PRESENT, "mov %0, %%ss",
           :
           : "r"(SELECTOR_NOT_PRESENT));
    FAULTS("MOV of code to SS", VECTOR_GP, SELECTOR_CODE, "mov %0, %%ss", : : "r"(SELECTOR_CODE));
}

// --- far CALL, JMP, RET; INT, IRET ---

struct far_pointer {
    u32 offset;
    u16 selector;
} PACKED;

static struct far_pointer far_gate = {0, SELECTOR_GATE}, far_data = {0, SELECTOR_DATA};
static volatile u64 int_level;

static bool on_int(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    if (vector != 0x80)
        return false;
    int_level = frame[FRAME_CS] & 3;
    return true;
}

static void transfers(void)
{
    u64 value;
    WORKS("CALL through a gate", "lcall *%0", : : "m"(far_gate) : "memory");
    WORKS("JMP to code",
          "movl $1f, %0; movw %2, %1; ljmp *%0\n"
          "1:",
          : "+m"(far_data.offset), "=m"(far_data.selector)
          : "i"(SELECTOR_CODE)
          : "memory");
    far_data = (struct far_pointer){0, SELECTOR_DATA};
    FAULTS("JMP to data", VECTOR_GP, SELECTOR_DATA, "ljmp *%0", : : "m"(far_data));
    USER_FAULTS("CALL through a gate of level 0", VECTOR_GP, SELECTOR_GATE, "lcall *(%0)",
                :
                : "r"(USER_PTR(&far_gate))
                : "memory");
    USER_FAULTS("INT through a gate of level 0", VECTOR_GP, 0x80 * 8 + 2, "int $0x80", :);
    interrupt_hook = on_int;
    int_level = ~0ull;
    __asm__ volatile("int $0x80" : : : "memory");
    check_equal(int_level, 0, "INT shows level 0");
    interrupt_hook = NULL;
    __asm__ volatile("pushq %1; pushq $1f; lretq\n1: mov %%cs, %0"
                     : "=r"(value)
                     : "i"(SELECTOR_CODE));
    check_equal(value, SELECTOR_CODE, "RET to code");
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    check_setup();
    tables();
    selectors();
    machine_status();
    user_tables();
    user_tables_refused();
    flags();
    rights();
    user_rights();
    segments();
    transfers();
    check_finish();
}
