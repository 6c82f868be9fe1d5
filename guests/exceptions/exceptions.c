// SPDX-License-Identifier: MIT
// Each exception that a guest can cause: vector, error code, RIP, CR2; who comes first when an
// instruction would also exit; double faults; traps and interrupts around instructions that exit
// (single step, breakpoints, the shadows of STI and MOV SS).
#include "guests/lib/check.h"

#define UNKNOWN_MSR   0x1234
#define NONCANONICAL  0x8000000000000000ull
#define IOAPIC        0xfec00000ull
#define UNMAPPED      (TEST_BASE + PAGE_SIZE)
#define PORT_POST     0x80
#define COM2_SCRATCH  0x2ff
#define DR6_B0        BIT(0)
#define DR7_L0        BIT(0)
#define DR7_RW0_WRITE (1ull << 16)
#define DR7_LEN0_4    (3ull << 18)
#define X2APIC_EOI    0x80b
#define X2APIC_SVR    0x80f
#define X2APIC_SELF   0x83f
#define SVR_ENABLE    BIT(8)
#define IPI_VECTOR    0x50

static u32 mxcsr_default = 0x1f80, mxcsr_no_zm = 0x1d80;
static u16 fcw_no_zm = 0x037b;

static void faults(void)
{
    FAULTS("DIV by 0", VECTOR_DE, 0, "div %0", : : "r"(0), "a"(1), "d"(0) : "cc");
    FAULTS("INT3", VECTOR_BP, 0, "int3", :);
    FAULTS("INT 4", VECTOR_OF, 0, "int $4", :);
    FAULTS("UD2", VECTOR_UD, 0, "ud2", :);
    FAULTS("LOCK NOP", VECTOR_UD, 0, "lock; nop", :);
    FAULTS("RSM", VECTOR_UD, 0, "rsm", :);
    FAULTS("VMXOFF", VECTOR_UD, 0, "vmxoff", :);
    FAULTS("VMXON", VECTOR_UD, 0, "vmxon (%0)", : : "r"(gdt));
    FAULTS("VMREAD", VECTOR_UD, 0, "vmread %%rax, %%rbx", : : : "rbx");
    FAULTS("VMFUNC", VECTOR_UD, 0, "vmfunc", : : "a"(0), "c"(0));
    FAULTS("MONITOR", VECTOR_UD, 0, "monitor", : : "a"(gdt), "c"(0), "d"(0));
    FAULTS("MWAIT", VECTOR_UD, 0, "mwait", : : "a"(0), "c"(0));
    FAULTS("a read beyond the canonical", VECTOR_GP, 0, "mov (%0), %%rax",
           :
           : "r"(NONCANONICAL)
           : "rax");
    FAULTS("a jump beyond the canonical", VECTOR_GP, 0, "jmp *%0", : : "r"(NONCANONICAL));
    FAULTS("RDMSR of an unknown MSR", VECTOR_GP, 0, "rdmsr", : : "c"(UNKNOWN_MSR) : "rax", "rdx");
    FAULTS("RDPMC", VECTOR_GP, 0, "rdpmc", : : "c"(0) : "rax", "rdx");
}

static void page_faults(void)
{
    FAULTS("a read of nothing", VECTOR_PF, 0, "mov (%0), %%rax", : : "r"(UNMAPPED) : "rax");
    check_equal(trap.cr2, UNMAPPED, "CR2 of a read");
    FAULTS("a write to nothing", VECTOR_PF, PF_WRITE, "mov %%rax, (%0)",
           :
           : "r"(UNMAPPED + 8)
           : "memory");
    check_equal(trap.cr2, UNMAPPED + 8, "CR2 of a write");
    write_cr2(UNMAPPED);
    FAULTS("a fault of another kind", VECTOR_UD, 0, "ud2", :);
    check_equal(trap.cr2, UNMAPPED, "CR2 stays over other faults");
}

