// SPDX-License-Identifier: MIT
// Decoding into struct insn, and formatting.
#include "tests/unit/test.h"
#include "arch/x86_64/insn.c"
#include "arch/x86_64/insn_native.c"
#include "arch/x86_64/insn_table.c"

bool string_copy(char *to, size_t size, const char *from)
{
    return (size_t)snprintf(to, size, "%s", from) < size;
}

static struct insn decode(const char *bytes, unsigned length, unsigned mode)
{
    struct insn insn;
    memset(&insn, 0xff, sizeof(insn));
    CHECK(insn_decode((const u8 *)bytes, length, mode, &insn));
    CHECK_EQ(insn.length, length);
    CHECK_EQ(insn.mode_bits, mode);
    return insn;
}
#define DECODE(bytes, mode) decode(bytes, sizeof(bytes) - 1, mode)

TEST(load_and_store_of_a_device_register)
{
    struct insn i = DECODE("\x8b\x47\x20", 64); // mov eax, [rdi + 0x20]
    CHECK_EQ(i.op, INSN_MOV);
    CHECK_EQ(i.to.kind, INSN_OPERAND_REGISTER);
    CHECK_EQ(i.to.reg, 0);
    CHECK_EQ(i.to.size, 4);
    CHECK_EQ(i.from.kind, INSN_OPERAND_MEMORY);
    CHECK_EQ(i.from.size, 4);
    CHECK_EQ(i.base, 7);
    CHECK_EQ(i.index, INSN_REG_NONE);
    CHECK_EQ(i.segment, 3);
    CHECK_EQ(i.displacement, 0x20);
    CHECK_EQ(i.address_size, 8);

    i = DECODE("\x64\x4e\x89\xbc\xcb\xf0\xff\xff\xff", 64); // mov fs:[rbx + r9*8 - 16], r15
    CHECK_EQ(i.to.kind, INSN_OPERAND_MEMORY);
    CHECK_EQ(i.from.reg, 15);
    CHECK_EQ(i.from.size, 8);
    CHECK_EQ(i.segment, 4);
    CHECK_EQ(i.base, 3);
    CHECK_EQ(i.index, 9);
    CHECK_EQ(i.scale, 8);
    CHECK_EQ((u64)i.displacement, (u64)-16);
}

TEST(byte_registers)
{
    struct insn i = DECODE("\x8a\x27", 64); // mov ah, [rdi]
    CHECK(i.to.high);
    CHECK_EQ(i.to.reg, 0);
    i = DECODE("\x40\x8a\x27", 64); // mov spl, [rdi]
    CHECK(!i.to.high);
    CHECK_EQ(i.to.reg, 4);
    CHECK_EQ(i.to.size, 1);
    i = DECODE("\x44\x88\x37", 64); // mov [rdi], r14b
    CHECK_EQ(i.from.reg, 14);
}

TEST(immediates_are_sign_extended)
{
    struct insn i = DECODE("\x48\x81\x08\x00\x00\x00\x80", 64); // or qword [rax], -0x80000000
    CHECK_EQ(i.op, INSN_OR);
    CHECK_EQ(i.from.kind, INSN_OPERAND_IMMEDIATE);
    CHECK_EQ(i.immediate, 0xffffffff80000000ull);
    i = DECODE("\x83\x08\xff", 32); // or dword [eax], -1
    CHECK_EQ((u32)i.immediate, 0xffffffffu);
    CHECK_EQ(i.to.size, 4);
}

