// SPDX-License-Identifier: MIT
// The border to Zydis: a table from its mnemonics to our operations, and the translation of
// operands.
#include "arch/x86_64/insn.h"
#include "vmm/lib/string.h"
#include <Zydis/Zydis.h>

#define MNEMONICS (ZYDIS_MNEMONIC_MAX_VALUE + 1)
#define HALF_HIGH 1

#define CONDITION_MASK 0xf

// size: of a string instruction's element, else 0; of a half of a vector, which.
static const struct operation {
    u8 op, size;
} operations[MNEMONICS] = {
    [ZYDIS_MNEMONIC_MOV] = {INSN_MOV, 0},
    [ZYDIS_MNEMONIC_MOVNTI] = {INSN_MOV, 0},
    [ZYDIS_MNEMONIC_MOVZX] = {INSN_MOVZX, 0},
    [ZYDIS_MNEMONIC_MOVSX] = {INSN_MOVSX, 0},
    [ZYDIS_MNEMONIC_MOVSXD] = {INSN_MOVSX, 0},
    [ZYDIS_MNEMONIC_ADD] = {INSN_ADD, 0},
    [ZYDIS_MNEMONIC_OR] = {INSN_OR, 0},
    [ZYDIS_MNEMONIC_ADC] = {INSN_ADC, 0},
    [ZYDIS_MNEMONIC_SBB] = {INSN_SBB, 0},
    [ZYDIS_MNEMONIC_AND] = {INSN_AND, 0},
    [ZYDIS_MNEMONIC_SUB] = {INSN_SUB, 0},
    [ZYDIS_MNEMONIC_XOR] = {INSN_XOR, 0},
    [ZYDIS_MNEMONIC_CMP] = {INSN_CMP, 0},
    [ZYDIS_MNEMONIC_TEST] = {INSN_TEST, 0},
    [ZYDIS_MNEMONIC_INC] = {INSN_INC, 0},
    [ZYDIS_MNEMONIC_DEC] = {INSN_DEC, 0},
    [ZYDIS_MNEMONIC_NOT] = {INSN_NOT, 0},
    [ZYDIS_MNEMONIC_NEG] = {INSN_NEG, 0},
    [ZYDIS_MNEMONIC_XCHG] = {INSN_XCHG, 0},
    [ZYDIS_MNEMONIC_CMPXCHG] = {INSN_CMPXCHG, 0},
    [ZYDIS_MNEMONIC_XADD] = {INSN_XADD, 0},
    [ZYDIS_MNEMONIC_BT] = {INSN_BT, 0},
    [ZYDIS_MNEMONIC_BTS] = {INSN_BTS, 0},
    [ZYDIS_MNEMONIC_BTR] = {INSN_BTR, 0},
    [ZYDIS_MNEMONIC_BTC] = {INSN_BTC, 0},
    [ZYDIS_MNEMONIC_MOVSB] = {INSN_MOVS, 1},
    [ZYDIS_MNEMONIC_MOVSW] = {INSN_MOVS, 2},
    [ZYDIS_MNEMONIC_MOVSD] = {INSN_MOVS, 4},
    [ZYDIS_MNEMONIC_MOVSQ] = {INSN_MOVS, 8},
    [ZYDIS_MNEMONIC_STOSB] = {INSN_STOS, 1},
    [ZYDIS_MNEMONIC_STOSW] = {INSN_STOS, 2},
    [ZYDIS_MNEMONIC_STOSD] = {INSN_STOS, 4},
    [ZYDIS_MNEMONIC_STOSQ] = {INSN_STOS, 8},
    [ZYDIS_MNEMONIC_LODSB] = {INSN_LODS, 1},
    [ZYDIS_MNEMONIC_LODSW] = {INSN_LODS, 2},
    [ZYDIS_MNEMONIC_LODSD] = {INSN_LODS, 4},
    [ZYDIS_MNEMONIC_LODSQ] = {INSN_LODS, 8},
    [ZYDIS_MNEMONIC_CMPSB] = {INSN_CMPS, 1},
    [ZYDIS_MNEMONIC_CMPSW] = {INSN_CMPS, 2},
    [ZYDIS_MNEMONIC_CMPSD] = {INSN_CMPS, 4},
    [ZYDIS_MNEMONIC_CMPSQ] = {INSN_CMPS, 8},
    [ZYDIS_MNEMONIC_SCASB] = {INSN_SCAS, 1},
    [ZYDIS_MNEMONIC_SCASW] = {INSN_SCAS, 2},
    [ZYDIS_MNEMONIC_SCASD] = {INSN_SCAS, 4},
    [ZYDIS_MNEMONIC_SCASQ] = {INSN_SCAS, 8},
    [ZYDIS_MNEMONIC_INSB] = {INSN_INS, 1},
    [ZYDIS_MNEMONIC_INSW] = {INSN_INS, 2},
    [ZYDIS_MNEMONIC_INSD] = {INSN_INS, 4},
    [ZYDIS_MNEMONIC_OUTSB] = {INSN_OUTS, 1},
    [ZYDIS_MNEMONIC_OUTSW] = {INSN_OUTS, 2},
    [ZYDIS_MNEMONIC_OUTSD] = {INSN_OUTS, 4},
    [ZYDIS_MNEMONIC_XLAT] = {INSN_XLAT, 1},
    [ZYDIS_MNEMONIC_ROL] = {INSN_ROL, 0},
    [ZYDIS_MNEMONIC_ROR] = {INSN_ROR, 0},
    [ZYDIS_MNEMONIC_RCL] = {INSN_RCL, 0},
    [ZYDIS_MNEMONIC_RCR] = {INSN_RCR, 0},
    [ZYDIS_MNEMONIC_SHL] = {INSN_SHL, 0},
    [ZYDIS_MNEMONIC_SHR] = {INSN_SHR, 0},
    [ZYDIS_MNEMONIC_SAR] = {INSN_SAR, 0},
    [ZYDIS_MNEMONIC_SHLD] = {INSN_SHLD, 0},
    [ZYDIS_MNEMONIC_SHRD] = {INSN_SHRD, 0},
    [ZYDIS_MNEMONIC_MOVBE] = {INSN_MOVBE, 0},
    [ZYDIS_MNEMONIC_MUL] = {INSN_MUL, 0},
    [ZYDIS_MNEMONIC_IMUL] = {INSN_IMUL, 0},
    [ZYDIS_MNEMONIC_DIV] = {INSN_DIV, 0},
    [ZYDIS_MNEMONIC_IDIV] = {INSN_IDIV, 0},
    [ZYDIS_MNEMONIC_BSF] = {INSN_BSF, 0},
    [ZYDIS_MNEMONIC_BSR] = {INSN_BSR, 0},
    [ZYDIS_MNEMONIC_TZCNT] = {INSN_TZCNT, 0},
    [ZYDIS_MNEMONIC_LZCNT] = {INSN_LZCNT, 0},
    [ZYDIS_MNEMONIC_POPCNT] = {INSN_POPCNT, 0},
    [ZYDIS_MNEMONIC_CMOVB... ZYDIS_MNEMONIC_CMOVZ] = {INSN_CMOV, 0},
    [ZYDIS_MNEMONIC_SETB... ZYDIS_MNEMONIC_SETS] = {INSN_SET, 0},
    [ZYDIS_MNEMONIC_SETZ] = {INSN_SET, 0},
    [ZYDIS_MNEMONIC_CLFLUSH] = {INSN_CLFLUSH, 0},
    [ZYDIS_MNEMONIC_CLFLUSHOPT] = {INSN_CLFLUSH, 0},
    [ZYDIS_MNEMONIC_CLWB] = {INSN_CLFLUSH, 0},
    [ZYDIS_MNEMONIC_PUSH] = {INSN_PUSH, 0},
    [ZYDIS_MNEMONIC_POP] = {INSN_POP, 0},
    [ZYDIS_MNEMONIC_CALL] = {INSN_CALL, 0},
    [ZYDIS_MNEMONIC_RET] = {INSN_RET, 0},
    [ZYDIS_MNEMONIC_LEAVE] = {INSN_LEAVE, 0},
    [ZYDIS_MNEMONIC_ENTER] = {INSN_ENTER, 0},
    [ZYDIS_MNEMONIC_JMP] = {INSN_JMP, 0},
    [ZYDIS_MNEMONIC_CMPXCHG8B] = {INSN_CMPXCHG8B, 0},
    [ZYDIS_MNEMONIC_CMPXCHG16B] = {INSN_CMPXCHG8B, 0},
    [ZYDIS_MNEMONIC_MOVAPS] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVAPS] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVUPS] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVUPS] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVAPD] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVAPD] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVUPD] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVUPD] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVDQA] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVDQA] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVDQU] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVDQU] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVNTPS] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVNTPS] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVNTPD] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVNTPD] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVNTDQ] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVNTDQ] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVNTDQA] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVNTDQA] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_LDDQU] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VLDDQU] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVD] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVD] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVQ] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVQ] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVSS] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVSS] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_VMOVSD] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVNTQ] = {INSN_VECTOR, 0},
    [ZYDIS_MNEMONIC_MOVLPS] = {INSN_VECTOR_HALF, 0},
    [ZYDIS_MNEMONIC_MOVLPD] = {INSN_VECTOR_HALF, 0},
    [ZYDIS_MNEMONIC_MOVHPS] = {INSN_VECTOR_HALF, HALF_HIGH},
    [ZYDIS_MNEMONIC_MOVHPD] = {INSN_VECTOR_HALF, HALF_HIGH},
    [ZYDIS_MNEMONIC_SLDT] = {INSN_SLDT, 0},
    [ZYDIS_MNEMONIC_STR] = {INSN_STR, 0},
    [ZYDIS_MNEMONIC_SMSW] = {INSN_SMSW, 0},
    [ZYDIS_MNEMONIC_LMSW] = {INSN_LMSW, 0},
    [ZYDIS_MNEMONIC_LLDT] = {INSN_LLDT, 0},
    [ZYDIS_MNEMONIC_LTR] = {INSN_LTR, 0},
    [ZYDIS_MNEMONIC_SGDT] = {INSN_SGDT, 0},
    [ZYDIS_MNEMONIC_SIDT] = {INSN_SIDT, 0},
    [ZYDIS_MNEMONIC_LGDT] = {INSN_LGDT, 0},
    [ZYDIS_MNEMONIC_LIDT] = {INSN_LIDT, 0},
    [ZYDIS_MNEMONIC_LES] = {INSN_LES, 0},
    [ZYDIS_MNEMONIC_LSS] = {INSN_LSS, 0},
    [ZYDIS_MNEMONIC_LDS] = {INSN_LDS, 0},
    [ZYDIS_MNEMONIC_LFS] = {INSN_LFS, 0},
    [ZYDIS_MNEMONIC_LGS] = {INSN_LGS, 0},
};

