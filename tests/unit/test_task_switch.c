// SPDX-License-Identifier: MIT
// Hardware task switches between two tasks in a guest's memory, without paging: what is saved,
// what is loaded, busy bits and links, and each fault with its error code.
#include <string.h>
#include "tests/unit/test.h"
#include "vmm/emulate/guest_walk.c"
#include "vmm/emulate/emulate_memory.c"
#include "vmm/emulate/emulate_wide.c"
#include "vmm/emulate/task_segments.c"
#include "vmm/emulate/task_switch.c"
#include "tests/unit/fake_guest.h"

#define GDT 0x2000u
#define OLD 0x3000u
#define NEW 0x4000u
#define LDT 0x5000u

// Selectors, and what they are for.
#define S_CODE    0x08
#define S_DATA    0x10
#define S_CODE3   0x1b
#define S_DATA3   0x23
#define S_OLD     0x28
#define S_NEW     0x30
#define S_LDT     0x38
#define S_ABSENT  0x40
#define S_LOCAL   0x0c // entry 1 of the LDT
#define GDT_LIMIT 0x4f

static struct vm_exit ex;

static void descriptor(gpa_t at, u32 base, u32 limit, u32 access)
{
    put64(at, (u64)(limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 |
                  (u64)(limit >> 16 & 15) << 48 | (u64)(base >> 24) << 56);
}

static void put32(gpa_t at, u32 value)
{
    memcpy(ram + at, &value, sizeof(value));
}

static u32 get32(gpa_t at)
{
    u32 value;
    memcpy(&value, ram + at, sizeof(value));
    return value;
}

static u16 get16(gpa_t at)
{
    return (u16)get32(at);
}

static u8 access_of(u16 selector)
{
    return ram[GDT + selector + 5];
}

// The new task: EIP 0x9000, its registers 0x100 and up, flat segments.
static void new_task(void)
{
    put32(NEW + 0x1c, 0x7000);
    put32(NEW + 0x20, 0x9000);
    put32(NEW + 0x24, RFLAGS_RESERVED | RFLAGS_IF);
    for (unsigned i = 0; i < 8; i++)
        put32(NEW + 0x28 + 4 * i, 0x100 + i);
    put32(NEW + 0x38, 0x6000); // ESP
    static const u16 selectors[] = {S_DATA, S_CODE, S_DATA, S_LOCAL, 0, S_DATA3};
    for (unsigned i = 0; i < 6; i++)
        put32(NEW + 0x48 + 4 * i, selectors[i]);
    put32(NEW + 0x60, S_LDT);
}

static void reset(void)
{
    fake_guest_reset();
    vcpu.event.valid = false;
    regs[REG_CR0] = CR0_PE;
    regs[REG_EFER] = regs[REG_CR3] = 0;
    descriptor(GDT + S_CODE, 0, 0xfffff, 0xc09a);
    descriptor(GDT + S_DATA, 0, 0xfffff, 0xc092);
    descriptor(GDT + S_CODE3 - 3, 0, 0xfffff, 0xc0fb);
    descriptor(GDT + S_DATA3 - 3, 0, 0xfffff, 0xc0f3);
    descriptor(GDT + S_OLD, OLD, 0x67, 0x8b);
    descriptor(GDT + S_NEW, NEW, 0x67, 0x89);
    descriptor(GDT + S_LDT, LDT, 0xf, 0x82);
    descriptor(GDT + S_ABSENT, 0, 0xfffff, 0xc013);
    descriptor(LDT + 8, 0x1000, 0xff, 0x4092);
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        segments[i] = (struct segment){.selector = S_DATA, .access = DATA, .limit = ~0u};
    segments[SEG_CS] = (struct segment){.selector = S_CODE, .access = CODE32, .limit = ~0u};
    segments[SEG_GDTR] = (struct segment){.base = GDT, .limit = GDT_LIMIT};
    segments[SEG_LDTR] = (struct segment){.access = SEGMENT_UNUSABLE};
    segments[SEG_TR] =
        (struct segment){.selector = S_OLD, .access = 0x8b, .limit = 0x67, .base = OLD};
    for (unsigned i = 0; i < 8; i++)
        vcpu_gpr_write(&vcpu, i, 0xffffffff00000200 + i);
    regs[REG_RFLAGS] = RFLAGS_RESERVED | RFLAGS_ZF;
    regs[REG_DR7] = 0x7ff;
    new_task();
}

static enum exit_action switch_by(u8 source)
{
    ex = (struct vm_exit){.kind = EXIT_TASK_SWITCH, .rip = 0x8000, .length = 7};
    ex.task.selector = S_NEW;
    ex.task.source = source;
    return task_switch(&vcpu, &ex);
}

static bool faults(u8 source, u8 vector, u32 error)
{
    return switch_by(source) == ACTION_FAULT && ex.fault.vector == vector && ex.fault.has_error &&
           ex.fault.error == error;
}

TEST(a_jump_saves_one_task_and_loads_the_other)
{
    reset();
    put32(OLD + 0x48, 0xabcd0000);
    put32(OLD + 0x1c, 0x1111);
    CHECK_EQ(switch_by(TASK_JMP), ACTION_RETRY);
    CHECK_EQ(get32(OLD + 0x20), 0x8007);
    CHECK_EQ(get32(OLD + 0x24), RFLAGS_RESERVED | RFLAGS_ZF);
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(get32(OLD + 0x28 + 4 * i), 0x200 + i);
    CHECK_EQ(get32(OLD + 0x48), 0xabcd0000 | S_DATA); // only the selector is written
    CHECK_EQ(get16(OLD + 0x4c), S_CODE);
    CHECK_EQ(get32(OLD + 0x1c), 0x1111);
    CHECK_EQ(get16(NEW), 0);
    CHECK_EQ(access_of(S_OLD), 0x89);
    CHECK_EQ(access_of(S_NEW), 0x8b);
    CHECK_EQ(regs[REG_RIP], 0x9000);
    CHECK_EQ(regs[REG_RFLAGS], RFLAGS_RESERVED | RFLAGS_IF);
    CHECK_EQ(regs[REG_RSP], 0x6000);
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x100);
    CHECK_EQ(vcpu.gpr[GPR_RDI], 0x107);
    CHECK_EQ(regs[REG_CR0], CR0_PE | CR0_TS);
    CHECK_EQ(regs[REG_CR3], 0); // paging is off
    CHECK_EQ(regs[REG_DR7], 0x7ff & ~0x155);
    CHECK_EQ(segments[SEG_TR].selector, S_NEW);
    CHECK_EQ(segments[SEG_TR].base, NEW);
    CHECK_EQ(segments[SEG_TR].access, 0x8b);
    CHECK_EQ(segments[SEG_LDTR].base, LDT);
    CHECK_EQ(segments[SEG_DS].base, 0x1000);
    CHECK_EQ(segments[SEG_DS].limit, 0xff);
    CHECK(segments[SEG_FS].access & SEGMENT_UNUSABLE);
    CHECK_EQ(segments[SEG_GS].selector, S_DATA3);
    CHECK_EQ(access_of(S_CODE), 0x9b); // accessed
    CHECK_EQ(ram[LDT + 8 + 5], 0x93);
}

