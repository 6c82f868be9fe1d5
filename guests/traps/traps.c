// SPDX-License-Identifier: MIT
// Debug traps one after the other: whole sequences are single-stepped, at privilege level 0 and 3,
// and each #DB must come where and with what the manual says, whatever exits in between. And what
// an instruction that exits leaves behind at the edges: the end of the canonical addresses, the
// upper halves of registers. SDM volume 3, "Debug Exceptions".
#include "guests/lib/check.h"

#define DR7_G1        BIT(3)
#define DR7_RW1_WRITE (1ull << 20)
#define DR7_RW1_BOTH  (3ull << 20)
#define DR7_LEN1_4    (3ull << 22)
#define DR6_B1        BIT(1)
#define DR6_B2        BIT(2)
#define DR7_G2        BIT(5)
#define RFLAGS_IOPL   (3ull << 12)
#define EVENTS_MAX    12
#define CANONICAL_END BIT(47)
#define UNKNOWN_MSR   0x1234
#define XCR_ALIAS     (5ull << 32)
#define MC_COUNT      32
#define MSR_MC0_CTL   0x400
#define MSRS_PER_BANK 4

// In the sequences' text.
#define TF_BIT      8
#define SCRATCH     0x2ff // a port: COM2's scratch register
#define DB_STEP     0x4000
#define DB_GENERAL  0x2000
#define DB_WATCH    0x0002
#define IPI_VECTOR  0x50
#define X2APIC_SELF 0x83f

#define X2APIC_EOI 0x80b
#define X2APIC_SVR 0x80f
#define SVR_ENABLE BIT(8)

static struct event {
    u64 rip, dr6;
} events[EVENTS_MAX];
static volatile unsigned event_count;
static u64 run_dr7 = DR7_INIT; // while a sequence runs
__attribute__((used)) static u64 run_rsp;
__attribute__((used)) static const void *volatile run_end;
__attribute__((used)) static volatile u32 watched = SELECTOR_DATA;

// Bochs shows BS, too, at a general detect under TF.
static u64 cause(void)
{
    u64 dr6 = read_dr6();
    return dr6 & DR6_BD ? dr6 & ~DR6_BS : dr6;
}

// An interrupt is kept as a trap without a cause.
static bool on_event(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    if (vector == IPI_VECTOR)
        wrmsr(X2APIC_EOI, 0);
    if (vector == VECTOR_DB || vector == IPI_VECTOR) {
        if (event_count < EVENTS_MAX)
            events[event_count] = (struct event){frame[FRAME_RIP] & ~USER_ALIAS, cause()};
        if (event_count++ >= EVENTS_MAX)
            frame[FRAME_RFLAGS] &= ~RFLAGS_TF;
        write_dr6(DR6_INIT);
        return true;
    }
    if (vector != VECTOR_UD || !run_end)
        return false;
    frame[FRAME_RIP] = (u64)run_end;
    frame[FRAME_CS] = SELECTOR_CODE;
    frame[FRAME_RFLAGS] = RFLAGS_RESERVED;
    frame[FRAME_RSP] = run_rsp;
    frame[FRAME_SS] = SELECTOR_DATA;
    run_end = NULL;
    return true;
}

// It ends with UD2. As a user it may change IF and use ports.
static void run(const u8 *sequence, bool user)
{
    static u8 stack[PAGE_SIZE] ALIGNED(16);
    u64 alias = user ? USER_ALIAS : 0;
    event_count = 0;
    write_dr6(DR6_INIT);
    interrupt_hook = on_event;
    write_dr7(run_dr7);
    __asm__ volatile("pushq %%rbp; movq %%rsp, run_rsp; movq $1f, run_end\n"
                     "pushq %[ss]; pushq %[rsp]; pushq %[flags]; pushq %[cs]; pushq %[rip]; iretq\n"
                     "1: popq %%rbp"
                     :
                     : [ss] "r"((u64)(user ? SELECTOR_USER_DATA : SELECTOR_DATA)),
                       [rsp] "r"((u64)(stack + sizeof(stack)) | alias),
                       [flags] "r"(RFLAGS_RESERVED | (user ? RFLAGS_IOPL : 0)),
                       [cs] "r"((u64)(user ? SELECTOR_USER_CODE : SELECTOR_CODE)),
                       [rip] "r"((u64)sequence | alias)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r12", "r13", "r14", "r15", "memory",
                       "cc");
    write_dr7(DR7_INIT);
    interrupt_hook = NULL;
}

