// SPDX-License-Identifier: MIT
// A trial while it is made: code is emitted, registers are chosen to go with it.
#pragma once

#include "guests/fuzz/fuzz.h"

#define OPCODE_INT 0xcd
#define CODE_MAX   32 // bytes that a trial chooses

struct trial {
    const struct way *way;
    u64 gpr[GPR_COUNT];
    u8 code[CODE_MAX];
    unsigned length;
    bool ram;   // selectors of memory alone
    bool loose; // bytes of any sort: room is left for an instruction's rest
};

void emit(struct trial *t, u8 byte);
void emit_number(struct trial *t, u64 value, unsigned size);
void emit_modrm_register(struct trial *t, unsigned reg);
void emit_modrm_memory(struct trial *t, unsigned reg);
void operands_in_ram(struct trial *t);
u64 random_address(const struct way *way);
u64 random_value(const struct way *way);
u16 random_any_selector(const struct way *way);

void instruction_make(struct trial *t);
