// SPDX-License-Identifier: MIT
// Instructions that use a stack, or branch through an operand, in a device's memory.
#include "tests/unit/emulate_rig.h"

TEST(push_and_pop_of_an_operand)
{
    fake_guest_reset();
    regs[REG_RSP] = 0x20008;
    vcpu.gpr[GPR_RDI] = DEVICE;
    memset(device, 0x44, 8);
    CHECK_EQ(EMULATE("\xff\x37", DEVICE, R), ACTION_NEXT); // push qword [rdi]
    CHECK_EQ(regs[REG_RSP], 0x20000);
    CHECK(ram[0x20000] == 0x44 && ram[0x20007] == 0x44);
    ram[0x20000] = 0x55;
    CHECK_EQ(EMULATE("\x8f\x47\x10", DEVICE + 0x10, W), ACTION_NEXT); // pop qword [rdi + 16]
    CHECK_EQ(regs[REG_RSP], 0x20008);
    CHECK(device[0x10] == 0x55 && device[0x17] == 0x44);
    regs[REG_RSP] = DEVICE - 8; // pop qword [rsp]: where RSP is afterwards
    put64(PAGES + 0x1000, 0 | PTE_FLAGS | PTE_BIG);
    CHECK_EQ(EMULATE("\x66\x8f\x04\x24", DEVICE, W), ACTION_NEXT);
    CHECK_EQ(regs[REG_RSP], DEVICE - 6);
    regs[REG_RSP] = 0x8000000000000000ull + 4;
    CHECK_EQ(EMULATE("\xff\x37", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_SS);
    CHECK_EQ(regs[REG_RSP], 0x8000000000000000ull + 4);
}

TEST(branches_through_an_operand)
{
    u64 target = 0x123456;
    fake_guest_reset();
    memcpy(device, &target, 8);
    regs[REG_RSP] = 0x20008;
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\xff\x17", DEVICE, R), ACTION_RETRY); // call [rdi]
    CHECK_EQ(regs[REG_RIP], target);
    CHECK_EQ(regs[REG_RSP], 0x20000);
    CHECK_EQ(ram[0x20000], (CODE + 2) & 0xff);
    CHECK_EQ(ram[0x20001], CODE >> 8);
    regs[REG_RIP] = 0;
    CHECK_EQ(EMULATE("\xff\x27", DEVICE, R), ACTION_RETRY); // jmp [rdi]
    CHECK_EQ(regs[REG_RIP], target);
    CHECK_EQ(regs[REG_RSP], 0x20000);
    device[7] = 0x80;
    CHECK_EQ(EMULATE("\xff\x17", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_GP);
    CHECK_EQ(regs[REG_RSP], 0x20000);
}

TEST(a_stack_in_a_device)
{
    fake_guest_reset();
    segments[SEG_FS].selector = 0x53;
    regs[REG_RSP] = DEVICE + 0x100;
    vcpu.gpr[GPR_RBX] = 0x1122334455667788;
    CHECK_EQ(EMULATE("\x6a\xf9", DEVICE + 0xf8, W), ACTION_NEXT); // push -7
    CHECK_EQ(EMULATE("\x53", DEVICE + 0xf0, W), ACTION_NEXT);     // push rbx
    CHECK_EQ(EMULATE("\x0f\xa0", DEVICE + 0xe8, W), ACTION_NEXT); // push fs
    CHECK_EQ(regs[REG_RSP], DEVICE + 0xe8);
    CHECK(device[0xf8] == 0xf9 && device[0xff] == 0xff);
    CHECK(memcmp(device + 0xf0, &vcpu.gpr[GPR_RBX], 8) == 0 && device[0xe8] == 0x53);
    CHECK_EQ(EMULATE("\x59", DEVICE + 0xe8, R), ACTION_NEXT); // pop rcx
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0x53);
    CHECK_EQ(EMULATE("\x66\x59", DEVICE + 0xf0, R), ACTION_NEXT); // pop cx
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0x7788);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0xf2);
    regs[REG_RSP] = DEVICE + 0xf0;
    CHECK_EQ(EMULATE("\x5c", DEVICE + 0xf0, R), ACTION_NEXT); // pop rsp
    CHECK_EQ(regs[REG_RSP], 0x1122334455667788);
}

