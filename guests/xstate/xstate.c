// SPDX-License-Identifier: MIT
// One of several that run at once: fills the x87, SSE and AVX registers with a pattern of its own,
// sleeps on its timer while the others run, exits in other ways meanwhile, and finds every register
// as it was.
#include "guests/lib/check.h"
#include "guests/lib/apic.h"

#define ROUNDS       500
#define SLEEP_TICKS  20000
#define TIMER_VECTOR 0x50
#define SPURIOUS     0xff
#define REGISTERS    16
#define AVX_BIT      28
#define XSAVE_BIT    26
#define SEED_STEP    0x9e3779b97f4a7c15ull

struct ymm {
    u64 words[4];
} ALIGNED(32);

static struct ymm patterns[REGISTERS], found[REGISTERS];
static volatile unsigned ticks;
static bool has_avx;

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

static void registers_load(void)
{
#define AVX(n) __asm__ volatile("vmovaps %0, %%ymm" #n : : "m"(patterns[n]));
#define SSE(n) __asm__ volatile("movaps %0, %%xmm" #n : : "m"(patterns[n]));
    if (has_avx) {
        EACH_REGISTER(AVX)
    } else {
        EACH_REGISTER(SSE)
    }
#undef AVX
#undef SSE
    __asm__ volatile("fninit; fildll %0; fildll %1"
                     :
                     : "m"(patterns[0].words[0]), "m"(patterns[1].words[0]));
}

static void registers_store(void)
{
#define AVX(n) __asm__ volatile("vmovaps %%ymm" #n ", %0" : "=m"(found[n]));
#define SSE(n) __asm__ volatile("movaps %%xmm" #n ", %0" : "=m"(found[n]));
    if (has_avx) {
        EACH_REGISTER(AVX)
    } else {
        EACH_REGISTER(SSE)
    }
#undef AVX
#undef SSE
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
    unsigned words = has_avx ? 4 : 2;
    for (unsigned i = 0; i < REGISTERS; i++)
        for (unsigned j = 0; j < 4; j++)
            patterns[i].words[j] = (seed + n * 64 + i * 4 + j + 1) * SEED_STEP;
    registers_load();
    sleep();
    cpuid(0, 0);
    registers_store();
    __asm__ volatile("fistpll %0; fistpll %1" : "=m"(x87[1]), "=m"(x87[0]));
    bool good = x87[0] == patterns[0].words[0] && x87[1] == patterns[1].words[0];
    for (unsigned i = 0; i < REGISTERS; i++)
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
    xsetbv(0, XCR0_X87 | XCR0_SSE | XCR0_AVX);
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
