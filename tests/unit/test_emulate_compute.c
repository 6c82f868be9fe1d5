// SPDX-License-Identifier: MIT
// Instructions that are run on a copy of their operand, by the CPU of this machine.
#include <sys/mman.h>
#define TEST_RUNS_INSTRUCTIONS
#include "tests/unit/emulate_rig.h"

unsigned native_call(struct native *n, const void *slot);

static u8 made[16]; // what was run
static unsigned made_length;
static u8 xmm[2][16];

unsigned native_run(struct native *n, const u8 *code, unsigned length)
{
    static u8 *slot;
    if (!slot)
        slot = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                    0);
    memcpy(made, code, length);
    made_length = length;
    native_runs++;
    if (native_vector)
        return native_vector;
    memcpy(slot, code, length);
    slot[length] = 0xc3;
    u32 host, guest = 0x1f80;
    unsigned result;
    __asm__ volatile("stmxcsr %0\n ldmxcsr %1" : "=m"(host) : "m"(guest));
    __asm__ volatile("movdqu %0, %%xmm0\n movdqu %1, %%xmm1" : : "m"(xmm[0]), "m"(xmm[1]));
    result = native_call(n, slot);
    __asm__ volatile("movdqu %%xmm0, %0\n movdqu %%xmm1, %1\n" : "=m"(xmm[0]), "=m"(xmm[1]));
    __asm__ volatile("ldmxcsr %0" : : "m"(host));
    return result;
}

static void reset(u64 operand)
{
    fake_guest_reset();
    memcpy(device, &operand, sizeof(operand));
    vcpu.gpr[GPR_RDI] = DEVICE;
    native_vector = 0;
    regs[REG_CR4] |= CR4_OSXMMEXCPT;
}

#define AT_DEVICE(code) EMULATE(code, DEVICE, R)

TEST(instructions_of_bmi)
{
    if (!__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2"))
        return;
    reset(0x0ff0ff0f);
    vcpu.gpr[GPR_RCX] = 0x0f0f0f0f;
    vcpu.gpr[GPR_RAX] = ~0ull;
    CHECK_EQ(AT_DEVICE("\xc4\xe2\x70\xf2\x07"), ACTION_NEXT); // andn eax, ecx, [rdi]
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x00f0f000);
    vcpu.gpr[GPR_RCX] = 4;
    CHECK_EQ(AT_DEVICE("\xc4\xe2\x71\xf7\x07"), ACTION_NEXT); // shlx eax, [rdi], ecx
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0xff0ff0f0);
    CHECK_EQ(AT_DEVICE("\xc4\xe3\x7b\xf0\x07\x08"), ACTION_NEXT); // rorx eax, [rdi], 8
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x0f0ff0ff);
    vcpu.gpr[GPR_RDX] = 0x100;
    CHECK_EQ(AT_DEVICE("\xc4\xe2\x73\xf6\x1f"), ACTION_NEXT); // mulx ebx, ecx, [rdi]
    CHECK_EQ(vcpu.gpr[GPR_RBX], 0x0f);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0xf0ff0f00);
    CHECK_EQ(AT_DEVICE("\xc4\xe2\x78\xf3\x1f"), ACTION_NEXT); // blsi eax, [rdi]
    CHECK_EQ(vcpu.gpr[GPR_RAX], 1);
    CHECK(regs[REG_RFLAGS] & RFLAGS_CF);
}

TEST(sums_and_checksums)
{
    reset(5);
    vcpu.gpr[GPR_RAX] = 0;
    CHECK_EQ(AT_DEVICE("\xf2\x0f\x38\xf0\x07"), ACTION_NEXT); // crc32 eax, byte [rdi]
    u32 crc = 5;
    for (unsigned i = 0; i < 8; i++)
        crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
    CHECK_EQ(vcpu.gpr[GPR_RAX], crc);
    vcpu.gpr[GPR_RAX] = 0xfffffffa;
    regs[REG_RFLAGS] = RFLAGS_RESERVED | RFLAGS_IF | RFLAGS_CF;
    CHECK_EQ(AT_DEVICE("\x66\x0f\x38\xf6\x07"), ACTION_NEXT); // adcx eax, [rdi]
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0);
    CHECK_EQ(regs[REG_RFLAGS], RFLAGS_RESERVED | RFLAGS_IF | RFLAGS_CF);
}