TEST(a_call_nests_and_iret_goes_back)
{
    reset();
    CHECK_EQ(switch_by(TASK_CALL), ACTION_RETRY);
    CHECK_EQ(get16(NEW), S_OLD);
    CHECK_EQ(access_of(S_OLD), 0x8b);
    CHECK_EQ(access_of(S_NEW), 0x8b);
    CHECK(regs[REG_RFLAGS] & RFLAGS_NT);
    put32(OLD + 0x60, 0);
    vcpu.gpr[GPR_RAX] = 0x77;
    ex = (struct vm_exit){.kind = EXIT_TASK_SWITCH, .rip = 0x9010, .length = 1};
    ex.task.selector = S_OLD;
    ex.task.source = TASK_IRET;
    regs[REG_INTERRUPTIBILITY] = BLOCKED_NMI;
    CHECK_EQ(task_switch(&vcpu, &ex), ACTION_RETRY);
    CHECK_EQ(regs[REG_INTERRUPTIBILITY], 0);
    CHECK_EQ(regs[REG_RIP], 0x8007);
    CHECK_EQ(regs[REG_RFLAGS], RFLAGS_RESERVED | RFLAGS_ZF);
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x200);
    CHECK_EQ(get32(NEW + 0x20), 0x9011);
    CHECK_EQ(get32(NEW + 0x28), 0x77);
    CHECK(!(get32(NEW + 0x24) & RFLAGS_NT));
    CHECK_EQ(access_of(S_OLD), 0x8b);
    CHECK_EQ(access_of(S_NEW), 0x89);
    CHECK_EQ(segments[SEG_TR].selector, S_OLD);
}

