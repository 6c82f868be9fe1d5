// SPDX-License-Identifier: MIT
// What the tests of vmm/emulate/emulate*.c share: the emulator itself, on a fake guest, and one
// exit.
#pragma once

#include <string.h>
#include "tests/unit/test.h"
#include "arch/x86_64/insn.c"
#include "arch/x86_64/insn_native.c"
#include "arch/x86_64/insn_table.c"
#include "vmm/emulate/alu.c"
#include "vmm/emulate/alu_multiply.c"
#include "vmm/emulate/guest_walk.c"
#include "vmm/emulate/emulate_fetch.c"
#include "vmm/emulate/emulate_memory.c"
#include "vmm/emulate/emulate_string.c"
#include "vmm/emulate/emulate_stack.c"
#include "vmm/emulate/emulate_wide.c"
#include "vmm/emulate/emulate_vector.c"
#include "vmm/emulate/emulate_x87.c"
#include "vmm/emulate/emulate_arithmetic.c"
#include "vmm/emulate/emulate_system.c"
#include "vmm/emulate/emulate_far.c"
#include "vmm/emulate/emulate_native.c"
#include "vmm/emulate/task_segments.c"
#include "vmm/emulate/task_switch.c"
#include "vmm/emulate/emulate.c"
#include "tests/unit/fake_guest.h"

#define R  PAGE_READ
#define W  PAGE_WRITE
#define RW (PAGE_READ | PAGE_WRITE)

void *heap_alloc(size_t size)
{
    return calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

bool control_register_write(struct vcpu *v, unsigned number, u64 value)
{
    (void)v;
    CHECK_EQ(number, 0);
    regs[REG_CR0] = value;
    return !(value & CR0_EM); // stands for what is refused
}

bool string_copy(char *to, size_t size, const char *from)
{
    return (size_t)snprintf(to, size, "%s", from) < size;
}

static u64 port_value;
static unsigned port_reads, port_writes;
bool vm_port_read(struct vcpu *v, u16 port, unsigned size, u64 *value)
{
    (void)v;
    CHECK_EQ(port, 0x1f0);
    port_reads++;
    *value = port_value++ & bytes_mask(size);
    return true;
}

bool vm_port_write(struct vcpu *v, u16 port, unsigned size, u64 value)
{
    (void)v;
    (void)size;
    CHECK_EQ(port, 0x1f0);
    port_writes++;
    port_value = value;
    return true;
}

static enum exit_action result;
static struct vm_exit ex;

static enum exit_action emulate(const void *code, unsigned length, gva_t gva, unsigned access)
{
    memcpy(ram + CODE, code, length);
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = CODE};
    ex.memory.gva = ex.memory.gpa = gva;
    ex.memory.gva_valid = true;
    ex.memory.access = access;
    return result = emulate_mmio(&vcpu, &ex);
}
#define EMULATE(code, gva, access) emulate(code, sizeof(code) - 1, gva, access)

static inline void protected_mode(void)
{
    fake_guest_reset();
    regs[REG_CR0] = CR0_PE;
    regs[REG_EFER] = 0;
    segments[SEG_CS].access = CODE32;
    segments[SEG_CS].limit = ~0u;
}
