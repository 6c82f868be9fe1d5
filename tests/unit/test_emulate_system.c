// SPDX-License-Identifier: MIT
// Segment registers, descriptor tables and far branches with an operand in a device's memory: what
// is loaded and stored, and each fault with its error code.
#include "tests/unit/emulate_rig.h"

#define GDT       0x2000u
#define STACK     0x20000u
#define S_CODE    0x08
#define S_DATA    0x10
#define S_CODE32  0x18
#define S_USER    0x23
#define S_TSS     0x28 // two entries
#define S_LDT     0x38 // two entries
#define S_ABSENT  0x48
#define S_CONFORM 0x50
#define S_GATE    0x58 // two entries
#define GDT_LIMIT 0x67
#define HIGH_BASE 0xffff800000001000ull

#define AT_DEVICE(code, access) EMULATE(code, DEVICE, access)

static void descriptor(unsigned selector, u64 base, u32 limit, u32 access)
{
    gpa_t at = GDT + (selector & ~7u);
    put64(at, (u64)(limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 |
                  (u64)(limit >> 16 & 15) << 48 | (u64)(base >> 24 & 0xff) << 56);
    if (!(access & 0x10))
        put64(at + 8, base >> 32);
}

static void reset(void)
{
    fake_guest_reset();
    descriptor(S_CODE, 0, 0xfffff, 0xa09a);
    descriptor(S_DATA, 0, 0xfffff, 0xc092);
    descriptor(S_CODE32, 0, 0xfffff, 0xc09b);
    descriptor(S_USER, 0, 0xfffff, 0xc0f3);
    descriptor(S_TSS, HIGH_BASE, 0x67, 0x89);
    descriptor(S_LDT, HIGH_BASE, 0xf, 0x82);
    descriptor(S_ABSENT, 0, 0xfffff, 0xc013);
    descriptor(S_CONFORM, 0, 0xfffff, 0xa09f);
    descriptor(S_GATE, 0, 0, 0x8c);
    segments[SEG_GDTR] = (struct segment){.base = GDT, .limit = GDT_LIMIT};
    segments[SEG_CS].selector = S_CODE;
    vcpu.gpr[GPR_RDI] = DEVICE;
    regs[REG_RSP] = STACK;
}

static void put_device(u64 value, u16 behind)
{
    memcpy(device, &value, sizeof(value));
    memcpy(device + 8, &behind, sizeof(behind));
}

static void check_fault(enum exit_action action, u8 vector, u32 error)
{
    CHECK_EQ(action, ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, vector);
    CHECK_EQ(ex.fault.error, error);
}

// --- segment registers ---

TEST(data_segments_are_loaded_and_marked)
{
    reset();
    put_device(S_DATA, 0);
    CHECK_EQ(AT_DEVICE("\x8e\x1f", R), ACTION_NEXT); // mov ds, [rdi]
    CHECK_EQ(segments[SEG_DS].selector, S_DATA);
    CHECK_EQ(segments[SEG_DS].access, DATA);
    CHECK_EQ(ram[GDT + S_DATA + 5], 0x93);
    put_device(3, 0);
    CHECK_EQ(AT_DEVICE("\x8e\x27", R), ACTION_NEXT); // mov fs, [rdi]
    CHECK_EQ(segments[SEG_FS].selector, 3);
    CHECK(segments[SEG_FS].access & SEGMENT_UNUSABLE);
}

TEST(segments_that_cannot_be_loaded)
{
    reset();
    put_device(0x1000, 0);
    check_fault(AT_DEVICE("\x8e\x1f", R), VECTOR_GP, 0x1000);
    put_device(S_ABSENT, 0);
    check_fault(AT_DEVICE("\x8e\x1f", R), VECTOR_NP, S_ABSENT);
    put_device(S_TSS, 0);
    check_fault(AT_DEVICE("\x8e\x1f", R), VECTOR_GP, S_TSS);
    put_device(S_ABSENT, 0);
    check_fault(AT_DEVICE("\x8e\x17", R), VECTOR_SS, S_ABSENT); // mov ss, [rdi]
    put_device(S_CODE, 0);
    check_fault(AT_DEVICE("\x8e\x17", R), VECTOR_GP, S_CODE);
    put_device(S_DATA, 0);
    check_fault(AT_DEVICE("\x8e\x0f", R), VECTOR_UD, 0); // mov cs, [rdi]
}

TEST(a_null_stack_segment_in_64_bit_mode_only_with_its_level)
{
    reset();
    put_device(0, 0);
    CHECK_EQ(AT_DEVICE("\x8e\x17", R), ACTION_RETRY);
    CHECK_EQ(regs[REG_RIP], CODE + 2);
    CHECK_EQ(regs[REG_INTERRUPTIBILITY], BLOCKED_MOV_SS);
    CHECK_EQ(segments[SEG_SS].access, SEGMENT_UNUSABLE);
    put_device(3, 0);
    check_fault(AT_DEVICE("\x8e\x17", R), VECTOR_GP, 0);
    put_device(0, 0);
    segments[SEG_CS].access = CODE32;
    check_fault(AT_DEVICE("\x8e\x17", R), VECTOR_GP, 0);
}

TEST(real_mode_segments_have_no_descriptors)
{
    reset();
    regs[REG_CR0] = 0;
    regs[REG_EFER] = 0;
    segments[SEG_CS] = (struct segment){.access = CODE16, .limit = 0xffff};
    segments[SEG_FS].limit = 0x12345;
    put_device(0x1234, 0);
    CHECK_EQ(AT_DEVICE("\x67\x8e\x27", R), ACTION_NEXT); // mov fs, [edi]
    CHECK_EQ(segments[SEG_FS].base, 0x12340);
    CHECK_EQ(segments[SEG_FS].limit, 0x12345);
    put_device(0x43211111, 0);
    CHECK_EQ(AT_DEVICE("\x67\xff\x2f", R), ACTION_RETRY); // jmp far [edi]
    CHECK_EQ(segments[SEG_CS].base, 0x43210);
    CHECK_EQ(regs[REG_RIP], 0x1111);
    segments[SEG_CS].base = 0;
    check_fault(AT_DEVICE("\x67\x0f\x00\x1f", R), VECTOR_UD, 0); // ltr [edi]
}

TEST(selectors_are_stored)
{
    reset();
    segments[SEG_TR].selector = S_TSS;
    memset(device, 0xff, 8);
    CHECK_EQ(AT_DEVICE("\x8c\x0f", W), ACTION_NEXT); // mov [rdi], cs
    CHECK(device[0] == S_CODE && device[1] == 0 && device[2] == 0xff);
    CHECK_EQ(AT_DEVICE("\x48\x0f\x00\x0f", W), ACTION_NEXT); // str [rdi]
    CHECK(device[0] == S_TSS && device[2] == 0xff);
    CHECK_EQ(AT_DEVICE("\x0f\x01\x27", W), ACTION_NEXT); // smsw [rdi]
    CHECK(device[0] == (u8)regs[REG_CR0] && device[2] == 0xff);
}

// --- the system's ---

TEST(descriptor_tables)
{
    reset();
    put_device(0x12345678abcdf234, 0);
    CHECK_EQ(AT_DEVICE("\x0f\x01\x1f", R), ACTION_NEXT); // lidt [rdi]
    CHECK_EQ(segments[SEG_IDTR].limit, 0xf234);
    CHECK_EQ(segments[SEG_IDTR].base, 0x12345678abcd);
    memset(device, 0, 16);
    CHECK_EQ(AT_DEVICE("\x0f\x01\x0f", W), ACTION_NEXT); // sidt [rdi]
    u64 stored;
    memcpy(&stored, device, sizeof(stored));
    CHECK_EQ(stored, 0x12345678abcdf234);
    put_device(0x12345678abcdf234, 0x1111);
    check_fault(AT_DEVICE("\x0f\x01\x17", R), VECTOR_GP, 0); // lgdt [rdi]: not canonical
    segments[SEG_CS].access = CODE32;
    CHECK_EQ(AT_DEVICE("\x66\x0f\x01\x17", R), ACTION_NEXT); // lgdt with 24 bits
    CHECK_EQ(segments[SEG_GDTR].base, 0x78abcd);
    memset(device, 0xff, 16);
    CHECK_EQ(AT_DEVICE("\x0f\x01\x07", W), ACTION_NEXT); // sgdt [edi]: 6 bytes
    CHECK(device[5] == 0 && device[6] == 0xff);
}

TEST(task_register_and_ldt)
{
    reset();
    put_device(S_TSS, 0);
    CHECK_EQ(AT_DEVICE("\x0f\x00\x1f", R), ACTION_NEXT); // ltr [rdi]
    CHECK_EQ(segments[SEG_TR].base, HIGH_BASE);
    CHECK_EQ(segments[SEG_TR].access & 0x1f, 0xb);
    CHECK_EQ(ram[GDT + S_TSS + 5], 0x8b);
    check_fault(AT_DEVICE("\x0f\x00\x1f", R), VECTOR_GP, S_TSS); // it is busy
    put_device(S_LDT, 0);
    CHECK_EQ(AT_DEVICE("\x0f\x00\x17", R), ACTION_NEXT); // lldt [rdi]
    CHECK_EQ(segments[SEG_LDTR].base, HIGH_BASE);
    put_device(0, 0);
    CHECK_EQ(AT_DEVICE("\x0f\x00\x17", R), ACTION_NEXT);
    CHECK(segments[SEG_LDTR].access & SEGMENT_UNUSABLE);
    check_fault(AT_DEVICE("\x0f\x00\x1f", R), VECTOR_GP, 0); // ltr of null
    ram[GDT + S_LDT + 13] = 1;                               // a type where none may be
    put_device(S_LDT, 0);
    check_fault(AT_DEVICE("\x0f\x00\x17", R), VECTOR_GP, S_LDT);
    ram[GDT + S_LDT + 13] = 0;
    ram[GDT + S_LDT + 5] = 0x02;
    check_fault(AT_DEVICE("\x0f\x00\x17", R), VECTOR_NP, S_LDT);
    segments[SEG_GDTR].limit = S_LDT + 7; // only its lower half
    check_fault(AT_DEVICE("\x0f\x00\x17", R), VECTOR_GP, S_LDT);
}

TEST(machine_status_word)
{
    reset();
    u64 cr0 = regs[REG_CR0];
    put_device(0xfff8, 0);
    CHECK_EQ(AT_DEVICE("\x0f\x01\x37", R), ACTION_NEXT); // lmsw [rdi]
    CHECK_EQ(regs[REG_CR0], cr0 | CR0_TS);
    put_device(CR0_EM, 0);
    check_fault(AT_DEVICE("\x0f\x01\x37", R), VECTOR_GP, 0);
}

TEST(users_may_not)
{
    reset();
    segments[SEG_SS].access = DATA_USER;
    check_fault(AT_DEVICE("\x0f\x01\x1f", R), VECTOR_GP, 0);
    check_fault(AT_DEVICE("\x0f\x00\x1f", R), VECTOR_GP, 0);
    CHECK_EQ(AT_DEVICE("\x0f\x01\x27", W), ACTION_NEXT); // smsw
    regs[REG_CR4] |= CR4_UMIP;
    check_fault(AT_DEVICE("\x0f\x01\x27", W), VECTOR_GP, 0);
}

TEST(segments_are_popped)
{
    reset();
    regs[REG_RSP] = DEVICE;
    put_device(0xffff0000 | S_DATA, S_DATA);
    CHECK_EQ(AT_DEVICE("\x0f\xa1", R), ACTION_NEXT); // pop fs
    CHECK_EQ(segments[SEG_FS].selector, S_DATA);
    CHECK_EQ(regs[REG_RSP], DEVICE + 8);
    segments[SEG_CS].access = CODE32;
    CHECK_EQ(AT_DEVICE("\x66\x07", R), ACTION_NEXT); // pop es, 2 bytes
    CHECK_EQ(segments[SEG_ES].selector, S_DATA);
    CHECK_EQ(regs[REG_RSP], DEVICE + 10);
    put_device(S_DATA, 0);
    regs[REG_RSP] = DEVICE;
    CHECK_EQ(AT_DEVICE("\x17", R), ACTION_RETRY); // pop ss
    CHECK_EQ(segments[SEG_SS].selector, S_DATA);
    CHECK_EQ(regs[REG_INTERRUPTIBILITY], BLOCKED_MOV_SS);
    CHECK_EQ(regs[REG_RIP], CODE + 1);
    CHECK_EQ(regs[REG_RSP], DEVICE + 4);
    put_device(S_ABSENT, 0);
    regs[REG_RSP] = DEVICE;
    check_fault(AT_DEVICE("\x1f", R), VECTOR_NP, S_ABSENT); // pop ds
    CHECK_EQ(regs[REG_RSP], DEVICE);
}

TEST(popping_ss_moves_the_former_stack_pointer)
{
    reset();
    segments[SEG_CS].access = CODE32;
    segments[SEG_SS].access = DATA & ~(u32)SEGMENT_DB; // 16 bits of SP, before
    segments[SEG_SS].base = DEVICE;
    regs[REG_RSP] = 0x1fffe;
    segments[SEG_SS].base = DEVICE - 0xfffe;
    put_device(S_DATA, 0);
    CHECK_EQ(AT_DEVICE("\x66\x17", R), ACTION_RETRY);
    CHECK_EQ(regs[REG_RSP], 0x10000);
}

TEST(pointers_are_loaded)
{
    reset();
    put_device(0x1122334455667788, S_DATA);
    CHECK_EQ(AT_DEVICE("\x48\x0f\xb5\x0f", R), ACTION_NEXT); // lgs rcx, [rdi]
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0x1122334455667788);
    CHECK_EQ(segments[SEG_GS].selector, S_DATA);
    put_device(0x55667788 | (u64)S_DATA << 32, 0);
    vcpu.gpr[GPR_RCX] = ~0ull;
    CHECK_EQ(AT_DEVICE("\x0f\xb2\x0f", R), ACTION_NEXT); // lss ecx, [rdi]: no shadow
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0x55667788);
    CHECK_EQ(regs[REG_INTERRUPTIBILITY], 0);
    segments[SEG_CS].access = CODE32;
    put_device(0x5678 | S_DATA << 16, 0);
    CHECK_EQ(AT_DEVICE("\x66\xc5\x0f", R), ACTION_NEXT); // lds cx, [edi]
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0x55665678);
    CHECK_EQ(segments[SEG_DS].selector, S_DATA);
    put_device(0x5555 | S_TSS << 16, 0);
    check_fault(AT_DEVICE("\x66\xc4\x0f", R), VECTOR_GP, S_TSS); // les cx, [edi]
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0x55665678);
    segments[SEG_ES] = (struct segment){.limit = 0xffff, .access = 0x93};
    regs[REG_CR0] = 0;
    regs[REG_EFER] = 0;
    CHECK_EQ(AT_DEVICE("\x66\xc4\x0f", R), ACTION_NEXT);
    CHECK_EQ(segments[SEG_ES].base, S_TSS << 4);
}

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
    put_device(0x1234 | (u64)S_USER << 32, 0);
    CHECK_EQ(AT_DEVICE("\xcb", R), ACTION_STOP); // to an outer level
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

TEST(a_table_of_64_bits_whatever_the_operand_size)
{
    reset();
    put_device(0x12345678abcdf234, 0);
    CHECK_EQ(AT_DEVICE("\x66\x0f\x01\x17", R), ACTION_NEXT);
    CHECK_EQ(segments[SEG_GDTR].base, 0x12345678abcd);
}
