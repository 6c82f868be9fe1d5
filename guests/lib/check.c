// SPDX-License-Identifier: MIT
// Checks, the exceptions of tried instructions, and the machine's tables. SDM volume 3, "Segment
// Descriptors", "64-Bit Task State Segment", "4-Level Paging".
#include "guests/lib/check.h"

#define DESCRIPTOR_CODE         0x00af9b000000ffffull
#define DESCRIPTOR_DATA         0x00cf93000000ffffull
#define DESCRIPTOR_CODE32       0x00cf9b000000ffffull
#define DESCRIPTOR_USER_DATA    0x00cff3000000ffffull
#define DESCRIPTOR_USER_CODE    0x00affb000000ffffull
#define DESCRIPTOR_USER_CODE32  0x00cffb000000ffffull
#define DESCRIPTOR_NOT_PRESENT  0x00cf13000000ffffull
#define DESCRIPTOR_READ_ONLY    0x00cf91000000ffffull
#define DESCRIPTOR_EXECUTE_ONLY 0x00cf99000000ffffull
#define DESCRIPTOR_SMALL        0x0040930000001234ull
#define DESCRIPTOR_TSS          0x0000890000000000ull
#define DESCRIPTOR_LDT          0x0000820000000000ull
#define DESCRIPTOR_GATE         0x00008c0000000000ull // a call gate, DPL 0

#define GATE_SIZE            16
#define GATE_PRESENT_BYTE    5
#define GATE_PRESENT         0x80
#define TSS_IOPB_NONE        0xffff
#define TRAP_STACK_SIZE      16384
#define PDPT_DIRECTORIES     4
#define USER_RFLAGS          RFLAGS_RESERVED
#define EXCEPTION_VECTORS    32
#define DESCRIPTOR_LOW(base) (((base)&0xffffff) << 16 | ((base) >> 24 & 0xff) << 56)
#define GATE_LOW(target)     (((target)&0xffff) | (u64)SELECTOR_CODE << 16 | ((target) >> 16) << 48)

struct tss {
    u32 reserved;
    u64 rsp[3], reserved2, ist[7], reserved3;
    u16 reserved4, iopb;
} PACKED;

struct table_pointer {
    u16 limit;
    u64 base;
} PACKED;

extern const u8 gate_target[];
__asm__(".globl gate_target; gate_target: lretq");

volatile struct trap trap;
volatile u64 trap_start, trap_end, trap_resume, trap_rsp, trap_user_flags = USER_RFLAGS;
bool (*volatile interrupt_hook)(u64 vector, u64 error, u64 *frame);

u64 gdt[17] ALIGNED(16);
static struct tss tss ALIGNED(16);
static u8 trap_stack[TRAP_STACK_SIZE] ALIGNED(16);
static u64 level4[512] ALIGNED(4096), level3[512] ALIGNED(4096), user_level3[512] ALIGNED(4096),
    test_level3[512] ALIGNED(4096), directories[PDPT_DIRECTORIES][512] ALIGNED(4096),
    user_directory[512] ALIGNED(4096);
volatile u64 test_directory[512] ALIGNED(4096), test_table[512] ALIGNED(4096);

static unsigned checks, failures;

// --- checks ---

bool check(bool good, const char *what)
{
    checks++;
    if (good)
        return true;
    failures++;
    guest_print("wrong: ");
    guest_print(what);
    guest_print("\n");
    return false;
}

static void print_pair(const char *text, u64 value)
{
    guest_print(text);
    guest_print_hex(value);
}

bool check_equal(u64 got, u64 wanted, const char *what)
{
    if (check(got == wanted, what))
        return true;
    print_pair("  got ", got);
    print_pair(", wanted ", wanted);
    guest_print("\n");
    return false;
}

// #BP and #OF are traps: their RIP is behind the instruction.
void check_fault(const char *what, s64 vector, u64 error)
{
    bool is_trap = vector == VECTOR_BP || vector == VECTOR_OF || vector == VECTOR_DB;
    bool good = trap.vector == vector && (vector == TRAP_NONE || trap.error == error);
    if (good && vector != TRAP_NONE && vector != VECTOR_DF)
        good = (trap.rip & ~USER_ALIAS) == (is_trap ? trap_end : trap_start);
    if (check(good, what))
        return;
    print_pair("  vector ", (u64)trap.vector);
    print_pair(" error ", trap.error);
    print_pair(" rip ", trap.rip);
    print_pair(" cr2 ", trap.cr2);
    print_pair(", wanted vector ", (u64)vector);
    print_pair(" error ", error);
    print_pair(" rip ", trap_start);
    guest_print("\n");
}

void check_finish(void)
{
    guest_print("checks: ");
    guest_print_number(checks);
    guest_print(" made, ");
    guest_print_number(failures);
    guest_print(" failed\n");
    guest_finish(checks > 0 && failures == 0, "see above");
}

bool cpu_has(u32 leaf, unsigned reg, unsigned bit)
{
    struct cpuid c = cpuid(leaf, 0);
    const u32 words[] = {c.eax, c.ebx, c.ecx, c.edx};
    return words[reg] >> bit & 1;
}

// --- exceptions ---

static void unexpected(u64 vector, u64 error, u64 rip)
{
    print_pair("vector ", vector);
    print_pair(" error ", error);
    print_pair(" rip ", rip);
    print_pair(" cr2 ", read_cr2());
    guest_print("\n");
    guest_finish(false, "an interrupt or exception that nothing waits for");
}