// Pairs of RIP and DR6, up to a RIP of 0.
static void compare(const char *what, const u64 *wanted)
{
    unsigned i = 0;
    for (; wanted[2 * i]; i++) {
        bool came = i < event_count && i < EVENTS_MAX;
        check_equal(came ? events[i].rip : 0, wanted[2 * i], what);
        check_equal(came ? events[i].dr6 : 0, DR6_INIT | wanted[2 * i + 1], what);
    }
    check_equal(event_count, i, what);
}

// A sequence with TF on, and where it traps: after each instruction of the body that is listed, and
// of its end, which puts TF off again. RBX is the body's to use, and R14 holds SS.
#define STEPS(name, body, traps)                                                                   \
    extern const u8 name[];                                                                        \
    extern const u64 name##_traps[];                                                               \
    __asm__(".pushsection .text\n" #name ": movl %ss, %r14d; pushfq; popq %r15; btsq $" STRING(    \
        TF_BIT) ", %r15; pushq %r15; popfq\n" body                                                 \
                "\nbtrq $" STRING(TF_BIT) ", %r15\n"                                               \
                                          "91: pushq %r15\n92: popfq\n93: ud2\n"                   \
                                          ".popsection\n.pushsection .rodata\n.balign 8\n" #name   \
                                          "_traps: .quad " traps                                   \
                                          "91b, " STRING(DB_STEP) ", 92b, " STRING(                \
                                              DB_STEP) ", 93b, " STRING(DB_STEP) ", 0\n"           \
                                                                                 ".popsection")
#define STEP(label) #label "b, " STRING(DB_STEP) ", "

STEPS(plain, "", "");
STEPS(
    exiting,
    "xorl %eax, %eax\n1: xorl %ecx, %ecx\n2: pushq %rbx\n3: cpuid\n4: popq %rbx\n5: movl $" STRING(
        SCRATCH) ", %edx\n6: inb %dx, %al\n7: outb %al, %dx\n8:",
    STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8));
STEPS(after_sti, "sti\n1:", STEP(1));
STEPS(after_mov_ss, "movl %r14d, %ss", "");
STEPS(after_mov_ss_exiting,
      "movl $" STRING(SCRATCH) ", %edx\n1: movl %r14d, %ss; inb %dx, %al\n2:", STEP(1) STEP(2));
STEPS(icebp, "movl %r14d, %ss; .byte 0xf1\n1: .byte 0xf1\n2:", "1b, 0, 2b, 0, ");
STEPS(general_detect,
      "movl %r14d, %ss\n1: movq %r14, %db2\n2:", "1b, " STRING(DB_GENERAL) ", " STEP(2));
STEPS(halt, "sti\n1: hlt\n2:", STEP(1) STEP(2));
STEPS(watch_exiting, "movl $" STRING(SCRATCH) ", %edx\n1: mov watched(%rip), %ss; inb %dx, %al\n2:",
      STEP(1) "2b, " STRING(DB_WATCH) "+" STRING(DB_STEP) ", ");

STEPS(interrupted,
      "movl $" STRING(X2APIC_SELF) ", %ecx\n1: xorl %edx, %edx\n2: movl $" STRING(
          IPI_VECTOR) ", %eax\n3: sti\n4: nop\n5: wrmsr\n6:",
      STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) "6b, 0, ");

static void steps(const char *what, const u8 *sequence, const u64 *traps, bool users_too)
{
    run(sequence, false);
    compare(what, traps);
    if (!users_too)
        return;
    run(sequence, true);
    compare(what, traps);
}

static void single_steps(void)
{
    steps("single steps", plain, plain_traps, true);
    steps("single steps over instructions that exit", exiting, exiting_traps, true);
    steps("a single step over STI", after_sti, after_sti_traps, true);
    steps("a single step over MOV to SS", after_mov_ss, after_mov_ss_traps, true);
    steps("the same before IN", after_mov_ss_exiting, after_mov_ss_exiting_traps, true);
    steps("INT1 after MOV to SS", icebp, icebp_traps, true);
    run_dr7 = DR7_INIT | DR7_GD;
    steps("general detect after MOV to SS", general_detect, general_detect_traps, false);
    run_dr7 = DR7_INIT;
    steps("a single step ends HLT", halt, halt_traps, false);
    write_dr1((u64)&watched);
    run_dr7 = DR7_INIT | DR7_G1 | DR7_RW1_BOTH | DR7_LEN1_4;
    steps("a watchpoint of MOV to SS", watch_exiting, watch_exiting_traps, false);
    run_dr7 = DR7_INIT;
}

