// SPDX-License-Identifier: MIT
// vmm/exit.c and vmm/control_registers.c: each kind of exit against an engine, devices, CPUID and
// MSRs that are arrays.

#include "tests/unit/test.h"
#include "vmm/control_registers.c"
#include "vmm/exit.c"
#include <string.h>

#define CODE64  0xa09b
#define CODE32  0xc09b
#define GARBAGE 0xfedcba9800000000ull

static struct vm vm;
static struct vcpu vcpu;
static u64 regs[REG_COUNT];
static struct segment segments[SEG_COUNT];
static unsigned nmi_windows_off;
static char killed[256];

// --- what surrounds the handlers ---

static u64 fake_reg_read(struct vcpu *v, enum vcpu_reg reg)
{
    (void)v;
    return regs[reg];
}

static void fake_reg_write(struct vcpu *v, enum vcpu_reg reg, u64 value)
{
    (void)v;
    regs[reg] = value;
}

static void fake_segment_read(struct vcpu *v, enum vcpu_segment which, struct segment *segment)
{
    (void)v;
    *segment = segments[which];
}

static unsigned gave_way;

void thread_give_way(void)
{
    gave_way++;
}

static unsigned page_offset, page_eoi, page_drops;
static bool hardware_pending;

void lapic_page_written(struct lapic *lapic, unsigned offset)
{
    CHECK(lapic);
    page_offset = offset;
}

void lapic_page_eoi(struct lapic *lapic, u8 vector)
{
    CHECK(lapic);
    page_eoi = vector;
}

static bool fake_apic_pending(struct vcpu *v)
{
    (void)v;
    return hardware_pending;
}

static void fake_apic_page_drop(struct vcpu *v)
{
    (void)v;
    page_drops++;
}

static void fake_want_nmi_window(struct vcpu *v, bool on)
{
    (void)v;
    nmi_windows_off += !on;
}

static const struct cpu_ops fake_ops = {.name = "fake",
                                        .reg_read = fake_reg_read,
                                        .reg_write = fake_reg_write,
                                        .segment_read = fake_segment_read,
                                        .apic_pending = fake_apic_pending,
                                        .apic_page_drop = fake_apic_page_drop,
                                        .want_nmi_window = fake_want_nmi_window};

void vm_kill(struct vm *m, const char *format, ...)
{
    CHECK(m == &vm);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(killed, sizeof(killed), format, arguments);
    va_end(arguments);
}

u64 vcpu_gpr_read(struct vcpu *v, unsigned gpr)
{
    return gpr == GPR_RSP ? regs[REG_RSP] : v->gpr[gpr];
}

void vcpu_gpr_write(struct vcpu *v, unsigned gpr, u64 value)
{
    if (gpr == GPR_RSP)
        regs[REG_RSP] = value;
    else
        v->gpr[gpr] = value;
}

static unsigned debug_register_accesses;

enum exit_action debug_register_access(struct vcpu *v, struct vm_exit *exit)
{
    (void)v;
    (void)exit;
    debug_register_accesses++;
    return ACTION_NEXT;
}

static unsigned task_switches;

enum exit_action task_switch(struct vcpu *v, struct vm_exit *exit)
{
    CHECK(v == &vcpu && exit->kind == EXIT_TASK_SWITCH);
    task_switches++;
    return ACTION_RETRY;
}

static struct cpuid features[8]; // by leaf

void cpuid_guest(struct vcpu *v, u32 leaf, u32 subleaf, struct cpuid *out)
{
    (void)v;
    if (leaf < ARRAY_SIZE(features))
        *out = features[leaf];
    else
        *out = (struct cpuid){leaf, subleaf, ~leaf, ~subleaf};
}

bool cpuid_guest_has(struct vcpu *v, u32 leaf, enum cpuid_register reg, unsigned bit)
{
    struct cpuid c;
    cpuid_guest(v, leaf, 0, &c);
    return (&c.eax)[reg] >> bit & 1;
}

#define GOOD_MSR 0x1234

static u64 msr_value;

bool msr_guest_read(struct vcpu *v, u32 index, u64 *value)
{
    (void)v;
    *value = msr_value;
    return index == GOOD_MSR;
}

