// SPDX-License-Identifier: MIT
// Memory that is a device (the test device's window): each instruction runs once on RAM, where the
// CPU performs it by itself, and once there, where it is emulated. Memory, registers and flags must
// come out the same. Then faults.
#include "guests/lib/check.h"

#define WINDOW             0xff000000ull
#define WORDS              32
#define XSAVE_BIT          26
#define AVX2_BIT           5
#define STACK_TOP          (WORDS / 2)
#define USER_WINDOW        TEST_BASE
#define NONCANONICAL       0x1111111111111111ull
#define TSS_BUSY_BIT       BIT(41)
#define PTE_ACCESSED_DIRTY (PTE_A | PTE_D)
#define DATA               "$" STRING(SELECTOR_DATA)

// RAX, RDX, RCX: in and out.
struct state {
    u64 rax, rdx, rcx, flags;
};

typedef void (*form)(volatile u64 *memory, struct state *s);

#define FORM(name, ...)                                                                            \
    static void name(volatile u64 *memory, struct state *s)                                        \
    {                                                                                              \
        __asm__ volatile("btq $0, %%rcx\n" __VA_ARGS__ "\npushfq; popq %[flags]"                   \
                         : "+a"(s->rax), "+d"(s->rdx), "+c"(s->rcx), [flags] "=&r"(s->flags)       \
                         : "D"(memory)                                                             \
                         : "rbx", "rsi", "r8", "r9", "memory", "cc");                              \
    }
// With RSP in the memory; RSI has the real one, R8 what it was afterwards.
#define STACK_FORM(name, ...)                                                                      \
    FORM(name, "mov %%rsp, %%rsi; lea 128(%%rdi), %%rsp\n" __VA_ARGS__                             \
               "\nmov %%rsp, %%r8; mov %%rsi, %%rsp; sub %%rdi, %%r8; mov %%r8, %%rcx")

FORM(mulb, "mulb (%%rdi)")
FORM(mulw, "mulw (%%rdi)")
FORM(mull, "mull (%%rdi)")
FORM(mulq, "mulq (%%rdi)")
FORM(imulb, "imulb (%%rdi)")
FORM(imulq, "imulq (%%rdi)")
FORM(imul2, "imulq (%%rdi), %%rax; imulw 8(%%rdi), %%dx")
FORM(imul3, "imull $51, (%%rdi), %%eax; imulq $-311, 8(%%rdi), %%rdx")
FORM(div, "mov $7, %%edx; divq 8(%%rdi)")
FORM(divb, "movzbl %%al, %%eax; divb 11(%%rdi)")
FORM(idiv, "mov $-1, %%rdx; mov $-77, %%rax; idivl 8(%%rdi); cqo; idivq (%%rdi)")
FORM(scan, "bsfw (%%rdi), %%ax; bsrq 8(%%rdi), %%rdx; bsfl 4(%%rdi), %%ecx")
FORM(cmov, "cmovcl (%%rdi), %%eax; cmovncq 8(%%rdi), %%rdx; cmovzw (%%rdi), %%cx")
FORM(set, "setc (%%rdi); setnc 1(%%rdi); setle 2(%%rdi)")
FORM(locked,
     "lock incq (%%rdi); lock notl 8(%%rdi); lock btcl $3, (%%rdi); lock xaddq %%rax, (%%rdi)")
FORM(exchange, "xchg %%al, (%%rdi); xchg %%dx, 8(%%rdi); cmpxchgq %%rdx, 16(%%rdi)")
FORM(bits, "btcl %%ecx, 64(%%rdi); mov $-70, %%rdx; btsq %%rdx, 64(%%rdi)")
FORM(shifts, "shldl $5, %%edx, (%%rdi); mov $9, %%ecx; shrdq %%rdx, 8(%%rdi); rclw $3, 16(%%rdi)")
FORM(selectors, "movw %%cs, (%%rdi); sldt 8(%%rdi); strw 16(%%rdi); smsw 24(%%rdi)")
FORM(tables, "sgdt (%%rdi); sidt 16(%%rdi); lgdt (%%rdi); lidt 16(%%rdi)")
FORM(lmsw, "smsw (%%rdi); lmsw (%%rdi)")
FORM(data_segment, "movw " DATA ", (%%rdi); movw (%%rdi), %%fs; mov %%fs, %%eax")
FORM(null_segment, "movw $3, (%%rdi); movw (%%rdi), %%gs; mov %%gs, %%eax")
FORM(stack_segment, "movw $0, (%%rdi); movw (%%rdi), %%ss; mov %%ss, %%eax\n"
                    "movw " DATA ", (%%rdi); movw (%%rdi), %%ss; mov %%ss, %%edx")
