// SPDX-License-Identifier: MIT
// The end of a machine whose invariant broke. The report is made in stages, each counted before it
// begins: a trap or a panic within a stage goes on with the next one. No lock is taken; one CPU
// reports, the others stop.
#include "arch/x86_64/panic.h"
#include "arch/x86_64/apic.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/traps.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/format.h"

#define REASON_MAX 256
#define PIECE_MAX  256
#define NO_CPU     (~0u)
#define STOP_POLLS 10000000 // how long the others may take; some never answer

#define COM1                 0x3f8
#define COM1_LINE_STATUS     (COM1 + 5)
#define LINE_STATUS_TX_EMPTY 0x20
#define LINE_STATUS_IDLE     0x40 // the last bit is out
#define COM1_POLLS           100000

#define QEMU_DEBUG_EXIT 0xf4
#define QEMU_EXIT_VALUE 0x21 // QEMU ends with (value << 1) | 1 = 67
#define BOCHS_SHUTDOWN  0x8900

void (*panic_print_sink)(const char *text);
void (*panic_state_hook)(void (*print)(const char *format, ...));
bool panic_debug_exit;

// The first panic, which is the one that is reported.
static u32 owner = NO_CPU; // index of the CPU that reports
static char reason[REASON_MAX];
static const struct trap_frame *trap;
static u64 frame_pointer;
static unsigned nested;

static void com1_wait(u8 status)
{
    for (unsigned i = 0; i < COM1_POLLS && !(in8(COM1_LINE_STATUS) & status); i++)
        cpu_pause();
}

static void com1_write(const char *text)
{
    for (; *text; text++) {
        com1_wait(LINE_STATUS_TX_EMPTY);
        if (*text == '\n')
            out8(COM1, '\r');
        out8(COM1, (u8)*text);
    }
}

// A sink that may itself be what fails is not asked again after the second panic within the panic.
void panic_print(const char *format, ...)
{
    char piece[PIECE_MAX];
    va_list arguments;
    va_start(arguments, format);
    format_text_v(piece, sizeof(piece), format, arguments);
    va_end(arguments);
    if (panic_print_sink && nested < 2)
        panic_print_sink(piece);
    else
        com1_write(piece);
}

static void stage_stop_others(void)
{
    apic_stop_others();
    for (unsigned polls = 0, i = 0; i < cpu_count && polls < STOP_POLLS; polls++) {
        if (i == owner || !__atomic_load_n(&percpus[i].online, __ATOMIC_ACQUIRE))
            i++;
        else
            cpu_pause();
    }
}

static void stage_reason(void)
{
    panic_print("\n*** PANIC on CPU %u: %s", owner, reason);
    if (trap)
        trap_headline_print(trap, panic_print);
    else
        panic_print("\n");
}

static void stage_registers(void)
{
    if (trap)
        trap_frame_print(trap, panic_print);
    panic_print("interrupts taken %llu, NMIs ignored %llu\n",
                (unsigned long long)this_cpu()->interrupts, (unsigned long long)trap_nmi_count());
}

static void stage_backtrace(void)
{
    panic_print("called from:\n");
    backtrace_print(frame_pointer, panic_print);
}

static void stage_states(void)
{
    if (panic_state_hook)
        panic_state_hook(panic_print);
}

static void stage_end(void)
{
    panic_print("*** the machine is stopped\n");
}

static void stage_leave(void)
{
    if (!panic_debug_exit)
        return;
    com1_wait(LINE_STATUS_IDLE); // leaving would cut the report's end off
    out32(QEMU_DEBUG_EXIT, QEMU_EXIT_VALUE);
    for (const char *word = "Shutdown"; *word; word++)
        out8(BOCHS_SHUTDOWN, (u8)*word);
}

static void (*const stages[])(void) = {
    stage_stop_others, stage_reason, stage_registers, stage_backtrace,
    stage_states,      stage_end,    stage_leave,
};

static NORETURN void stages_run(void)
{
    u8 *next = &this_cpu()->panic_stage;
    while (*next < ARRAY_SIZE(stages))
        stages[(*next)++]();
    halt_forever();
}

// The first caller becomes the owner and returns true; the owner again returns false; other CPUs
// stop here.
static bool panic_claim(void)
{
    u32 none = NO_CPU;
    interrupts_disable();
    if (__atomic_compare_exchange_n(&owner, &none, this_cpu()->index, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return true;
    panic_stop_point(); // does not return on any CPU but the owner
    nested++;
    return false;
}

void panic_stop_point(void)
{
    u32 who = __atomic_load_n(&owner, __ATOMIC_ACQUIRE);
    if (who == NO_CPU || who == this_cpu()->index)
        return;
    __atomic_store_n(&this_cpu()->online, false, __ATOMIC_RELEASE);
    halt_forever();
}

void panic(const char *format, ...)
{
    char nested_reason[REASON_MAX];
    bool first = panic_claim();
    va_list arguments;
    va_start(arguments, format);
    format_text_v(first ? reason : nested_reason, REASON_MAX, format, arguments);
    va_end(arguments);
    if (first)
        frame_pointer = (u64)__builtin_frame_address(0);
    else if (this_cpu()->panic_stage < ARRAY_SIZE(stages))
        panic_print("\n*** panic within the panic: %s\n", nested_reason);
    stages_run();
}

void panic_trap(const struct trap_frame *frame)
{
    if (panic_claim()) {
        trap = frame;
        frame_pointer = frame->rbp;
    } else if (nested <= ARRAY_SIZE(stages)) {
        panic_print("\n*** trap %llu at 0x%llx within the panic\n",
                    (unsigned long long)frame->vector, (unsigned long long)frame->rip);
    }
    stages_run();
}
