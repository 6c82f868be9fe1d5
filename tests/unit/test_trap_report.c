// SPDX-License-Identifier: MIT
// How traps are put into words. Frames for the backtrace cannot be had here (they lie in the high
// half), but what stops it can.
#include <string.h>
#include "tests/unit/test.h"
#include "arch/x86_64/asm.h"

static u64 fake_cr2;
#define read_cr0() 0ull
#define read_cr2() fake_cr2
#define read_cr3() 0ull
#define read_cr4() 0ull
#include "arch/x86_64/trap_report.c"

static char out[4096];
static size_t used;

const char *host_map_describe(u64 hva)
{
    return hva == 0x1000 ? "guard page of a stack" : "nothing";
}

static void print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    used += (size_t)vsnprintf(out + used, sizeof(out) - used, format, arguments);
    va_end(arguments);
}

static const char *headline(u64 vector, u64 error)
{
    struct trap_frame frame = {.vector = vector, .error = error, .rip = 0x1234};
    used = 0;
    trap_headline_print(&frame, print);
    return out;
}

TEST(page_fault_says_what_and_where)
{
    fake_cr2 = 0x1000;
    CHECK_STR(headline(VECTOR_PF, PF_WRITE),
              "#PF page fault: write at 0x1000, page not present; RIP 0x1234\n"
              "CR2 0x1000: guard page of a stack\n");
    CHECK_STR(
        headline(VECTOR_PF, PF_PRESENT | PF_FETCH | PF_RESERVED),
        "#PF page fault: fetch at 0x1000, page present but not allowed, reserved bit set in its "
        "entry; RIP 0x1234\nCR2 0x1000: guard page of a stack\n");
}

TEST(selector_error_codes_are_decoded)
{
    CHECK_STR(headline(VECTOR_GP, 0), "#GP general protection; RIP 0x1234\n");
    CHECK_STR(headline(VECTOR_GP, 0x18),
              "#GP general protection: error code 0x18 (GDT entry 3); RIP 0x1234\n");
    CHECK_STR(headline(VECTOR_NP, 0x203),
              "#NP segment not present: error code 0x203 (IDT entry 64, while an event was "
              "delivered); RIP 0x1234\n");
}

TEST(double_fault_shows_what_the_stack_ran_into)
{
    fake_cr2 = 0x1000;
    CHECK_STR(headline(VECTOR_DF, 0),
              "#DF double fault; RIP 0x1234\nCR2 0x1000: guard page of a stack\n");
}

TEST(traps_without_a_name_have_a_number)
{
    CHECK_STR(headline(9, 0), "trap 9; RIP 0x1234\n");
    CHECK_STR(headline(31, 0), "trap 31; RIP 0x1234\n");
    CHECK_STR(headline(~0ull, 0), "trap 18446744073709551615; RIP 0x1234\n");
}

TEST(registers_stand_under_their_names)
{
    struct trap_frame frame = {.rax = 1, .rsp = 2, .r15 = 0xf};
    used = 0;
    trap_frame_print(&frame, print);
    CHECK(strstr(out, "rax 0000000000000001  rbx 0000000000000000"));
    CHECK(strstr(out, "rsp 0000000000000002\n"));
    CHECK(strstr(out, "r15 000000000000000f\n"));
}

TEST(backtrace_ends_at_what_is_no_frame)
{
    u64 frame[2] = {0, 0x1234};
    used = 0;
    out[0] = 0;
    backtrace_print(0, print);
    backtrace_print((u64)frame, print);         // the low half is never a stack of the core
    backtrace_print(0xffff800000000001, print); // not aligned
    CHECK_STR(out, "");
}