TEST(addresses_of_the_other_modes)
{
    struct insn i = DECODE("\x8b\x42\x10", 16); // mov ax, [bp + si + 0x10]
    CHECK_EQ(i.to.size, 2);
    CHECK_EQ(i.address_size, 2);
    CHECK_EQ(i.base, 5);
    CHECK_EQ(i.index, 6);
    CHECK_EQ(i.segment, 2);
    i = DECODE("\x67\x66\x8b\x04\x25\x00\x00\xe0\xfe", 16); // mov eax, [dword 0xfee00000]
    CHECK_EQ(i.address_size, 4);
    CHECK_EQ(i.base, INSN_REG_NONE);
    CHECK_EQ((u32)i.displacement, 0xfee00000u);
    i = DECODE("\x8b\x05\x00\x01\x00\x00", 64); // mov eax, [rip + 0x100]
    CHECK_EQ(i.base, INSN_REG_RIP);
    CHECK_EQ(i.displacement, 0x100);
    i = DECODE("\xa1\x00\x00\x00\x00\x80\x00\x00\x00", 64); // mov eax, [moffs 0x8000000000]
    CHECK_EQ(i.from.kind, INSN_OPERAND_MEMORY);
    CHECK_EQ(i.base, INSN_REG_NONE);
    CHECK_EQ(i.displacement, 0x8000000000ll);
}

TEST(strings)
{
    struct insn i = DECODE("\xf3\x65\xa5", 64); // rep movsd, source in gs
    CHECK_EQ(i.op, INSN_MOVS);
    CHECK_EQ(i.operand_size, 4);
    CHECK_EQ(i.prefixes, INSN_REP);
    CHECK_EQ(i.segment, 5);
    i = DECODE("\xf2\xae", 64); // repne scasb
    CHECK_EQ(i.op, INSN_SCAS);
    CHECK_EQ(i.prefixes, INSN_REPNE);
    CHECK_EQ(i.operand_size, 1);
    i = DECODE("\xf3\xa6", 32); // repe cmpsb
    CHECK_EQ(i.prefixes, INSN_REP);
    i = DECODE("\x67\x6f", 32); // outsd, 16-bit addresses
    CHECK_EQ(i.op, INSN_OUTS);
    CHECK_EQ(i.address_size, 2);
    CHECK_EQ(i.segment, 3);
    i = DECODE("\x6c", 64);
    CHECK_EQ(i.op, INSN_INS);
    CHECK_EQ(i.operand_size, 1);
    i = DECODE("\xf2\x0f\x10\x00", 64); // movsd xmm0, [rax]: the vector one
    CHECK_EQ(i.op, INSN_VECTOR);
    i = DECODE("\xf2\x0f\xc2\x00\x01", 64); // cmpsd xmm0, [rax], 1: no string, nor a move
    CHECK_EQ(i.op, INSN_NATIVE);
}

TEST(what_it_does_not_know_is_other)
{
    CHECK_EQ(DECODE("\x0f\xae\x00", 64).op, INSN_OTHER);                // fxsave [rax]
    CHECK_EQ(DECODE("\x07", 32).op, INSN_POP_SEGMENT);                  // pop es
    CHECK_EQ(DECODE("\x0f\x20\xc0", 64).from.kind, INSN_OPERAND_OTHER); // mov rax, cr0
    CHECK_EQ(DECODE("\xff\xe0", 64).op, INSN_OTHER);                    // jmp rax
    CHECK_EQ(DECODE("\x62\x00", 32).op, INSN_OTHER);                    // bound eax, [eax]
}

TEST(stack_instructions_need_no_memory)
{
    struct insn i = DECODE("\x6a\xf9", 64); // push -7
    CHECK_EQ(i.op, INSN_PUSH);
    CHECK_EQ(i.operand_size, 8);
    CHECK_EQ(i.immediate, (u64)-7);
    i = DECODE("\x68\xff\xff\xff\xff", 64); // push -1
    CHECK_EQ(i.immediate, ~0ull);
    i = DECODE("\x66\x5b", 32); // pop bx
    CHECK_EQ(i.op, INSN_POP);
    CHECK_EQ(i.operand_size, 2);
    i = DECODE("\xc2\x10\x00", 32); // ret 16
    CHECK_EQ(i.op, INSN_RET);
    CHECK_EQ(i.immediate, 16);
    CHECK_EQ(i.operand_size, 4);
    i = DECODE("\xc8\x38\x12\x02", 64); // enter 1238h, 2
    CHECK_EQ(i.op, INSN_ENTER);
    CHECK_EQ(i.displacement, 0x1238);
    CHECK_EQ(i.immediate, 2);
    i = DECODE("\xe8\xfe\xff\xff\xff", 64); // call -2
    CHECK_EQ(i.op, INSN_CALL);
    CHECK_EQ(i.immediate, (u64)-2);
    i = DECODE("\x0f\xa8", 64); // push gs
    CHECK_EQ(i.op, INSN_PUSH);
    CHECK_EQ(i.to.kind, INSN_OPERAND_SEGMENT);
    CHECK_EQ(i.to.reg, 5);
}

