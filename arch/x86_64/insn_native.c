// SPDX-License-Identifier: MIT
// Instructions that compute with vector, MMX and general registers and one operand in memory: they
// can be run as they are, on a copy of the operand (native.h). Which they are goes by the extension
// that they came with; nothing that is privileged, branches, or has an operand that is implied.
#include "arch/x86_64/insn.h"
#include "arch/x86_64/insn_table.h"
#include "vmm/lib/string.h"
#include <Zydis/Zydis.h>

#define NATIVE_SIZE_MAX     32
#define NATIVE_MOD_REGISTER 3
#define MOD_DISP32          0x80 // ModRM with a displacement of 32 bits, and
#define RM_SIB              4    // a SIB byte behind
#define SIB_RSP             0x24 // RSP, no index
#define REX_W_R             0x4c
#define VEX_2               0xc5
#define VEX_X_B             0x60 // inverted: 1 is none
#define VEX_V_HIGH          0x40 // of VEX.vvvv, inverted as well
#define VEX_W               0x80

static const u8 extensions[] = {
    ZYDIS_ISA_EXT_ADOX_ADCX,  ZYDIS_ISA_EXT_AES,      ZYDIS_ISA_EXT_AVX,   ZYDIS_ISA_EXT_AVX2,
    ZYDIS_ISA_EXT_AVXAES,     ZYDIS_ISA_EXT_AVX_VNNI, ZYDIS_ISA_EXT_BMI1,  ZYDIS_ISA_EXT_BMI2,
    ZYDIS_ISA_EXT_F16C,       ZYDIS_ISA_EXT_FMA,      ZYDIS_ISA_EXT_GFNI,  ZYDIS_ISA_EXT_MMX,
    ZYDIS_ISA_EXT_PCLMULQDQ,  ZYDIS_ISA_EXT_SHA,      ZYDIS_ISA_EXT_SSE,   ZYDIS_ISA_EXT_SSE2,
    ZYDIS_ISA_EXT_SSE3,       ZYDIS_ISA_EXT_SSE4,     ZYDIS_ISA_EXT_SSSE3, ZYDIS_ISA_EXT_VAES,
    ZYDIS_ISA_EXT_VPCLMULQDQ,
};

static bool is_harmless(const ZydisDecodedInstruction *z)
{
    for (unsigned i = 0; i < sizeof(extensions); i++)
        if (z->meta.isa_ext == extensions[i])
            return z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT &&
                   (z->attributes & ZYDIS_ATTRIB_HAS_MODRM) &&
                   z->raw.modrm.mod != NATIVE_MOD_REGISTER;
    return false;
}

static bool is_register(const ZydisDecodedOperand *o, ZydisRegister first, ZydisRegister last)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= first && o->reg.value <= last;
}

static bool names_general(const ZydisDecodedOperand *operands, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (is_register(&operands[i], ZYDIS_REGISTER_AL, ZYDIS_REGISTER_R15))
            return true;
    return false;
}

static bool names_stack_pointer(const ZydisDecodedOperand *operands, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (is_register(&operands[i], ZYDIS_REGISTER_SP, ZYDIS_REGISTER_SP) ||
            is_register(&operands[i], ZYDIS_REGISTER_ESP, ZYDIS_REGISTER_ESP) ||
            is_register(&operands[i], ZYDIS_REGISTER_RSP, ZYDIS_REGISTER_RSP))
            return true;
    return false;
}

// In 16-bit code a general register of an instruction without VEX has another size.
const ZydisDecodedOperand *insn_native_memory(const ZydisDecodedInstruction *z,
                                              const ZydisDecodedOperand *operands)
{
    const ZydisDecodedOperand *memory = NULL;
    if (!is_harmless(z) || names_stack_pointer(operands, z->operand_count) ||
        (z->machine_mode != ZYDIS_MACHINE_MODE_LONG_64 && z->stack_width == 16 &&
         z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
         names_general(operands, z->operand_count)))
        return NULL;
    for (unsigned i = 0; i < z->operand_count; i++) {
        if (operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        if (memory || operands[i].mem.type != ZYDIS_MEMOP_TYPE_MEM || !operands[i].size ||
            operands[i].size > NATIVE_SIZE_MAX * 8)
            return NULL;
        memory = &operands[i];
    }
    return memory;
}

static bool is_kept_prefix(u8 byte)
{
    const u8 operand_size = 0x66, repne = 0xf2, rep = 0xf3;
    return byte == operand_size || byte == repne || byte == rep;
}

// All before ModRM. Segment and address size go, as do the bits that the address has in REX.
static unsigned copy_legacy(const ZydisDecodedInstruction *z, const u8 *bytes, u8 *to)
{
    unsigned n = 0, i = 0;
    bool rex = z->attributes & ZYDIS_ATTRIB_HAS_REX;
    for (; i < z->raw.prefix_count; i++)
        if (is_kept_prefix(bytes[i]))
            to[n++] = bytes[i];
        else if (rex && i == z->raw.rex.offset)
            to[n++] = bytes[i] & (u8)~3u;
    for (; i < z->raw.modrm.offset; i++)
        to[n++] = bytes[i];
    return n;
}

// Those of which no operand shows that it is a general register's: it is implied, or in memory.
static bool implies_general(const ZydisDecodedInstruction *z)
{
    static const ZydisMnemonic mnemonics[] = {ZYDIS_MNEMONIC_VCVTSI2SD, ZYDIS_MNEMONIC_VCVTSI2SS,
                                              ZYDIS_MNEMONIC_VPCMPESTRI, ZYDIS_MNEMONIC_VPCMPESTRM};
    for (unsigned i = 0; i < ARRAY_SIZE(mnemonics); i++)
        if (z->mnemonic == mnemonics[i])
            return true;
    return false;
}

// Other modes ignore VEX.vvvv's high bit, and VEX.W with general registers.
static unsigned copy_vex(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
                         const u8 *bytes, u8 *to)
{
    unsigned from = z->raw.vex.offset, n = z->raw.modrm.offset - from;
    memcpy(to, bytes + from, n);
    u8 *last = to + (to[0] == VEX_2 ? 1 : 2);
    if (to[0] != VEX_2)
        to[1] |= VEX_X_B;
    if (z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64)
        return n;
    *last |= VEX_V_HIGH;
    if (to[0] != VEX_2 && (names_general(operands, z->operand_count) || implies_general(z)))
        *last &= (u8)~VEX_W;
    return n;
}

unsigned insn_native_bytes(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
                           const u8 *bytes, u32 displacement, u8 *to)
{
    u8 made[2 * INSN_LENGTH_MAX];
    unsigned behind = z->raw.disp.offset  ? z->raw.disp.offset + z->raw.disp.size / 8u
                      : z->raw.sib.offset ? z->raw.sib.offset + 1u
                                          : z->raw.modrm.offset + 1u;
    unsigned n = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? copy_vex(z, operands, bytes, made)
                                                               : copy_legacy(z, bytes, made);
    made[n++] = (u8)(MOD_DISP32 | z->raw.modrm.reg << 3 | RM_SIB);
    made[n++] = SIB_RSP;
    memcpy(made + n, &displacement, sizeof(displacement));
    n += (unsigned)sizeof(displacement);
    memcpy(made + n, bytes + behind, z->length - behind);
    n += z->length - behind;
    if (n > INSN_LENGTH_MAX)
        return 0;
    memcpy(to, made, n);
    return n;
}
