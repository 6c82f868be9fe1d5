// SPDX-License-Identifier: MIT
// Hardware tasks: it leaves 64-bit mode, then calls, jumps and returns between tasks, takes an
// exception and an INT through task gates and a debug trap from a TSS's T bit, and comes back.
// What each of them left behind is checked in C.
#include "guests/lib/guest.h"

#define SEL_CODE32 0x08
#define SEL_DATA   0x10
#define SEL_CODE64 0x18
#define SEL_MAIN   0x20
#define SEL_OTHER  0x28
#define SEL_FAULT  0x30
#define GDT_COUNT  7
#define IDT_COUNT  0x41
#define INT_GATE   0x40 // the vector of a task gate

#define DESC_CODE32 0x00cf9b000000ffffull
#define DESC_DATA   0x00cf93000000ffffull
#define DESC_CODE64 0x00af9b000000ffffull
#define TSS_LIMIT   103
#define ACCESS_TSS  0x89
#define GATE_TASK   0x8500
#define GATE_INTR   0x8e00
#define STACK_WORDS 256
#define EFLAGS_INIT 2
#define MAGIC       0x1111

struct tss {
    u32 link, stacks[6], cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs, ldt, trap;
};
_Static_assert(sizeof(struct tss) == TSS_LIMIT + 1, "as the CPU has it");

struct PACKED table_pointer {
    u16 limit;
    u64 base;
};

// Shared with the assembly below.
u64 task_gdt[GDT_COUNT], task_idt[IDT_COUNT];
struct tss main_tss, other_tss, fault_tss;
u32 main_stack[STACK_WORDS], other_stack[STACK_WORDS], fault_stack[STACK_WORDS];
u32 other_runs, other_cr0, other_flags, other_eax, fault_error, fault_runs, traps, trap_dr6;
u32 kept_ebx, jump_back;
u64 saved_rsp;
struct table_pointer gdt_pointer, idt_pointer;

void legacy_run(void);
extern const u8 other_task[], fault_task[], trap_handler[], bad_load[];

__asm__(".intel_syntax noprefix\n"
        ".text\n"
        ".global legacy_run, other_task, fault_task, trap_handler\n"
        ".code64\n"
        "legacy_run:\n"
        "    push rbx\n push rbp\n push r12\n push r13\n push r14\n push r15\n"
        "    mov [saved_rsp], rsp\n"
        "    lgdt [gdt_pointer]\n"
        "    lidt [idt_pointer]\n"
        "    push 0x08\n"
        "    lea rax, [rip + compatible]\n"
        "    push rax\n"
        "    retfq\n"
        ".code32\n"
        "compatible:\n"
        "    mov eax, 0x10\n mov ds, eax\n mov es, eax\n mov ss, eax\n"
        "    lea esp, main_stack + 1024\n"
        "    mov eax, cr0\n and eax, 0x7fffffff\n mov cr0, eax\n"
        "    mov ecx, 0xc0000080\n rdmsr\n and eax, 0xfffffeff\n wrmsr\n"
        "    call tasks\n"
        "    mov ecx, 0xc0000080\n rdmsr\n or eax, 0x100\n wrmsr\n"
        "    mov eax, cr0\n or eax, 0x80000000\n mov cr0, eax\n"
        "    push 0x18\n"
        "    lea eax, back64\n"
        "    push eax\n"
        "    retf\n"
        ".code64\n"
        "back64:\n"
        "    mov rsp, [saved_rsp]\n"
        "    pop r15\n pop r14\n pop r13\n pop r12\n pop rbp\n pop rbx\n"
        "    ret\n"
        // The main task.
        ".code32\n"
        "tasks:\n"
        "    mov eax, 0x20\n ltr ax\n"
        "    mov ebx, 0x1111\n"
        "    call 0x28:0\n"                      // its IRET comes back
        "    mov dword ptr other_tss + 100, 1\n" // T
        "    call 0x28:0\n"
        "    mov dword ptr other_tss + 100, 0\n"
        "    mov dword ptr jump_back, 1\n"
        "    jmp 0x28:0\n" // a jump comes back too
        "    mov eax, 0x1230\n"
        "bad_load:\n"
        "    mov fs, eax\n" // #GP(0x1230) through a task gate
        "    int 0x40\n"
        "    mov kept_ebx, ebx\n"
        "    ret\n"
        "other_task:\n"
        "    inc dword ptr other_runs\n"
        "    mov other_eax, eax\n"
        "    inc eax\n"
        "    mov ecx, cr0\n mov other_cr0, ecx\n clts\n"
        "    pushfd\n pop dword ptr other_flags\n"
        "    cmp dword ptr jump_back, 0\n jne 1f\n"
        "    iretd\n"
        "    jmp other_task\n"
        "1:  jmp 0x20:0\n"
        // An error code is on its stack the first time, but not the second.
        "fault_task:\n"
        "    inc dword ptr fault_runs\n"
        "    pop dword ptr fault_error\n"
        "    add dword ptr main_tss + 32, 2\n" // over the instruction
        "    iretd\n"
        "    inc dword ptr fault_runs\n"
        "    iretd\n"
        "trap_handler:\n"
        "    push eax\n"
        "    inc dword ptr traps\n"
        "    mov eax, dr6\n mov trap_dr6, eax\n"
        "    pop eax\n"
        "    iretd\n"
        ".code64\n"
        ".att_syntax prefix\n");