bool msr_guest_write(struct vcpu *v, u32 index, u64 value)
{
    (void)v;
    msr_value = index == GOOD_MSR ? value : msr_value;
    return index == GOOD_MSR;
}

static u64 port_value, port_written;
static unsigned port, port_size, port_writes;

bool vm_port_read(struct vcpu *v, u16 number, unsigned size, u64 *value)
{
    (void)v;
    port = number;
    port_size = size;
    *value = port_value;
    return true;
}

bool vm_port_write(struct vcpu *v, u16 number, unsigned size, u64 value)
{
    (void)v;
    port = number;
    port_size = size;
    port_written = value;
    port_writes++;
    return true;
}

static enum guest_fault fault_result;
static unsigned fault_access, emulated, emulated_strings;

enum guest_fault guest_memory_fault(struct guest_memory *gm, gpa_t gpa, unsigned access)
{
    CHECK(gm == &vm.memory);
    CHECK_EQ(gpa, 0xd000);
    fault_access = access;
    return fault_result;
}

enum exit_action emulate_mmio(struct vcpu *v, struct vm_exit *exit)
{
    (void)v;
    exit->length = 3;
    emulated++;
    return ACTION_NEXT;
}

enum exit_action emulate_string_io(struct vcpu *v, struct vm_exit *exit)
{
    (void)v;
    (void)exit;
    emulated_strings++;
    return ACTION_RETRY;
}

static u64 cr8, xcr0_refused;

void lapic_cr8_write(struct lapic *lapic, u64 value)
{
    CHECK(lapic == &vcpu.lapic);
    CHECK(spin_is_locked(&vm.lock));
    cr8 = value;
}

u64 lapic_cr8_read(const struct lapic *lapic)
{
    CHECK(lapic == &vcpu.lapic);
    return cr8;
}

bool xstate_set_xcr0(struct vcpu *v, u64 value)
{
    if (value & xcr0_refused)
        return false;
    v->xcr0 = value;
    return true;
}

// --- the test's side ---

static struct vm_exit exit_of;

static void reset(void)
{
    memset(&vcpu, 0, sizeof(vcpu));
    memset(&exit_of, 0, sizeof(exit_of));
    memset(regs, 0, sizeof(regs));
    memset(segments, 0, sizeof(segments));
    memset(features, 0, sizeof(features));
    memset(killed, 0, sizeof(killed));
    nmi_windows_off = port_writes = emulated = emulated_strings = 0;
    cr8 = xcr0_refused = 0;
    vcpu.vm = &vm;
    vcpu.ops = &fake_ops;
    vcpu.run_until = 99;
    segments[SEG_CS].access = CODE32;
    regs[REG_CR0] = CR0_PE | CR0_ET;
}

static enum exit_action dispatch(enum exit_kind kind)
{
    exit_of.kind = kind;
    return exit_dispatch(&vcpu, &exit_of);
}

static bool faults(enum exit_action action, u8 vector, bool has_error)
{
    const struct vcpu_event *f = &exit_of.fault;
    return action == ACTION_FAULT && f->valid && f->vector == vector &&
           f->type == EVENT_EXCEPTION && f->has_error == has_error && f->error == 0;
}

static enum exit_action cr_write(u8 number, u64 value)
{
    exit_of.cr.number = number;
    exit_of.cr.gpr = GPR_RBX;
    exit_of.cr.kind = CR_MOV;
    vcpu.gpr[GPR_RBX] = value;
    return dispatch(EXIT_CR_WRITE);
}

static void enter_long_mode(void)
{
    regs[REG_CR0] = CR0_PE | CR0_ET | CR0_PG;
    regs[REG_CR4] = CR4_PAE;
    regs[REG_EFER] = EFER_LME | EFER_LMA;
    segments[SEG_CS].access = CODE64;
}

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

// --- control registers ---

TEST(cr0_keeps_its_rules)
{
    static const struct {
        u64 value;
        bool good;
    } cases[] = {
        {CR0_PE, true},           {CR0_PE | CR0_PG, true},          {CR0_PG, false},
        {CR0_PE | CR0_NW, false}, {CR0_PE | CR0_NW | CR0_CD, true}, {CR0_PE | CR0_CD, true}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        reset();
        enum exit_action action = cr_write(0, cases[i].value);
        CHECK(cases[i].good ? action == ACTION_NEXT : faults(action, VECTOR_GP, true));
        CHECK_EQ(regs[REG_CR0], cases[i].good ? cases[i].value | CR0_ET : CR0_PE | CR0_ET);
    }
}