TEST(registers_of_all_numbers_reach_the_instruction)
{
    for (unsigned i = 0; i < 16; i++) {
        u8 code[] = {0xf2, 0x48, 0x0f, 0x38, 0xf1, 0x07}; // crc32 rI, qword [rdi]
        if (i == GPR_RSP)
            continue;
        reset(0);
        for (unsigned r = 0; r < 16; r++)
            vcpu.gpr[r] = 0x100 + r;
        vcpu.gpr[GPR_RDI] = DEVICE + 0x38;
        vcpu.gpr[i] = i == GPR_RDI ? DEVICE + 0x38 : 0;
        if (i >= 8)
            code[1] |= 4;
        code[5] |= (u8)((i & 7) << 3);
        CHECK_EQ(emulate(code, sizeof(code), DEVICE + 0x38, R), ACTION_NEXT);
        for (unsigned r = 0; r < 16; r++)
            if (r != i && r != GPR_RDI && r != GPR_RSP)
                CHECK_EQ(vcpu.gpr[r], 0x100 + r);
        CHECK(i == GPR_RDI || vcpu.gpr[i] == 0);
    }
}

TEST(vector_arithmetic)
{
    const u32 a[4] = {1, 2, 3, 4}, b[4] = {10, 20, 30, 40};
    u32 sum[4];
    double number = -7.9;
    reset(0);
    memcpy(xmm[1], a, 16);
    memcpy(device + 0x10, b, 16);
    CHECK_EQ(EMULATE("\x66\x0f\xfe\x4f\x10", DEVICE + 0x10, R), ACTION_NEXT); // paddd xmm1, [...]
    memcpy(sum, xmm[1], 16);
    CHECK(sum[0] == 11 && sum[1] == 22 && sum[2] == 33 && sum[3] == 44);
    memcpy(device, &number, 8);
    CHECK_EQ(AT_DEVICE("\xf2\x0f\x2c\x07"), ACTION_NEXT); // cvttsd2si eax, [rdi]
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0xfffffff9);
    memcpy(xmm[0], &number, 8);
    regs[REG_RFLAGS] = RFLAGS_RESERVED;
    CHECK_EQ(AT_DEVICE("\x66\x0f\x2e\x07"), ACTION_NEXT); // ucomisd xmm0, [rdi]
    CHECK_EQ(regs[REG_RFLAGS], RFLAGS_RESERVED | RFLAGS_ZF);
}

TEST(the_control_register_of_sse)
{
    reset(0xffffffff00000000);
    CHECK_EQ(EMULATE("\x0f\xae\x1f", DEVICE, W), ACTION_NEXT); // stmxcsr [rdi]
    CHECK(device[0] == 0x80 && device[1] == 0x1f && device[3] == 0 && device[4] == 0xff);
    CHECK_EQ(device_reads, 0);
    CHECK_EQ(AT_DEVICE("\x0f\xae\x17"), ACTION_NEXT); // ldmxcsr [rdi]
}

static bool made_is(const char *code, unsigned length)
{
    return made_length == length && !memcmp(made, code, length);
}
#define MADE_IS(code) made_is(code, sizeof(code) - 1)

TEST(only_the_address_is_another_one)
{
    reset(0);
    native_vector = VECTOR_GP; // nothing is run
    vcpu.gpr[GPR_RCX] = 4;
    segments[SEG_FS].base = 0x30;
    vcpu.gpr[15] = DEVICE;
    // fs pcmpistri xmm9, [r15d + ecx*4 - 48], 7
    EMULATE("\x64\x67\x66\x45\x0f\x3a\x63\x4c\x8f\xd0\x07", DEVICE + 0x10, R);
    CHECK(MADE_IS("\x66\x44\x0f\x3a\x63\x8c\x24\x58\0\0\0\x07"));
    vcpu.gpr[GPR_RDI] = DEVICE + 0xfff;
    put64(PAGES + 0x1000, 0 | PTE_FLAGS | PTE_BIG);
    EMULATE("\xc4\xe2\x70\xf2\x07", DEVICE + 0xfff, R);
    CHECK(MADE_IS("\xc4\xe2\x70\xf2\x84\x24\x87\0\0\0")); // 63 bytes behind a boundary
}

