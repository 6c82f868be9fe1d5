// SPDX-License-Identifier: MIT
// A debugger's stops, steps, breakpoints and debug registers, against an engine that does what the
// test says at each run.
#include "tests/unit/test.h"
#include "vmm/emulate/guest_walk.c"
#include "vmm/debug/debug.c"
#include "vmm/debug/debug_step.c"
#include "vmm/debug/debug_registers.c"
#include "vmm/debug/debug_memory.c"
#include "tests/unit/fake_debugged.h"

static struct vcpu *first = &vcpus[0];
static struct vm_exit exit_of;

static void reset(void)
{
    fake_debugged_reset();
    debug_forget();
    debug_begin(&vm, on_stop);
}

static void run(void)
{
    first->run_until = 99;
    first->ops->run(first, &exit_of, 10);
}

static void code(const char *bytes, unsigned count)
{
    memcpy(ram + CODE, bytes, count);
}

// --- memory ---

TEST(a_breakpoint_does_not_show_and_what_it_hides_can_be_written)
{
    u8 bytes[4];
    reset();
    code("\x90\x91\x92\x93", 4);
    CHECK_EQ(debug_breakpoint_set(first, CODE + 1), OK);
    CHECK_EQ(debug_breakpoint_set(first, CODE + 1), OK);
    CHECK_EQ(ram[CODE + 1], INT3);
    CHECK_EQ(debug_read(first, CODE, bytes, sizeof(bytes)), 4);
    CHECK(memcmp(bytes, "\x90\x91\x92\x93", 4) == 0);
    CHECK_EQ(debug_write(first, CODE, (const u8 *)"\xa0\xa1\xa2", 3), 3);
    CHECK_EQ(ram[CODE + 1], INT3);
    CHECK_EQ(debug_breakpoint_clear(first, CODE + 1), OK);
    CHECK(memcmp(ram + CODE, "\xa0\xa1\xa2\x93", 4) == 0);
    CHECK_EQ(debug_breakpoint_clear(first, CODE + 1), ERR_FAULT);
}

TEST(a_breakpoint_is_found_again_under_other_page_tables)
{
    reset();
    code("\x90", 1);
    CHECK_EQ(debug_breakpoint_set(first, CODE), OK);
    put64(PAGES + 0x1000, 0); // nothing is mapped now
    CHECK_EQ(debug_breakpoint_clear(first, CODE), OK);
    CHECK_EQ(ram[CODE], 0x90);
}

TEST(what_the_guest_put_over_a_breakpoint_stays)
{
    reset();
    CHECK_EQ(debug_breakpoint_set(first, CODE), OK);
    ram[CODE] = 0x42;
    CHECK_EQ(debug_breakpoint_clear(first, CODE), OK);
    CHECK_EQ(ram[CODE], 0x42);
}

TEST(breakpoints_are_limited_and_need_memory)
{
    reset();
    CHECK_EQ(debug_breakpoint_set(first, RAM_SIZE + PAGE_SIZE), ERR_FAULT);
    for (unsigned i = 0; i < DEBUG_BREAKPOINTS; i++)
        CHECK_EQ(debug_breakpoint_set(first, CODE + i), OK);
    CHECK_EQ(debug_breakpoint_set(first, CODE + DEBUG_BREAKPOINTS), ERR_RANGE);
    debug_breakpoints_clear(true);
    CHECK_EQ(ram[CODE], 0);
}

TEST(memory_is_read_up_to_its_end)
{
    u8 bytes[32];
    reset();
    CHECK_EQ(debug_read(first, RAM_SIZE - 8, bytes, sizeof(bytes)), 8);
    CHECK_EQ(debug_write(first, RAM_SIZE - 8, bytes, sizeof(bytes)), 8);
    CHECK_EQ(debug_read(first, 1ull << 40, bytes, sizeof(bytes)), 0);
    CHECK_EQ(debug_read(first, ~0ull - 3, bytes, sizeof(bytes)), 0);
}

// --- stops ---

static void at_int3(struct vcpu *v, struct vm_exit *exit)
{
    (void)v;
    exit->kind = EXIT_EXCEPTION;
    exit->event = (struct vcpu_event){
        .valid = true, .vector = VECTOR_BP, .type = EVENT_SOFT_EXCEPTION, .length = 1};
}

