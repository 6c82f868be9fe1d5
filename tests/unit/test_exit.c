// SPDX-License-Identifier: MIT
// vmm/exit.c: what each kind of exit does to the vCPU and its machine, and which action it names.

#include "tests/unit/exit_rig.h"

#define GARBAGE 0xfedcba9800000000ull

TEST(every_kind_has_a_name_and_a_handler)
{
    for (unsigned i = 0; i < EXIT_KIND_COUNT; i++) {
        CHECK(handlers[i] != NULL);
        CHECK(exit_kind_name((enum exit_kind)i)[0] != '\0');
        for (unsigned j = 0; j < i; j++)
            CHECK(strcmp(exit_kind_name((enum exit_kind)i), exit_kind_name((enum exit_kind)j)) !=
                  0);
    }
    CHECK_STR(exit_kind_name(EXIT_KIND_COUNT), "?");
}

TEST(what_ended_the_run_from_outside_makes_the_loop_look_around)
{
    reset();
    CHECK(dispatch(EXIT_INTERRUPT) == ACTION_RETRY);
    CHECK_EQ(vcpu.run_until, 0);
    vcpu.run_until = 99;
    CHECK(dispatch(EXIT_TIMER) == ACTION_RETRY);
    CHECK_EQ(vcpu.run_until, 0);
    vcpu.run_until = 99;
    CHECK_EQ(gave_way, 0);
    CHECK(dispatch(EXIT_PAUSE) == ACTION_NEXT);
    CHECK_EQ(gave_way, 1);
    CHECK_EQ(vcpu.run_until, 0);
    CHECK_EQ(vcpu.requests, 0);
}

TEST(windows_ask_for_events)
{
    reset();
    CHECK(dispatch(EXIT_WINDOW) == ACTION_RETRY);
    CHECK_EQ(vcpu.requests, VCPU_REQUEST_EVENT);
    CHECK_EQ(nmi_windows_off, 0);
    vcpu.requests = 0;
    CHECK(dispatch(EXIT_NMI_WINDOW) == ACTION_RETRY);
    CHECK_EQ(vcpu.requests, VCPU_REQUEST_EVENT);
    CHECK_EQ(nmi_windows_off, 1);
}

TEST(cpuid_takes_low_halves_and_clears_high_ones)
{
    reset();
    vcpu.gpr[GPR_RAX] = GARBAGE | 0x40;
    vcpu.gpr[GPR_RCX] = GARBAGE | 7;
    vcpu.gpr[GPR_RBX] = vcpu.gpr[GPR_RDX] = ~0ull;
    CHECK(dispatch(EXIT_CPUID) == ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x40);
    CHECK_EQ(vcpu.gpr[GPR_RBX], 7);
    CHECK_EQ(vcpu.gpr[GPR_RCX], ~0x40u);
    CHECK_EQ(vcpu.gpr[GPR_RDX], ~7u);
}

TEST(hlt_halts_unless_there_is_an_event)
{
    reset();
    CHECK(dispatch(EXIT_HLT) == ACTION_NEXT);
    CHECK(vcpu.halted);
    CHECK_EQ(vcpu.requests, VCPU_REQUEST_EVENT);
}

