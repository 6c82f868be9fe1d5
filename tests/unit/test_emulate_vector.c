// SPDX-License-Identifier: MIT
// Vector, MMX and x87 registers from and to a device's memory.
#include "tests/unit/emulate_rig.h"

TEST(mmx_registers_and_halves_of_vectors)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RDI] = DEVICE;
    memset(mmx[3], 0x33, 8);
    CHECK_EQ(EMULATE("\x0f\x7f\x1f", DEVICE, W), ACTION_NEXT); // movq [rdi], mm3
    CHECK(memcmp(device, mmx[3], 8) == 0);
    CHECK_EQ(EMULATE("\x0f\x6e\x2f", DEVICE, R), ACTION_NEXT); // movd mm5, [rdi]
    CHECK(mmx[5][3] == 0x33 && mmx[5][4] == 0);
    mmx_faults = true;
    CHECK_EQ(EMULATE("\x0f\x6f\x07", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_MF);
    mmx_faults = false;
    memset(vectors[1], 0x11, 16);
    CHECK_EQ(EMULATE("\x0f\x16\x0f", DEVICE, R), ACTION_NEXT); // movhps xmm1, [rdi]
    CHECK(vectors[1][7] == 0x11 && vectors[1][8] == 0x33);
    CHECK_EQ(EMULATE("\x0f\x13\x0f", DEVICE, W), ACTION_NEXT); // movlps [rdi], xmm1
    CHECK_EQ(device[0], 0x11);
}

TEST(vector_moves)
{
    fake_guest_reset();
    vcpu.xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    for (unsigned i = 0; i < 64; i++)
        device[i] = (u8)(i + 1);
    memset(vectors, 0xee, sizeof(vectors));
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\x0f\x28\x0f", DEVICE, R), ACTION_NEXT); // movaps xmm1, [rdi]
    CHECK(memcmp(vectors[1], device, 16) == 0 && vectors[1][16] == 0xee);
    CHECK_EQ(EMULATE("\x66\x44\x0f\x6e\x0f", DEVICE, R), ACTION_NEXT); // movd xmm9, [rdi]
    CHECK(vectors[9][3] == 4 && vectors[9][4] == 0 && vectors[9][15] == 0 &&
          vectors[9][16] == 0xee);
    CHECK_EQ(EMULATE("\xf2\x0f\x10\x17", DEVICE, R), ACTION_NEXT); // movsd xmm2, [rdi]
    CHECK(vectors[2][7] == 8 && vectors[2][8] == 0);
    CHECK_EQ(EMULATE("\xc5\xfa\x6f\x1f", DEVICE, R), ACTION_NEXT); // vmovdqu xmm3, [rdi]
    CHECK(vectors[3][15] == 16 && vectors[3][16] == 0);
    CHECK_EQ(EMULATE("\xc5\xfe\x6f\x27", DEVICE, R), ACTION_NEXT); // vmovdqu ymm4, [rdi]
    CHECK(memcmp(vectors[4], device, 32) == 0);
    CHECK_EQ(EMULATE("\xc5\xfe\x7f\x67\x40", DEVICE + 0x40, W),
             ACTION_NEXT); // vmovdqu [rdi + 64], ymm4
    CHECK(memcmp(device + 0x40, vectors[4], 32) == 0);
    CHECK_EQ(EMULATE("\x66\x0f\xd6\x8f\x80\x00\x00\x00", DEVICE + 0x80, W),
             ACTION_NEXT); // movq [], xmm1
    CHECK(memcmp(device + 0x80, vectors[1], 8) == 0 && device[0x88] == 0);
    vcpu.gpr[GPR_RDI] = DEVICE + 0xffc; // the end of the device: half of it elsewhere
    CHECK_EQ(EMULATE("\xf3\x0f\x7f\x0f", DEVICE + 0xffc, W), ACTION_NEXT);
    CHECK(memcmp(device + 0xffc, vectors[1], 4) == 0 && holes > 0);
    vcpu.xcr0 = XCR0_X87;
    CHECK_EQ(EMULATE("\xc5\xfe\x6f\x27", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_UD);
}

static void vectors_reset(void)
{
    fake_guest_reset();
    vcpu.xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    vcpu.gpr[GPR_RDI] = DEVICE;
    for (unsigned i = 0; i < 64; i++)
        device[i] = (u8)(i + 1);
    for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++)
        memset(vectors[i], (int)(0xe0 + i), sizeof(vectors[i]));
}