TEST(a_breakpoint_of_the_debugger_stops_all_and_the_guest_s_own_is_its)
{
    reset();
    on_run = at_int3;
    run();
    CHECK(exit_of.kind == EXIT_EXCEPTION && exit_of.event.vector == VECTOR_BP);
    CHECK_EQ(stops, 0);
    CHECK_EQ(debug_breakpoint_set(first, CODE), OK);
    run();
    CHECK(exit_of.kind == EXIT_INTERRUPT);
    CHECK_EQ(first->run_until, 0);
    CHECK(vm.paused && stops == 1);
    CHECK(debug.vcpus[0].stop == DEBUG_BREAKPOINT);
    CHECK(intercepted == BIT(VECTOR_BP));
}

TEST(code_segments_have_a_base_outside_64_bit_mode)
{
    reset();
    regs[REG_CR0] = CR0_PE;
    regs[REG_EFER] = 0;
    segments[SEG_CS] = (struct segment){.access = CODE16, .base = 0x4000};
    regs[REG_RIP] = 0x4000;
    CHECK_EQ(debug_linear_rip(first), CODE);
    debug_set_linear_rip(first, CODE + 5);
    CHECK_EQ(regs[REG_RIP], 0x4005);
}

static u64 debug_status;

static void at_debug_trap(struct vcpu *v, struct vm_exit *exit)
{
    (void)v;
    regs[REG_DR6] |= debug_status;
    exit->kind = EXIT_EXCEPTION;
    exit->event = (struct vcpu_event){.valid = true, .vector = VECTOR_DB, .type = EVENT_EXCEPTION};
}

TEST(watchpoints_of_debugger_and_guest_are_told_apart)
{
    reset();
    debug.vcpus[0].dr7 |= BIT(1); // the guest's first
    CHECK_EQ(debug_slot_set(DEBUG_WRITE, 0x2000, 4), OK);
    on_run = at_debug_trap;
    debug_status = BIT(0);
    run();
    CHECK(exit_of.kind == EXIT_EXCEPTION && stops == 0);
    CHECK_EQ(first->ops->reg_read(first, REG_DR6), DR6_INIT | BIT(0));
    debug_status = BIT(3);
    run();
    CHECK(exit_of.kind == EXIT_INTERRUPT && stops == 1);
    CHECK(debug.vcpus[0].stop == DEBUG_WRITE);
    CHECK_EQ(debug.vcpus[0].stop_gva, 0x2000);
    CHECK(!first->event.valid);
    debug_status = BIT(0) | BIT(3);
    run();
    CHECK(exit_of.kind == EXIT_INTERRUPT && stops == 2);
    CHECK(first->event.valid && first->event.vector == VECTOR_DB);
    debug_status = BIT(2); // of a slot that nobody uses
    first->event.valid = false;
    run();
    CHECK_EQ(first->ops->reg_read(first, REG_DR6), DR6_INIT | BIT(0));
}

TEST(the_guest_s_own_single_step_is_its)
{
    reset();
    on_run = at_debug_trap;
    debug_status = DR6_BS;
    run();
    CHECK(exit_of.kind == EXIT_EXCEPTION && stops == 0);
    CHECK(first->ops->reg_read(first, REG_DR6) & DR6_BS);
    CHECK_EQ(regs[REG_DR6], DR6_INIT);
}

// --- steps ---

static u64 flags_in, flags_out;

static void executes(struct vcpu *v, struct vm_exit *exit)
{
    flags_in = regs[REG_RFLAGS];
    if (flags_out)
        regs[REG_RFLAGS] = flags_out;
    debug_status = DR6_BS;
    at_debug_trap(v, exit);
}

static void step(void)
{
    debug_set_mode(first, DEBUG_STEP);
    on_run = executes;
    run();
    CHECK(exit_of.kind == EXIT_INTERRUPT);
    CHECK(debug.vcpus[0].stop == DEBUG_STEPPED);
}

TEST(a_step_sets_the_trap_flag_for_its_run_only)
{
    reset();
    code("\x90", 1);
    flags_out = 0;
    regs[REG_INTERRUPTIBILITY] = BLOCKED_STI | BLOCKED_NMI;
    step();
    CHECK(flags_in & RFLAGS_TF);
    CHECK(!(regs[REG_RFLAGS] & RFLAGS_TF));
    CHECK_EQ(regs[REG_INTERRUPTIBILITY], BLOCKED_NMI);
    CHECK_EQ(dropped_traps, 0);
    CHECK_EQ(stops, 1);
}

