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