TEST(one_part_of_a_vector)
{
    vectors_reset();
    CHECK_EQ(EMULATE("\xc5\xe8\x16\x0f", DEVICE, R), ACTION_NEXT); // vmovhps xmm1, xmm2, [rdi]
    CHECK(vectors[1][7] == 0xe2 && vectors[1][8] == 1 && vectors[1][15] == 8);
    CHECK_EQ(vectors[1][16], 0);
    CHECK_EQ(EMULATE("\x66\x0f\xc4\x1f\x0b", DEVICE, R), ACTION_NEXT); // pinsrw xmm3, [rdi], 11
    CHECK(vectors[3][5] == 0xe3 && vectors[3][6] == 1 && vectors[3][7] == 2);
    CHECK(vectors[3][8] == 0xe3 && vectors[3][16] == 0xe3);
    // vinsertf128 ymm1, ymm2, [rdi], 1
    CHECK_EQ(EMULATE("\xc4\xe3\x6d\x18\x0f\x01", DEVICE, R), ACTION_NEXT);
    CHECK(vectors[1][15] == 0xe2 && memcmp(vectors[1] + 16, device, 16) == 0);
    // vextractf128 [rdi + 40h], ymm1, 1
    CHECK_EQ(EMULATE("\xc4\xe3\x7d\x19\x4f\x40\x01", DEVICE + 0x40, W), ACTION_NEXT);
    CHECK(memcmp(device + 0x40, device, 16) == 0 && device[0x50] == 0);
    // pextrd [rdi + 60h], xmm1, 7
    CHECK_EQ(EMULATE("\x66\x0f\x3a\x16\x4f\x60\x07", DEVICE + 0x60, W), ACTION_NEXT);
    CHECK(device[0x60] == 0xe2 && device[0x63] == 0xe2 && device[0x64] == 0);
    CHECK_EQ(EMULATE("\x66\x0f\x13\x67\x70", DEVICE + 0x70, W), ACTION_NEXT); // movlpd [], xmm4
    CHECK(device[0x70] == 0xe4 && device[0x77] == 0xe4 && device[0x78] == 0);
}