static void floating_point(void)
{
    u64 cr0 = read_cr0(), cr4 = read_cr4();
    write_cr0((cr0 & ~(CR0_EM | CR0_TS)) | CR0_MP | CR0_NE);
    write_cr4(cr4 & ~CR4_OSFXSR);
    FAULTS("SSE without OSFXSR", VECTOR_UD, 0, "divps %%xmm0, %%xmm0", :);
    write_cr4(cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT);
    __asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp" : : "m"(fcw_no_zm));
    FAULTS("an x87 division by 0", VECTOR_MF, 0, "fwait", :);
    __asm__ volatile("fninit; ldmxcsr %0; xorps %%xmm0, %%xmm0" : : "m"(mxcsr_no_zm));
    __asm__ volatile("mov $0x3f800000, %%eax; movd %%eax, %%xmm1" : : : "rax");
    FAULTS("an SSE division by 0", VECTOR_XM, 0, "divss %%xmm0, %%xmm1", :);
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr_default));
    write_cr0(read_cr0() | CR0_TS);
    FAULTS("x87 with TS", VECTOR_NM, 0, "fld1", :);
    FAULTS("SSE with TS", VECTOR_NM, 0, "divps %%xmm0, %%xmm0", :);
    WORKS("CLTS", "clts", :);
    WORKS("x87 after CLTS", "fninit", :);
    write_cr0((cr0 | CR0_EM) & ~CR0_TS);
    FAULTS("x87 with EM", VECTOR_NM, 0, "fld1", :);
    FAULTS("SSE with EM", VECTOR_UD, 0, "divps %%xmm0, %%xmm0", :);
    write_cr0(cr0);
}

// What a level 3 may not, and would exit for at level 0: the fault comes first.
static void users(void)
{
    USER_FAULTS("HLT", VECTOR_GP, 0, "hlt", :);
    USER_FAULTS("CLI", VECTOR_GP, 0, "cli", :);
    USER_FAULTS("IN", VECTOR_GP, 0, "in %%dx, %%al", : : "d"(COM2_SCRATCH) : "rax");
    USER_FAULTS("OUT", VECTOR_GP, 0, "out %%al, %%dx", : : "d"(COM2_SCRATCH), "a"(0));
    USER_FAULTS("RDMSR", VECTOR_GP, 0, "rdmsr", : : "c"(MSR_IA32_APIC_BASE) : "rax", "rdx");
    USER_FAULTS("WRMSR", VECTOR_GP, 0, "wrmsr", : : "c"(MSR_IA32_TSC), "a"(0), "d"(0));
    USER_FAULTS("MOV from CR0", VECTOR_GP, 0, "mov %%cr0, %%rax", : : : "rax");
    USER_FAULTS("MOV to CR3", VECTOR_GP, 0, "mov %0, %%cr3", : : "r"(0ull));
    USER_FAULTS("MOV to CR8", VECTOR_GP, 0, "mov %0, %%cr8", : : "r"(0ull));
    USER_FAULTS("MOV from DR7", VECTOR_GP, 0, "mov %%db7, %%rax", : : : "rax");
    USER_FAULTS("CLTS", VECTOR_GP, 0, "clts", :);
    USER_FAULTS("LMSW", VECTOR_GP, 0, "lmsw %w0", : : "r"(0));
    USER_FAULTS("INVLPG", VECTOR_GP, 0, "invlpg (%0)", : : "r"(gdt));
    USER_FAULTS("INVD", VECTOR_GP, 0, "invd", :);
    USER_FAULTS("WBINVD", VECTOR_GP, 0, "wbinvd", :);
    USER_FAULTS("LTR", VECTOR_GP, 0, "ltr %w0", : : "r"(0));
    USER_FAULTS("LLDT", VECTOR_GP, 0, "lldt %w0", : : "r"(0));
    USER_FAULTS("SWAPGS", VECTOR_GP, 0, "swapgs", :);
    USER_FAULTS("SYSRET", VECTOR_UD, 0, "sysretq", :);
    USER_WORKS("CPUID", "cpuid", : : "a"(0), "c"(0) : "rbx", "rdx");
    USER_WORKS("RDTSC", "rdtsc", : : : "rax", "rdx");
    write_cr4(read_cr4() | CR4_TSD);
    USER_FAULTS("RDTSC with TSD", VECTOR_GP, 0, "rdtsc", : : : "rax", "rdx");
    write_cr4(read_cr4() & ~CR4_TSD);
    USER_FAULTS("read of the supervisor's", VECTOR_PF, PF_PRESENT | PF_USER, "mov (%0), %%rax",
                :
                : "r"(gdt)
                : "rax");
    check_equal(trap.cr2, (u64)gdt, "CR2 of a user's read");
    trap_user_flags = RFLAGS_RESERVED | RFLAGS_IOPL;
    USER_WORKS("OUT with IOPL 3", "out %%al, %%dx", : : "d"(PORT_POST), "a"(0));
    write_cr0(read_cr0() | CR0_AM);
    trap_user_flags = RFLAGS_RESERVED | RFLAGS_AC;
    USER_FAULTS("unaligned read", VECTOR_AC, 0, "mov 1(%0), %%rax",
                :
                : "r"((u64)gdt + USER_ALIAS)
                : "rax");
    trap_user_flags = RFLAGS_RESERVED;
    write_cr0(read_cr0() & ~CR0_AM);
}

