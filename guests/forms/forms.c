// SPDX-License-Identifier: MIT
// Instructions in their rarer forms, and some that compute, on addresses without RAM, and single
// steps over instructions that exit, also in the shadow of MOV SS and of STI.
#include "guests/lib/guest.h"

#define HOLE_ADDRESS 0xd0000000ull // in the PCI hole, no device: reads ones
#define APIC_TPR     0xfee00080ull
#define TPR          0x10
#define STEPS_MAX    32
#define MXCSR_INIT   0x1f80u
#define MXCSR_IE     0x1u  // invalid operation
#define MXCSR_IM     0x80u // its mask

extern const u8 converted[];
static bool expects_xm, took_xm;
static u64 steps[STEPS_MAX];
static unsigned step_count;

static void check(bool ok, const char *what)
{
    if (!ok)
        guest_finish(false, what);
}

void guest_interrupt(u64 vector, u64 error, u64 rip, u64 *return_rip)
{
    (void)error;
    if (vector == VECTOR_XM && expects_xm) {
        took_xm = true;
        *return_rip = (u64)converted;
        return;
    }
    check(vector == VECTOR_DB, "an exception other than #DB");
    if (step_count < STEPS_MAX)
        steps[step_count++] = rip;
}

// --- forms ---

static bool all_ones(const u64 *words, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (words[i] != ~0ull)
            return false;
    return true;
}

static void vectors(void)
{
    u64 words[4] = {0};
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXSAVE);
    xsetbv(0, XCR0_X87 | XCR0_SSE | XCR0_AVX);
    __asm__ volatile("pxor %%xmm7, %%xmm7; movdqu (%0), %%xmm7; movdqu %%xmm7, (%1)"
                     :
                     : "r"(HOLE_ADDRESS), "r"(words)
                     : "memory");
    check(all_ones(words, 2) && words[2] == 0, "MOVDQU from a hole");
    __asm__ volatile("movd (%0), %%xmm9; movdqu %%xmm9, (%1)"
                     :
                     : "r"(HOLE_ADDRESS), "r"(words)
                     : "memory");
    check(words[0] == 0xffffffff && words[1] == 0, "MOVD from a hole");
    __asm__ volatile("vmovdqu (%0), %%ymm12; vmovdqu %%ymm12, (%1); vmovdqu %%ymm12, (%0)"
                     :
                     : "r"(HOLE_ADDRESS), "r"(words)
                     : "memory");
    check(all_ones(words, 4), "VMOVDQU from a hole");
    __asm__ volatile("vmovdqa (%0), %%xmm12; vmovdqu %%ymm12, (%1)"
                     :
                     : "r"(HOLE_ADDRESS), "r"(words)
                     : "memory");
    check(all_ones(words, 2) && words[2] == 0, "VEX.128 did not clear the upper half");
}

static void integers(void)
{
    volatile u32 *tpr = (volatile u32 *)APIC_TPR;
    u64 value = 0, low = ~0ull, high = ~0ull;
    bool equal;
    __asm__ volatile("pushq (%1); popq %0; pushq %0; popq (%1)"
                     : "=&r"(value)
                     : "r"(HOLE_ADDRESS)
                     : "memory");
    check(value == ~0ull, "PUSH from a hole");
    __asm__ volatile("lock cmpxchg8b (%3)"
                     : "+a"(low), "+d"(high), "=@ccz"(equal)
                     : "r"(HOLE_ADDRESS), "b"(0), "c"(0)
                     : "memory");
    check(equal, "CMPXCHG8B on a hole");
    value = 0x1100;
    __asm__ volatile("xlatb" : "+a"(value) : "b"(HOLE_ADDRESS));
    check(value == 0x11ff, "XLAT from a hole");
    *tpr = TPR;
    __asm__ volatile("shll $2, (%0); rorl $1, (%0)" : : "r"(tpr) : "memory", "cc");
    check(*tpr == TPR << 1, "SHL and ROR of a register of the local APIC");
    __asm__ volatile("shldl $4, %1, (%0)" : : "r"(tpr), "r"(0) : "memory", "cc");
    check(*tpr == 0, "SHLD of a register of the local APIC");
}

// --- computed from a copy of the operand ---