// The trap comes first, then the interrupt.
static void interrupts(void)
{
    wrmsr(MSR_IA32_APIC_BASE, rdmsr(MSR_IA32_APIC_BASE) | APIC_BASE_EXTD);
    wrmsr(X2APIC_SVR, SVR_ENABLE | 0xff);
    steps("a single step over an IPI to itself", interrupted, interrupted_traps, false);
}

// --- what DR6 keeps ---

static u64 seen_dr6;

static bool on_breakpoint(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    if (vector != VECTOR_DB)
        return false;
    seen_dr6 = read_dr6();
    frame[FRAME_RFLAGS] |= RFLAGS_RF;
    return true;
}

#define WATCH(what, before, wanted)                                                                \
    do {                                                                                           \
        write_dr6(DR6_INIT | (before));                                                            \
        __asm__ volatile("movl %0, watched" : : "r"(SELECTOR_DATA) : "memory");                    \
        check_equal(seen_dr6, DR6_INIT | (wanted), what);                                          \
    } while (0)

static void status(void)
{
    interrupt_hook = on_breakpoint;
    write_dr7(DR7_INIT | DR7_G1 | DR7_RW1_WRITE | DR7_LEN1_4);
    WATCH("DR6 of a watchpoint", 0, DR6_B1);
    WATCH("a watchpoint leaves BS as it is", DR6_BS, DR6_BS | DR6_B1);
    write_dr7(DR7_INIT);
    write_dr6(DR6_BS | DR6_B1);
    check_equal(read_dr6(), DR6_INIT | DR6_BS | DR6_B1, "DR6 keeps what is written");
    write_dr6(DR6_INIT);
    interrupt_hook = NULL;
}

// --- edges ---

#define EDGE(name, ...)                                                                            \
    {                                                                                              \
        name, sizeof((const u8[]){__VA_ARGS__}),                                                   \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static const struct {
    const char *name;
    u8 length, bytes[3];
} edges[] = {
    EDGE("NOP at the end of the canonical addresses", 0x90),
    EDGE("OUT there", 0xee),
    EDGE("CPUID there", 0x0f, 0xa2),
    EDGE("RDMSR there", 0x0f, 0x32),
    EDGE("VMCALL there", 0x0f, 0x01, 0xc1),
};

// The instruction is done, and the next one's fetch faults.
static void canonical_end(void)
{
    static u64 tables[3][512] ALIGNED(PAGE_SIZE);
    static u8 page[PAGE_SIZE] ALIGNED(PAGE_SIZE);
    u64 *level4 = (u64 *)read_cr3();
    for (unsigned i = 0; i < 3; i++)
        tables[i][511] = (i < 2 ? (u64)tables[i + 1] : (u64)page) | PTE_P | PTE_W;
    level4[255] = (u64)tables[0] | PTE_P | PTE_W;
    for (unsigned i = 0; i < ARRAY_SIZE(edges); i++) {
        unsigned length = edges[i].length;
        for (unsigned j = 0; j < length; j++)
            page[PAGE_SIZE - length + j] = edges[i].bytes[j];
        u64 rax = 0, rcx = MSR_IA32_APIC_BASE, rdx = SCRATCH;
        TRY_SUPERVISOR("jmp *%%rsi",
                       : "+a"(rax), "+c"(rcx), "+d"(rdx)
                       : "S"(CANONICAL_END - length)
                       : "rbx", "memory");
        check_equal((u64)trap.vector, VECTOR_GP, edges[i].name);
        check_equal(trap.rip, CANONICAL_END, edges[i].name);
    }
}

static void upper_halves(void)
{
    u64 cr4 = read_cr4();
    FAULTS("XSETBV without OSXSAVE", VECTOR_UD, 0, "xsetbv",
           :
           : "a"(XCR0_X87), "c"(XCR_ALIAS), "d"(0));
    if (cpu_has(1, ECX, 26)) {
        write_cr4(cr4 | CR4_OSXSAVE);
        WORKS("XSETBV with RCX above 32 bits", "xsetbv", : : "a"(XCR0_X87), "c"(XCR_ALIAS), "d"(0));
        WORKS("XGETBV with RCX above 32 bits", "xgetbv", : : "c"(XCR_ALIAS) : "rax", "rdx");
        for (unsigned i = 2; i < 32; i++)
            FAULTS("XGETBV of no XCR", VECTOR_GP, 0, "xgetbv", : : "c"(BIT(i)) : "rax", "rdx");
        write_cr4(cr4);
    }
    WORKS("RDMSR with RCX above 32 bits", "rdmsr",
          :
          : "c"(XCR_ALIAS | MSR_IA32_APIC_BASE)
          : "rax", "rdx");
}

// --- a fault that an exit leads to has RF, as any ---

static void resume_flags(void)
{
    FAULTS("RDMSR of an unknown MSR", VECTOR_GP, 0, "rdmsr", : : "c"(UNKNOWN_MSR) : "rax", "rdx");
    check(trap.rflags & RFLAGS_RF, "RF in the frame of RDMSR's fault");
    FAULTS("CR4 reserved", VECTOR_GP, 0, "mov %0, %%cr4", : : "r"((u64)(u32)-1));
    check(trap.rflags & RFLAGS_RF, "RF in the frame of MOV to CR4's fault");
    FAULTS("UD2", VECTOR_UD, 0, "ud2", :);
    check(trap.rflags & RFLAGS_RF, "RF in the frame of UD2's fault");
    FAULTS("VMXOFF", VECTOR_UD, 0, "vmxoff", :);
    check(trap.rflags & RFLAGS_RF, "RF in the frame of VMXOFF's fault");
}

// --- what is not shown is not there ---

static const struct {
    u32 first, last;
    const char *name;
} absent[] = {
    {MSR_MC0_CTL, MSR_MC0_CTL + MC_COUNT *MSRS_PER_BANK - 1, "a machine-check bank"},
    {0x48, 0x49, "SPEC_CTRL, PRED_CMD"},
    {0xc1, 0xc8, "PMC0 to PMC7"},
    {0xce, 0xce, "PLATFORM_INFO"},
    {0x10a, 0x10b, "ARCH_CAPABILITIES, FLUSH_CMD"},
    {0x122, 0x122, "TSX_CTRL"},
    {0x140, 0x140, "MISC_FEATURES_ENABLES"},
    {0x186, 0x18d, "PERFEVTSEL0 to PERFEVTSEL7"},
    {0x345, 0x345, "PERF_CAPABILITIES"},
    {0x38d, 0x390, "fixed counters, PERF_GLOBAL_*"},
    {0x3f1, 0x3f1, "PEBS_ENABLE"},
    {0x480, 0x493, "VMX"},
    {0x4c1, 0x4c8, "A_PMC0 to A_PMC7"},
    {0x560, 0x561, "RTIT_OUTPUT"},
    {0x6a0, 0x6a8, "CET"},
    {0x6e1, 0x6e1, "PKRS"},
    {0x800, 0x8ff, "x2APIC while it is off"},
    {0xda0, 0xda0, "XSS"},
    {0x40000000, 0x40000003, "Hyper-V"},
    {0x4b564d02, 0x4b564d08, "KVM: async page faults, steal time, EOI, polling, migration"},
    {0xc0010000, 0xc001001f, "AMD"},
};

static void absent_msrs(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(absent); i++)
        for (u32 msr = absent[i].first; msr <= absent[i].last; msr++) {
            FAULTS("RDMSR of what is not shown", VECTOR_GP, 0, "rdmsr",
                   :
                   : "c"(msr)
                   : "rax", "rdx");
            FAULTS("WRMSR of what is not shown", VECTOR_GP, 0, "wrmsr",
                   :
                   : "c"(msr), "a"(0), "d"(0));
        }
}

