// SPDX-License-Identifier: MIT
// Far branches and returns whose pointer or stack lies in a device's memory.
#include "tests/unit/system_rig.h"

// --- far branches ---

TEST(far_jumps)
{
    reset();
    put_device(HIGH_BASE, S_CODE);
    CHECK_EQ(AT_DEVICE("\x48\xff\x2f", R), ACTION_RETRY); // jmp far [rdi], 64 bits
    CHECK_EQ(regs[REG_RIP], HIGH_BASE);
    CHECK_EQ(segments[SEG_CS].access, CODE64);
    put_device(0x12345678 | (u64)S_CODE32 << 32, 0);
    CHECK_EQ(AT_DEVICE("\xff\x2f", R), ACTION_RETRY); // 32 bits
    CHECK_EQ(regs[REG_RIP], 0x12345678);
    CHECK_EQ(segments[SEG_CS].access, CODE32);
}

TEST(far_jumps_that_fault)
{
    reset();
    put_device(1ull << 60, S_CODE);
    check_fault(AT_DEVICE("\x48\xff\x2f", R), VECTOR_GP, 0);
    put_device(0x1000, 0);
    check_fault(AT_DEVICE("\x48\xff\x2f", R), VECTOR_GP, 0);
    put_device(0x1000, S_DATA);
    check_fault(AT_DEVICE("\x48\xff\x2f", R), VECTOR_GP, S_DATA);
    put_device(0x1000, S_CODE | 3); // asks for less than it has
    check_fault(AT_DEVICE("\x48\xff\x2f", R), VECTOR_GP, S_CODE);
    put_device(0x1000, S_GATE);
    CHECK_EQ(AT_DEVICE("\x48\xff\x2f", R), ACTION_STOP);
    put_device(0x1000, S_CONFORM); // its own level is one that may
    CHECK_EQ(AT_DEVICE("\x48\xff\x2f", R), ACTION_RETRY);
    CHECK_EQ(segments[SEG_CS].selector, S_CONFORM);
    segments[SEG_SS].access = DATA_USER;
    put_device(0x1000, S_CODE);
    check_fault(AT_DEVICE("\x48\xff\x2f", R), VECTOR_GP, S_CODE);
    put_device(0x1000, S_CONFORM); // any level may, and keeps its own
    CHECK_EQ(AT_DEVICE("\x48\xff\x2f", R), ACTION_RETRY);
    CHECK_EQ(segments[SEG_CS].selector, S_CONFORM | 3);
}