// An exception whose gate is not there. An exception is "external": the error code's bit 0.
#define GATE_ERROR(vector) ((vector)*8 + 2)

static void double_faults(void)
{
    idt_gate_present(VECTOR_UD, false);
    FAULTS("UD2 without a gate", VECTOR_NP, GATE_ERROR(VECTOR_UD) + 1, "ud2", :);
    FAULTS("VMXOFF without a gate", VECTOR_NP, GATE_ERROR(VECTOR_UD) + 1, "vmxoff", :);
    idt_gate_present(VECTOR_UD, true);
    idt_gate_present(IPI_VECTOR, false);
    FAULTS("INT without a gate", VECTOR_NP, GATE_ERROR(IPI_VECTOR), "int $" STRING(IPI_VECTOR), :);
    idt_gate_present(IPI_VECTOR, true);
    idt_gate_present(VECTOR_GP, false);
    FAULTS("#GP without a gate", VECTOR_DF, 0, "mov (%0), %%rax", : : "r"(NONCANONICAL) : "rax");
    FAULTS("an injected #GP without a gate", VECTOR_DF, 0, "rdmsr",
           :
           : "c"(UNKNOWN_MSR)
           : "rax", "rdx");
    idt_gate_present(VECTOR_GP, true);
    idt_gate_present(VECTOR_PF, false);
    FAULTS("#PF without a gate", VECTOR_DF, 0, "mov (%0), %%rax", : : "r"(UNMAPPED) : "rax");
    idt_gate_present(VECTOR_PF, true);
}

// --- traps and interrupts around instructions that exit ---

static volatile unsigned event_count;
static volatile u64 event_rip;

static bool on_event(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    if (vector != VECTOR_DB && vector != IPI_VECTOR)
        return false;
    if (event_count++ == 0)
        event_rip = frame[FRAME_RIP];
    frame[FRAME_RFLAGS] = (frame[FRAME_RFLAGS] & ~RFLAGS_TF) | RFLAGS_RF;
    if (vector == IPI_VECTOR)
        wrmsr(X2APIC_EOI, 0);
    return true;
}

static void event_expect(void)
{
    event_count = 0;
    write_dr6(DR6_INIT);
    interrupt_hook = on_event;
}

static void event_check(const char *what, u64 rip, u64 dr6)
{
    interrupt_hook = NULL;
    check_equal(event_count, 1, what);
    check_equal(event_rip, rip, what);
    if (dr6)
        check_equal(read_dr6() & (DR6_BS | DR6_BD | DR6_B0), dr6, what);
}

#define STEP(what, instruction, ...)                                                               \
    do {                                                                                           \
        event_expect();                                                                            \
        __asm__ volatile("movq $77f, trap_end; pushf; orl %[tf], (%%rsp); popf\n" instruction      \
                         "\n77: nop; nop" __VA_ARGS__);                                            \
        event_check("single step: " what, trap_end, DR6_BS);                                       \
    } while (0)
#define TF [tf] "i"(RFLAGS_TF)

static void single_steps(void)
{
    volatile u32 *ioapic = (volatile u32 *)IOAPIC;
    STEP("NOP", "nop", : : TF : "cc");
    STEP("CPUID", "cpuid", : : TF, "a"(0), "c"(0) : "rbx", "rdx", "cc");
    STEP("IN", "in %%dx, %%al", : : TF, "d"(COM2_SCRATCH) : "rax", "cc");
    STEP("OUT", "out %%al, %%dx", : : TF, "d"(PORT_POST), "a"(0) : "cc");
    STEP("RDMSR", "rdmsr", : : TF, "c"(MSR_IA32_APIC_BASE) : "rax", "rdx", "cc");
    STEP("VMCALL", "vmcall", : : TF, "a"(-1) : "cc");
    STEP("MOV to CR4", "mov %1, %%cr4", : : TF, "r"(read_cr4()) : "cc");
    STEP("WBINVD", "wbinvd", : : TF : "cc");
    STEP("a device's register", "mov (%1), %%eax", : : TF, "r"(ioapic) : "rax", "cc");
    STEP("MOV to SS and CPUID", "mov %1, %%ss; cpuid",
         :
         : TF, "r"(SELECTOR_DATA), "a"(0), "c"(0)
         : "rbx", "rdx", "cc");
    STEP("MOV to SS and IN", "mov %1, %%ss; in %%dx, %%al",
         :
         : TF, "r"(SELECTOR_DATA), "d"(COM2_SCRATCH)
         : "rax", "cc");
}