TEST(an_exception_through_a_task_gate_pushes_its_error_code)
{
    reset();
    vcpu.event = (struct vcpu_event){.valid = true,
                                     .vector = VECTOR_GP,
                                     .type = EVENT_EXCEPTION,
                                     .has_error = true,
                                     .error = 24};
    CHECK_EQ(switch_by(TASK_GATE), ACTION_RETRY);
    CHECK_EQ(get32(OLD + 0x20), 0x8000); // a fault: the instruction itself
    CHECK_EQ(regs[REG_RSP], 0x5ffc);
    CHECK_EQ(get32(0x5ffc), 24);
    CHECK(!vcpu.event.valid);
    CHECK_EQ(get16(NEW), S_OLD);
    reset();
    vcpu.event = (struct vcpu_event){
        .valid = true, .vector = 0x80, .type = EVENT_SOFT_INTERRUPT, .length = 2};
    CHECK_EQ(switch_by(TASK_GATE), ACTION_RETRY);
    CHECK_EQ(get32(OLD + 0x20), 0x8002);
    CHECK_EQ(regs[REG_RSP], 0x6000);
    reset();
    vcpu.event = (struct vcpu_event){.valid = true, .vector = 2, .type = EVENT_NMI};
    regs[REG_INTERRUPTIBILITY] = BLOCKED_STI;
    CHECK_EQ(switch_by(TASK_GATE), ACTION_RETRY);
    CHECK_EQ(regs[REG_INTERRUPTIBILITY], BLOCKED_NMI);
}

TEST(a_stack_without_room_for_the_error_code)
{
    reset();
    vcpu.event = (struct vcpu_event){
        .valid = true, .vector = VECTOR_GP, .type = EVENT_EXCEPTION, .has_error = true};
    descriptor(GDT + S_DATA, 0, 0xff, 0x4093);
    CHECK(faults(TASK_GATE, VECTOR_SS, 1));
    CHECK(vcpu.event.valid); // still being delivered: the two make a double fault
    CHECK_EQ(regs[REG_RIP], 0x9000);
}

TEST(tss_that_cannot_be_used)
{
    reset();
    descriptor(GDT + S_NEW, NEW, 0x67, 0x8b); // busy
    CHECK(faults(TASK_JMP, VECTOR_GP, S_NEW));
    descriptor(GDT + S_NEW, NEW, 0x67, 0x89); // available
    CHECK(faults(TASK_IRET, VECTOR_TS, S_NEW));
    descriptor(GDT + S_NEW, NEW, 0x67, 0x09);
    CHECK(faults(TASK_CALL, VECTOR_NP, S_NEW));
    descriptor(GDT + S_NEW, NEW, 0x66, 0x89);
    CHECK(faults(TASK_CALL, VECTOR_TS, S_NEW));
    descriptor(GDT + S_NEW, NEW, 0x67, 0x89);
    segments[SEG_GDTR].limit = S_NEW + 6;
    CHECK(faults(TASK_CALL, VECTOR_GP, S_NEW));
    vcpu.event = (struct vcpu_event){.valid = true, .vector = 0x31, .type = EVENT_EXTERNAL};
    CHECK(faults(TASK_GATE, VECTOR_GP, S_NEW | 1));
    CHECK(vcpu.event.valid);
    segments[SEG_GDTR].limit = GDT_LIMIT;
    segments[SEG_TR].limit = 0x60;
    CHECK(faults(TASK_CALL, VECTOR_TS, S_NEW));
    ex.task.selector = 0x34; // in an LDT
    ex.task.source = TASK_JMP;
    CHECK_EQ(task_switch(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_GP);
    CHECK_EQ(segments[SEG_TR].selector, S_OLD); // nothing has happened
    CHECK_EQ(get32(OLD + 0x20), 0);
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0xffffffff00000200);
}

