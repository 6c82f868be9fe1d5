// SPDX-License-Identifier: MIT
// A trap in words: its name, its error code decoded, the address it was about, the registers, and
// the frame-pointer chain. Takes no lock and allocates nothing.
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/regs.h"
#include "arch/x86_64/traps.h"
#include "mm/host_map.h"
#include "vmm/lib/bits.h"

#define BACKTRACE_MAX    32
#define HIGH_HALF        0xffff800000000000ull
#define SELECTOR_EXT     BIT(0)
#define SELECTOR_IDT     BIT(1)
#define SELECTOR_LDT     BIT(2)
#define SELECTOR_INDEX   3 // shift
#define SELECTOR_INDEXES 13

typedef void (*print_function)(const char *format, ...);

static const struct {
    const char *mnemonic, *name;
} trap_names[] = {
    [VECTOR_DE] = {"#DE", "divide error"},
    [VECTOR_DB] = {"#DB", "debug exception"},
    [VECTOR_NMI] = {"NMI", "non-maskable interrupt"},
    [VECTOR_BP] = {"#BP", "breakpoint"},
    [VECTOR_OF] = {"#OF", "overflow"},
    [VECTOR_BR] = {"#BR", "bound range exceeded"},
    [VECTOR_UD] = {"#UD", "invalid opcode"},
    [VECTOR_NM] = {"#NM", "device not available"},
    [VECTOR_DF] = {"#DF", "double fault"},
    [VECTOR_TS] = {"#TS", "invalid TSS"},
    [VECTOR_NP] = {"#NP", "segment not present"},
    [VECTOR_SS] = {"#SS", "stack-segment fault"},
    [VECTOR_GP] = {"#GP", "general protection"},
    [VECTOR_PF] = {"#PF", "page fault"},
    [VECTOR_MF] = {"#MF", "x87 floating-point error"},
    [VECTOR_AC] = {"#AC", "alignment check"},
    [VECTOR_MC] = {"#MC", "machine check"},
    [VECTOR_XM] = {"#XM", "SIMD floating-point error"},
    [VECTOR_VE] = {"#VE", "virtualization exception"},
    [VECTOR_CP] = {"#CP", "control protection"},
};

static const struct {
    const char *name;
    size_t offset;
} trap_registers[] = {
#define REGISTER(name)                                                                             \
    {                                                                                              \
#name, offsetof(struct trap_frame, name)                                                   \
    }
    REGISTER(rax), REGISTER(rbx), REGISTER(rcx), REGISTER(rdx), REGISTER(rsi), REGISTER(rdi),
    REGISTER(rbp), REGISTER(rsp), REGISTER(r8),  REGISTER(r9),  REGISTER(r10), REGISTER(r11),
    REGISTER(r12), REGISTER(r13), REGISTER(r14), REGISTER(r15),
#undef REGISTER
};

static void page_fault_print(u64 error, print_function print)
{
    print(": %s%s at 0x%llx, %s%s",
          error & PF_USER ? "user " : "", // never true here: what the CPU said is worth seeing
          error & PF_FETCH   ? "fetch"
          : error & PF_WRITE ? "write"
                             : "read",
          (unsigned long long)read_cr2(),
          error & PF_PRESENT ? "page present but not allowed" : "page not present",
          error & PF_RESERVED ? ", reserved bit set in its entry" : "");
}

static void selector_print(u64 error, print_function print)
{
    const char *table = error & SELECTOR_IDT ? "IDT" : error & SELECTOR_LDT ? "LDT" : "GDT";
    if (error)
        print(": error code 0x%llx (%s entry %llu%s)", (unsigned long long)error, table,
              (unsigned long long)bits_get(error, SELECTOR_INDEX, SELECTOR_INDEXES),
              error & SELECTOR_EXT ? ", while an event was delivered" : "");
}

void trap_headline_print(const struct trap_frame *frame, print_function print)
{
    bool named = frame->vector < ARRAY_SIZE(trap_names) && trap_names[frame->vector].name;
    if (named)
        print("%s %s", trap_names[frame->vector].mnemonic, trap_names[frame->vector].name);
    else
        print("trap %llu", (unsigned long long)frame->vector);
    if (frame->vector == VECTOR_PF)
        page_fault_print(frame->error, print);
    else
        selector_print(frame->error, print);
    print("; RIP 0x%llx\n", (unsigned long long)frame->rip);
    // A double fault is most often a stack that ran over: its page fault found no stack to report
    // on.
    if (frame->vector == VECTOR_PF || frame->vector == VECTOR_DF)
        print("CR2 0x%llx: %s\n", (unsigned long long)read_cr2(), host_map_describe(read_cr2()));
}

void trap_frame_print(const struct trap_frame *frame, print_function print)
{
    for (unsigned i = 0; i < ARRAY_SIZE(trap_registers); i++) {
        const u8 *value = (const u8 *)frame + trap_registers[i].offset;
        print("%3s %016llx%s", trap_registers[i].name, *(const unsigned long long *)value,
              i % 4 == 3 ? "\n" : "  ");
    }
    print("rip %016llx  cs %04llx  ss %04llx  flags %08llx  vector %llu  error 0x%llx\n",
          (unsigned long long)frame->rip, (unsigned long long)frame->cs,
          (unsigned long long)frame->ss, (unsigned long long)frame->rflags,
          (unsigned long long)frame->vector, (unsigned long long)frame->error);
    print("cr0 %016llx  cr2 %016llx  cr3 %016llx  cr4 %016llx\n", (unsigned long long)read_cr0(),
          (unsigned long long)read_cr2(), (unsigned long long)read_cr3(),
          (unsigned long long)read_cr4());
}

// Each frame starts with the caller's rbp and the return address. Frames must rise, so a loop ends;
// one that is not mapped traps, and the panic goes on with its next stage.
void backtrace_print(u64 rbp, print_function print)
{
    u64 previous = 0;
    for (unsigned depth = 0; depth < BACKTRACE_MAX; depth++) {
        if (rbp < HIGH_HALF || rbp <= previous || !IS_ALIGNED(rbp, sizeof(u64)))
            return;
        const u64 *frame = (const u64 *)rbp;
        if (!frame[1])
            return;
        print("  #%u 0x%llx\n", depth, (unsigned long long)frame[1]);
        previous = rbp;
        rbp = frame[0];
    }
}