FORM(far_jump, "movq $8f, (%%rdi); movw %%cs, 8(%%rdi); mov $0, %%eax; rex.w ljmp *(%%rdi)\n"
               "mov $1, %%eax\n8:")
FORM(far_call, "movl $8f, (%%rdi); movw %%cs, 4(%%rdi); lcall *(%%rdi); jmp 9f\n"
               "8: mov $2, %%eax; lretl\n9:")
FORM(pointer, "movq $0x12345678, (%%rdi); movw " DATA ", 4(%%rdi); lfs (%%rdi), %%eax\n"
              "mov %%fs, %%edx; lss (%%rdi), %%ecx; mov %%ss, %%ebx; mov %%ebx, 8(%%rdi)")
FORM(near_jump, "movq $8f, (%%rdi); mov $0, %%eax; jmp *(%%rdi)\nmov $1, %%eax\n8:")
FORM(near_call, "movq $8f, (%%rdi); call *(%%rdi); jmp 9f\n8: mov $3, %%eax; ret\n9:")
FORM(clflush, "clflush (%%rdi)")
FORM(strings,
     "mov %%rdi, %%rsi; lea 64(%%rdi), %%rdi; mov $5, %%ecx; rep movsl; lea -84(%%rdi), %%rdi\n"
     "mov %%rdi, %%rsi; add $64, %%rdi; mov $6, %%ecx; repe cmpsl\n"
     "mov $40, %%ecx; repne scasb; mov %%rsi, %%rax; sub %%rdi, %%rax; std; stosw; cld")
FORM(mmx,
     "movq (%%rdi), %%mm1; movq %%mm1, 24(%%rdi); movd 4(%%rdi), %%mm2; movq %%mm2, 32(%%rdi)\n"
     "movntq %%mm1, 40(%%rdi); emms")
FORM(halves, "movups (%%rdi), %%xmm1; movhps 16(%%rdi), %%xmm1; movlpd 24(%%rdi), %%xmm1\n"
             "movups %%xmm1, 32(%%rdi); movhpd %%xmm1, 48(%%rdi); movlps %%xmm1, 60(%%rdi)")
FORM(lanes,
     "movups (%%rdi), %%xmm1; pinsrw $5, 20(%%rdi), %%xmm1; pinsrd $2, 24(%%rdi), %%xmm1\n"
     "pinsrb $14, 31(%%rdi), %%xmm1; pinsrq $0, 32(%%rdi), %%xmm1; movups %%xmm1, (%%rdi)\n"
     "pextrb $3, %%xmm1, 40(%%rdi); pextrw $6, %%xmm1, 42(%%rdi); pextrd $1, %%xmm1, 44(%%rdi)\n"
     "pextrq $1, %%xmm1, 48(%%rdi); extractps $2, %%xmm1, 56(%%rdi); movddup 48(%%rdi), %%xmm2\n"
     "movups %%xmm2, 64(%%rdi)")
FORM(avx_lanes,
     "vmovups (%%rdi), %%ymm1; vinsertf128 $1, 32(%%rdi), %%ymm1, %%ymm2\n"
     "vextractf128 $1, %%ymm1, 48(%%rdi); vmovups %%ymm2, (%%rdi)\n"
     "vmovhps 64(%%rdi), %%xmm1, %%xmm3; vmovlps 72(%%rdi), %%xmm2, %%xmm2\n"
     "vmovups %%ymm3, 64(%%rdi); vmovups %%ymm2, 96(%%rdi); vpextrw $3, %%xmm2, 130(%%rdi)\n"
     "vpinsrb $9, 131(%%rdi), %%xmm3, %%xmm1; vmovups %%ymm1, 136(%%rdi)")