// What a selector of the new TSS leads to.
static void segment_faults(unsigned offset, u32 value, u8 vector, u32 error)
{
    reset();
    put32(NEW + offset, value);
    CHECK(faults(TASK_JMP, vector, error));
    CHECK_EQ(regs[REG_RIP], 0x9000); // in the new task
    CHECK_EQ(segments[SEG_TR].selector, S_NEW);
}

TEST(loaded_segments_are_accessed_in_the_register_too)
{
    reset();
    CHECK_EQ(switch_by(0), ACTION_RETRY);
    CHECK_EQ(access_of(S_DATA), 0x93);
    CHECK_EQ(segments[SEG_DS].access & 0xff, 0x93);
    CHECK_EQ(segments[SEG_CS].access & 0xff, 0x9b);
}

TEST(segments_that_cannot_be_loaded)
{
    segment_faults(0x60, 0x3c, VECTOR_TS, 0x3c); // LDT in an LDT
    segment_faults(0x60, S_DATA, VECTOR_TS, S_DATA);
    segment_faults(0x60, 0x1000, VECTOR_TS, 0x1000);
    reset();
    descriptor(GDT + S_LDT, LDT, 0xf, 0x02); // not present
    CHECK(faults(TASK_JMP, VECTOR_TS, S_LDT));
    segment_faults(0x4c, 0, VECTOR_TS, 0); // CS
    segment_faults(0x4c, S_DATA, VECTOR_TS, S_DATA);
    segment_faults(0x4c, S_CODE | 3, VECTOR_TS, S_CODE);
    CHECK_EQ(segments[SEG_CS].selector, S_CODE | 3);
    CHECK_EQ(segments[SEG_SS].access & 0x60, 0x60); // CPL is 3 all the same
    segment_faults(0x50, 0, VECTOR_TS, 0);          // SS
    segment_faults(0x50, S_CODE, VECTOR_TS, S_CODE);
    segment_faults(0x50, S_DATA3, VECTOR_TS, S_DATA3 & ~3u);
    segment_faults(0x50, S_DATA | 1, VECTOR_TS, S_DATA);
    segment_faults(0x50, S_ABSENT, VECTOR_SS, S_ABSENT);
    segment_faults(0x48, S_ABSENT, VECTOR_NP, S_ABSENT); // ES
    segment_faults(0x48, S_OLD, VECTOR_TS, S_OLD);
    segment_faults(0x54, 0x14, VECTOR_TS, 0x14); // DS, beyond the LDT
    segment_faults(0x58, S_DATA | 3, VECTOR_TS, S_DATA);
    reset();
    descriptor(GDT + S_CODE, 0, 0x8fff, 0x409b); // EIP beyond the limit
    CHECK(faults(TASK_JMP, VECTOR_GP, 0));
}