// Runs of registers in Zydis's numbering: what the first one is.
static const struct register_run {
    ZydisRegister first, last;
    struct insn_operand operand;
} register_runs[] = {
    {ZYDIS_REGISTER_RAX, ZYDIS_REGISTER_R15, {INSN_OPERAND_REGISTER, 8, 0, false}},
    {ZYDIS_REGISTER_EAX, ZYDIS_REGISTER_R15D, {INSN_OPERAND_REGISTER, 4, 0, false}},
    {ZYDIS_REGISTER_AX, ZYDIS_REGISTER_R15W, {INSN_OPERAND_REGISTER, 2, 0, false}},
    {ZYDIS_REGISTER_AL, ZYDIS_REGISTER_BL, {INSN_OPERAND_REGISTER, 1, 0, false}},
    {ZYDIS_REGISTER_AH, ZYDIS_REGISTER_BH, {INSN_OPERAND_REGISTER, 1, 0, true}},
    {ZYDIS_REGISTER_SPL, ZYDIS_REGISTER_R15B, {INSN_OPERAND_REGISTER, 1, 4, false}},
    {ZYDIS_REGISTER_XMM0, ZYDIS_REGISTER_XMM15, {INSN_OPERAND_VECTOR, 16, 0, false}},
    {ZYDIS_REGISTER_YMM0, ZYDIS_REGISTER_YMM15, {INSN_OPERAND_VECTOR, 32, 0, false}},
    {ZYDIS_REGISTER_MM0, ZYDIS_REGISTER_MM7, {INSN_OPERAND_MMX, 8, 0, false}},
    {ZYDIS_REGISTER_ES, ZYDIS_REGISTER_GS, {INSN_OPERAND_SEGMENT, 2, 0, false}},
};

