// SPDX-License-Identifier: MIT
// Segment registers and descriptor tables with an operand in a device's memory, or with the table
// there: what is loaded and stored, and each fault with its error code.
#include "tests/unit/system_rig.h"

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

TEST(a_table_of_64_bits_whatever_the_operand_size)
{
    reset();
    put_device(0x12345678abcdf234, 0);
    CHECK_EQ(AT_DEVICE("\x66\x0f\x01\x17", R), ACTION_NEXT);
    CHECK_EQ(segments[SEG_GDTR].base, 0x12345678abcd);
}

// --- a descriptor table in a device ---

static void table_in_device(void)
{
    reset();
    memcpy(device, ram + GDT, GDT_LIMIT + 1);
    memset(ram + GDT + 8, 0, GDT_LIMIT - 7); // the first 8 bytes are a page table's
    segments[SEG_GDTR].base = DEVICE;
}

TEST(tables_in_a_device_are_read_and_marked)
{
    table_in_device();
    vcpu.gpr[GPR_RAX] = 0xabcd0000 | S_TSS;
    CHECK_EQ(EMULATE("\x0f\x00\xd8", DEVICE + S_TSS + 5, W), ACTION_NEXT); // ltr ax
    CHECK_EQ(segments[SEG_TR].base, HIGH_BASE);
    CHECK_EQ(segments[SEG_TR].access & 0x1f, 0xb);
    CHECK_EQ(device[S_TSS + 5], 0x8b);
    vcpu.gpr[GPR_RAX] = S_LDT;
    CHECK_EQ(EMULATE("\x0f\x00\xd0", DEVICE + S_LDT, R), ACTION_NEXT); // lldt ax
    CHECK_EQ(segments[SEG_LDTR].base, HIGH_BASE);
    vcpu.gpr[GPR_RAX] = S_DATA;
    CHECK_EQ(EMULATE("\x8e\xd8", DEVICE + S_DATA, R), ACTION_NEXT); // mov ds, eax
    CHECK_EQ(segments[SEG_DS].selector, S_DATA);
    CHECK_EQ(device[S_DATA + 5], 0x93);
    vcpu.gpr[GPR_RAX] = S_ABSENT;
    check_fault(EMULATE("\x8e\xd8", DEVICE + S_ABSENT, R), VECTOR_NP, S_ABSENT);
}

TEST(a_table_where_there_is_nothing_reads_as_ones)
{
    table_in_device();
    segments[SEG_GDTR].base = DEVICE + 0x100000; // a hole: it reads as ones
    vcpu.gpr[GPR_RAX] = S_DATA;
    check_fault(EMULATE("\x8e\xd0", DEVICE + 0x100000, R), VECTOR_GP, S_DATA); // code, to mov ss
    CHECK(holes);
}

TEST(far_branches_with_the_pointer_in_the_instruction)
{
    table_in_device();
    segments[SEG_CS].access = CODE32;
    segments[SEG_SS] = (struct segment){.access = DATA, .limit = ~0u};
    CHECK_EQ(EMULATE("\xea\x78\x56\x34\x12\x18\x00", DEVICE + S_CODE32, R), ACTION_RETRY);
    CHECK_EQ(regs[REG_RIP], 0x12345678);
    CHECK_EQ(segments[SEG_CS].selector, S_CODE32);
    CHECK_EQ(EMULATE("\x66\x9a\x78\x56\x18\x00", DEVICE + S_CODE32, R), ACTION_RETRY);
    CHECK_EQ(regs[REG_RIP], 0x5678);
    CHECK_EQ(regs[REG_RSP], STACK - 4);
    CHECK_EQ(ram[STACK - 4], (CODE + 6) & 0xff);
    check_fault(EMULATE("\xea\x78\x56\x34\x12\x10\x00", DEVICE + S_DATA, R), VECTOR_GP, S_DATA);
}

static bool zero_flag(void)
{
    return regs[REG_RFLAGS] & RFLAGS_ZF;
}

TEST(looks_at_descriptors)
{
    table_in_device();
    vcpu.gpr[GPR_RAX] = S_TSS;
    CHECK_EQ(EMULATE("\x0f\x02\xc8", DEVICE, R), ACTION_NEXT); // lar ecx, eax
    CHECK(zero_flag());
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0x8900);
    CHECK_EQ(EMULATE("\x0f\x03\xc8", DEVICE, R), ACTION_NEXT); // lsl ecx, eax
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0x67);
    vcpu.gpr[GPR_RAX] = S_CODE32;
    CHECK_EQ(EMULATE("\x0f\x02\xc8", DEVICE, R), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0xc09b00);
    CHECK_EQ(EMULATE("\x0f\x03\xc8", DEVICE, R), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0xffffffff);
    vcpu.gpr[GPR_RAX] = S_GATE; // a call gate has rights, but no limit
    CHECK_EQ(EMULATE("\x0f\x03\xc8", DEVICE, R), ACTION_NEXT);
    CHECK(!zero_flag());
    CHECK_EQ(EMULATE("\x0f\x02\xc8", DEVICE, R), ACTION_NEXT);
    CHECK(zero_flag());
    vcpu.gpr[GPR_RAX] = 0x1000; // outside of the table
    vcpu.gpr[GPR_RCX] = 7;
    CHECK_EQ(EMULATE("\x0f\x02\xc8", DEVICE, R), ACTION_NEXT);
    CHECK(!zero_flag());
    CHECK_EQ(vcpu.gpr[GPR_RCX], 7);
}

TEST(descriptors_that_may_be_read_or_written)
{
    static const struct {
        u16 selector;
        bool user, reads, writes;
    } rows[] = {
        {S_DATA, false, true, true},  {S_DATA | 3, false, false, false},
        {S_DATA, true, false, false}, {S_USER, true, true, true},
        {S_CODE, false, true, false}, {S_CONFORM, true, true, false},
        {S_TSS, false, false, false}, {3, false, false, false},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        table_in_device();
        segments[SEG_SS].access = rows[i].user ? DATA_USER : DATA;
        vcpu.gpr[GPR_RAX] = rows[i].selector;
        CHECK_EQ(EMULATE("\x0f\x00\xe0", DEVICE, R), ACTION_NEXT); // verr ax
        CHECK_EQ(zero_flag(), rows[i].reads);
        CHECK_EQ(EMULATE("\x0f\x00\xe8", DEVICE, R), ACTION_NEXT); // verw ax
        CHECK_EQ(zero_flag(), rows[i].writes);
    }
    regs[REG_CR0] = regs[REG_EFER] = 0;
    segments[SEG_CS] = (struct segment){.access = CODE16, .limit = 0xffff};
    check_fault(EMULATE("\x0f\x00\xe0", DEVICE, R), VECTOR_UD, 0);
}