TEST(tasks_of_other_privilege_and_virtual_8086_mode)
{
    reset();
    put32(NEW + 0x4c, S_CODE3);
    put32(NEW + 0x50, S_DATA3);
    put32(NEW + 0x48, S_DATA3);
    put32(NEW + 0x54, 0);
    CHECK_EQ(switch_by(TASK_JMP), ACTION_RETRY);
    CHECK_EQ(segments[SEG_CS].selector, S_CODE3);
    reset();
    put32(NEW + 0x24, RFLAGS_VM | RFLAGS_RESERVED);
    put32(NEW + 0x4c, 0x1234);
    CHECK_EQ(switch_by(TASK_JMP), ACTION_RETRY);
    CHECK_EQ(segments[SEG_CS].base, 0x12340);
    CHECK_EQ(segments[SEG_CS].access, 0xf3);
    CHECK_EQ(segments[SEG_SS].limit, 0xffff);
}

TEST(a_16_bit_tss)
{
    reset();
    descriptor(GDT + S_NEW, NEW, 0x2b, 0x81);
    memset(ram + NEW, 0, 0x2c);
    u16 words[] = {0x9000, 2, 1, 2, 3, 4, 5, 6, 7, 8, S_DATA, S_CODE, S_DATA, 0, S_LDT};
    memcpy(ram + NEW + 0x0e, words, sizeof(words));
    CHECK_EQ(switch_by(TASK_CALL), ACTION_RETRY);
    CHECK_EQ(regs[REG_RIP], 0x9000);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 2);
    CHECK_EQ(segments[SEG_LDTR].selector, S_LDT);
    CHECK(segments[SEG_GS].access & SEGMENT_UNUSABLE);
    ex = (struct vm_exit){.kind = EXIT_TASK_SWITCH, .rip = 0x19010, .length = 1};
    ex.task.selector = S_OLD;
    ex.task.source = TASK_IRET;
    put32(OLD + 0x60, 0);
    CHECK_EQ(task_switch(&vcpu, &ex), ACTION_RETRY);
    CHECK_EQ(get16(NEW + 0x0e), 0x9011);
    CHECK_EQ(get16(NEW + 0x24), S_CODE);
    CHECK_EQ(get16(NEW + 0x2a), S_LDT);
    CHECK_EQ(regs[REG_RIP], 0x8007);
}

TEST(the_trap_bit)
{
    reset();
    put32(NEW + 0x64, 1);
    CHECK_EQ(switch_by(TASK_JMP), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_DB);
    CHECK(!ex.fault.has_error);
    CHECK_EQ(regs[REG_DR6], BIT(15));
    CHECK_EQ(regs[REG_RIP], 0x9000);
    reset();
    put32(NEW + 0x64, 0xfe); // its neighbours mean nothing
    CHECK_EQ(switch_by(TASK_JMP), ACTION_RETRY);
}

// 32-bit paging, one page directory a task.
TEST(page_tables_change_with_the_task)
{
    reset();
    for (unsigned i = 0; i < 2; i++)
        put32(0x7000 + i * 0x1000, PTE_FLAGS | PTE_BIG);
    regs[REG_CR0] |= CR0_PG;
    regs[REG_CR4] = CR4_PSE;
    regs[REG_CR3] = 0x8000;
    CHECK_EQ(switch_by(TASK_JMP), ACTION_RETRY);
    CHECK_EQ(regs[REG_CR3], 0x7000);
    reset();
    regs[REG_CR0] |= CR0_PG;
    regs[REG_CR4] = CR4_PSE;
    regs[REG_CR3] = 0x8000;
    put32(0x8000, PTE_FLAGS | PTE_BIG);
    segments[SEG_TR].base = 0x400000; // not mapped
    CHECK(faults(TASK_JMP, VECTOR_PF, PF_WRITE));
    CHECK_EQ(ex.fault.cr2, 0x400000);
    CHECK_EQ(access_of(S_NEW), 0x89);
    segments[SEG_TR].base = 0x400000 - 0x67; // its last byte is not mapped
    CHECK(faults(TASK_JMP, VECTOR_PF, PF_WRITE));
    CHECK_EQ(ex.fault.cr2, 0x400000);
    segments[SEG_TR].base--;
    CHECK(!faults(TASK_JMP, VECTOR_PF, PF_WRITE));
}