TEST(port_reads_merge_into_rax)
{
    static const struct {
        u8 size;
        u64 rax;
    } cases[] = {
        {1, 0x1122334455667788ull & ~0xffull}, {2, 0x1122334455667788ull & ~0xffffull}, {4, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        reset();
        vcpu.gpr[GPR_RAX] = 0x1122334455667788ull;
        port_value = ~0ull; // a device that gives more than it was asked for
        exit_of.io.port = 0x3f8;
        exit_of.io.size = cases[i].size;
        CHECK(dispatch(EXIT_IO) == ACTION_NEXT);
        CHECK_EQ(vcpu.gpr[GPR_RAX], cases[i].rax | bytes_mask(cases[i].size));
        CHECK_EQ(port, 0x3f8);
        CHECK_EQ(port_size, cases[i].size);
        CHECK_EQ(port_writes, 0);
    }
}

TEST(port_writes_have_the_size_s_bytes)
{
    for (u8 size = 1; size <= 4; size = (u8)(size * 2)) {
        reset();
        vcpu.gpr[GPR_RAX] = 0x1122334455667788ull;
        exit_of.io.port = 0xffff;
        exit_of.io.size = size;
        exit_of.io.write = true;
        CHECK(dispatch(EXIT_IO) == ACTION_NEXT);
        CHECK_EQ(port_written, 0x1122334455667788ull & bytes_mask(size));
        CHECK_EQ(port, 0xffff);
        CHECK_EQ(vcpu.gpr[GPR_RAX], 0x1122334455667788ull);
    }
}

TEST(string_port_access_is_emulated)
{
    reset();
    exit_of.io.size = 1;
    exit_of.io.string = exit_of.io.write = true;
    CHECK(dispatch(EXIT_IO) == ACTION_RETRY);
    CHECK_EQ(emulated_strings, 1);
    CHECK_EQ(port_writes, 0);
}

TEST(msr_read_splits_the_value)
{
    reset();
    msr_value = 0x1122334455667788ull;
    vcpu.gpr[GPR_RAX] = vcpu.gpr[GPR_RDX] = ~0ull;
    exit_of.msr.index = GOOD_MSR;
    CHECK(dispatch(EXIT_MSR_READ) == ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x55667788);
    CHECK_EQ(vcpu.gpr[GPR_RDX], 0x11223344);
}

TEST(msr_access_that_is_refused_faults)
{
    reset();
    msr_value = 5;
    vcpu.gpr[GPR_RAX] = vcpu.gpr[GPR_RDX] = 77;
    exit_of.msr.index = GOOD_MSR + 1;
    exit_of.msr.value = 6;
    CHECK(faults(dispatch(EXIT_MSR_READ), VECTOR_GP, true));
    CHECK_EQ(vcpu.gpr[GPR_RAX], 77);
    CHECK_EQ(vcpu.gpr[GPR_RDX], 77);
    CHECK(faults(dispatch(EXIT_MSR_WRITE), VECTOR_GP, true));
    CHECK_EQ(msr_value, 5);
    exit_of.msr.index = GOOD_MSR;
    CHECK(dispatch(EXIT_MSR_WRITE) == ACTION_NEXT);
    CHECK_EQ(msr_value, 6);
}

TEST(hypercalls_are_unknown)
{
    reset();
    CHECK(dispatch(EXIT_HYPERCALL) == ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RAX], -1000ll);
}

TEST(memory_faults)
{
    reset();
    exit_of.memory.gpa = 0xd000;
    exit_of.memory.access = PAGE_WRITE;
    fault_result = GUEST_FAULT_MAPPED;
    CHECK(dispatch(EXIT_MEMORY) == ACTION_RETRY);
    CHECK_EQ(fault_access, PAGE_WRITE);
    CHECK_EQ(emulated, 0);
    fault_result = GUEST_FAULT_DEVICE;
    CHECK(dispatch(EXIT_MEMORY) == ACTION_NEXT);
    CHECK_EQ(emulated, 1);
    CHECK_EQ(exit_of.length, 3);
    CHECK(!killed[0]);
    fault_result = GUEST_FAULT_NO_MEMORY;
    CHECK(dispatch(EXIT_MEMORY) == ACTION_STOP);
    CHECK(killed[0]);
}