static void computed(void)
{
    u64 words[2] = {0}, value = 0x0f0f;
    u32 crc = ~0u;
    __asm__ volatile("pcmpeqd %%xmm3, %%xmm3; psubd (%0), %%xmm3; movdqu %%xmm3, (%1)"
                     :
                     : "r"(HOLE_ADDRESS), "r"(words)
                     : "memory");
    check(words[0] == 0 && words[1] == 0, "PSUBD from a hole");
    words[0] = 1;
    __asm__ volatile("vpcmpeqd %%xmm9, %%xmm9, %%xmm9; vinsertf128 $1, %%xmm9, %%ymm9, %%ymm9;"
                     "vpand (%0), %%xmm9, %%xmm9; vextractf128 $1, %%ymm9, (%1)"
                     :
                     : "r"(HOLE_ADDRESS + 8), "r"(words)
                     : "memory");
    check(words[0] == 0 && words[1] == 0, "VPAND did not clear the upper half");
    __asm__ volatile("crc32l (%1), %0" : "+r"(crc) : "r"(HOLE_ADDRESS));
    check(crc == 0, "CRC32 from a hole");
    __asm__ volatile("andnl (%1), %k0, %k0" : "+r"(value) : "r"(HOLE_ADDRESS) : "cc");
    check(value == 0xfffff0f0, "ANDN from a hole");
}

// What a hole reads is no number, and no integer: #XM if MXCSR has that unmasked.
void convert(u64 from);
__asm__(".text\n"
        "convert: cvttsd2si (%rdi), %eax\n"
        ".global converted\n"
        "converted: ret\n");

static void mxcsr_write(u32 value)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(value));
}

static void exceptions(void)
{
    u32 mxcsr;
    write_cr4(read_cr4() | CR4_OSXMMEXCPT);
    convert(HOLE_ADDRESS);
    __asm__ volatile("stmxcsr (%1); stmxcsr %0" : "=m"(mxcsr) : "r"(HOLE_ADDRESS) : "memory");
    check(mxcsr == (MXCSR_INIT | MXCSR_IE), "a conversion from a hole left no flag");
    mxcsr_write(MXCSR_INIT & ~MXCSR_IM);
    expects_xm = true;
    convert(HOLE_ADDRESS);
    expects_xm = false;
    check(took_xm, "a conversion from a hole raised no #XM");
    mxcsr_write(MXCSR_INIT);
}

// --- steps ---

extern const u8 step_1[], step_2[], step_3[], step_4[], step_5[], step_6[], step_7[], step_8[],
    step_9[], step_10[], step_11[], step_12[];
void step_over_exits(void);
__asm__(".text\n"
        "step_over_exits:\n"
        "    push %rbx\n"
        "    mov $0xfee00080, %edi\n"
        "    mov %ss, %esi\n"
        "    pushfq\n orq $0x100, (%rsp)\n popfq\n"
        "    nop\n"
        "step_1: cpuid\n"
        "step_2: mov $0x3fd, %edx\n"
        "step_3: in %dx, %al\n"
        "step_4: mov (%rdi), %eax\n"
        "step_5: mov $0x1a0, %ecx\n"
        "step_6: rdmsr\n"
        "step_7: mov %esi, %ss\n"
        "    cpuid\n"
        "step_8: sti\n"
        "step_9: cpuid\n"
        "step_10: cli\n"
        "step_11: pushq $2\n"
        "step_12: popfq\n"
        "step_13: pop %rbx\n"
        "    ret\n"
        ".global step_13\n");
extern const u8 step_13[];

static void single_steps(void)
{
    static const u8 *const expected[] = {step_1, step_2, step_3,  step_4,  step_5,  step_6, step_7,
                                         step_8, step_9, step_10, step_11, step_12, step_13};
    step_over_exits();
    for (unsigned i = 0; i < step_count; i++)
        if (i >= ARRAY_SIZE(expected) || steps[i] != (u64)expected[i]) {
            guest_print("step ");
            guest_print_number(i);
            guest_print(" at ");
            guest_print_hex(steps[i]);
            guest_print("\n");
            guest_finish(false, "a single step ended elsewhere");
        }
    check(step_count == ARRAY_SIZE(expected), "a single step is missing");
}

void guest_main(const u8 *boot_params)
{
    (void)boot_params;
    guest_idt_load();
    integers();
    vectors();
    computed();
    exceptions();
    single_steps();
    guest_finish(true, NULL);
}