static const struct mode {
    unsigned bits;
    ZydisMachineMode machine;
    ZydisStackWidth stack;
} modes[] = {
    {16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
    {32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
    {64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
};

static bool decoder_init(ZydisDecoder *decoder, unsigned mode_bits)
{
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++)
        if (modes[i].bits == mode_bits)
            return ZYAN_SUCCESS(ZydisDecoderInit(decoder, modes[i].machine, modes[i].stack));
    return false;
}

static struct insn_operand register_operand(ZydisRegister value)
{
    for (unsigned i = 0; i < ARRAY_SIZE(register_runs); i++) {
        const struct register_run *run = &register_runs[i];
        if (value >= run->first && value <= run->last) {
            struct insn_operand o = run->operand;
            o.reg = (u8)(o.reg + (value - run->first));
            return o;
        }
    }
    return (struct insn_operand){.kind = INSN_OPERAND_OTHER};
}

// A register that is part of an address.
static u8 address_register(ZydisRegister value)
{
    if (value == ZYDIS_REGISTER_RIP || value == ZYDIS_REGISTER_EIP)
        return INSN_REG_RIP;
    struct insn_operand o = register_operand(value);
    return o.kind == INSN_OPERAND_REGISTER ? o.reg : INSN_REG_NONE;
}

static u8 segment_number(ZydisRegister segment)
{
    const u8 ds = ZYDIS_REGISTER_DS - ZYDIS_REGISTER_ES;
    if (segment < ZYDIS_REGISTER_ES || segment > ZYDIS_REGISTER_GS)
        return ds;
    return (u8)(segment - ZYDIS_REGISTER_ES);
}

static void memory_operand(struct insn *insn, const ZydisDecodedOperandMem *mem)
{
    insn->segment = segment_number(mem->segment);
    insn->base = address_register(mem->base);
    insn->index = address_register(mem->index);
    insn->scale = mem->scale ? mem->scale : 1;
    insn->displacement = mem->disp.has_displacement ? mem->disp.value : 0;
}

static struct insn_operand operand(struct insn *insn, const ZydisDecodedOperand *from)
{
    struct insn_operand o = {.kind = INSN_OPERAND_OTHER, .size = (u8)(from->size / 8)};
    switch (from->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        return register_operand(from->reg.value);
    case ZYDIS_OPERAND_TYPE_MEMORY:
        if (from->mem.type == ZYDIS_MEMOP_TYPE_MEM) {
            memory_operand(insn, &from->mem);
            o.kind = INSN_OPERAND_MEMORY;
        }
        return o;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        insn->immediate = from->imm.value.u;
        o.kind = INSN_OPERAND_IMMEDIATE;
        return o;
    default:
        return o;
    }
}

static u8 prefixes(const ZydisDecodedInstruction *z)
{
    ZydisInstructionAttributes attributes = z->attributes;
    u8 p = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? INSN_VEX : 0;
    if (attributes & ZYDIS_ATTRIB_HAS_LOCK)
        p |= INSN_LOCK;
    if (attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
        p |= INSN_REP;
    if (attributes & ZYDIS_ATTRIB_HAS_REPNE)
        p |= INSN_REPNE;
    return p;
}

// The only thing that the operands of a string instruction and of XLAT leave open is the source's
// segment.
static void string_segment(struct insn *insn, const ZydisDecodedOperand *operands, unsigned count)
{
    const u8 rbx = 3, rsi = 6;
    insn->segment = segment_number(ZYDIS_REGISTER_DS);
    for (unsigned i = 0; i < count; i++) {
        u8 base = address_register(operands[i].mem.base);
        if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY && (base == rsi || base == rbx))
            insn->segment = segment_number(operands[i].mem.segment);
    }
}

static bool uses_stack(unsigned op)
{
    return (op >= INSN_PUSH && op <= INSN_ENTER) || op >= INSN_RET_FAR;
}

static bool has_two_parts(unsigned op)
{
    return op >= INSN_SGDT;
}

// Bytes of the longest operand in memory that is not INSN_OTHER.
static unsigned size_max(unsigned op)
{
    static const u8 longer[INSN_OP_COUNT] = {
        [INSN_VECTOR] = 32, [INSN_CMPXCHG8B] = 16, [INSN_CLFLUSH] = 64};
    return longer[op] ? longer[op] : 8;
}

// Which operations take which kind of register besides general ones.
static bool plain(const struct insn_operand *o, unsigned op)
{
    switch (o->kind) {
    case INSN_OPERAND_MEMORY:
        return has_two_parts(op) ||
               (o->size && o->size <= size_max(op) && !(o->size & (o->size - 1)));
    case INSN_OPERAND_VECTOR:
        return op == INSN_VECTOR || op == INSN_VECTOR_HALF;
    case INSN_OPERAND_MMX:
        return op == INSN_VECTOR;
    case INSN_OPERAND_SEGMENT:
        return op == INSN_MOV || op == INSN_MOV_SEGMENT || op == INSN_PUSH ||
               op == INSN_POP_SEGMENT;
    default:
        return o->kind != INSN_OPERAND_OTHER;
    }
}

// The forms that INSN_OTHER leaves: one operand is in memory (on the stack too none need be), and
// no operand is of another kind or size. MOVD and MOVQ between memory and a general register are
// not of them.
static bool is_known(const struct insn *insn)
{
    bool to = insn->to.kind == INSN_OPERAND_MEMORY, from = insn->from.kind == INSN_OPERAND_MEMORY;
    unsigned other = to ? insn->from.kind : insn->to.kind;
    return (to != from || uses_stack(insn->op)) && plain(&insn->to, insn->op) &&
           plain(&insn->from, insn->op) &&
           (insn->op != INSN_VECTOR || other != INSN_OPERAND_REGISTER);
}

static bool is_far(const ZydisDecodedInstruction *z)
{
    return z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

// What the operands make of the operation.
static unsigned refined(const struct insn *insn, const ZydisDecodedInstruction *z)
{
    if (insn->op == INSN_MOV && insn->to.kind == INSN_OPERAND_SEGMENT)
        return INSN_MOV_SEGMENT;
    if (insn->op == INSN_POP && insn->to.kind == INSN_OPERAND_SEGMENT)
        return INSN_POP_SEGMENT;
    if (!is_far(z))
        return insn->op;
    if (insn->op == INSN_RET)
        return INSN_RET_FAR;
    bool indirect = insn->to.kind == INSN_OPERAND_MEMORY;
    if (indirect && insn->op == INSN_JMP)
        return INSN_JMP_FAR;
    return indirect && insn->op == INSN_CALL ? INSN_CALL_FAR : INSN_OTHER;
}

static void third_operand(struct insn *insn, const ZydisDecodedOperand *third)
{
    if (third->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        insn->immediate = third->imm.value.u;
    else
        insn->count_in_cl = true;
}

static void plain_operands(struct insn *insn, const ZydisDecodedInstruction *z,
                           const ZydisDecodedOperand *operands, bool high_half)
{
    if (z->operand_count_visible > 0)
        insn->to = operand(insn, &operands[0]);
    if (insn->op == INSN_ENTER)
        insn->displacement = (s64)insn->immediate;
    if (z->operand_count_visible > 1)
        insn->from = operand(insn, &operands[1]);
    if (z->operand_count_visible > 2)
        third_operand(insn, &operands[2]);
    insn->operands = z->operand_count_visible;
    insn->condition = z->opcode & CONDITION_MASK;
    insn->op = (u8)refined(insn, z);
    bool implied = uses_stack(insn->op) || has_two_parts(insn->op);
    insn->operand_size = implied ? (u8)(z->operand_width / 8) : insn->to.size;
    insn->to.high |= high_half;
    insn->from.high |= high_half;
    if (!is_known(insn))
        insn->op = INSN_OTHER;
}

#define ESC_FIRST    0xd8
#define ESC_LAST     0xdf
#define MOD_REGISTER 3

static bool is_x87_memory(const ZydisDecodedInstruction *z)
{
    return z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && z->opcode >= ESC_FIRST &&
           z->opcode <= ESC_LAST && z->raw.modrm.mod != MOD_REGISTER;
}

// Registers are implied. Those that load or store the environment have another form with operands
// of 16 bits, and in real mode.
static void x87_operand(struct insn *insn, const ZydisDecodedInstruction *z,
                        const ZydisDecodedOperand *operands)
{
    const unsigned environment = 14;
    insn->op = INSN_X87;
    insn->x87 = (u8)((z->opcode & (ESC_LAST - ESC_FIRST)) << 3 | z->raw.modrm.reg);
    for (unsigned i = 0; i < z->operand_count; i++) {
        if (operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        bool written = operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        struct insn_operand *o = written ? &insn->to : &insn->from;
        *o = operand(insn, &operands[i]);
        if (o->size >= environment)
            insn->op = INSN_OTHER;
    }
}

bool insn_decode(const u8 *bytes, unsigned length, unsigned mode_bits, struct insn *insn)
{
    ZydisDecoder decoder;
    ZydisDecoderContext context;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (!decoder_init(&decoder, mode_bits) ||
        !ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, &context, bytes, length, &z)) ||
        !ZYAN_SUCCESS(
            ZydisDecoderDecodeOperands(&decoder, &context, &z, operands, z.operand_count)))
        return false;

    const struct operation *operation = &operations[z.mnemonic];
    static const struct operation scalar = {INSN_VECTOR, 0};
    bool string = operation->size && operation->op != INSN_VECTOR_HALF;
    // MOVSD and CMPSD are also names of vector instructions.
    if (string && z.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT) {
        operation = z.mnemonic == ZYDIS_MNEMONIC_MOVSD ? &scalar : &operations[0];
        string = false;
    }
    *insn = (struct insn){.op = operation->op,
                          .length = z.length,
                          .prefixes = prefixes(&z),
                          .mode_bits = (u8)mode_bits,
                          .operand_size = operation->size,
                          .address_size = (u8)(z.address_width / 8),
                          .base = INSN_REG_NONE,
                          .index = INSN_REG_NONE,
                          .scale = 1};
    if (string)
        string_segment(insn, operands, z.operand_count);
    else if (is_x87_memory(&z))
        x87_operand(insn, &z, operands);
    else
        plain_operands(insn, &z, operands, operation->size == HALF_HIGH);
    return true;
}

static bool is_legacy_prefix(u8 byte)
{
    static const u8 prefix[] = {0x66, 0x67, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    for (unsigned i = 0; i < sizeof(prefix); i++)
        if (byte == prefix[i])
            return true;
    return false;
}

// In 32-bit modes the byte is also BOUND's, but that is never refused.
bool insn_is_evex(const u8 *bytes, unsigned length)
{
    const u8 evex = 0x62;
    unsigned i = 0;
    while (i < length && is_legacy_prefix(bytes[i]))
        i++;
    return i < length && bytes[i] == evex;
}

unsigned insn_format(const u8 *bytes, unsigned length, unsigned mode_bits, u64 rip, char *to,
                     size_t size)
{
    ZydisDecoder decoder;
    ZydisFormatter formatter;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (size == 0 || !decoder_init(&decoder, mode_bits) ||
        !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, length, &z, operands)) ||
        !ZYAN_SUCCESS(ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)))
        return 0;
    if (!ZYAN_SUCCESS(ZydisFormatterFormatInstruction(
            &formatter, &z, operands, z.operand_count_visible, to, size, rip, NULL)))
        string_copy(to, size, "(an instruction too long to print)");
    return z.length;
}