static void tss_set(unsigned selector, struct tss *tss, const u8 *entry, u32 *stack)
{
    u64 base = (u64)tss;
    task_gdt[selector / sizeof(u64)] =
        TSS_LIMIT | (base & 0xffffff) << 16 | (u64)ACCESS_TSS << 40 | (base >> 24 & 0xff) << 56;
    tss->eip = (u32)(u64)entry;
    tss->eflags = EFLAGS_INIT;
    tss->esp = (u32)(u64)(stack + STACK_WORDS);
    tss->cs = SEL_CODE32;
    tss->es = tss->ss = tss->ds = SEL_DATA;
}

static void tables_set(void)
{
    u64 trap = (u64)trap_handler;
    task_gdt[SEL_CODE32 / sizeof(u64)] = DESC_CODE32;
    task_gdt[SEL_DATA / sizeof(u64)] = DESC_DATA;
    task_gdt[SEL_CODE64 / sizeof(u64)] = DESC_CODE64;
    tss_set(SEL_MAIN, &main_tss, NULL, main_stack);
    tss_set(SEL_OTHER, &other_tss, other_task, other_stack);
    tss_set(SEL_FAULT, &fault_tss, fault_task, fault_stack);
    task_idt[VECTOR_GP] = task_idt[INT_GATE] = (u64)SEL_FAULT << 16 | (u64)GATE_TASK << 32;
    task_idt[VECTOR_DB] =
        (trap & 0xffff) | (u64)SEL_CODE32 << 16 | (u64)GATE_INTR << 32 | (trap >> 16) << 48;
    gdt_pointer = (struct table_pointer){sizeof(task_gdt) - 1, (u64)task_gdt};
    idt_pointer = (struct table_pointer){sizeof(task_idt) - 1, (u64)task_idt};
}

static void check(bool ok, const char *what)
{
    if (!ok)
        guest_finish(false, what);
}

void guest_interrupt(u64 vector, u64 error, u64 rip, u64 *return_rip)
{
    (void)vector;
    (void)error;
    (void)rip;
    (void)return_rip;
    guest_finish(false, "an exception in 64-bit mode");
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    other_tss.eax = MAGIC;
    tables_set();
    legacy_run();
    guest_idt_load();
    check(other_runs == 3, "CALL, CALL and JMP did not each start the other task");
    check(other_eax == MAGIC + 2, "the other task did not keep its EAX");
    check(other_cr0 & CR0_TS, "CR0.TS was not set");
    check(!(other_flags & RFLAGS_NT), "NT is set after a JMP");
    check(traps == 1 && (trap_dr6 & DR6_BT), "the T bit gave no debug trap");
    check(fault_runs == 2, "the task gates did not start their task twice");
    check(fault_error == (0x1230 & ~3), "an exception's error code was not pushed");
    check(kept_ebx == MAGIC, "the main task did not keep its EBX");
    check(other_tss.link == SEL_MAIN && fault_tss.link == SEL_MAIN, "the links back are wrong");
    guest_finish(true, NULL);
}
