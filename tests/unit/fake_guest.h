// SPDX-License-Identifier: MIT
// A guest without an engine, for unit tests: a little RAM at 0, registers in arrays, one device
// page, and 64-bit mode with the first GiB mapped one to one. Include after the .c files under
// test.
#pragma once

#include "tests/unit/fake_vcpu.h"
#include "vmm/vm_io.h"
#include "arch/x86_64/regs.h"
#include "arch/x86_64/native.h"
#include "arch/x86_64/vector.h"
#include "arch/x86_64/x87.h"

#define RAM_SIZE  0x100000ull
#define CODE      0x8000ull
#define PAGES     0x1000ull     // PML4, then PDPT
#define DEVICE    0x10000000ull // one page
#define CODE16    0x009b
#define DATA      0xc093
#define DATA_USER 0xc0f3
#define PTE_FLAGS 0x67ull // present, writable, user, accessed, dirty
#define PTE_BIG   0x80ull

static u8 ram[RAM_SIZE] ALIGNED(4096);
static u8 device[4096] ALIGNED(4096);
static unsigned device_reads, device_writes, holes;

void *guest_memory_hva(struct guest_memory *gm, gpa_t gpa, u64 *length)
{
    (void)gm;
    if (gpa >= RAM_SIZE)
        return NULL;
    *length = MIN(*length, PAGE_SIZE - (gpa & PAGE_MASK));
    return ram + gpa;
}

bool vm_mmio_read(struct vcpu *v, gpa_t gpa, unsigned size, u64 *value)
{
    (void)v;
    CHECK(size == 1 || size == 2 || size == 4 || size == 8);
    *value = ~0ull;
    device_reads++;
    if (gpa < DEVICE || gpa + size > DEVICE + sizeof(device)) {
        holes++;
        return false;
    }
    *value = 0;
    memcpy(value, device + (gpa - DEVICE), size);
    return true;
}

bool vm_mmio_write(struct vcpu *v, gpa_t gpa, unsigned size, u64 value)
{
    (void)v;
    CHECK(size == 1 || size == 2 || size == 4 || size == 8);
    device_writes++;
    if (gpa < DEVICE || gpa + size > DEVICE + sizeof(device)) {
        holes++;
        return false;
    }
    memcpy(device + (gpa - DEVICE), &value, size);
    return true;
}

void vm_odd_access(struct vm *m, const char *format, ...)
{
    (void)m;
    (void)format;
}

enum exit_action exit_fault(struct vm_exit *exit, u8 vector)
{
    exit->fault = (struct vcpu_event){.valid = true, .vector = vector, .type = EVENT_EXCEPTION};
    return ACTION_FAULT;
}

enum exit_action exit_fault_error(struct vm_exit *exit, u8 vector, u32 error)
{
    exit_fault(exit, vector);
    exit->fault.has_error = true;
    exit->fault.error = error;
    return ACTION_FAULT;
}

static const struct cpu_ops fake_ops = {.name = "fake",
                                        .reg_read = fake_reg_read,
                                        .reg_write = fake_reg_write,
                                        .segment_read = fake_segment_read,
                                        .segment_write = fake_segment_write,
                                        .skip = fake_skip};

static u8 vectors[16][VECTOR_BYTES_MAX], mmx[8][8];
static bool mmx_faults;

void vector_read(unsigned number, void *to, enum vector_form form)
{
    if (form == VECTOR_MMX)
        memcpy(to, mmx[number], sizeof(mmx[number]));
    else
        memcpy(to, vectors[number], form == VECTOR_VEX_256 ? 32 : 16);
}

void vector_write(unsigned number, const void *from, enum vector_form form)
{
    if (form == VECTOR_MMX) {
        memcpy(mmx[number], from, sizeof(mmx[number]));
        return;
    }
    if (form == VECTOR_VEX_128)
        memset(vectors[number], 0, sizeof(vectors[number]));
    memcpy(vectors[number], from, form == VECTOR_VEX_256 ? 32 : 16);
}

bool x87_faults(void)
{
    return mmx_faults;
}

// A "store" puts the number there, 10 bytes long, unless it is to fail, with an exception; a "load"
// takes it away.
static unsigned x87_number;
static u8 x87_bytes[X87_OPERAND_MAX];
static u64 x87_instruction, x87_address;
static bool x87_stores, x87_fails;

void x87_run(unsigned number, void *operand)
{
    x87_number = number;
    memcpy(x87_bytes, operand, sizeof(x87_bytes));
    if (x87_stores && !x87_fails)
        memset(operand, (int)number, 10);
    mmx_faults |= x87_stores && x87_fails;
}

void x87_pointers_set(u64 instruction, u64 operand)
{
    x87_instruction = instruction;
    x87_address = operand;
}

// Instructions on a copy of their operand: what is stored is the operand inverted, and RAX counts.
static unsigned native_vector, native_runs;

#ifndef TEST_RUNS_INSTRUCTIONS
unsigned native_run(struct native *n, const u8 *code, unsigned length)
{
    (void)code;
    CHECK(length && length <= 15);
    if (native_vector)
        return native_vector;
    native_runs++;
    n->gpr[0]++;
    for (unsigned i = 0; i < sizeof(n->operand); i++)
        n->operand[i] = (u8)~n->operand[i];
    return 0;
}
#endif

static void put64(gpa_t at, u64 value)
{
    memcpy(ram + at, &value, sizeof(value));
}

static void fake_guest_reset(void)
{
    memset(ram, 0, sizeof(ram));
    memset(device, 0, sizeof(device));
    memset(regs, 0, sizeof(regs));
    memset(segments, 0, sizeof(segments));
    memset(vcpu.gpr, 0, sizeof(vcpu.gpr));
    memset(killed, 0, sizeof(killed));
    device_reads = device_writes = holes = 0;
    vm.memory.slot_count = 1;
    vm.memory.slots[0] = (struct guest_slot){.base = 0, .size = RAM_SIZE, .kind = GUEST_SLOT_RAM};
    vcpu.vm = &vm;
    vcpu.ops = &fake_ops;
    vcpu.run_until = ~0ull;
    put64(PAGES, (PAGES + 0x1000) | PTE_FLAGS);
    put64(PAGES + 0x1000, 0 | PTE_FLAGS | PTE_BIG);
    regs[REG_CR0] = CR0_PE | CR0_PG | CR0_WP;
    regs[REG_CR3] = PAGES;
    regs[REG_CR4] = CR4_PAE;
    regs[REG_EFER] = EFER_LME | EFER_LMA | EFER_NXE;
    regs[REG_RFLAGS] = RFLAGS_RESERVED;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        segments[i] = (struct segment){.access = DATA, .limit = ~0u};
    segments[SEG_CS].access = CODE64;
}