TEST(far_calls_push_where_they_came_from)
{
    reset();
    put_device(0x5000, S_CODE);
    CHECK_EQ(AT_DEVICE("\x48\xff\x1f", R), ACTION_RETRY); // call far [rdi]
    CHECK_EQ(regs[REG_RIP], 0x5000);
    CHECK_EQ(regs[REG_RSP], STACK - 16);
    u64 pushed[2];
    memcpy(pushed, ram + STACK - 16, sizeof(pushed));
    CHECK_EQ(pushed[0], CODE + 3);
    CHECK_EQ(pushed[1], S_CODE);
    regs[REG_RSP] = 0x7f0000000000;
    CHECK_EQ(AT_DEVICE("\x48\xff\x1f", R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_PF);
    CHECK_EQ(regs[REG_RSP], 0x7f0000000000);
}

TEST(a_far_call_that_cannot_load_its_segment_pushes_nothing)
{
    reset();
    put64(PAGES + 8, 0x4000 | PTE_FLAGS); // the GDT again, read-only
    put64(0x4000, 0x5000 | PTE_FLAGS);
    put64(0x5000, 0x6000 | PTE_FLAGS);
    put64(0x6000, GDT | (PTE_FLAGS & ~2ull));
    segments[SEG_GDTR].base = 1ull << 39;
    put_device(0x5000, S_CODE);
    CHECK_EQ(AT_DEVICE("\x48\xff\x1f", R), ACTION_FAULT); // not to be marked accessed
    CHECK_EQ(ex.fault.vector, VECTOR_PF);
    CHECK_EQ(ex.fault.cr2, (1ull << 39) + S_CODE + 5);
    CHECK_EQ(regs[REG_RSP], STACK);
    CHECK_EQ(ram[STACK - 16], 0);
}

TEST(far_returns)
{
    reset();
    regs[REG_RSP] = DEVICE;
    put_device(HIGH_BASE, S_CODE);
    CHECK_EQ(AT_DEVICE("\x48\xca\x20\x80", R), ACTION_RETRY); // 64 bits, ret far 8020h
    CHECK_EQ(regs[REG_RIP], HIGH_BASE);
    CHECK_EQ(regs[REG_RSP], DEVICE + 16 + 0x8020);
    CHECK_EQ(segments[SEG_CS].access, CODE64);
    regs[REG_RSP] = DEVICE;
    put_device(0x1234 | (u64)S_CODE32 << 32, 0);
    CHECK_EQ(AT_DEVICE("\xcb", R), ACTION_RETRY); // 32 bits
    CHECK_EQ(regs[REG_RIP], 0x1234);
    CHECK_EQ(segments[SEG_CS].access, CODE32);
    CHECK_EQ(regs[REG_RSP], DEVICE + 8);
    regs[REG_RSP] = DEVICE;
    put_device(0x1234 | (u64)S_DATA << 32, 0);
    check_fault(AT_DEVICE("\xcb", R), VECTOR_GP, S_DATA);
    put_device(0x1234, 0);
    check_fault(AT_DEVICE("\xcb", R), VECTOR_GP, 0);
    CHECK_EQ(regs[REG_RSP], DEVICE);
    segments[SEG_SS].access = DATA_USER;
    put_device(0x1234 | (u64)S_CODE << 32, 0);
    check_fault(AT_DEVICE("\xcb", R), VECTOR_GP, S_CODE); // to an inner one
    segments[SEG_SS].access = DATA;
    regs[REG_CR0] = regs[REG_EFER] = 0;
    put_device(0x10002000, 0);
    CHECK_EQ(AT_DEVICE("\x66\xcb", R), ACTION_RETRY);
    CHECK_EQ(segments[SEG_CS].base, 0x10000);
    CHECK_EQ(regs[REG_RIP], 0x2000);
}

// --- IRET, and RET to an outer level, with the stack in a device ---

static void put_frame(const u64 *words, unsigned count, unsigned size)
{
    regs[REG_RSP] = DEVICE;
    for (unsigned i = 0; i < count; i++)
        memcpy(device + i * size, &words[i], size);
}

TEST(interrupt_returns_in_64_bit_mode)
{
    reset();
    descriptor(S_CONFORM, 0, 0xfffff, 0xa0fb); // code of level 3
    regs[REG_RFLAGS] = RFLAGS_RESERVED;
    regs[REG_INTERRUPTIBILITY] = BLOCKED_NMI;
    put_frame((u64[]){HIGH_BASE, S_CODE, RFLAGS_IF | RFLAGS_CF | RFLAGS_VM, 0x5008, 0}, 5, 8);
    CHECK_EQ(EMULATE("\x48\xcf", DEVICE, R), ACTION_RETRY);
    CHECK_EQ(regs[REG_RIP], HIGH_BASE);
    CHECK_EQ(regs[REG_RSP], 0x5008);
    CHECK_EQ(regs[REG_RFLAGS], RFLAGS_RESERVED | RFLAGS_IF | RFLAGS_CF);
    CHECK_EQ(regs[REG_INTERRUPTIBILITY], 0);
    CHECK(segments[SEG_SS].access & SEGMENT_UNUSABLE);
    put_frame((u64[]){HIGH_BASE, S_CODE, RFLAGS_VIF | RFLAGS_VIP, 0x5008, 0}, 5, 8);
    CHECK_EQ(EMULATE("\x48\xcf", DEVICE, R), ACTION_RETRY);
    CHECK_EQ(regs[REG_RFLAGS], RFLAGS_RESERVED | RFLAGS_VIF | RFLAGS_VIP);
    segments[SEG_DS] = (struct segment){.selector = S_DATA, .access = DATA};
    segments[SEG_ES] = (struct segment){.selector = S_USER, .access = DATA_USER};
    put_frame((u64[]){0x7000, S_CONFORM | 3, RFLAGS_RESERVED, 0x6000, S_USER}, 5, 8);
    CHECK_EQ(EMULATE("\x48\xcf", DEVICE, R), ACTION_RETRY);
    CHECK_EQ(segments[SEG_CS].selector, S_CONFORM | 3);
    CHECK_EQ(segments[SEG_SS].selector, S_USER);
    CHECK(segments[SEG_DS].access & SEGMENT_UNUSABLE); // not for level 3
    CHECK_EQ(segments[SEG_ES].selector, S_USER);
}

TEST(interrupt_returns_that_fault_change_nothing)
{
    reset();
    descriptor(S_CONFORM, 0, 0xfffff, 0xa0fb);
    put_frame((u64[]){0x7000, S_CONFORM | 3, RFLAGS_RESERVED, 0x6000, 0}, 5, 8);
    check_fault(EMULATE("\x48\xcf", DEVICE, R), VECTOR_GP, 0); // no stack at level 3
    CHECK_EQ(segments[SEG_CS].selector, S_CODE);
    CHECK_EQ(regs[REG_RSP], DEVICE);
    put_frame((u64[]){0x7000, S_CONFORM | 3, RFLAGS_RESERVED, 0x6000, S_DATA}, 5, 8);
    check_fault(EMULATE("\x48\xcf", DEVICE, R), VECTOR_GP, S_DATA);
    CHECK_EQ(segments[SEG_CS].selector, S_CODE);
    put_frame((u64[]){1ull << 60, S_CODE, RFLAGS_RESERVED, 0x6000, 0}, 5, 8);
    check_fault(EMULATE("\x48\xcf", DEVICE, R), VECTOR_GP, 0);
    regs[REG_RFLAGS] |= RFLAGS_NT;
    check_fault(EMULATE("\x48\xcf", DEVICE, R), VECTOR_GP, 0);
}

TEST(interrupt_returns_of_a_user_keep_what_is_not_his)
{
    reset();
    segments[SEG_CS].access = CODE32;
    segments[SEG_SS] = (struct segment){.selector = S_USER, .access = DATA_USER, .limit = ~0u};
    descriptor(S_CODE32, 0, 0xfffff, 0xc0fb);
    regs[REG_RFLAGS] = RFLAGS_RESERVED | RFLAGS_IF;
    put_frame((u64[]){0x1234, S_CODE32 | 3, RFLAGS_IOPL | RFLAGS_VIF | RFLAGS_VIP | RFLAGS_ZF}, 3,
              4);
    CHECK_EQ(EMULATE("\xcf", DEVICE, R), ACTION_RETRY);
    CHECK_EQ(regs[REG_RFLAGS], RFLAGS_RESERVED | RFLAGS_IF | RFLAGS_ZF);
    CHECK_EQ(regs[REG_RSP], DEVICE + 12);
    put_frame((u64[]){0x1234, S_CODE, 0}, 3, 4);
    check_fault(EMULATE("\xcf", DEVICE, R), VECTOR_GP, S_CODE);
}

TEST(interrupt_returns_in_real_mode)
{
    reset();
    regs[REG_CR0] = regs[REG_EFER] = 0;
    segments[SEG_CS] = (struct segment){.access = CODE16, .limit = 0xffff};
    segments[SEG_SS] = (struct segment){.access = DATA, .limit = ~0u};
    regs[REG_RFLAGS] = RFLAGS_RESERVED | RFLAGS_AC;
    put_frame((u64[]){0x2000, 0x1000, RFLAGS_IF | RFLAGS_IOPL}, 3, 2);
    CHECK_EQ(EMULATE("\xcf", DEVICE, R), ACTION_RETRY);
    CHECK_EQ(segments[SEG_CS].base, 0x10000);
    CHECK_EQ(regs[REG_RIP], 0x2000);
    CHECK_EQ(regs[REG_RSP], DEVICE + 6);
    CHECK_EQ(regs[REG_RFLAGS], RFLAGS_RESERVED | RFLAGS_AC | RFLAGS_IF | RFLAGS_IOPL);
}

TEST(interrupt_returns_that_are_not_emulated_end_the_vm)
{
    reset();
    regs[REG_EFER] = 0;
    regs[REG_CR0] &= ~CR0_PG;
    segments[SEG_CS].access = CODE32;
    put_frame((u64[]){0x1234, S_CODE32, RFLAGS_VM}, 3, 4);
    CHECK_EQ(EMULATE("\xcf", DEVICE, R), ACTION_STOP);
    regs[REG_RFLAGS] |= RFLAGS_NT;
    CHECK_EQ(EMULATE("\xcf", DEVICE, R), ACTION_STOP);
}

TEST(far_returns_to_an_outer_level)
{
    reset();
    segments[SEG_CS].access = CODE32;
    descriptor(S_CODE32, 0, 0xfffff, 0xc0fb);
    put_frame((u64[]){0x1234, S_CODE32 | 3, 0xaaaa, 0x6000, S_USER}, 5, 4);
    CHECK_EQ(EMULATE("\xca\x04\x00", DEVICE, R), ACTION_RETRY); // ret far 4
    CHECK_EQ(regs[REG_RIP], 0x1234);
    CHECK_EQ(regs[REG_RSP], 0x6004);
    CHECK_EQ(segments[SEG_SS].selector, S_USER);
    CHECK_EQ(segments[SEG_CS].selector, S_CODE32 | 3);
}
