// SPDX-License-Identifier: MIT
// vmm/exit.c and vmm/guest_cpu/control_registers.c, and what surrounds them: an engine, devices,
// CPUID and MSRs that are arrays.
#pragma once

#include "tests/unit/test.h"
#include "vmm/guest_cpu/control_registers.c"
#include "vmm/exit.c"
#include "tests/unit/fake_vcpu.h"
#include <string.h>

static unsigned nmi_windows_off;

// --- what surrounds the handlers ---

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
    CHECK(spin_is_locked(&vm.lock));
    page_offset = offset;
}

void lapic_page_eoi(struct lapic *lapic, u8 vector)
{
    CHECK(lapic);
    CHECK(spin_is_locked(&vm.lock));
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

void vm_triple_fault(struct vm *m, unsigned index, const char *cause)
{
    vm_kill(m, "vCPU %u: %s", index, cause);
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