TEST(an_event_s_delivery_is_no_instruction_s_access)
{
    reset();
    exit_of.memory.gpa = 0xd000;
    vcpu.event.valid = true;
    fault_result = GUEST_FAULT_MAPPED; // its stack was not there yet: deliver again
    CHECK(dispatch(EXIT_MEMORY) == ACTION_RETRY);
    CHECK(vcpu.event.valid);
    fault_result = GUEST_FAULT_DEVICE;
    CHECK(dispatch(EXIT_MEMORY) == ACTION_STOP);
    CHECK(killed[0]);
    CHECK_EQ(emulated, 0);
    exit_of.memory.walk = true; // a page table in no memory is a page fault
    CHECK(dispatch(EXIT_MEMORY) == ACTION_NEXT);
    CHECK_EQ(emulated, 1);
}

TEST(wbinvd_does_nothing)
{
    reset();
    CHECK(dispatch(EXIT_WBINVD) == ACTION_NEXT);
    CHECK(!killed[0]);
}

TEST(undefined_instructions_fault)
{
    reset();
    CHECK(faults(dispatch(EXIT_UNDEFINED), VECTOR_UD, false));
}

TEST(intercepted_exceptions_go_back_as_they_were)
{
    reset();
    struct vcpu_event event = {
        .valid = true, .vector = VECTOR_DB, .type = EVENT_PRIVILEGED_SOFT_EXCEPTION, .length = 1};
    exit_of.event = event;
    CHECK(dispatch(EXIT_EXCEPTION) == ACTION_FAULT);
    CHECK_EQ(exit_of.fault.vector, VECTOR_DB);
    CHECK_EQ(exit_of.fault.type, EVENT_PRIVILEGED_SOFT_EXCEPTION);
    CHECK_EQ(exit_of.fault.length, 1);
    CHECK(exit_of.fault.valid && !exit_of.fault.has_error);
}

TEST(accesses_to_debug_registers_go_to_the_debugger_s_side)
{
    reset();
    debug_register_accesses = 0;
    CHECK(dispatch(EXIT_DR_ACCESS) == ACTION_NEXT);
    CHECK_EQ(debug_register_accesses, 1);
}

TEST(a_task_switch_is_carried_out)
{
    reset();
    task_switches = 0;
    CHECK(dispatch(EXIT_TASK_SWITCH) == ACTION_RETRY);
    CHECK_EQ(task_switches, 1);
}

TEST(what_no_machine_survives_stops_the_vm)
{
    static const enum exit_kind kinds[] = {EXIT_TRIPLE_FAULT, EXIT_ENTRY_FAILED, EXIT_UNKNOWN};
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        reset();
        CHECK(dispatch(kinds[i]) == ACTION_STOP);
        CHECK(killed[0]);
    }
    dispatch(EXIT_TRIPLE_FAULT);
    CHECK_STR(killed, "vCPU 0: an exception");
    exit_of.detail = 0xabc;
    dispatch(EXIT_UNKNOWN);
    CHECK(strstr(killed, "0xabc") != NULL);
}

TEST(hlt_goes_on_where_the_hardware_has_an_interrupt)
{
    reset();
    hardware_pending = true;
    CHECK(dispatch(EXIT_HLT) == ACTION_NEXT);
    CHECK(vcpu.halted); // the local APIC is software
    reset();
    vm.apic_hardware = true;
    CHECK(dispatch(EXIT_HLT) == ACTION_NEXT);
    CHECK(!vcpu.halted);
    hardware_pending = false;
    CHECK(dispatch(EXIT_HLT) == ACTION_NEXT);
    CHECK(vcpu.halted);
    vm.apic_hardware = false;
}

TEST(what_the_hardware_did_with_the_apic_goes_on)
{
    reset();
    exit_of.detail = 0x300;
    CHECK(dispatch(EXIT_APIC_WRITE) == ACTION_RETRY);
    CHECK_EQ(page_offset, 0x300);
    exit_of.detail = 0x45;
    CHECK(dispatch(EXIT_APIC_EOI) == ACTION_RETRY);
    CHECK_EQ(page_eoi, 0x45);
    exit_of.memory.walk = true;
    CHECK(dispatch(EXIT_APIC_ACCESS) == ACTION_RETRY);
    CHECK_EQ(page_drops, 1);
}