TEST(cr0_ignores_undefined_low_bits_and_refuses_high_ones)
{
    reset();
    CHECK(cr_write(0, CR0_PE | BIT(6) | BIT(28)) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR0], CR0_PE | CR0_ET);
    enter_long_mode();
    CHECK(faults(cr_write(0, regs[REG_CR0] | BIT(32)), VECTOR_GP, true));
}

TEST(paging_on_enters_long_mode_by_the_rules)
{
    reset();
    regs[REG_EFER] = EFER_LME;
    CHECK(faults(cr_write(0, CR0_PE | CR0_PG), VECTOR_GP, true)); // without PAE
    regs[REG_CR4] = CR4_PAE;
    CHECK(cr_write(0, CR0_PE | CR0_PG) == ACTION_NEXT);
    reset();
    regs[REG_EFER] = EFER_LME;
    regs[REG_CR4] = CR4_PAE;
    segments[SEG_CS].access = CODE64; // CS.L
    CHECK(faults(cr_write(0, CR0_PE | CR0_PG), VECTOR_GP, true));
}

TEST(paging_off_is_refused_in_64_bit_code_and_with_pcids)
{
    reset();
    enter_long_mode();
    CHECK(faults(cr_write(0, CR0_PE), VECTOR_GP, true));
    CHECK(regs[REG_CR0] & CR0_PG);
    segments[SEG_CS].access = CODE32; // compatibility mode
    regs[REG_CR4] = CR4_PAE | CR4_PCIDE;
    CHECK(faults(cr_write(0, CR0_PE), VECTOR_GP, true));
    regs[REG_CR4] = CR4_PAE;
    CHECK(cr_write(0, CR0_PE) == ACTION_NEXT);
    CHECK(!(regs[REG_CR0] & CR0_PG));
}

TEST(control_registers_are_32_bits_wide_outside_64_bit_code)
{
    reset();
    CHECK(cr_write(0, GARBAGE | CR0_PE | CR0_TS) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR0], CR0_PE | CR0_TS | CR0_ET);
    CHECK(cr_write(3, GARBAGE | 0x5000) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR3], 0x5000);
    features[1].edx = BIT(6);
    CHECK(cr_write(4, GARBAGE | CR4_PAE) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR4], CR4_PAE);
    enter_long_mode();
    CHECK(cr_write(3, BIT(63) | 0x6000) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR3], BIT(63) | 0x6000);
    CHECK(faults(cr_write(4, GARBAGE | CR4_PAE), VECTOR_GP, true));
}

TEST(cr4_takes_what_cpuid_shows)
{
    static const struct {
        u64 bit;
        u32 leaf;
        unsigned reg, feature;
    } cases[] = {{CR4_PSE, 1, CPUID_EDX, 3},      {CR4_PAE, 1, CPUID_EDX, 6},
                 {CR4_PGE, 1, CPUID_EDX, 13},     {CR4_OSFXSR, 1, CPUID_EDX, 24},
                 {CR4_OSXSAVE, 1, CPUID_ECX, 26}, {CR4_FSGSBASE, 7, CPUID_EBX, 0},
                 {CR4_SMEP, 7, CPUID_EBX, 7},     {CR4_SMAP, 7, CPUID_EBX, 20},
                 {CR4_UMIP, 7, CPUID_ECX, 2},     {CR4_PKE, 7, CPUID_ECX, 3}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        reset();
        CHECK(faults(cr_write(4, cases[i].bit), VECTOR_GP, true));
        CHECK_EQ(regs[REG_CR4], 0);
        (&features[cases[i].leaf].eax)[cases[i].reg] = 1u << cases[i].feature;
        CHECK(cr_write(4, cases[i].bit) == ACTION_NEXT);
        CHECK_EQ(regs[REG_CR4], cases[i].bit);
    }
}