TEST(a_step_that_exits_before_its_instruction_is_done_goes_on_later)
{
    reset();
    code("\x90", 1);
    debug_set_mode(first, DEBUG_STEP);
    run(); // a timer
    CHECK(exit_of.kind == EXIT_TIMER && stops == 0);
    CHECK(!(regs[REG_RFLAGS] & RFLAGS_TF));
    CHECK_EQ(dropped_traps, 1);
    first->ops->skip(first, CODE + 2); // an instruction that exits was carried out
    CHECK(stops == 1 && skipped == 1);
    CHECK_EQ(regs[REG_RIP], CODE + 2);
}

TEST(the_guest_s_own_trap_flag_stays_and_its_trap_follows)
{
    reset();
    code("\x90", 1);
    regs[REG_RFLAGS] |= RFLAGS_TF;
    flags_out = 0;
    step();
    CHECK(regs[REG_RFLAGS] & RFLAGS_TF);
    CHECK(first->event.valid && first->event.vector == VECTOR_DB);
    CHECK(first->ops->reg_read(first, REG_DR6) & DR6_BS);
}

TEST(a_stepped_pushf_does_not_show_the_trap_flag)
{
    reset();
    code("\x66\x9c", 2);
    put64(0x9000, RFLAGS_RESERVED | RFLAGS_TF | RFLAGS_IF);
    flags_out = 0;
    step();
    CHECK_EQ(ram[0x9001], RFLAGS_IF >> 8);
}

TEST(a_stepped_popf_loads_the_trap_flag_that_it_finds)
{
    reset();
    code("\x9d", 1);
    flags_out = RFLAGS_RESERVED | RFLAGS_TF;
    step();
    CHECK(regs[REG_RFLAGS] & RFLAGS_TF);
    first->event.valid = false;
    flags_out = RFLAGS_RESERVED;
    step();
    CHECK(!(regs[REG_RFLAGS] & RFLAGS_TF));
}

TEST(a_stepped_syscall_hides_the_trap_flag_and_is_caught)
{
    reset();
    code("\x0f\x05", 2);
    regs[REG_FMASK] = RFLAGS_TF | RFLAGS_IF;
    first->gpr[GPR_R11] = RFLAGS_TF | RFLAGS_IF;
    flags_out = 0;
    step();
    CHECK_EQ(first->gpr[GPR_R11], RFLAGS_IF);
    CHECK_EQ(regs[REG_FMASK], RFLAGS_TF | RFLAGS_IF);
}

static void window_exit(struct vcpu *v, struct vm_exit *exit)
{
    (void)v;
    CHECK(nmi_window);
    exit->kind = EXIT_NMI_WINDOW;
}

TEST(a_stepped_int_n_and_an_event_end_in_their_handler)
{
    reset();
    code("\xcd\x40", 2);
    debug_set_mode(first, DEBUG_STEP);
    on_run = window_exit;
    run();
    CHECK(injected.valid && injected.vector == 0x40 && injected.type == EVENT_SOFT_INTERRUPT);
    CHECK_EQ(injected.length, 2);
    CHECK(exit_of.kind == EXIT_INTERRUPT && stops == 1 && !nmi_window);
    first->event = (struct vcpu_event){.valid = true, .vector = VECTOR_GP, .type = EVENT_EXCEPTION};
    run();
    CHECK(injected.vector == VECTOR_GP && stops == 2);
}

TEST(interrupts_wait_while_a_vcpu_steps_unless_it_is_halted)
{
    reset();
    CHECK(first->ops->can_take_interrupt(first));
    debug_set_mode(first, DEBUG_STEP);
    CHECK(!first->ops->can_take_interrupt(first) && !first->ops->can_take_nmi(first));
    first->ops->want_window(first, true);
    first->ops->want_nmi_window(first, true);
    CHECK(!window && !nmi_window);
    first->halted = true;
    CHECK(first->ops->can_take_interrupt(first));
    debug_set_mode(first, DEBUG_STAY);
    CHECK(!first->ops->can_take_interrupt(first));
    run();
    CHECK(exit_of.kind == EXIT_INTERRUPT && runs == 0);
}

// --- debug registers ---

static enum exit_action access_dr(unsigned number, bool read, u64 value)
{
    exit_of = (struct vm_exit){.kind = EXIT_DR_ACCESS,
                               .dr = {.number = (u8)number, .gpr = GPR_RBX, .read = read}};
    if (!read)
        first->gpr[GPR_RBX] = value;
    return debug_register_access(first, &exit_of);
}

static u64 read_dr(unsigned number)
{
    CHECK(access_dr(number, true, 0) == ACTION_NEXT);
    return first->gpr[GPR_RBX];
}