TEST(segments_tables_and_far_pointers)
{
    struct insn i = DECODE("\x8e\x10", 64); // mov ss, [rax]
    CHECK_EQ(i.op, INSN_MOV_SEGMENT);
    CHECK_EQ(i.to.reg, 2);
    i = DECODE("\x8c\x08", 64); // mov [rax], cs
    CHECK_EQ(i.op, INSN_MOV);
    CHECK_EQ(i.from.reg, 1);
    CHECK_EQ(i.to.size, 2);
    i = DECODE("\x0f\x01\x10", 64); // lgdt [rax]
    CHECK_EQ(i.op, INSN_LGDT);
    CHECK_EQ(i.to.size, 10);
    i = DECODE("\x0f\x01\x18", 32); // lidt [eax]
    CHECK_EQ(i.op, INSN_LIDT);
    CHECK_EQ(i.to.size, 6);
    i = DECODE("\x48\xff\x28", 64); // jmp far [rax]
    CHECK_EQ(i.op, INSN_JMP_FAR);
    CHECK_EQ(i.to.size, 10);
    i = DECODE("\xff\x18", 16); // call far [bx+si]
    CHECK_EQ(i.op, INSN_CALL_FAR);
    CHECK_EQ(i.to.size, 4);
}

TEST(conditions_and_counts_of_operands)
{
    struct insn i = DECODE("\x0f\x45\x00", 64); // cmovne eax, [rax]
    CHECK_EQ(i.op, INSN_CMOV);
    CHECK_EQ(i.condition, 5);
    CHECK_EQ(DECODE("\x0f\x9e\x00", 64).condition, 14); // setle [rax]
    i = DECODE("\x6b\x00\x33", 64);                     // imul eax, [rax], 51
    CHECK_EQ(i.op, INSN_IMUL);
    CHECK_EQ(i.operands, 3);
    CHECK_EQ(i.immediate, 51);
    i = DECODE("\x0f\x7f\x18", 64); // movq [rax], mm3
    CHECK_EQ(i.op, INSN_VECTOR);
    CHECK_EQ(i.from.kind, INSN_OPERAND_MMX);
    CHECK_EQ(i.from.reg, 3);
}

TEST(avx512_is_told_from_what_is_undefined)
{
    static const u8 evex[] = {0x67, 0x62, 0xf1, 0x7c, 0x48, 0x10, 0x00};
    static const u8 locked[] = {0xf0, 0x8b, 0x00};
    static const u8 prefixes_only[] = {0x66, 0x66};
    CHECK(insn_is_evex(evex, sizeof(evex)));
    CHECK(!insn_is_evex(locked, sizeof(locked)));
    CHECK(!insn_is_evex(prefixes_only, sizeof(prefixes_only)));
}

TEST(refuses_what_is_no_instruction)
{
    struct insn i;
    CHECK(!insn_decode((const u8 *)"\x8b", 1, 64, &i));
    CHECK(!insn_decode((const u8 *)"", 0, 64, &i));
    CHECK(!insn_decode((const u8 *)"\x90", 1, 48, &i));
    CHECK(!insn_decode((const u8 *)"\x0f\xff\xff\xff\xff", 1, 64, &i));
    CHECK(!insn_decode((const u8 *)"\xf0\x8b\x00", 3, 64, &i)); // lock mov
    u8 prefixes_only[16];
    memset(prefixes_only, 0x66, sizeof(prefixes_only));
    CHECK(!insn_decode(prefixes_only, sizeof(prefixes_only), 64, &i));
}