TEST(all_parts_of_a_vector)
{
    vectors_reset();
    CHECK_EQ(EMULATE("\xc4\xe2\x7d\x18\x0f", DEVICE, R), ACTION_NEXT); // vbroadcastss ymm1, [rdi]
    for (unsigned i = 0; i < 32; i++)
        CHECK_EQ(vectors[1][i], i % 4 + 1);
    CHECK_EQ(EMULATE("\xc4\xe2\x79\x79\x17", DEVICE, R), ACTION_NEXT); // vpbroadcastw xmm2, [rdi]
    CHECK(vectors[2][14] == 1 && vectors[2][15] == 2 && vectors[2][16] == 0);
    CHECK_EQ(EMULATE("\xf2\x0f\x12\x1f", DEVICE, R), ACTION_NEXT); // movddup xmm3, [rdi]
    CHECK(vectors[3][8] == 1 && vectors[3][15] == 8 && vectors[3][16] == 0xe3);
    vcpu.xcr0 = XCR0_X87 | XCR0_SSE;
    CHECK_EQ(EMULATE("\xc4\xe2\x7d\x18\x0f", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_UD);
}

TEST(parts_of_a_vector_by_mask)
{
    vectors_reset();
    memset(vectors[2], 0, 32);
    vectors[2][7] = vectors[2][31] = 0x80; // parts 1 and 7
    // vmaskmovps ymm1, ymm2, [rdi]
    CHECK_EQ(EMULATE("\xc4\xe2\x6d\x2c\x0f", DEVICE, R), ACTION_NEXT);
    CHECK(vectors[1][3] == 0 && vectors[1][4] == 5 && vectors[1][7] == 8 && vectors[1][8] == 0);
    CHECK(vectors[1][27] == 0 && vectors[1][28] == 29 && vectors[1][31] == 32);
    CHECK_EQ(device_reads, 2);
    // vpmaskmovq [rdi + 40h], ymm2, ymm3: parts 0 and 3
    CHECK_EQ(EMULATE("\xc4\xe2\xed\x8e\x5f\x40", DEVICE + 0x40, W), ACTION_NEXT);
    CHECK(device[0x40] == 0xe3 && device[0x47] == 0xe3 && device[0x48] == 0 && device[0x57] == 0);
    CHECK(device[0x58] == 0xe3 && device[0x5f] == 0xe3 && device[0x60] == 0);
    vcpu.gpr[GPR_RDI] = 0x40000000 - 16; // the second half is not there: a fault if the mask has it
    CHECK_EQ(EMULATE("\xc4\xe2\x6d\x2c\x0f", 0x40000000 - 12, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.cr2, 0x40000000 + 12);
    vectors[2][31] = 0;
    CHECK_EQ(EMULATE("\xc4\xe2\x6d\x2c\x0f", 0x40000000 - 12, R), ACTION_NEXT);
    vcpu.gpr[GPR_RDI] = 0x40000000 - 28; // nothing is stored if one part faults
    memset(vectors[2], 0xff, 32);
    device_writes = 0;
    CHECK_EQ(EMULATE("\xc4\xe2\x6d\x2e\x1f", 0x40000000 - 28, W), ACTION_FAULT);
    CHECK_EQ(ex.fault.cr2, 0x40000000);
    CHECK_EQ(device_writes, 0);
}

// --- x87 ---

TEST(x87_loads)
{
    fake_guest_reset();
    x87_stores = false;
    vcpu.gpr[GPR_RDI] = DEVICE;
    for (unsigned i = 0; i < 16; i++)
        device[i] = (u8)(i + 1);
    CHECK_EQ(EMULATE("\xdd\x07", DEVICE, R), ACTION_NEXT); // fld qword [rdi]
    CHECK_EQ(x87_number, 0x28);
    CHECK(memcmp(x87_bytes, device, 8) == 0 && x87_bytes[8] != device[8]);
    CHECK_EQ(x87_instruction, CODE);
    CHECK_EQ(x87_address, DEVICE);
    CHECK_EQ(EMULATE("\xdb\x2f", DEVICE, R), ACTION_NEXT); // fld tbyte [rdi]
    CHECK_EQ(x87_number, 0x1d);
    CHECK(memcmp(x87_bytes, device, 10) == 0);
    CHECK_EQ(EMULATE("\xd8\x37", DEVICE, R), ACTION_NEXT); // fdiv dword [rdi]
    CHECK_EQ(x87_number, 0x06);
    x87_instruction = 0;
    CHECK_EQ(EMULATE("\xd9\x6f\x02", DEVICE + 2, R), ACTION_NEXT); // fldcw [rdi + 2]
    CHECK_EQ(x87_number, X87_FLDCW);
    CHECK(x87_bytes[0] == 3 && x87_bytes[1] == 4);
    CHECK_EQ(x87_instruction, 0);
}

TEST(x87_stores)
{
    fake_guest_reset();
    x87_stores = true;
    x87_fails = false;
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\xdb\x3f", DEVICE, W), ACTION_NEXT); // fstp tbyte [rdi]
    CHECK(device[0] == 0x1f && device[9] == 0x1f && device[10] == 0);
    CHECK_EQ(EMULATE("\xdf\x57\x20", DEVICE + 0x20, W), ACTION_NEXT); // fist word [rdi + 20h]
    CHECK(device[0x20] == 0x3a && device[0x21] == 0x3a && device[0x22] == 0);
    CHECK_EQ(EMULATE("\xd9\x7f\x30", DEVICE + 0x30, W), ACTION_NEXT); // fnstcw [rdi + 30h]
    CHECK_EQ(device[0x30], X87_FNSTCW);
    x87_fails = true; // an unmasked exception: nothing is stored
    CHECK_EQ(EMULATE("\xdd\x5f\x40", DEVICE + 0x40, W), ACTION_NEXT); // fstp qword [rdi + 40h]
    CHECK_EQ(device[0x40], 0);
    mmx_faults = false;
}

TEST(x87_exceptions_wait_for_the_next_instruction)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RDI] = DEVICE;
    mmx_faults = true;
    CHECK_EQ(EMULATE("\xdd\x07", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_MF);
    CHECK_EQ(EMULATE("\xd9\x2f", DEVICE, R), ACTION_FAULT); // fldcw
    CHECK_EQ(EMULATE("\xd9\x3f", DEVICE, W), ACTION_NEXT);  // fnstcw
    CHECK_EQ(EMULATE("\xdd\x3f", DEVICE, W), ACTION_NEXT);  // fnstsw
    mmx_faults = false;
}

TEST(a_store_of_what_looks_untouched_is_one)
{
    fake_guest_reset();
    x87_stores = x87_fails = false; // the bytes stay as they were
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\xdf\x17", DEVICE, W), ACTION_NEXT); // fist word [rdi]
    CHECK(device[0] == UNTOUCHED && device[1] == UNTOUCHED && device[2] == 0);
}

// Another of the guest's CPUs put the instruction there after this one had seen another.
TEST(registers_that_are_switched_off_are_not_touched)
{
    static const struct {
        const char *bytes;
        u64 cr0;
        u8 vector;
    } cases[] = {
        {"\x0f\x11\x0f", CR0_TS, VECTOR_NM}, // movups [rdi], xmm1
        {"\x0f\x11\x0f", CR0_EM | CR0_TS, VECTOR_UD},
        {"\x0f\x7f\x0f", CR0_TS, VECTOR_NM}, // movq [rdi], mm1
        {"\x0f\x17\x0f", CR0_TS, VECTOR_NM}, // movhps [rdi], xmm1
        {"\xd9\x17\x90", CR0_TS, VECTOR_NM}, // fst dword [rdi]; nop
        {"\xd9\x17\x90", CR0_EM, VECTOR_NM},
    };
    x87_stores = true;
    x87_fails = false;
    memset(vectors, 0xee, sizeof(vectors));
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        fake_guest_reset();
        vcpu.gpr[GPR_RDI] = DEVICE;
        regs[REG_CR0] |= cases[i].cr0;
        CHECK_EQ(emulate(cases[i].bytes, 3, DEVICE, W), ACTION_FAULT);
        CHECK_EQ(ex.fault.vector, cases[i].vector);
        CHECK_EQ(device[0], 0);
    }
}

TEST(x87_environments_are_not_moved)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\xd9\x37", DEVICE, W), ACTION_STOP); // fnstenv
    CHECK_EQ(EMULATE("\xdd\x27", DEVICE, R), ACTION_STOP); // frstor
}

TEST(an_fpu_to_be_emulated_says_nothing_about_avx)
{
    fake_guest_reset();
    vcpu.xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    vcpu.gpr[GPR_RDI] = DEVICE;
    memset(vectors[1], 0x11, 16);
    regs[REG_CR0] |= CR0_EM;
    CHECK_EQ(EMULATE("\xc5\xf8\x11\x0f", DEVICE, W), ACTION_NEXT); // vmovups [rdi], xmm1
    CHECK(memcmp(device, vectors[1], 16) == 0);
    regs[REG_CR0] |= CR0_TS;
    CHECK_EQ(EMULATE("\xc5\xf8\x11\x0f", DEVICE, W), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_NM);
}