TEST(the_guest_sees_its_own_debug_registers)
{
    reset();
    CHECK_EQ(debug_slot_set(DEBUG_EXECUTE, CODE, 8), OK);
    CHECK_EQ(first->dr[3], CODE);
    CHECK_EQ(regs[REG_DR7], DR7_INIT | BIT(7));
    CHECK(access_dr(3, false, 0x1111) == ACTION_NEXT);
    CHECK(access_dr(0, false, 0x2222) == ACTION_NEXT);
    CHECK(access_dr(7, false, DR7_INIT | BIT(0) | BIT(6)) == ACTION_NEXT);
    CHECK_EQ(read_dr(3), 0x1111);
    CHECK_EQ(read_dr(5), DR7_INIT | BIT(0) | BIT(6));
    CHECK_EQ(read_dr(6), DR6_INIT);
    CHECK_EQ(first->dr[3], CODE);
    CHECK_EQ(first->dr[0], 0x2222);
    CHECK_EQ(regs[REG_DR7], DR7_INIT | BIT(0) | BIT(7));
    CHECK_EQ(loads, unloads);
    CHECK_EQ(debug_slot_clear(DEBUG_EXECUTE, CODE, 1), OK);
    CHECK_EQ(first->dr[3], 0x1111);
    vm.vcpu_count = 1; // they share their registers here
    debug_end();
    CHECK(first->ops == &debugged_ops);
    CHECK_EQ(regs[REG_DR7], DR7_INIT | BIT(0) | BIT(6));
    CHECK_EQ(intercepted, 0);
}

TEST(accesses_to_debug_registers_fault_as_the_manual_says)
{
    reset();
    CHECK(access_dr(7, false, 1ull << 32) == ACTION_FAULT && exit_of.fault.vector == VECTOR_GP);
    regs[REG_CR4] |= CR4_DE;
    CHECK(access_dr(4, true, 0) == ACTION_FAULT && exit_of.fault.vector == VECTOR_UD);
    CHECK(access_dr(7, false, DR7_INIT | DR7_GD) == ACTION_NEXT);
    CHECK(access_dr(0, true, 0) == ACTION_FAULT && exit_of.fault.vector == VECTOR_DB);
    CHECK(read_dr(6) & DR6_BD);
    CHECK_EQ(read_dr(7), DR7_INIT);
    segments[SEG_CS].selector = 3;
    CHECK(access_dr(0, true, 0) == ACTION_FAULT && exit_of.fault.vector == VECTOR_GP);
}

TEST(slots_that_a_guest_uses_are_not_taken)
{
    reset();
    debug.vcpus[1].dr7 |= BIT(7) | BIT(4); // the last and the third, by the second vCPU
    CHECK_EQ(debug_slot_set(DEBUG_WRITE, 0x1000, 8), OK);
    CHECK_EQ(debug_slot_set(DEBUG_ACCESS, 0x1008, 2), OK);
    CHECK_EQ(debug_slot_set(DEBUG_READ, 0x1010, 1), ERR_RANGE);
    CHECK_EQ(first->dr[1], 0x1000);
    CHECK_EQ(first->dr[0], 0x1008);
    u64 wanted = DR7_INIT | BIT(3) | BIT(1) | 0x9ull << 20 | 0x7ull << 16;
    CHECK_EQ(debug.real->reg_read(first, REG_DR7) & ~slot_mask(2) & ~slot_mask(3), wanted);
    CHECK_EQ(debug_slot_clear(DEBUG_WRITE, 0x1000, 4), ERR_INVALID);
}

TEST(watchpoints_have_a_size_and_are_aligned)
{
    reset();
    CHECK_EQ(debug_slot_set(DEBUG_WRITE, 0x1001, 2), ERR_INVALID);
    CHECK_EQ(debug_slot_set(DEBUG_WRITE, 0x1000, 3), ERR_INVALID);
    CHECK_EQ(debug_slot_set(DEBUG_WRITE, 0x1000, 0), ERR_INVALID);
    CHECK_EQ(debug_slot_set(DEBUG_WRITE, 0x1000, 1ull << 40), ERR_INVALID);
}

TEST(a_reset_vcpu_keeps_the_debugger_s_breakpoints)
{
    reset();
    CHECK_EQ(debug_slot_set(DEBUG_EXECUTE, CODE, 1), OK);
    CHECK(access_dr(0, false, 0x2222) == ACTION_NEXT);
    first->ops->vcpu_reset(first);
    CHECK_EQ(first->dr[3], CODE);
    CHECK_EQ(regs[REG_DR7], DR7_INIT | BIT(7));
    CHECK_EQ(read_dr(0), 0);
}
