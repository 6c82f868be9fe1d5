// SPDX-License-Identifier: MIT
// String instructions: budgets, faults in the middle, ports.
#include "tests/unit/emulate_rig.h"

TEST(long_strings_take_several_exits)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RCX] = 600;
    vcpu.gpr[GPR_RDI] = DEVICE;
    vcpu.gpr[GPR_RSI] = 0x20000;
    memset(ram + 0x20000, 0x5a, 600);
    CHECK_EQ(EMULATE("\xf3\xa4", DEVICE, W), ACTION_RETRY);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 600 - ELEMENTS_PER_EXIT);
    CHECK_EQ(vcpu.gpr[GPR_RDI], DEVICE + ELEMENTS_PER_EXIT);
    CHECK_EQ(EMULATE("\xf3\xa4", DEVICE, W), ACTION_RETRY);
    CHECK_EQ(EMULATE("\xf3\xa4", DEVICE, W), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0);
    CHECK(device[599] == 0x5a && device[600] == 0);
    CHECK_EQ(EMULATE("\xf3\xa4", DEVICE, W), ACTION_NEXT); // count 0: nothing
    CHECK_EQ(vcpu.gpr[GPR_RSI], 0x20000 + 600);
}

TEST(a_long_string_leaves_when_its_time_is_over)
{
    fake_guest_reset();
    vcpu.run_until = 0;
    vcpu.gpr[GPR_RCX] = 2 * ELEMENTS_PER_LOOK;
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\xf3\xaa", DEVICE, W), ACTION_RETRY); // rep stosb
    CHECK_EQ(vcpu.gpr[GPR_RCX], ELEMENTS_PER_LOOK);
    CHECK_EQ(EMULATE("\xf3\xaa", DEVICE, W), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RDI], DEVICE + 2 * ELEMENTS_PER_LOOK);
}

TEST(an_unfinished_string_resumes_without_its_breakpoint)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RCX] = ELEMENTS_PER_EXIT + 1;
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\xf3\xaa", DEVICE, W), ACTION_RETRY); // rep stosb
    CHECK_EQ(regs[REG_RFLAGS], RFLAGS_RESERVED | RFLAGS_RF);
}

TEST(a_single_step_trap_comes_behind_each_element)
{
    fake_guest_reset();
    regs[REG_RFLAGS] |= RFLAGS_TF;
    vcpu.gpr[GPR_RCX] = 3;
    vcpu.gpr[GPR_RDI] = DEVICE;
    for (unsigned left = 2; left; left--) {
        regs[REG_RIP] = 0;
        CHECK_EQ(EMULATE("\xf3\xaa", DEVICE, W), ACTION_RETRY);
        CHECK_EQ(vcpu.gpr[GPR_RCX], left);
        CHECK_EQ(regs[REG_RIP], CODE); // skipped to itself, which raises the trap
        CHECK(regs[REG_RFLAGS] & RFLAGS_RF);
    }
    CHECK_EQ(EMULATE("\xf3\xaa", DEVICE, W), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0);
}

TEST(a_string_stops_where_it_faults)
{
    fake_guest_reset();
    // 4 KiB pages: 0x40000000 is the device, the page after it is not present.
    put64(PAGES + 0x1008, 0x4000 | PTE_FLAGS);
    put64(0x4000, 0x5000 | PTE_FLAGS);
    put64(0x5000, DEVICE | PTE_FLAGS);
    vcpu.gpr[GPR_RCX] = 10;
    vcpu.gpr[GPR_RAX] = 0x11223344;
    vcpu.gpr[GPR_RDI] = 0x40000ff8;
    memcpy(ram + CODE, "\xf3\xab", 2);
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = CODE};
    ex.memory.gpa = DEVICE + 0xff8;
    ex.memory.gva = 0x40000ff8;
    ex.memory.gva_valid = true;
    ex.memory.access = W;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_PF);
    CHECK_EQ(ex.fault.error, PF_WRITE);
    CHECK(ex.fault.has_cr2 && ex.fault.cr2 == 0x40001000);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 8);
    CHECK_EQ(vcpu.gpr[GPR_RDI], 0x40001000);
    CHECK_EQ(device[0xffc], 0x44);
}

TEST(strings_on_ports)
{
    fake_guest_reset();
    ex = (struct vm_exit){.kind = EXIT_IO, .rip = CODE};
    ex.io.port = 0x1f0;
    ex.io.size = 2;
    ex.io.string = true;
    memcpy(ram + CODE, "\xf3\x66\x6d", 3); // rep insw
    vcpu.gpr[GPR_RCX] = 3;
    vcpu.gpr[GPR_RDI] = 0x20000;
    port_value = 0x1234;
    port_reads = port_writes = 0;
    CHECK_EQ(emulate_string_io(&vcpu, &ex), ACTION_NEXT);
    CHECK_EQ(ex.length, 3);
    CHECK_EQ(port_reads, 3);
    CHECK_EQ(vcpu.gpr[GPR_RDI], 0x20006);
    CHECK(ram[0x20000] == 0x34 && ram[0x20001] == 0x12 && ram[0x20004] == 0x36);
    ex.io.write = true;
    ex.io.size = 1;
    memcpy(ram + CODE, "\x6e", 1); // outsb
    vcpu.gpr[GPR_RSI] = 0x20004;
    CHECK_EQ(emulate_string_io(&vcpu, &ex), ACTION_NEXT);
    CHECK_EQ(port_value, 0x36);
    CHECK_EQ(vcpu.gpr[GPR_RSI], 0x20005);
    ex.io.write = false; // the code changed under way: let the CPU decide again
    CHECK_EQ(emulate_string_io(&vcpu, &ex), ACTION_RETRY);
    // A fault comes before the port is read.
    memcpy(ram + CODE, "\x6c", 1); // insb
    vcpu.gpr[GPR_RDI] = 0x7f0000000000;
    port_reads = 0;
    CHECK_EQ(emulate_string_io(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(port_reads, 0);
}