FORM(avx_copies,
     "vbroadcastss 4(%%rdi), %%ymm1; vmovups %%ymm1, (%%rdi); vbroadcastf128 40(%%rdi), %%ymm1\n"
     "vmovups %%ymm1, 32(%%rdi); vpbroadcastw 66(%%rdi), %%xmm1; vmovups %%ymm1, 64(%%rdi)\n"
     "vpbroadcastb 101(%%rdi), %%ymm1; vmovups %%ymm1, 96(%%rdi)")
FORM(avx_masks,
     "vmovups (%%rdi), %%ymm1; vmovups 32(%%rdi), %%ymm2; vmaskmovps 64(%%rdi), %%ymm1, %%ymm3\n"
     "vpmaskmovq 96(%%rdi), %%xmm2, %%xmm4; vmovups %%ymm3, (%%rdi); vmovups %%ymm4, 32(%%rdi)\n"
     "vmaskmovpd %%ymm2, %%ymm1, 128(%%rdi); vpmaskmovd %%xmm1, %%xmm2, 160(%%rdi)")
FORM(x87,
     "fninit; fildq (%%rdi); fildl 8(%%rdi); filds 16(%%rdi); fadds 24(%%rdi); fmull 32(%%rdi)\n"
     "fidivl 20(%%rdi); fstps (%%rdi); fistps 8(%%rdi); fistpll 16(%%rdi); fldpi; fstpt 40(%%rdi)\n"
     "fldt 40(%%rdi); fldl 40(%%rdi); fcomps 24(%%rdi); fnstsw 56(%%rdi); fbstp 64(%%rdi)\n"
     "fnstcw 80(%%rdi); orw $0xc00, 80(%%rdi); fldcw 80(%%rdi); fldpi; fisttpl 84(%%rdi)\n"
     "fld1; fstl 96(%%rdi); fstpl 104(%%rdi); fninit")
STACK_FORM(push, "pushq $-7; pushq %%rax; pushq (%%rdi); pushq $-7070707; pushw %%dx; push %%fs")
STACK_FORM(pop, "popq %%rax; popw %%dx; popq (%%rdi)")
STACK_FORM(pop_segment, "pushq " DATA "; pop %%fs; mov %%fs, %%eax; pushq $0; pop %%fs")
STACK_FORM(far_return,
           "mov %%cs, %%eax; push %%rax; lea 8f(%%rip), %%rax; push %%rax; mov $0, %%eax\n"
           "lretq\nmov $6, %%eax\n8:")
STACK_FORM(call, "call 8f; jmp 9f\n8: mov $4, %%eax; ret $16\n9:")
STACK_FORM(call_register, "mov $8f, %%rbx; call *%%rbx; jmp 9f\n8: mov $5, %%eax; ret\n9:")
STACK_FORM(enter, "mov %%rbp, %%r9; mov %%rdx, %%rbp; enter $0x18, $0; mov %%rbp, %%rax\n"
                  "sub %%rdi, %%rax; leave; mov %%rbp, %%rdx; mov %%r9, %%rbp")

#define STATUS (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)
#define CARRY  (RFLAGS_CF | RFLAGS_OF)

