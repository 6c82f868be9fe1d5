// SPDX-License-Identifier: MIT
// What an exit costs, as the guest sees it: rdtsc; operation; rdtsc, SAMPLES times, the median of
// the raw differences (an empty pair gives 2 on an emulator whose TSC counts instructions). One
// line an operation: "bench: NAME MEDIAN MIN MAX". The VM must have 4 KiB pages and an initrd of at
// least SAMPLES pages (memory with backing that is not mapped yet), memory above FRESH_BASE that
// nobody touched, and the device "testdev".
#include "guests/lib/guest.h"
#include "guests/lib/samples.h"

#define SAMPLES    1001
#define ELEMENTS   64
#define FRESH_BASE (48 * MIB)

#define SCRATCH_PORT     0x2ff // COM2's scratch register: a device without side effects
#define IOAPIC_BASE      0xfec00000ull
#define DEVICE_MEMORY    0xff000000ull // of the device "testdev"
#define X2APIC_ID        0x802
#define X2APIC_EOI       0x80b
#define X2APIC_SVR       0x80f
#define X2APIC_LVT_TIMER 0x832
#define X2APIC_SELF_IPI  0x83f
#define SVR_ENABLE       BIT(8)
#define LVT_TSC_DEADLINE (2ull << 17)
#define PIC_DATA_1       0x21
#define PIC_DATA_2       0xa1

#define VECTOR_IPI        0x50
#define VECTOR_TIMER      0x51
#define UNKNOWN_HYPERCALL 0x7ffff

static u32 samples[SAMPLES];
static volatile u64 handler_tsc;

void guest_interrupt(u64 vector, u64 error, u64 rip, u64 *return_rip)
{
    (void)return_rip;
    u64 now = rdtsc();
    if (vector < 32) {
        guest_print("exception ");
        guest_print_number(vector);
        guest_print(" error ");
        guest_print_hex(error);
        guest_print(" at ");
        guest_print_hex(rip);
        guest_print("\n");
        guest_finish(false, "unexpected exception");
    }
    handler_tsc = now;
    wrmsr(X2APIC_EOI, 0);
}

static void report(const char *name)
{
    samples_report(name, samples, SAMPLES);
}

// The operation may use RAX, RBX, RCX, RDX and RDI; RSI holds the first time.
#define MEASURE(name, operation, argument)                                                         \
    do {                                                                                           \
        for (unsigned i = 0; i < SAMPLES; i++) {                                                   \
            u32 difference;                                                                        \
            __asm__ volatile("rdtsc; mov %%eax, %%esi; " operation "; rdtsc; sub %%esi, %%eax"     \
                             : "=&a"(difference)                                                   \
                             : "D"(argument)                                                       \
                             : "rbx", "rcx", "rdx", "rsi", "memory", "cc");                        \
            samples[i] = difference;                                                               \
        }                                                                                          \
        report(name);                                                                              \
    } while (0)

// Instructions of a string operation for one of its elements; between memory and a device's memory.
static void measure_string(const char *name, u64 from, u64 to)
{
    for (unsigned i = 0; i < SAMPLES; i++) {
        u64 count = ELEMENTS, source = from, target = to, start = rdtsc();
        __asm__ volatile("rep movsl" : "+c"(count), "+S"(source), "+D"(target) : : "memory");
        samples[i] = (u32)(rdtsc() - start) / ELEMENTS;
    }
    report(name);
}

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

