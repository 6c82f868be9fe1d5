// SPDX-License-Identifier: MIT
// What conformance guests stand on: counted checks, instructions that may fault, at privilege level
// 0 or 3, and a machine in a known state: a GDT with one descriptor of each kind, a TSS, and page
// tables of our own. A failed check is a line; the guest goes on, and its verdict counts them.
//
//     FAULTS("reading CR1", VECTOR_UD, 0, "mov %%cr1, %%rax", : : : "rax");
//     USER_WORKS("CPUID", "cpuid", : : "a"(0), "c"(0) : "rbx", "rdx");
#pragma once

#include "guests/lib/guest.h"

// Selectors of the GDT.
#define SELECTOR_CODE         0x08
#define SELECTOR_DATA         0x10
#define SELECTOR_CODE32       0x18
#define SELECTOR_USER_DATA    0x23
#define SELECTOR_USER_CODE    0x2b
#define SELECTOR_USER_CODE32  0x33
#define SELECTOR_TSS          0x38 // two entries
#define SELECTOR_LDT          0x48 // two entries
#define SELECTOR_NOT_PRESENT  0x58
#define SELECTOR_READ_ONLY    0x60
#define SELECTOR_EXECUTE_ONLY 0x68
#define SELECTOR_SMALL        0x70 // data, limit 0x1234
#define SELECTOR_GATE         0x78 // a call gate to gate_target, two entries
#define SELECTOR_BEYOND       0x88 // past the table's end

#define SMALL_LIMIT 0x1234

// Linear addresses: memory one to one for the supervisor, its first GiB again for users, and pages
// for experiments.
#define USER_ALIAS_SHIFT 39
#define USER_ALIAS       (1ull << USER_ALIAS_SHIFT)
#define TEST_BASE        (2ull << USER_ALIAS_SHIFT)

#define PTE_P     BIT(0)
#define PTE_W     BIT(1)
#define PTE_U     BIT(2)
#define PTE_A     BIT(5)
#define PTE_D     BIT(6)
#define PTE_LARGE BIT(7)
#define PTE_NX    BIT(63)

extern volatile u64 test_table[512];     // TEST_BASE + n * 4 KiB
extern volatile u64 test_directory[512]; // its entry 0 points to test_table; the others are free
extern u64 gdt[17];

#define TRAP_NONE (-1)

// The last exception while an instruction was tried.
struct trap {
    s64 vector;
    u64 error, rip, cs, rflags, rsp, ss, cr2;
};
extern volatile struct trap trap;

// Where the tried instruction begins and ends, where the supervisor goes on, and its stack if a
// user tries (else 0); the user's flags.
extern volatile u64 trap_start, trap_end, trap_resume, trap_rsp, trap_user_flags;

// If set, it gets each interrupt and each exception that no tried instruction waits for. frame:
// RIP, CS, RFLAGS, RSP, SS, which it may change. False: it did not expect that.
extern bool (*volatile interrupt_hook)(u64 vector, u64 error, u64 *frame);

enum { FRAME_RIP, FRAME_CS, FRAME_RFLAGS, FRAME_RSP, FRAME_SS };

void check_setup(void); // first of all
bool check(bool good, const char *what);
bool check_equal(u64 got, u64 wanted, const char *what);
void check_fault(const char *what, s64 vector, u64 error);
void check_finish(void); // prints the verdict and powers off

// CPUID shows a feature bit?
bool cpu_has(u32 leaf, unsigned reg, unsigned bit);
enum { EAX, EBX, ECX, EDX };

void *idt_gate(unsigned vector);
void idt_gate_present(unsigned vector, bool present);

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

// The arguments after the instruction: outputs, inputs, clobbers, with their colons.
#define TRY_SUPERVISOR(...) TRY_SUPERVISOR_(__VA_ARGS__)
#define TRY_USER(...)       TRY_USER_(__VA_ARGS__)
#define TRY_SUPERVISOR_(instruction, ...)                                                          \
    do {                                                                                           \
        trap.vector = TRAP_NONE;                                                                   \
        trap_rsp = 0;                                                                              \
        __asm__ volatile("movq $76f, trap_start; movq $77f, trap_end; movq $77f, trap_resume\n"    \
                         "76: " instruction "\n"                                                   \
                         "77: movq $0, trap_resume" __VA_ARGS__);                                  \
    } while (0)

#define TRY_USER_(instruction, ...)                                                                                                                        \
    do {                                                                                                                                                   \
        trap.vector = TRAP_NONE;                                                                                                                           \
        __asm__ volatile(                                                                                                                                  \
            "movq $76f, trap_start; movq $77f, trap_end; movq $78f, trap_resume\n"                                                                         \
            "movq %%rsp, trap_rsp\n"                                                                                                                       \
            "pushq $" STRING(                                                                                                                              \
                SELECTOR_USER_DATA) "; pushq trap_rsp\n"                                                                                                   \
                                    "btsq $" STRING(                                                                                                       \
                                        USER_ALIAS_SHIFT) ", (%%rsp)\n"                                                                                    \
                                                          "pushq trap_user_flags; pushq $" STRING(                                                         \
                                                              SELECTOR_USER_CODE) "\n"                                                                     \
                                                                                  "pushq $76f; "                                                           \
                                                                                  "btsq $" STRING(                                                         \
                                                                                      USER_ALIAS_SHIFT) ", (%%rsp)\n"                                      \
                                                                                                        "iretq\n"                                          \
                                                                                                        "76: " instruction                                 \
                                                                                                        "\n"                                               \
                                                                                                        "77: ud2\n" /* the end, by way of the exception */ \
                                                                                                        "78: movq $0, trap_resume" __VA_ARGS__);           \
    } while (0)

#define FAULTS(what, vector, error, ...)                                                           \
    do {                                                                                           \
        TRY_SUPERVISOR(__VA_ARGS__);                                                               \
        check_fault(what, vector, error);                                                          \
    } while (0)
#define USER_FAULTS(what, vector, error, ...)                                                      \
    do {                                                                                           \
        TRY_USER(__VA_ARGS__);                                                                     \
        check_fault("a user's " what, vector, error);                                              \
    } while (0)
#define WORKS(what, ...)      FAULTS(what, TRAP_NONE, 0, __VA_ARGS__)
#define USER_WORKS(what, ...) USER_FAULTS(what, TRAP_NONE, 0, __VA_ARGS__)