// flags: those that the manual defines.
static const struct {
    const char *name;
    form run;
    u64 flags;
} forms[] = {
    {"MUL of a byte", mulb, CARRY},
    {"MUL of 2 bytes", mulw, CARRY},
    {"MUL of 4 bytes", mull, CARRY},
    {"MUL of 8 bytes", mulq, CARRY},
    {"IMUL of a byte", imulb, CARRY},
    {"IMUL of 8 bytes", imulq, CARRY},
    {"IMUL with two operands", imul2, CARRY},
    {"IMUL with three operands", imul3, CARRY},
    {"DIV", div, 0},
    {"DIV by a byte", divb, 0},
    {"IDIV", idiv, 0},
    {"BSF and BSR", scan, RFLAGS_ZF},
    {"CMOVcc", cmov, STATUS},
    {"SETcc", set, STATUS},
    {"locked instructions", locked, STATUS},
    {"XCHG and CMPXCHG", exchange, STATUS},
    {"bit strings", bits, RFLAGS_CF},
    {"shifts", shifts, RFLAGS_CF},
    {"stores of selectors", selectors, STATUS},
    {"descriptor tables", tables, STATUS},
    {"LMSW", lmsw, STATUS},
    {"MOV to FS", data_segment, STATUS},
    {"MOV of null to GS", null_segment, STATUS},
    {"MOV to SS", stack_segment, STATUS},
    {"a far jump", far_jump, STATUS},
    {"a far call", far_call, STATUS},
    {"LFS and LSS", pointer, STATUS},
    {"a near jump", near_jump, STATUS},
    {"a near call", near_call, STATUS},
    {"CLFLUSH", clflush, STATUS},
    {"strings", strings, STATUS},
    {"MMX", mmx, STATUS},
    {"parts of vectors", lanes, STATUS},
    {"x87", x87, STATUS},
    {"halves of vectors", halves, STATUS},
    {"PUSH", push, STATUS},
    {"POP", pop, STATUS},
    {"POP to a segment register", pop_segment, STATUS},
    {"a far return", far_return, 0},
    {"CALL and RET", call, STATUS},
    {"CALL of a register", call_register, STATUS},
    {"ENTER and LEAVE", enter, STATUS},
    {"parts of vectors with VEX", avx_lanes, STATUS},
    {"copies to all parts", avx_copies, STATUS},
    {"masked moves", avx_masks, STATUS},
};
#define AVX_FORMS 3 // the last

static u64 ram[WORDS];

static void fill(volatile u64 *memory)
{
    u64 x = 0x123456789abcdef5ull;
    for (unsigned i = 0; i < WORDS; i++, x = x * 6364136223846793005ull + 1442695040888963407ull)
        memory[i] = x;
}

static void run(volatile u64 *memory, struct state *s, unsigned index, u64 carry)
{
    fill(memory);
    *s = (struct state){0x8765432112345678ull, 0x1122334455667788ull, carry, 0};
    forms[index].run(memory, s);
}

static bool same(volatile u64 *window, const struct state *a, const struct state *b, u64 flags)
{
    for (unsigned i = 0; i < WORDS; i++)
        if (ram[i] != window[i])
            return false;
    return a->rax == b->rax && a->rdx == b->rdx && a->rcx == b->rcx &&
           !((a->flags ^ b->flags) & flags);
}

static bool avx_enable(void)
{
    if (!cpu_has(1, ECX, XSAVE_BIT) || !cpu_has(7, EBX, AVX2_BIT))
        return false;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    xsetbv(0, XCR0_X87 | XCR0_SSE | XCR0_AVX);
    guest_print("with AVX\n");
    return true;
}

static void compare(void)
{
    volatile u64 *window = (volatile u64 *)WINDOW;
    struct state cpu, emulated;
    unsigned count = ARRAY_SIZE(forms) - (avx_enable() ? 0 : AVX_FORMS);
    for (unsigned i = 0; i < count; i++)
        for (u64 carry = 0; carry < 2; carry++) {
            run(ram, &cpu, i, carry);
            run(window, &emulated, i, carry);
            check(same(window, &cpu, &emulated, forms[i].flags), forms[i].name);
        }
}

// --- faults ---

