// SPDX-License-Identifier: MIT
// What a guest's everyday work costs, in TSC ticks: "bench: NAME TICKS" lines. A static program
// without a C library, so that it can be the guest's first process: then its first instruction's
// TSC is the time of the boot, and it powers the guest off when it is done.

#include <asm/unistd.h>
#include <linux/mman.h>
#include <linux/reboot.h>
#include <stddef.h>
#include <stdint.h>

#define RUNS          5u
#define LOOP_COUNT    5000000u
#define GETPPID_COUNT 1000u
#define FORK_COUNT    30u
#define PAGE_COUNT    1024u
#define PAGE_SIZE     4096u
#define PING_COUNT    200u
#define STDOUT        1

void bench_main(uint64_t entry_tsc);

__asm__(".globl _start\n"
        "_start:\n\t"
        "rdtsc\n\t"
        "shl $32, %rdx\n\t"
        "or %rax, %rdx\n\t"
        "mov %rdx, %rdi\n\t"
        "xor %ebp, %ebp\n\t"
        "and $-16, %rsp\n\t"
        "call bench_main\n\t"
        "hlt\n");

static long system_call(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = -1;
    register long r9 __asm__("r9") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static void process_exit(int code)
{
    for (;;)
        system_call(__NR_exit_group, code, 0, 0, 0);
}

static void check(long result, const char *what, size_t length)
{
    if (result >= 0)
        return;
    system_call(__NR_write, STDOUT, (long)what, (long)length, 0);
    process_exit(1);
}
#define CHECKED(call) check((call), "bench: failed: " #call "\n", sizeof("bench: failed: " #call))

static uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static char *append(char *at, const char *text)
{
    while (*text)
        *at++ = *text++;
    return at;
}

static char *append_number(char *at, uint64_t value)
{
    char digits[20];
    unsigned count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    while (count)
        *at++ = digits[--count];
    return at;
}

// One write a line, so that kernel messages do not fall into the middle of it.
static void report(const char *name, uint64_t ticks)
{
    char line[80];
    char *at = append(line, "bench: ");
    at = append(at, name);
    at = append(at, " ");
    at = append_number(at, ticks);
    at = append(at, "\n");
    system_call(__NR_write, STDOUT, (long)line, at - line, 0);
}

static void bench_loop(void)
{
    for (unsigned i = 0; i < LOOP_COUNT; i++)
        __asm__ volatile("" : : : "memory");
}

static void bench_getppid(void)
{
    for (unsigned i = 0; i < GETPPID_COUNT; i++)
        system_call(__NR_getppid, 0, 0, 0, 0);
}

static void wait_for(long child)
{
    CHECKED(system_call(__NR_wait4, child, 0, 0, 0));
}

static void bench_fork(void)
{
    for (unsigned i = 0; i < FORK_COUNT; i++) {
        long child = system_call(__NR_fork, 0, 0, 0, 0);
        if (child == 0)
            process_exit(0);
        CHECKED(child);
        wait_for(child);
    }
}

static void bench_pages(void)
{
    long pages = system_call(__NR_mmap, 0, (long)PAGE_COUNT * PAGE_SIZE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS);
    CHECKED(pages);
    volatile char *memory = (volatile char *)pages;
    for (unsigned i = 0; i < PAGE_COUNT; i++)
        memory[i * PAGE_SIZE] = 1;
}

static void echo_bytes(int from, int to)
{
    char byte;
    for (unsigned i = 0; i < PING_COUNT; i++) {
        system_call(__NR_read, from, (long)&byte, 1, 0);
        system_call(__NR_write, to, (long)&byte, 1, 0);
    }
    process_exit(0);
}

static void bench_pipe(void)
{
    int there[2], back[2];
    char byte = 0;
    CHECKED(system_call(__NR_pipe, (long)there, 0, 0, 0));
    CHECKED(system_call(__NR_pipe, (long)back, 0, 0, 0));
    long child = system_call(__NR_fork, 0, 0, 0, 0);
    if (child == 0)
        echo_bytes(there[0], back[1]);
    CHECKED(child);
    for (unsigned i = 0; i < PING_COUNT; i++) {
        CHECKED(system_call(__NR_write, there[1], (long)&byte, 1, 0));
        CHECKED(system_call(__NR_read, back[0], (long)&byte, 1, 0));
    }
    wait_for(child);
}

static const struct {
    const char *name;
    void (*run)(void);
} benches[] = {
    {"loop-5m", bench_loop},
    {"getppid-1000", bench_getppid},
    {"fork-exit-wait-30", bench_fork},
    {"touch-pages-1024", bench_pages},
    {"pipe-ping-pong-200", bench_pipe},
};

// Of several runs, because what is left over from the boot falls into the first ones.
static uint64_t median_ticks(void (*run)(void))
{
    uint64_t ticks[RUNS];
    for (unsigned i = 0; i < RUNS; i++) {
        uint64_t start = read_tsc(), took;
        run();
        took = read_tsc() - start;
        unsigned at = i;
        for (; at > 0 && ticks[at - 1] > took; at--)
            ticks[at] = ticks[at - 1];
        ticks[at] = took;
    }
    return ticks[RUNS / 2];
}

void bench_main(uint64_t entry_tsc)
{
    int is_init = system_call(__NR_getpid, 0, 0, 0, 0) == 1;
    if (is_init)
        report("init-entry-tsc", entry_tsc);
    for (size_t i = 0; i < sizeof(benches) / sizeof(benches[0]); i++) {
        report(benches[i].name, median_ticks(benches[i].run));
    }
    if (is_init)
        system_call(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
                    LINUX_REBOOT_CMD_POWER_OFF, 0);
    process_exit(0);
}