TEST(calls_and_returns_with_a_stack_in_a_device)
{
    fake_guest_reset();
    regs[REG_RSP] = DEVICE + 0x100;
    CHECK_EQ(EMULATE("\xe8\xfe\xff\xff\xff", DEVICE + 0xf8, W), ACTION_RETRY); // call -2
    CHECK_EQ(regs[REG_RIP], CODE + 3);
    vcpu.gpr[GPR_RBX] = 0x4321;
    CHECK_EQ(EMULATE("\xff\xd3", DEVICE + 0xf0, W), ACTION_RETRY); // call rbx
    CHECK_EQ(regs[REG_RIP], 0x4321);
    CHECK_EQ(EMULATE("\xc3", DEVICE + 0xf0, R), ACTION_RETRY); // ret
    CHECK_EQ(regs[REG_RIP], CODE + 2);
    CHECK_EQ(EMULATE("\xc2\x10\x00", DEVICE + 0xf8, R), ACTION_RETRY); // ret 16
    CHECK_EQ(regs[REG_RIP], CODE + 5);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0x110);
    device[0x117] = 0x80;
    CHECK_EQ(EMULATE("\xc3", DEVICE + 0x110, R), ACTION_FAULT); // to nowhere canonical
    CHECK_EQ(ex.fault.vector, VECTOR_GP);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0x110);
}

TEST(frames_in_a_device)
{
    fake_guest_reset();
    regs[REG_RSP] = DEVICE + 0x100;
    vcpu.gpr[GPR_RBP] = 0xaa55aa55;
    CHECK_EQ(EMULATE("\xc8\x38\x02\x00", DEVICE + 0xf8, W), ACTION_NEXT); // enter 238h, 0
    CHECK_EQ(vcpu.gpr[GPR_RBP], DEVICE + 0xf8);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0xf8 - 0x238);
    CHECK_EQ(EMULATE("\xc9", DEVICE + 0xf8, R), ACTION_NEXT); // leave
    CHECK_EQ(vcpu.gpr[GPR_RBP], 0xaa55aa55);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0x100);
}

TEST(frames_within_frames)
{
    static const u64 outer[] = {0x2222, 0x1111}; // below RBP
    fake_guest_reset();
    regs[REG_RSP] = DEVICE + 0x100;
    vcpu.gpr[GPR_RBP] = 0x20010;
    memcpy(ram + 0x20000, outer, sizeof(outer));
    CHECK_EQ(EMULATE("\xc8\x40\x00\x23", DEVICE + 0xf8, W), ACTION_NEXT); // enter 40h, 3 (35)
    u64 frames[4];
    memcpy(frames, device + 0xe0, sizeof(frames));
    CHECK_EQ(frames[3], 0x20010);
    CHECK_EQ(frames[2], 0x1111);
    CHECK_EQ(frames[1], 0x2222);
    CHECK_EQ(frames[0], DEVICE + 0xf8);
    CHECK_EQ(vcpu.gpr[GPR_RBP], DEVICE + 0xf8);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0xe0 - 0x40);
    regs[REG_RSP] = DEVICE + 0x100;
    vcpu.gpr[GPR_RBP] = 0x10; // level 1 looks at no former frame
    CHECK_EQ(EMULATE("\xc8\x00\x00\x01", DEVICE + 0xf8, W), ACTION_NEXT);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0xf0);
    memcpy(frames, device + 0xf0, 16);
    CHECK_EQ(frames[0], DEVICE + 0xf8);
    CHECK_EQ(frames[1], 0x10);
    regs[REG_RSP] = DEVICE + 0x100;
    vcpu.gpr[GPR_RBP] = 0x7f0000000000;
    CHECK_EQ(EMULATE("\xc8\x00\x00\x02", DEVICE + 0xf8, W), ACTION_FAULT);
    CHECK_EQ(ex.fault.cr2, 0x7f0000000000 - 8);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0x100);
}