static void breakpoints(void)
{
    static u64 watched;
    event_expect();
    __asm__ volatile("mov $76f, %%rax; mov %%rax, %%db0; mov %%rax, trap_start; mov %0, %%rax\n"
                     "mov %%rax, %%db7; xor %%eax, %%eax; xor %%ecx, %%ecx\n"
                     "76: cpuid"
                     :
                     : "i"(DR7_INIT | DR7_L0)
                     : "rax", "rbx", "rcx", "rdx", "memory", "cc");
    event_check("a breakpoint on CPUID", trap_start, DR6_B0);
    event_expect();
    write_dr0((u64)&watched);
    write_dr7(DR7_INIT | DR7_L0 | DR7_RW0_WRITE | DR7_LEN0_4);
    __asm__ volatile("movq $77f, trap_end; movl $1, (%0)\n77:" : : "r"(&watched) : "memory");
    event_check("a watchpoint", trap_end, DR6_B0);
    write_dr7(DR7_INIT);
    FAULTS("DR4 without DE is DR6: no fault", TRAP_NONE, 0, "mov %%db4, %%rax", : : : "rax");
    write_cr4(read_cr4() | CR4_DE);
    FAULTS("DR4 with DE", VECTOR_UD, 0, "mov %%db4, %%rax", : : : "rax");
    write_cr4(read_cr4() & ~CR4_DE);
    event_expect();
    write_dr7(DR7_INIT | DR7_GD);
    __asm__ volatile("movq $77f, trap_end\n77: mov %%db0, %%rax" : : : "rax", "memory");
    event_check("general detect", trap_end, DR6_BD);
    check_equal(read_dr7() & DR7_GD, 0, "general detect is off in its handler");
    FAULTS("DR6 above 32 bits", VECTOR_GP, 0, "mov %0, %%db6", : : "r"(1ull << 32));
    FAULTS("DR7 above 32 bits", VECTOR_GP, 0, "mov %0, %%db7", : : "r"(1ull << 32));
}

// An interrupt waits; STI lets it in after the next instruction.
#define SHADOW(what, instruction, ...)                                                             \
    do {                                                                                           \
        event_expect();                                                                            \
        wrmsr(X2APIC_SELF, IPI_VECTOR);                                                            \
        __asm__ volatile("movq $77f, trap_end; sti\n" instruction                                  \
                         "\n77: nop; nop; cli" __VA_ARGS__);                                       \
        event_check("an interrupt after STI and " what, trap_end, 0);                              \
    } while (0)

static void shadows(void)
{
    u64 flags;
    wrmsr(MSR_IA32_APIC_BASE, rdmsr(MSR_IA32_APIC_BASE) | APIC_BASE_EXTD);
    wrmsr(X2APIC_SVR, SVR_ENABLE | 0xff);
    SHADOW("NOP", "nop", : : : "memory");
    SHADOW("CPUID", "cpuid", : : "a"(0), "c"(0) : "rbx", "rdx", "memory");
    SHADOW("IN", "in %%dx, %%al", : : "d"(COM2_SCRATCH) : "rax", "memory");
    SHADOW("HLT", "hlt", : : : "memory");
    SHADOW("a device's register", "mov (%0), %%eax", : : "r"(IOAPIC) : "rax", "memory");
    event_expect();
    wrmsr(X2APIC_SELF, IPI_VECTOR);
    __asm__ volatile("sti; cli; pushf; pop %0" : "=r"(flags) : : "memory");
    check_equal(event_count, 0, "STI and CLI let no interrupt in");
    interrupts_take();
    check_equal(event_count, 1, "it comes later");
    interrupt_hook = NULL;
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    check_setup();
    faults();
    page_faults();
    floating_point();
    users();
    double_faults();
    single_steps();
    breakpoints();
    shadows();
    check_finish();
}
