// SPDX-License-Identifier: MIT
// What the tests of segmentation's instructions share: a descriptor table, and faults with their
// error codes.
#pragma once

#include "tests/unit/emulate_rig.h"

#define GDT       0x2000u
#define STACK     0x20000u
#define S_CODE    0x08
#define S_DATA    0x10
#define S_CODE32  0x18
#define S_USER    0x23
#define S_TSS     0x28 // two entries
#define S_LDT     0x38 // two entries
#define S_ABSENT  0x48
#define S_CONFORM 0x50
#define S_GATE    0x58 // two entries
#define GDT_LIMIT 0x67
#define HIGH_BASE 0xffff800000001000ull

#define AT_DEVICE(code, access) EMULATE(code, DEVICE, access)

static inline void descriptor(unsigned selector, u64 base, u32 limit, u32 access)
{
    gpa_t at = GDT + (selector & ~7u);
    put64(at, (u64)(limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 |
                  (u64)(limit >> 16 & 15) << 48 | (u64)(base >> 24 & 0xff) << 56);
    if (!(access & 0x10))
        put64(at + 8, base >> 32);
}

static inline void reset(void)
{
    fake_guest_reset();
    descriptor(S_CODE, 0, 0xfffff, 0xa09a);
    descriptor(S_DATA, 0, 0xfffff, 0xc092);
    descriptor(S_CODE32, 0, 0xfffff, 0xc09b);
    descriptor(S_USER, 0, 0xfffff, 0xc0f3);
    descriptor(S_TSS, HIGH_BASE, 0x67, 0x89);
    descriptor(S_LDT, HIGH_BASE, 0xf, 0x82);
    descriptor(S_ABSENT, 0, 0xfffff, 0xc013);
    descriptor(S_CONFORM, 0, 0xfffff, 0xa09f);
    descriptor(S_GATE, 0, 0, 0x8c);
    segments[SEG_GDTR] = (struct segment){.base = GDT, .limit = GDT_LIMIT};
    segments[SEG_CS].selector = S_CODE;
    vcpu.gpr[GPR_RDI] = DEVICE;
    regs[REG_RSP] = STACK;
}

static inline void put_device(u64 value, u16 behind)
{
    memcpy(device, &value, sizeof(value));
    memcpy(device + 8, &behind, sizeof(behind));
}

static inline void check_fault(enum exit_action action, u8 vector, u32 error)
{
    CHECK_EQ(action, ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, vector);
    CHECK_EQ(ex.fault.error, error);
}