static void faults(void)
{
    volatile u64 *m = (volatile u64 *)WINDOW;
    *m = 0;
    FAULTS("DIV by 0", VECTOR_DE, 0, "divq (%0)", : : "r"(m), "a"(1), "d"(2) : "cc");
    *m = NONCANONICAL;
    FAULTS("a jump to no address", VECTOR_GP, 0, "jmp *(%0)", : : "r"(m));
    *m = 3;
    FAULTS("a null SS of another level", VECTOR_GP, 0, "movw (%0), %%ss", : : "r"(m));
    *m = SELECTOR_BEYOND;
    FAULTS("a selector beyond the table", VECTOR_GP, SELECTOR_BEYOND, "movw (%0), %%fs",
           :
           : "r"(m));
    *m = SELECTOR_NOT_PRESENT;
    FAULTS("a segment that is not present", VECTOR_NP, SELECTOR_NOT_PRESENT, "movw (%0), %%fs",
           :
           : "r"(m));
    FAULTS("a stack that is not present", VECTOR_SS, SELECTOR_NOT_PRESENT, "movw (%0), %%ss",
           :
           : "r"(m));
    *m = SELECTOR_READ_ONLY;
    FAULTS("a read-only stack", VECTOR_GP, SELECTOR_READ_ONLY, "movw (%0), %%ss", : : "r"(m));
    FAULTS("LOCK with a load", VECTOR_UD, 0, ".byte 0xf0; movl (%0), %%eax", : : "r"(m) : "rax");
}

static void task_register(void)
{
    volatile u64 *m = (volatile u64 *)WINDOW;
    u16 tr = 0;
    *m = SELECTOR_TSS;
    gdt[SELECTOR_TSS / 8] &= ~TSS_BUSY_BIT;
    WORKS("LTR", "ltr (%1); str %0", : "=m"(tr) : "r"(m) : "memory");
    check_equal(tr, SELECTOR_TSS, "STR");
    check(gdt[SELECTOR_TSS / 8] & TSS_BUSY_BIT, "LTR marks its task busy");
    FAULTS("LTR of a busy task", VECTOR_GP, SELECTOR_TSS, "ltr (%0)", : : "r"(m));
    *m = SELECTOR_LDT;
    WORKS("LLDT", "lldt (%0)", : : "r"(m));
    FAULTS("LTR of an LDT", VECTOR_GP, SELECTOR_LDT, "ltr (%0)", : : "r"(m));
    *m = 0;
    WORKS("LLDT of null", "lldt (%0)", : : "r"(m));
}

static void users(void)
{
    test_table[0] = WINDOW | PTE_P | PTE_W | PTE_U | PTE_ACCESSED_DIRTY;
    write_cr0(read_cr0() | CR0_AM);
    USER_WORKS("unaligned read of a device", "movl 1(%0), %%eax", : : "r"(USER_WINDOW) : "rax");
    trap_user_flags = RFLAGS_RESERVED | RFLAGS_AC;
    USER_FAULTS("unaligned read with AC", VECTOR_AC, 0, "movl 1(%0), %%eax",
                :
                : "r"(USER_WINDOW)
                : "rax");
    USER_FAULTS("unaligned write with AC", VECTOR_AC, 0, "movw %%ax, 1(%0)",
                :
                : "r"(USER_WINDOW)
                : "memory");
    USER_WORKS("aligned read with AC", "movl 4(%0), %%eax", : : "r"(USER_WINDOW) : "rax");
    trap_user_flags = RFLAGS_RESERVED;
    write_cr0(read_cr0() & ~CR0_AM);
    USER_FAULTS("LGDT", VECTOR_GP, 0, "lgdt (%0)", : : "r"(USER_WINDOW));
    test_table[0] = 0;
    invlpg((const void *)USER_WINDOW);
}

// An unmasked x87 exception is pending: the next MMX instruction has it.
static void mmx_exception(void)
{
    volatile u64 *m = (volatile u64 *)WINDOW;
    u16 all = 0;
    write_cr0(read_cr0() | CR0_NE);
    __asm__ volatile("fninit; fldcw %0; fldz; fldz; fdivp" : : "m"(all));
    FAULTS("MOVQ after an x87 error", VECTOR_MF, 0, "movq %%mm0, (%0)", : : "r"(m) : "memory");
    FAULTS("FLD after an x87 error", VECTOR_MF, 0, "fldl (%0)", : : "r"(m));
    WORKS("FNSTSW after an x87 error", "fnstsw (%0)", : : "r"(m) : "memory");
    __asm__ volatile("fnclex; fninit");
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    check_setup();
    write_cr0((read_cr0() & ~(CR0_EM | CR0_TS)) | CR0_MP);
    write_cr4(read_cr4() | CR4_OSFXSR);
    compare();
    faults();
    task_register();
    users();
    mmx_exception();
    check_finish();
}