TEST(bits_that_other_modes_ignore)
{
    protected_mode();
    native_vector = VECTOR_GP;
    vcpu.gpr[GPR_RDI] = DEVICE;
    AT_DEVICE("\xc4\xe2\xb0\xf2\x07"); // andn eax, ecx, [edi], with W and the high bit of vvvv
    CHECK(MADE_IS("\xc4\xe2\x70\xf2\x84\x24\x48\0\0\0"));
    AT_DEVICE("\xc4\xe2\xf1\x98\x07"); // vfmadd132pd xmm0, xmm1, [edi]: W counts
    CHECK(MADE_IS("\xc4\xe2\xf1\x98\x84\x24\x48\0\0\0"));
    AT_DEVICE("\xc4\xe3\x71\x4a\x07\x20"); // vblendvps xmm0, xmm1, [edi], xmm2
    CHECK(MADE_IS("\xc4\xe3\x71\x4a\x84\x24\x48\0\0\0\x20"));
    AT_DEVICE("\xc4\xe1\xfa\x2a\x07"); // vcvtsi2ss xmm0, xmm0, dword [edi], with W
    CHECK(MADE_IS("\xc4\xe1\x7a\x2a\x84\x24\x48\0\0\0"));
    AT_DEVICE("\xc4\xe3\xf9\x61\x07\x0c"); // vpcmpestri xmm0, [edi], 12, with W: EAX, EDX
    CHECK(MADE_IS("\xc4\xe3\x79\x61\x84\x24\x48\0\0\0\x0c"));
    segments[SEG_CS].access = CODE16;
    CHECK_EQ(AT_DEVICE("\x67\xf2\x0f\x38\xf1\x07"), ACTION_STOP); // crc32 eax, word [edi]
}

TEST(what_cannot_be_relocated_ends_the_vm)
{
    reset(0);
    unsigned runs = native_runs;
    CHECK_EQ(AT_DEVICE("\xc4\xe2\x70\xf2\x27"), ACTION_STOP); // andn esp, ecx, [rdi]
    CHECK_EQ(AT_DEVICE("\x66\x66\x66\x66\x66\x66\x66\x0f\x3a\x63\x07\x07"), ACTION_STOP);
    CHECK_EQ(AT_DEVICE("\x0f\xae\x07"), ACTION_STOP);             // fxsave
    CHECK_EQ(AT_DEVICE("\xc4\xe2\x71\x92\x04\x17"), ACTION_STOP); // vgatherdps
    CHECK_EQ(native_runs, runs);
}

TEST(exceptions_of_the_instruction_are_the_guests)
{
    reset(0);
    native_vector = VECTOR_GP;
    CHECK_EQ(AT_DEVICE("\x66\x0f\xfe\x07"), ACTION_FAULT);
    CHECK(ex.fault.vector == VECTOR_GP && ex.fault.has_error && ex.fault.error == 0);
    native_vector = VECTOR_XM;
    CHECK_EQ(AT_DEVICE("\xf2\x0f\x58\x07"), ACTION_FAULT); // addsd
    CHECK(ex.fault.vector == VECTOR_XM && !ex.fault.has_error);
    regs[REG_CR4] &= ~CR4_OSXMMEXCPT;
    CHECK_EQ(AT_DEVICE("\xf2\x0f\x58\x07"), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_UD);
    native_vector = 0;
    regs[REG_CR0] |= CR0_TS;
    CHECK_EQ(AT_DEVICE("\xf2\x0f\x58\x07"), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_NM);
    CHECK_EQ(AT_DEVICE("\xf2\x0f\x38\xf1\x07"), ACTION_NEXT); // crc32
    regs[REG_CR0] &= ~CR0_TS;
    vcpu.gpr[GPR_RDI] = 0x7f0000000000;
    CHECK_EQ(EMULATE("\xf2\x0f\x58\x07", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_PF);
}