TEST(flags_are_pushed_and_popped)
{
    fake_guest_reset();
    regs[REG_RSP] = DEVICE + 0x100;
    regs[REG_RFLAGS] = RFLAGS_RESERVED | RFLAGS_CF | RFLAGS_RF;
    CHECK_EQ(EMULATE("\x9c", DEVICE + 0xf8, W), ACTION_NEXT); // pushfq
    CHECK_EQ(regs[REG_RSP], DEVICE + 0xf8);
    CHECK(device[0xf8] == 3 && device[0xfa] == 0);
    u64 all = ~0ull;
    memcpy(device + 0xf8, &all, 8);
    CHECK_EQ(EMULATE("\x9d", DEVICE + 0xf8, R), ACTION_RETRY); // popfq
    CHECK_EQ(regs[REG_RIP], CODE + 1);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0x100);
    CHECK_EQ(regs[REG_RFLAGS], 0x247fd7);
    segments[SEG_SS].access = DATA_USER;
    regs[REG_RFLAGS] = RFLAGS_RESERVED | RFLAGS_AC;
    memset(device, 0xff, 8);
    regs[REG_RSP] = DEVICE;
    CHECK_EQ(EMULATE("\x66\x9d", DEVICE, R), ACTION_RETRY); // popf of level 3, 16 bits
    CHECK_EQ(regs[REG_RFLAGS], 0x44dd7);
    CHECK_EQ(regs[REG_RSP], DEVICE + 2);
}

TEST(flags_in_virtual_8086_mode)
{
    protected_mode();
    segments[SEG_SS] = (struct segment){.access = DATA_USER, .limit = ~0u};
    regs[REG_RSP] = DEVICE + 0x100;
    regs[REG_RFLAGS] = RFLAGS_RESERVED | RFLAGS_VM;
    CHECK_EQ(EMULATE("\x9c", DEVICE + 0xfc, W), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_GP);
    regs[REG_RFLAGS] |= RFLAGS_IOPL;
    CHECK_EQ(EMULATE("\x9c", DEVICE + 0xfc, W), ACTION_NEXT);
    CHECK(device[0xfd] == 0x30 && device[0xfe] == 0);
    memset(device + 0xfc, 0, 4);
    CHECK_EQ(EMULATE("\x9d", DEVICE + 0xfc, R), ACTION_RETRY);
    CHECK_EQ(regs[REG_RFLAGS], RFLAGS_RESERVED | RFLAGS_VM | RFLAGS_IOPL);
}

TEST(all_registers_are_pushed_and_popped)
{
    protected_mode();
    segments[SEG_SS] = (struct segment){.access = DATA, .limit = ~0u};
    for (unsigned i = 0; i < 8; i++)
        vcpu_gpr_write(&vcpu, i, 0x11110000 + i);
    regs[REG_RSP] = DEVICE + 0x100;
    CHECK_EQ(EMULATE("\x60", DEVICE + 0xe0, W), ACTION_NEXT); // pusha
    CHECK_EQ(regs[REG_RSP], DEVICE + 0xe0);
    CHECK(device[0xe0] == GPR_RDI && device[0xfc] == GPR_RAX);
    CHECK(device[0xed] == 0x01 && device[0xef] == 0x10); // the former ESP
    device[0xe0] = 0x77;
    memset(device + 0xec, 0, 4);
    CHECK_EQ(EMULATE("\x61", DEVICE + 0xe0, R), ACTION_NEXT); // popa
    CHECK_EQ(vcpu.gpr[GPR_RDI], 0x11110077);
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x11110000);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0x100);
}