static void measure_instructions(void)
{
    MEASURE("empty", "", 0);
    MEASURE("cpuid", "xor %%eax, %%eax; cpuid", 0);
    MEASURE("hypercall", "mov $" STRING(UNKNOWN_HYPERCALL) ", %%eax; vmcall", 0);
    MEASURE("rdmsr-trapped", "mov $0x1a0, %%ecx; rdmsr", 0);
    MEASURE("rdmsr-x2apic-id", "mov $0x802, %%ecx; rdmsr", 0);
    MEASURE("wrmsr-x2apic-eoi", "mov $0x80b, %%ecx; xor %%eax, %%eax; xor %%edx, %%edx; wrmsr", 0);
    MEASURE("wrmsr-tsc-deadline", "mov $0x6e0, %%ecx; xor %%eax, %%eax; xor %%edx, %%edx; wrmsr",
            0);
    if (cpuid(1, 0).ecx & BIT(26)) {
        write_cr4(read_cr4() | CR4_OSXSAVE);
        MEASURE("xsetbv", "xor %%ecx, %%ecx; mov $1, %%eax; xor %%edx, %%edx; xsetbv", 0);
    }
    MEASURE("cr8-write", "mov %%rdi, %%cr8", 0);
    MEASURE("cr8-read", "mov %%cr8, %%rax", 0);
    MEASURE("port-write", "mov %%edi, %%edx; out %%al, %%dx", SCRATCH_PORT);
    MEASURE("port-read", "mov %%edi, %%edx; in %%dx, %%al", SCRATCH_PORT);
    MEASURE("mmio-write", "movl $0, (%%rdi)", IOAPIC_BASE);
    MEASURE("mmio-read", "movl (%%rdi), %%eax", IOAPIC_BASE);
    measure_string("rep-movs-write", FRESH_BASE, DEVICE_MEMORY);
    measure_string("rep-movs-read", DEVICE_MEMORY, FRESH_BASE);
}

static void measure_touch(const char *name, u64 base)
{
    for (unsigned i = 0; i < SAMPLES; i++) {
        u32 difference;
        __asm__ volatile("rdtsc; mov %%eax, %%esi; movb (%%rdi), %%cl; rdtsc; sub %%esi, %%eax"
                         : "=&a"(difference)
                         : "D"(base + i * PAGE_SIZE)
                         : "rcx", "rdx", "rsi", "memory", "cc");
        samples[i] = difference;
    }
    report(name);
}

static void measure_ipi(void)
{
    for (unsigned i = 0; i < SAMPLES; i++) {
        u64 before = rdtsc();
        wrmsr(X2APIC_SELF_IPI, VECTOR_IPI);
        __asm__ volatile("sti; hlt; cli" ::: "memory");
        samples[i] = (u32)(handler_tsc - before);
    }
    report("self-ipi-hlt");
}

// How late the handler of a timer runs, against the deadline that was asked for.
static void measure_timer(const char *name, bool halt)
{
    for (unsigned i = 0; i < SAMPLES; i++) {
        u64 deadline = rdtsc() + 20000;
        handler_tsc = 0;
        wrmsr(MSR_IA32_TSC_DEADLINE, deadline);
        if (halt)
            __asm__ volatile("sti; hlt; cli" ::: "memory");
        else
            __asm__ volatile("sti" ::: "memory");
        while (!handler_tsc)
            cpu_pause();
        __asm__ volatile("cli" ::: "memory");
        samples[i] = (u32)(handler_tsc - deadline);
    }
    report(name);
}

static void apic_setup(void)
{
    out8(PIC_DATA_1, 0xff);
    out8(PIC_DATA_2, 0xff);
    wrmsr(MSR_IA32_APIC_BASE, rdmsr(MSR_IA32_APIC_BASE) | APIC_BASE_EXTD | APIC_BASE_ENABLE);
    wrmsr(X2APIC_SVR, SVR_ENABLE | 0xff);
    wrmsr(X2APIC_LVT_TIMER, LVT_TSC_DEADLINE | VECTOR_TIMER);
}

void guest_main(const u8 *boot_params)
{
    u64 initrd = boot_params_u32(boot_params, BOOT_PARAMS_RAMDISK);
    u32 initrd_size = boot_params_u32(boot_params, BOOT_PARAMS_RAMDISK_LEN);
    guest_idt_load();
    if (initrd_size < SAMPLES * PAGE_SIZE)
        guest_finish(false, "the initrd is too small for this measurement");
    measure_touch("fault-backed", ALIGN_UP(initrd, PAGE_SIZE));
    measure_touch("fault-first-touch", FRESH_BASE);
    apic_setup();
    measure_instructions();
    measure_ipi();
    measure_timer("timer-late-hlt", true);
    measure_timer("timer-late-spin", false);
    guest_finish(true, NULL);
}