TEST(cr4_never_has_vmx_smx_or_undefined_bits)
{
    reset();
    memset(features, 0xff, sizeof(features));
    CHECK(faults(cr_write(4, CR4_VMXE), VECTOR_GP, true));
    CHECK(faults(cr_write(4, CR4_SMXE), VECTOR_GP, true));
    CHECK(faults(cr_write(4, BIT(15)), VECTOR_GP, true));
    CHECK(faults(cr_write(4, BIT(31)), VECTOR_GP, true));
    CHECK_EQ(regs[REG_CR4], 0);
}

TEST(cr4_keeps_pae_and_la57_in_long_mode)
{
    reset();
    memset(features, 0xff, sizeof(features));
    enter_long_mode();
    CHECK(faults(cr_write(4, 0), VECTOR_GP, true));
    CHECK(faults(cr_write(4, CR4_PAE | CR4_LA57), VECTOR_GP, true));
    CHECK_EQ(regs[REG_CR4], CR4_PAE);
    CHECK(cr_write(4, CR4_PAE | CR4_PGE) == ACTION_NEXT);
}

TEST(pcids_go_on_in_long_mode_with_a_zero_pcid)
{
    reset();
    memset(features, 0xff, sizeof(features));
    CHECK(faults(cr_write(4, CR4_PCIDE), VECTOR_GP, true));
    enter_long_mode();
    regs[REG_CR3] = 0x1001;
    CHECK(faults(cr_write(4, CR4_PAE | CR4_PCIDE), VECTOR_GP, true));
    regs[REG_CR3] = 0x1000;
    CHECK(cr_write(4, CR4_PAE | CR4_PCIDE) == ACTION_NEXT);
    regs[REG_CR3] = 0x1001;
    CHECK(cr_write(4, CR4_PAE | CR4_PCIDE | CR4_PGE) == ACTION_NEXT); // it stays on
}

static u64 pdptes[4];
static bool pdptes_in_ram;

int guest_memory_read(struct guest_memory *gm, gpa_t gpa, void *to, u64 size)
{
    (void)gm;
    CHECK_EQ(gpa, 0x5020);
    CHECK_EQ(size, sizeof(pdptes));
    memcpy(to, pdptes, sizeof(pdptes));
    return pdptes_in_ram ? OK : ERR_NOT_FOUND;
}

static void pae_reset(void)
{
    reset();
    memset(features, 0xff, sizeof(features));
    memset(pdptes, 0, sizeof(pdptes));
    pdptes_in_ram = true;
    vcpu.gpa_reserved = BIT(51);
    regs[REG_CR0] = CR0_PE | CR0_PG;
    regs[REG_CR3] = 0x5038; // the low bits do not count
    regs[REG_CR4] = CR4_PAE;
}

TEST(pae_paging_refuses_reserved_bits_in_pdptes)
{
    static const u64 bad[] = {BIT(1), BIT(2), BIT(5), BIT(8), BIT(51), BIT(52), BIT(63)};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        pae_reset();
        pdptes[3] = bad[i];
        CHECK(cr_write(3, 0x5020) == ACTION_NEXT); // it is not present
        pdptes[3] |= 0x1000 | BIT(0) | BIT(3) | BIT(9);
        CHECK(faults(cr_write(3, 0x5020), VECTOR_GP, true));
        CHECK(faults(cr_write(4, CR4_PAE | CR4_PSE), VECTOR_GP, true));
        CHECK(cr_write(4, CR4_PAE | CR4_TSD) == ACTION_NEXT); // loads none
        regs[REG_CR0] = CR0_PE;
        CHECK(faults(cr_write(0, CR0_PE | CR0_PG), VECTOR_GP, true));
        CHECK_EQ(regs[REG_CR0], CR0_PE);
        pdptes[3] &= ~bad[i];
        CHECK(cr_write(0, CR0_PE | CR0_PG) == ACTION_NEXT);
    }
    pdptes_in_ram = false;
    CHECK(faults(cr_write(3, 0x5020), VECTOR_GP, true));
}

TEST(only_pae_paging_has_pdptes)
{
    pae_reset();
    pdptes[0] = ~0ull;
    regs[REG_CR4] = 0;
    CHECK(cr_write(3, 0x5020) == ACTION_NEXT);
    regs[REG_CR4] = CR4_PAE;
    regs[REG_EFER] = EFER_LME;
    regs[REG_CR0] = CR0_PE;
    CHECK(cr_write(0, CR0_PE | CR0_PG) == ACTION_NEXT);
}

