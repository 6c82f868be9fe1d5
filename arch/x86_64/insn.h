// SPDX-License-Identifier: MIT
// x86 instructions, decoded into a small neutral form: what the emulator needs to perform an access
// to a device, and text for reports. Behind it is Zydis; nothing else includes its headers. Names
// and sizes are those of the Intel SDM, volume 2. Pure: no state, safe on any bytes.
#pragma once

#include "vmm/lib/types.h"

#define INSN_LENGTH_MAX 15

// What accesses memory in a way that the emulator can perform: one operand in memory of 1, 2, 4 or
// 8 bytes (some instructions take more) and, if there is another, a register or an immediate; or a
// string instruction; or one that uses the stack. All the rest is INSN_OTHER.
enum insn_op {
    INSN_OTHER,
    INSN_MOV, // also MOVNTI
    INSN_MOVZX,
    INSN_MOVSX, // also MOVSXD
    INSN_ADD,
    INSN_OR,
    INSN_ADC,
    INSN_SBB,
    INSN_AND,
    INSN_SUB,
    INSN_XOR,
    INSN_CMP,
    INSN_TEST,
    INSN_INC,
    INSN_DEC,
    INSN_NOT,
    INSN_NEG,
    INSN_XCHG,
    INSN_CMPXCHG,
    INSN_XADD,
    INSN_BT,
    INSN_BTS,
    INSN_BTR,
    INSN_BTC,
    INSN_MOVS,
    INSN_STOS,
    INSN_LODS,
    INSN_CMPS,
    INSN_SCAS,
    INSN_INS,
    INSN_OUTS,
    INSN_XLAT,
    INSN_ROL,
    INSN_ROR,
    INSN_RCL,
    INSN_RCR,
    INSN_SHL,
    INSN_SHR,
    INSN_SAR,
    INSN_SHLD,
    INSN_SHRD,
    INSN_MOVBE,
    INSN_MUL,
    INSN_IMUL, // with one, two or three operands
    INSN_DIV,
    INSN_IDIV,
    INSN_BSF,
    INSN_BSR,
    INSN_TZCNT,
    INSN_LZCNT,
    INSN_POPCNT,
    INSN_CMOV, // if `condition`, as is the next
    INSN_SET,
    INSN_CLFLUSH, // also CLFLUSHOPT and CLWB
    // These use the stack; an operand need not be in memory.
    INSN_PUSH,
    INSN_POP,
    INSN_CALL, // near
    INSN_RET,
    INSN_LEAVE,
    INSN_ENTER, // `displacement` bytes, nesting level `immediate`
    INSN_PUSHF,
    INSN_POPF,
    INSN_PUSHA,
    INSN_POPA,
    INSN_JMP,       // near, through memory
    INSN_CMPXCHG8B, // also CMPXCHG16B
    INSN_VECTOR,    // moves between memory and the low bytes of a vector register
    // These name one or two vector registers; `second` is the other source, or the mask.
    INSN_VECTOR_LANE, // MOVHPS, PINSRx, PEXTRx, VINSERTF128, ...: the part number `immediate`
    INSN_VECTOR_COPY, // VBROADCASTx, MOVDDUP: to all parts
    INSN_VECTOR_MASK, // VMASKMOVx, VPMASKMOVx: parts of `operand_size` bytes
    INSN_X87,         // any with an operand in memory: `to` if it is written, else `from`
    INSN_NATIVE,      // what insn_relocate() is for: `to` if it is written, `from` if it is read
    // Those that read descriptors need no operand in memory.
    INSN_MOV_SEGMENT, // MOV to a segment register
    INSN_SLDT,
    INSN_STR,
    INSN_SMSW,
    INSN_LMSW,
    INSN_LLDT,
    INSN_LTR,
    INSN_LAR,
    INSN_LSL,
    INSN_VERR,
    INSN_VERW,
    // With an operand of two parts.
    INSN_SGDT,
    INSN_SIDT,
    INSN_LGDT,
    INSN_LIDT,
    INSN_JMP_FAR, // or with the pointer in the instruction: `immediate`, selector `displacement`
    INSN_CALL_FAR,
    INSN_LES,
    INSN_LSS,
    INSN_LDS,
    INSN_LFS,
    INSN_LGS,
    // The stack again.
    INSN_RET_FAR,
    INSN_POP_SEGMENT,
    INSN_IRET,
    INSN_OP_COUNT
};

enum insn_operand_kind {
    INSN_OPERAND_NONE,
    INSN_OPERAND_REGISTER, // a general register, or a part of one
    INSN_OPERAND_MEMORY,   // the one that insn.base, .index, ... describe
    INSN_OPERAND_IMMEDIATE,
    INSN_OPERAND_VECTOR, // XMM or YMM
    INSN_OPERAND_MMX,
    INSN_OPERAND_SEGMENT, // ES, CS, SS, DS, FS, GS as 0 to 5
    INSN_OPERAND_OTHER,   // a control, mask, ... register
};

struct insn_operand {
    u8 kind;   // enum insn_operand_kind
    u8 size;   // bytes
    u8 reg;    // register in hardware order
    bool high; // AH, CH, DH, BH: bits 15:8 of registers 0 to 3
};

// Instead of a general register as a memory operand's base or index.
#define INSN_REG_NONE 16
#define INSN_REG_RIP  17 // of the next instruction

enum insn_prefix { INSN_LOCK = 1, INSN_REP = 2, INSN_REPNE = 4, INSN_VEX = 8 }; // REP is also REPE

struct insn {
    u8 op; // enum insn_op
    u8 length;
    u8 prefixes;     // enum insn_prefix bits
    u8 mode_bits;    // 16, 32 or 64
    u8 operand_size; // bytes; of a string instruction, of one element; of stack and far ones, an
                     // address
    u8 address_size; // bytes
    u8 segment; // of the memory operand (strings: of the source); ES, CS, SS, DS, FS, GS as 0 to 5
    u8 base, index;               // general register, INSN_REG_NONE or INSN_REG_RIP
    u8 scale;                     // 1, 2, 4, 8
    struct insn_operand to, from; // the first two operands as written; of string instructions, none
    bool count_in_cl;             // of SHLD and SHRD, else it is `immediate`
    u8 operands;                  // how many are written
    u8 condition;                 // bits 3:0 of the opcode
    u8 x87;                       // bits 2:0 of the opcode, ModRM.reg
    u8 second;                    // vector register
    bool integer;                 // INSN_NATIVE: with general registers alone
    s64 displacement;
    u64 immediate; // sign-extended
};

// False: the bytes are no (whole) instruction. mode_bits: 16, 32 or 64.
MUST_CHECK bool insn_decode(const u8 *bytes, unsigned length, unsigned mode_bits,
                            struct insn *insn);
// The same instruction for 64-bit mode, with RSP + displacement as its operand in memory. Returns
// its length; 0: it is none that computes with registers other than RSP and one operand in memory.
unsigned insn_relocate(const u8 *bytes, unsigned length, unsigned mode_bits, u32 displacement,
                       u8 *to);
// Of bytes that were refused: they begin as one of AVX-512, which is not decoded at all.
bool insn_is_evex(const u8 *bytes, unsigned length);
// The instruction as Intel's assembler writes it, cut to `size`; returns its length in bytes, 0 if
// there is none.
unsigned insn_format(const u8 *bytes, unsigned length, unsigned mode_bits, u64 rip, char *to,
                     size_t size);
