// SPDX-License-Identifier: MIT
// A VMCS for the host's unit tests: an array behind vmread() and vmwrite(), and variables behind
// the privileged instructions that the VT-x engine uses. Include it before the engine's files.
#pragma once

#include "tests/unit/test.h"

#define vmread                  real_vmread
#define vmwrite                 real_vmwrite
#define vmclear                 real_vmclear
#define vmptrld                 real_vmptrld
#define invept                  real_invept
#define invvpid                 real_invvpid
#define host_nmi_take           real_host_nmi_take
#define host_machine_check_take real_host_machine_check_take
#include "arch/x86_64/vmx/instructions.h"
#undef vmread
#undef vmwrite
#undef vmclear
#undef vmptrld
#undef invept
#undef invvpid
#undef host_nmi_take
#undef host_machine_check_take

#define cpuid(leaf, subleaf) real_cpuid(leaf, subleaf)
#define read_cr2             real_read_cr2
#define write_cr2            real_write_cr2
#define read_dr6             real_read_dr6
#define write_dr6            real_write_dr6
#define rdmsr                real_rdmsr
#define interrupts_take      real_interrupts_take
#define read_cr0             real_read_cr0
#define read_cr3             real_read_cr3
#define read_cr4             real_read_cr4
#include "arch/x86_64/asm.h"
#undef cpuid
#undef read_cr2
#undef write_cr2
#undef read_dr6
#undef write_dr6
#undef rdmsr
#undef interrupts_take
#undef read_cr0
#undef read_cr3
#undef read_cr4

#define this_cpu real_this_cpu
#include "arch/x86_64/percpu.h"
#undef this_cpu

static struct percpu fake_percpu;

static struct percpu *this_cpu(void)
{
    return &fake_percpu;
}

static u64 fake_fields[0x8000];
static u64 fake_cr2, fake_dr6;
static unsigned fake_writes, fake_nmis, fake_machine_checks, fake_interrupts;

static u64 vmread(u32 field)
{
    return fake_fields[field];
}

static void vmwrite(u32 field, u64 value)
{
    fake_writes++;
    fake_fields[field] = value;
}

static void host_nmi_take(void)
{
    fake_nmis++;
}

static void host_machine_check_take(void)
{
    fake_machine_checks++;
}

static u64 read_cr2(void)
{
    return fake_cr2;
}

static void write_cr2(u64 v)
{
    fake_cr2 = v;
}

static u64 read_dr6(void)
{
    return fake_dr6;
}

static void write_dr6(u64 v)
{
    fake_dr6 = v;
}

static u64 read_cr0(void)
{
    return 0;
}

static u64 read_cr3(void)
{
    return 0;
}

static u64 read_cr4(void)
{
    return 0;
}

static void interrupts_take(void)
{
    fake_interrupts++;
}
