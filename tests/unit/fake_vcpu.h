// SPDX-License-Identifier: MIT
// A vCPU whose registers are arrays in place of an engine's, and a VM that remembers why it was
// killed. Include after the .c files under test.
#pragma once

#include "vmm/vm.h"

#define CODE64 0xa09b
#define CODE32 0xc09b

static struct vm vm;
static struct vcpu vcpu;
static u64 regs[REG_COUNT];
static struct segment segments[SEG_COUNT];
static char killed[256];

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

static void fake_segment_write(struct vcpu *v, enum vcpu_segment which,
                               const struct segment *segment)
{
    (void)v;
    segments[which] = *segment;
}

static void fake_skip(struct vcpu *v, u64 rip)
{
    (void)v;
    regs[REG_RIP] = rip;
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

void vm_kill(struct vm *m, const char *format, ...)
{
    CHECK(m == &vm);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(killed, sizeof(killed), format, arguments);
    va_end(arguments);
}
