// SPDX-License-Identifier: MIT
// One of several that run at once: fills the x87, SSE, AVX and AVX-512 registers with a pattern of
// its own, sleeps on its timer while the others run, exits in other ways meanwhile, and finds every
// register as it was.
#include "guests/lib/check.h"
#include "guests/lib/apic.h"

#define ROUNDS       500
#define SLEEP_TICKS  20000
#define TIMER_VECTOR 0x50
#define SPURIOUS     0xff
#define REGISTERS    32 // without AVX-512, half of them
#define AVX512_BIT   16
#define XCR0_AVX512  (7ull << 5)
#define AVX_BIT      28
#define XSAVE_BIT    26
#define SEED_STEP    0x9e3779b97f4a7c15ull

struct zmm {
    u64 words[8];
} ALIGNED(64);

static struct zmm patterns[REGISTERS], found[REGISTERS];
static u16 mask_found;
static volatile unsigned ticks;
static bool has_avx, has_avx512;

static bool on_timer(u64 vector, u64 error, u64 *frame)
{
    (void)error;
    (void)frame;
    if (vector != TIMER_VECTOR)
        return false;
    ticks++;
    wrmsr(MSR_X2APIC_FIRST + APIC_EOI, 0);
    return true;
}

#define EACH_REGISTER(X)                                                                           \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define EACH_HIGH_REGISTER(X)                                                                      \
    X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)

static void registers_load(void)
{
#define AVX(n) __asm__ volatile("vmovaps %0, %%ymm" #n : : "m"(patterns[n]));
#define SSE(n) __asm__ volatile("movaps %0, %%xmm" #n : : "m"(patterns[n]));
#define ZMM(n) __asm__ volatile("vmovaps %0, %%zmm" #n : : "m"(patterns[n]));
    if (has_avx512) {
        EACH_REGISTER(ZMM)
        EACH_HIGH_REGISTER(ZMM)
        __asm__ volatile("kmovw %0, %%k3" : : "m"(patterns[0]));
    } else if (has_avx) {
        EACH_REGISTER(AVX)
    } else {
        EACH_REGISTER(SSE)
    }
#undef AVX
#undef SSE
#undef ZMM
    __asm__ volatile("fninit; fildll %0; fildll %1"
                     :
                     : "m"(patterns[0].words[0]), "m"(patterns[1].words[0]));
}

static void registers_store(void)
{
#define AVX(n) __asm__ volatile("vmovaps %%ymm" #n ", %0" : "=m"(found[n]));
#define SSE(n) __asm__ volatile("movaps %%xmm" #n ", %0" : "=m"(found[n]));
#define ZMM(n) __asm__ volatile("vmovaps %%zmm" #n ", %0" : "=m"(found[n]));
    if (has_avx512) {
        EACH_REGISTER(ZMM)
        EACH_HIGH_REGISTER(ZMM)
        __asm__ volatile("kmovw %%k3, %0" : "=m"(mask_found));
    } else if (has_avx) {
        EACH_REGISTER(AVX)
    } else {
        EACH_REGISTER(SSE)
    }
#undef AVX
#undef SSE
#undef ZMM
}

static void sleep(void)
{
    unsigned before = ticks;
    wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() + SLEEP_TICKS);
    while (ticks == before)
        interrupts_wait();
}

static bool round_good(unsigned n, u64 seed)
{
    u64 x87[2];
    unsigned words = has_avx512 ? 8 : has_avx ? 4 : 2;
    unsigned registers = has_avx512 ? REGISTERS : REGISTERS / 2;
    for (unsigned i = 0; i < REGISTERS; i++)
        for (unsigned j = 0; j < 8; j++)
            patterns[i].words[j] = (seed + n * 256 + i * 8 + j + 1) * SEED_STEP;
    registers_load();
    sleep();
    cpuid(0, 0);
    registers_store();
    __asm__ volatile("fistpll %0; fistpll %1" : "=m"(x87[1]), "=m"(x87[0]));
    bool good = x87[0] == patterns[0].words[0] && x87[1] == patterns[1].words[0];
    good &= !has_avx512 || mask_found == (u16)patterns[0].words[0];
    for (unsigned i = 0; i < registers; i++)
        for (unsigned j = 0; j < words; j++)
            good &= found[i].words[j] == patterns[i].words[j];
    return good;
}

static void state_enable(void)
{
    write_cr0((read_cr0() | CR0_MP) & ~(CR0_EM | CR0_TS));
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    has_avx = cpu_has(1, ECX, XSAVE_BIT) && cpu_has(1, ECX, AVX_BIT);
    if (!has_avx)
        return;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    has_avx512 = cpu_has(7, EBX, AVX512_BIT);
    xsetbv(0, XCR0_X87 | XCR0_SSE | XCR0_AVX | (has_avx512 ? XCR0_AVX512 : 0));
    guest_print(has_avx512 ? "with AVX-512\n" : "with AVX\n");
}

void guest_main(const u8 *boot_params)
{
    u64 seed = guest_has_word(boot_params, "a")   ? 1000000
               : guest_has_word(boot_params, "b") ? 2000000
                                                  : 3000000;
    check_setup();
    state_enable();
    wrmsr(MSR_IA32_APIC_BASE, rdmsr(MSR_IA32_APIC_BASE) | APIC_BASE_EXTD);
    apic_write(APIC_SVR, APIC_SVR_ENABLE | SPURIOUS);
    apic_write(APIC_LVT_TIMER, APIC_LVT_TSC_DEADLINE | TIMER_VECTOR);
    interrupt_hook = on_timer;
    for (unsigned n = 0; n < ROUNDS; n++)
        check(round_good(n, seed), "every register is as it was");
    check_finish();
}