TEST(random_bytes_are_safe)
{
    u32 x = 12345;
    for (unsigned round = 0; round < 200000; round++) {
        u8 bytes[INSN_LENGTH_MAX];
        char text[64];
        for (unsigned i = 0; i < sizeof(bytes); i++)
            bytes[i] = (u8)((x = x * 1103515245 + 12345) >> 16);
        static const unsigned mode[] = {16, 32, 64};
        struct insn i;
        unsigned length = 1 + round % INSN_LENGTH_MAX;
        if (!insn_decode(bytes, length, mode[round % 3], &i))
            continue;
        CHECK(i.length && i.length <= length && i.op < INSN_OP_COUNT);
        CHECK(i.base <= INSN_REG_RIP && i.index <= INSN_REG_NONE && i.segment <= 5);
        CHECK(i.scale == 1 || i.scale == 2 || i.scale == 4 || i.scale == 8);
        if (round % 16 == 0)
            CHECK_EQ(insn_format(bytes, length, mode[round % 3], 0x1000, text, sizeof(text)),
                     i.length);
    }
}

TEST(formats)
{
    char text[64];
    CHECK_EQ(insn_format((const u8 *)"\x8b\x47\x20\x90", 4, 64, 0, text, sizeof(text)), 3);
    CHECK_STR(text, "mov eax, [rdi+0x20]");
    CHECK_EQ(insn_format((const u8 *)"\xeb\xfe", 2, 64, 0x1234, text, sizeof(text)), 2);
    CHECK_STR(text, "jmp 0x0000000000001234");
    CHECK_EQ(insn_format((const u8 *)"\x8b\x47\x20", 3, 64, 0, text, 8), 3);
    CHECK(strlen(text) < 8);
    CHECK_EQ(insn_format((const u8 *)"\x8b", 1, 64, 0, text, sizeof(text)), 0);
    CHECK_EQ(insn_format((const u8 *)"\x90", 1, 64, 0, text, 0), 0);
}

TEST(vector_registers_are_named_by_their_roles)
{
    CHECK_EQ(DECODE("\x0f\x16\x08", 64).immediate, 1);      // movhps xmm1, [rax]
    CHECK_EQ(DECODE("\x0f\x12\x08", 64).immediate, 0);      // movlps xmm1, [rax]
    struct insn i = DECODE("\xc4\xe3\x6d\x18\x0f\x01", 64); // vinsertf128 ymm1, ymm2, [rdi], 1
    CHECK_EQ(i.op, INSN_VECTOR_LANE);
    CHECK_EQ(i.to.reg, 1);
    CHECK_EQ(i.to.size, 32);
    CHECK_EQ(i.second, 2);
    CHECK_EQ(i.from.size, 16);
    CHECK_EQ(i.immediate, 1);
    i = DECODE("\x66\x0f\x3a\x22\x1f\x02", 64); // pinsrd xmm3, [rdi], 2
    CHECK_EQ(i.to.reg, 3);
    CHECK_EQ(i.second, 3);
    i = DECODE("\xc4\xe2\x6d\x2e\x1f", 64); // vmaskmovps [rdi], ymm2, ymm3
    CHECK_EQ(i.op, INSN_VECTOR_MASK);
    CHECK_EQ(i.to.kind, INSN_OPERAND_MEMORY);
    CHECK_EQ(i.second, 2);
    CHECK_EQ(i.from.reg, 3);
    CHECK_EQ(i.operand_size, 4);
    CHECK_EQ(DECODE("\x0f\xc4\x07\x00", 64).op, INSN_NATIVE);        // pinsrw mm0, [rdi], 0
    CHECK_EQ(DECODE("\xc4\xe2\x69\x92\x04\x0f", 64).op, INSN_OTHER); // vgatherdps
}

// What is emulated by running it must be an instruction: else the core would take the #UD.
TEST(reserved_x87_opcodes_are_none)
{
    static const u8 reserved[][2] = {{0xd9, 1}, {0xdb, 4}, {0xdb, 6}, {0xdd, 5}};
    for (unsigned i = 0; i < ARRAY_SIZE(reserved); i++) {
        const u8 bytes[] = {reserved[i][0], (u8)(reserved[i][1] << 3 | 6)};
        struct insn insn;
        CHECK(!insn_decode(bytes, sizeof(bytes), 64, &insn) || insn.op != INSN_X87);
    }
}