// A user's attempt ends with #UD at its end, which is no result.
static void trap_record(u64 vector, u64 error, const u64 *frame)
{
    bool ended = trap_rsp && vector == VECTOR_UD && (frame[FRAME_RIP] & ~USER_ALIAS) == trap_end;
    trap.vector = ended ? TRAP_NONE : (s64)vector;
    trap.error = error;
    trap.rip = frame[FRAME_RIP];
    trap.cs = frame[FRAME_CS];
    trap.rflags = frame[FRAME_RFLAGS];
    trap.rsp = frame[FRAME_RSP];
    trap.ss = frame[FRAME_SS];
    trap.cr2 = read_cr2();
}

void guest_interrupt(u64 vector, u64 error, u64 rip, u64 *frame)
{
    if (!trap_resume || vector >= EXCEPTION_VECTORS) {
        if (!interrupt_hook || !interrupt_hook(vector, error, frame))
            unexpected(vector, error, rip);
        return;
    }
    trap_record(vector, error, frame);
    frame[FRAME_RIP] = trap_resume;
    frame[FRAME_CS] = SELECTOR_CODE;
    frame[FRAME_RFLAGS] &= ~(RFLAGS_TF | RFLAGS_AC | RFLAGS_NT | RFLAGS_DF);
    if (trap_rsp) {
        frame[FRAME_RFLAGS] = RFLAGS_RESERVED;
        frame[FRAME_RSP] = trap_rsp;
        frame[FRAME_SS] = SELECTOR_DATA;
    }
    trap_rsp = 0;
}

void *idt_gate(unsigned vector)
{
    struct table_pointer idt;
    __asm__ volatile("sidt %0" : "=m"(idt));
    return (u8 *)idt.base + vector * GATE_SIZE;
}

void idt_gate_present(unsigned vector, bool present)
{
    volatile u8 *byte = (u8 *)idt_gate(vector) + GATE_PRESENT_BYTE;
    *byte = (u8)(present ? *byte | GATE_PRESENT : *byte & ~GATE_PRESENT);
}

// --- tables ---

static void gdt_fill(void)
{
    gdt[SELECTOR_CODE / 8] = DESCRIPTOR_CODE;
    gdt[SELECTOR_DATA / 8] = DESCRIPTOR_DATA;
    gdt[SELECTOR_CODE32 / 8] = DESCRIPTOR_CODE32;
    gdt[SELECTOR_USER_DATA / 8] = DESCRIPTOR_USER_DATA;
    gdt[SELECTOR_USER_CODE / 8] = DESCRIPTOR_USER_CODE;
    gdt[SELECTOR_USER_CODE32 / 8] = DESCRIPTOR_USER_CODE32;
    gdt[SELECTOR_TSS / 8] = DESCRIPTOR_TSS | DESCRIPTOR_LOW((u64)&tss) | (sizeof(tss) - 1);
    gdt[SELECTOR_LDT / 8] = DESCRIPTOR_LDT | DESCRIPTOR_LOW((u64)gdt) | (sizeof(gdt) - 1);
    gdt[SELECTOR_NOT_PRESENT / 8] = DESCRIPTOR_NOT_PRESENT;
    gdt[SELECTOR_READ_ONLY / 8] = DESCRIPTOR_READ_ONLY;
    gdt[SELECTOR_EXECUTE_ONLY / 8] = DESCRIPTOR_EXECUTE_ONLY;
    gdt[SELECTOR_SMALL / 8] = DESCRIPTOR_SMALL;
    gdt[SELECTOR_GATE / 8] = DESCRIPTOR_GATE | GATE_LOW((u64)gate_target);
}

static void gdt_load(void)
{
    const struct table_pointer pointer = {sizeof(gdt) - 1, (u64)gdt};
    gdt_fill();
    __asm__ volatile("lgdt %0\n"
                     "pushq %1; pushq $1f; lretq\n"
                     "1: mov %2, %%ds; mov %2, %%es; mov %2, %%ss; mov %2, %%fs; mov %2, %%gs"
                     :
                     : "m"(pointer), "i"(SELECTOR_CODE), "r"(SELECTOR_DATA)
                     : "memory");
    tss.rsp[0] = (u64)(trap_stack + TRAP_STACK_SIZE);
    tss.iopb = TSS_IOPB_NONE;
    __asm__ volatile("ltr %w0" : : "r"(SELECTOR_TSS));
}

static void paging_load(void)
{
    const u64 table = PTE_P | PTE_W | PTE_U;
    for (unsigned i = 0; i < PDPT_DIRECTORIES * 512; i++)
        directories[i / 512][i % 512] = i * PAGE_2M | PTE_P | PTE_W | PTE_LARGE;
    for (unsigned i = 0; i < 512; i++)
        user_directory[i] = i * PAGE_2M | PTE_P | PTE_W | PTE_U | PTE_LARGE;
    for (unsigned i = 0; i < PDPT_DIRECTORIES; i++)
        level3[i] = (u64)directories[i] | table;
    user_level3[0] = (u64)user_directory | table;
    test_level3[0] = (u64)test_directory | table;
    test_directory[0] = (u64)test_table | table;
    level4[0] = (u64)level3 | table;
    level4[1] = (u64)user_level3 | table;
    level4[2] = (u64)test_level3 | table;
    write_cr3((u64)level4);
}

void check_setup(void)
{
    gdt_load();
    guest_idt_load();
    paging_load();
}