static void misc_enable(void)
{
    const u64 switches = BIT(0) | BIT(3) | BIT(16) | BIT(18) | BIT(22) | BIT(23) | BIT(34);
    u64 old = rdmsr(MSR_IA32_MISC_ENABLE);
    wrmsr(MSR_IA32_MISC_ENABLE, switches | (old & (BIT(7) | BIT(11) | BIT(12))));
    check_equal(rdmsr(MSR_IA32_MISC_ENABLE), switches | (old & (BIT(7) | BIT(11) | BIT(12))),
                "MISC_ENABLE keeps its switches");
    wrmsr(MSR_IA32_MISC_ENABLE, old);
}

static void absent_instructions(void)
{
    FAULTS("VMMCALL", VECTOR_UD, 0, "vmmcall", : : "a"(-1));
    FAULTS("RDPRU", VECTOR_UD, 0, ".byte 0x0f, 0x01, 0xfd", : : "c"(0) : "rax", "rdx");
    FAULTS("RDPMC of a fixed counter", VECTOR_GP, 0, "rdpmc", : : "c"(1u << 30) : "rax", "rdx");
    check_equal(cpuid(0x0a, 0).eax, 0, "CPUID shows no performance monitoring");
    check_equal(cpuid(0x40000003, 0).eax, 0, "CPUID shows nothing of Hyper-V");
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    check_setup();
    single_steps();
    status();
    canonical_end();
    upper_halves();
    resume_flags();
    absent_msrs();
    misc_enable();
    absent_instructions();
    interrupts();
    check_finish();
}
