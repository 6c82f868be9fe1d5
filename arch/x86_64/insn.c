// SPDX-License-Identifier: MIT
// The border to Zydis: the translation of operands, and what they make of an operation.
#include "arch/x86_64/insn.h"
#include "arch/x86_64/insn_table.h"
#include "vmm/lib/string.h"
#include <Zydis/Zydis.h>

#define CONDITION_MASK 0xf

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
    case ZYDIS_OPERAND_TYPE_POINTER:
        insn->immediate = from->ptr.offset;
        insn->displacement = from->ptr.segment;
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
    return (op >= INSN_PUSH && op <= INSN_POPA) || op >= INSN_RET_FAR;
}

static bool reads_descriptors(unsigned op)
{
    return op == INSN_MOV_SEGMENT || (op >= INSN_LLDT && op <= INSN_VERW) || op == INSN_JMP_FAR ||
           op == INSN_CALL_FAR;
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
        return op == INSN_VECTOR;
    case INSN_OPERAND_MMX:
        return op == INSN_VECTOR;
    case INSN_OPERAND_SEGMENT:
        return op == INSN_MOV || op == INSN_MOV_SEGMENT || op == INSN_PUSH ||
               op == INSN_POP_SEGMENT;
    default:
        return o->kind != INSN_OPERAND_OTHER;
    }
}

// The forms that INSN_OTHER leaves: one operand is in memory (none need be where the stack or a
// descriptor is), and no operand is of another kind or size. MOVD and MOVQ between memory and a
// general register are not of them.
static bool is_known(const struct insn *insn)
{
    bool to = insn->to.kind == INSN_OPERAND_MEMORY, from = insn->from.kind == INSN_OPERAND_MEMORY;
    unsigned other = to ? insn->from.kind : insn->to.kind;
    bool implied = uses_stack(insn->op) || reads_descriptors(insn->op);
    return (to != from || implied) && plain(&insn->to, insn->op) && plain(&insn->from, insn->op) &&
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
    if (insn->op == INSN_JMP)
        return INSN_JMP_FAR;
    return insn->op == INSN_CALL ? INSN_CALL_FAR : insn->op;
}

static void third_operand(struct insn *insn, const ZydisDecodedOperand *third)
{
    if (third->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        insn->immediate = third->imm.value.u;
    else
        insn->count_in_cl = true;
}

static void plain_operands(struct insn *insn, const ZydisDecodedInstruction *z,
                           const ZydisDecodedOperand *operands)
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
    if (!is_known(insn))
        insn->op = INSN_OTHER;
}

static bool names_vectors(unsigned op)
{
    return op >= INSN_VECTOR_LANE && op <= INSN_VECTOR_MASK;
}

// One operand in memory, vector registers, a number. The first register is what a load changes, and
// a store's mask; the last one is what a store stores. Two that are one are named once.
static void vector_operands(struct insn *insn, const ZydisDecodedInstruction *z,
                            const ZydisDecodedOperand *operands)
{
    struct insn_operand memory = {0}, first = {0}, last = {0};
    insn->immediate = insn->operand_size;
    for (unsigned i = 0; i < z->operand_count_visible; i++) {
        struct insn_operand o = operand(insn, &operands[i]);
        if (o.kind == INSN_OPERAND_MEMORY)
            memory = o;
        else if (o.kind == INSN_OPERAND_VECTOR && !first.size)
            first = last = o;
        else if (o.kind == INSN_OPERAND_VECTOR)
            last = o;
        else if (o.kind != INSN_OPERAND_IMMEDIATE)
            insn->op = INSN_OTHER;
    }
    bool store = operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    insn->to = store ? memory : first;
    insn->from = store ? last : memory;
    insn->second = store ? first.reg : last.reg;
    if (!memory.size || !first.size || memory.size > first.size ||
        (memory.size & (memory.size - 1)))
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

static bool is_integer(const ZydisDecodedInstruction *z)
{
    return z->meta.isa_ext == ZYDIS_ISA_EXT_BMI1 || z->meta.isa_ext == ZYDIS_ISA_EXT_BMI2 ||
           z->meta.isa_ext == ZYDIS_ISA_EXT_ADOX_ADCX || z->mnemonic == ZYDIS_MNEMONIC_CRC32;
}

static void native_operand(struct insn *insn, const ZydisDecodedInstruction *z,
                           const ZydisDecodedOperand *operands)
{
    const ZydisDecodedOperand *memory = insn_native_memory(z, operands);
    if (!memory)
        return;
    struct insn_operand o = operand(insn, memory);
    insn->op = INSN_NATIVE;
    insn->integer = is_integer(z);
    insn->to = memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? o : (struct insn_operand){0};
    insn->from = memory->actions & ZYDIS_OPERAND_ACTION_MASK_READ ? o : (struct insn_operand){0};
}

static bool decode_full(const u8 *bytes, unsigned length, unsigned mode_bits,
                        ZydisDecodedInstruction *z, ZydisDecodedOperand *operands)
{
    ZydisDecoder decoder;
    ZydisDecoderContext context;
    return decoder_init(&decoder, mode_bits) &&
           ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, &context, bytes, length, z)) &&
           ZYAN_SUCCESS(
               ZydisDecoderDecodeOperands(&decoder, &context, z, operands, z->operand_count));
}

// All but the operand in memory is what it was.
static bool same_operands(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *a,
                          const ZydisDecodedInstruction *made, const ZydisDecodedOperand *b)
{
    if (z->mnemonic != made->mnemonic || z->operand_count != made->operand_count)
        return false;
    for (unsigned i = 0; i < z->operand_count; i++)
        if (a[i].type != b[i].type || a[i].size != b[i].size ||
            (a[i].type == ZYDIS_OPERAND_TYPE_REGISTER && a[i].reg.value != b[i].reg.value))
            return false;
    return true;
}

unsigned insn_relocate(const u8 *bytes, unsigned length, unsigned mode_bits, u32 displacement,
                       u8 *to)
{
    ZydisDecodedInstruction z, made;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT], others[ZYDIS_MAX_OPERAND_COUNT];
    if (!decode_full(bytes, length, mode_bits, &z, operands) || !insn_native_memory(&z, operands))
        return 0;
    unsigned n = insn_native_bytes(&z, operands, bytes, displacement, to);
    bool good = n && decode_full(to, n, 64, &made, others) && made.length == n &&
                same_operands(&z, operands, &made, others);
    return good ? n : 0;
}

bool insn_decode(const u8 *bytes, unsigned length, unsigned mode_bits, struct insn *insn)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (!decode_full(bytes, length, mode_bits, &z, operands))
        return false;

    const struct insn_operation *operation = &insn_operations[z.mnemonic];
    static const struct insn_operation scalar = {INSN_VECTOR, 0};
    bool string = operation->size && !names_vectors(operation->op);
    // MOVSD and CMPSD are also names of vector instructions.
    if (string && z.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT) {
        operation = z.mnemonic == ZYDIS_MNEMONIC_MOVSD ? &scalar : &insn_operations[0];
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
    else if (names_vectors(insn->op))
        vector_operands(insn, &z, operands);
    else
        plain_operands(insn, &z, operands);
    if (insn->op == INSN_OTHER)
        native_operand(insn, &z, operands);
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