TEST(cr8_is_the_task_priority)
{
    reset();
    enter_long_mode();
    CHECK(cr_write(8, 0xf) == ACTION_NEXT);
    CHECK_EQ(cr8, 0xf);
    CHECK(!spin_is_locked(&vm.lock));
    CHECK(faults(cr_write(8, 0x10), VECTOR_GP, true));
    CHECK_EQ(cr8, 0xf);
    exit_of.cr.number = 8;
    exit_of.cr.gpr = GPR_RSP;
    CHECK(dispatch(EXIT_CR_READ) == ACTION_NEXT);
    CHECK_EQ(regs[REG_RSP], 0xf);
}

TEST(control_registers_that_do_not_exist_fault)
{
    reset();
    CHECK(faults(cr_write(1, 0), VECTOR_GP, true));
    CHECK(faults(cr_write(15, 0), VECTOR_GP, true));
}

TEST(control_registers_are_read)
{
    static const enum vcpu_reg of[] = {[0] = REG_CR0, [3] = REG_CR3, [4] = REG_CR4};
    static const u8 numbers[] = {0, 3, 4};
    reset();
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
        regs[of[numbers[i]]] = 0x100 + i;
        exit_of.cr.number = numbers[i];
        exit_of.cr.gpr = GPR_R15;
        CHECK(dispatch(EXIT_CR_READ) == ACTION_NEXT);
        CHECK_EQ(vcpu.gpr[GPR_R15], 0x100 + i);
    }
}

TEST(clts_clears_ts_alone)
{
    reset();
    regs[REG_CR0] = CR0_PE | CR0_ET | CR0_TS | CR0_MP;
    exit_of.cr.kind = CR_CLTS;
    CHECK(dispatch(EXIT_CR_WRITE) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR0], CR0_PE | CR0_ET | CR0_MP);
}

TEST(lmsw_sets_four_bits_and_never_clears_pe)
{
    reset();
    regs[REG_CR0] = CR0_PE | CR0_ET | CR0_WP | CR0_MP;
    exit_of.cr.kind = CR_LMSW;
    exit_of.cr.value = CR0_TS;
    CHECK(dispatch(EXIT_CR_WRITE) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR0], CR0_PE | CR0_ET | CR0_WP | CR0_TS);
    regs[REG_CR0] = CR0_ET;
    exit_of.cr.value = 0xffff;
    CHECK(dispatch(EXIT_CR_WRITE) == ACTION_NEXT);
    CHECK_EQ(regs[REG_CR0], CR0_ET | CR0_LMSW);
}

// --- the rest ---

TEST(xsetbv_is_for_level_0_alone)
{
    reset();
    vcpu.gpr[GPR_RAX] = 7;
    vcpu.gpr[GPR_RDX] = vcpu.gpr[GPR_RCX] = 0;
    segments[SEG_SS].access = SEGMENT_DPL;
    CHECK(faults(dispatch(EXIT_XSETBV), VECTOR_GP, true));
    segments[SEG_SS].access = 0;
    CHECK(dispatch(EXIT_XSETBV) == ACTION_NEXT);
}

TEST(xsetbv_takes_register_0_and_what_the_state_allows)
{
    reset();
    vcpu.gpr[GPR_RAX] = GARBAGE | 7;
    vcpu.gpr[GPR_RDX] = GARBAGE | 1;
    vcpu.gpr[GPR_RCX] = GARBAGE;
    CHECK(dispatch(EXIT_XSETBV) == ACTION_NEXT);
    CHECK_EQ(vcpu.xcr0, 7 | BIT(32));
    vcpu.gpr[GPR_RCX] = 1;
    CHECK(faults(dispatch(EXIT_XSETBV), VECTOR_GP, true));
    vcpu.gpr[GPR_RCX] = 0;
    vcpu.gpr[GPR_RAX] = 3;
    xcr0_refused = BIT(1);
    CHECK(faults(dispatch(EXIT_XSETBV), VECTOR_GP, true));
    CHECK_EQ(vcpu.xcr0, 7 | BIT(32));
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
