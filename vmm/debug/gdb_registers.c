// SPDX-License-Identifier: MIT
// GDB's registers of a 64-bit x86 CPU. The features and their first registers are fixed by GDB (its
// manual, "i386 Features"); what follows in "system" is ours to name. Control registers, selectors
// and EFER are for reading: their changes would need what goes with them.
#include "vmm/debug/gdb_registers.h"
#include "vmm/guest_cpu/control_registers.h"
#include "vmm/debug/debug.h"
#include "vmm/emulate/guest_walk.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/format.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/regs.h"
#include "arch/x86_64/xstate.h"

enum source {
    FROM_GPR,
    FROM_RIP,
    FROM_REG,
    FROM_SELECTOR,
    FROM_BASE,
    FROM_CR8,
    FROM_XSTATE,
    FROM_TAGS
};

enum type { TYPE_INT, TYPE_CODE, TYPE_DATA, TYPE_FLAGS, TYPE_X87, TYPE_VECTOR, TYPE_COUNT };

struct reg {
    char name[10];
    u8 size; // bytes
    u8 type, source;
    u16 index; // by the source: register, segment, offset in the XSAVE area
    u8 bytes;  // of the XSAVE area
};

#define GPR(name, gpr)                                                                             \
    {                                                                                              \
        name, 8, TYPE_INT, FROM_GPR, gpr, 0                                                        \
    }
#define POINTER(name, gpr)                                                                         \
    {                                                                                              \
        name, 8, TYPE_DATA, FROM_GPR, gpr, 0                                                       \
    }
#define SELECTOR(name, seg)                                                                        \
    {                                                                                              \
        name, 4, TYPE_INT, FROM_SELECTOR, seg, 0                                                   \
    }
#define BASE(name, seg)                                                                            \
    {                                                                                              \
        name, 8, TYPE_INT, FROM_BASE, seg, 0                                                       \
    }
#define SYSTEM(name, reg)                                                                          \
    {                                                                                              \
        name, 8, TYPE_INT, FROM_REG, reg, 0                                                        \
    }
#define X87(name, at, bytes)                                                                       \
    {                                                                                              \
        name, 4, TYPE_INT, FROM_XSTATE, at, bytes                                                  \
    }
#define ST(n)                                                                                      \
    {                                                                                              \
        "st" #n, 10, TYPE_X87, FROM_XSTATE, 32 + 16 * (n), 10                                      \
    }
#define XMM(n)                                                                                     \
    {                                                                                              \
        "xmm" #n, 16, TYPE_VECTOR, FROM_XSTATE, 160 + 16 * (n), 16                                 \
    }
#define XSTATE_TAGS        4
#define XSTATE_MXCSR       24
#define XSTATE_MXCSR_MASK  28
#define MXCSR_MASK_DEFAULT 0xffbfu // where the CPU leaves it 0
#define FEATURE_MAX        128
#define FIRST_X87          24
#define FIRST_SSE          40
#define FIRST_SYSTEM       57
#define TAG_EMPTY          3u
#define TAG_BITS           2

static const struct reg registers[] = {
    GPR("rax", GPR_RAX),
    GPR("rbx", GPR_RBX),
    GPR("rcx", GPR_RCX),
    GPR("rdx", GPR_RDX),
    GPR("rsi", GPR_RSI),
    GPR("rdi", GPR_RDI),
    POINTER("rbp", GPR_RBP),
    POINTER("rsp", GPR_RSP),
    GPR("r8", GPR_R8),
    GPR("r9", GPR_R9),
    GPR("r10", GPR_R10),
    GPR("r11", GPR_R11),
    GPR("r12", GPR_R12),
    GPR("r13", GPR_R13),
    GPR("r14", GPR_R14),
    GPR("r15", GPR_R15),
    {"rip", 8, TYPE_CODE, FROM_RIP, 0, 0},
    {"eflags", 4, TYPE_FLAGS, FROM_REG, REG_RFLAGS, 0},
    SELECTOR("cs", SEG_CS),
    SELECTOR("ss", SEG_SS),
    SELECTOR("ds", SEG_DS),
    SELECTOR("es", SEG_ES),
    SELECTOR("fs", SEG_FS),
    SELECTOR("gs", SEG_GS),
    ST(0),
    ST(1),
    ST(2),
    ST(3),
    ST(4),
    ST(5),
    ST(6),
    ST(7),
    X87("fctrl", 0, 2),
    X87("fstat", 2, 2),
    {"ftag", 4, TYPE_INT, FROM_TAGS, XSTATE_TAGS, 1},
    X87("fiseg", 12, 2),
    X87("fioff", 8, 4),
    X87("foseg", 20, 2),
    X87("fooff", 16, 4),
    X87("fop", 6, 2),
    XMM(0),
    XMM(1),
    XMM(2),
    XMM(3),
    XMM(4),
    XMM(5),
    XMM(6),
    XMM(7),
    XMM(8),
    XMM(9),
    XMM(10),
    XMM(11),
    XMM(12),
    XMM(13),
    XMM(14),
    XMM(15),
    X87("mxcsr", XSTATE_MXCSR, 4),
    BASE("fs_base", SEG_FS),
    BASE("gs_base", SEG_GS),
    SYSTEM("k_gs_base", REG_KERNEL_GS_BASE),
    BASE("gdt_base", SEG_GDTR),
    BASE("idt_base", SEG_IDTR),
    BASE("tr_base", SEG_TR),
    SYSTEM("cr0", REG_CR0),
    SYSTEM("cr2", REG_CR2),
    SYSTEM("cr3", REG_CR3),
    SYSTEM("cr4", REG_CR4),
    {"cr8", 8, TYPE_INT, FROM_CR8, 0, 0},
    SYSTEM("efer", REG_EFER),
};
const unsigned gdb_register_count = ARRAY_SIZE(registers);
const unsigned gdb_general_count = FIRST_X87;

unsigned gdb_register_size(unsigned number)
{
    return number < ARRAY_SIZE(registers) ? registers[number].size : 0;
}

// --- values ---

static struct segment segment_of(struct vcpu *vcpu, unsigned which)
{
    struct segment segment;
    vcpu->ops->segment_read(vcpu, (enum vcpu_segment)which, &segment);
    return segment;
}

// Of the registers, from one bit each: is it in use?
static u64 tags_expand(u8 used)
{
    u64 tags = 0;
    for (unsigned i = 0; i < 8; i++)
        tags |= used & BIT(i) ? 0 : (u64)TAG_EMPTY << (i * TAG_BITS);
    return tags;
}

static u8 tags_shorten(u64 tags)
{
    u8 used = 0;
    for (unsigned i = 0; i < 8; i++)
        if (bits_get(tags, i * TAG_BITS, TAG_BITS) != TAG_EMPTY)
            used |= (u8)BIT(i);
    return used;
}

static u64 read_number(struct vcpu *vcpu, const struct reg *reg)
{
    switch ((enum source)reg->source) {
    case FROM_GPR:
        return vcpu_gpr_read(vcpu, reg->index);
    case FROM_RIP:
        return debug_linear_rip(vcpu);
    case FROM_REG:
        return vcpu_reg(vcpu, (enum vcpu_reg)reg->index);
    case FROM_SELECTOR:
        return segment_of(vcpu, reg->index).selector;
    case FROM_BASE:
        return segment_of(vcpu, reg->index).base;
    case FROM_CR8:
        return control_register_read(vcpu, 8);
    default:
        return tags_expand(*((u8 *)vcpu->xstate + reg->index));
    }
}

unsigned gdb_register_read(struct vcpu *vcpu, unsigned number, u8 to[GDB_REGISTER_MAX])
{
    if (number >= ARRAY_SIZE(registers))
        return 0;
    const struct reg *reg = &registers[number];
    memset(to, 0, GDB_REGISTER_MAX);
    if (reg->source == FROM_XSTATE) {
        memcpy(to, (u8 *)vcpu->xstate + reg->index, reg->bytes);
    } else {
        u64 value = read_number(vcpu, reg);
        memcpy(to, &value, sizeof(value));
    }
    return reg->size;
}

static bool write_rip(struct vcpu *vcpu, u64 value)
{
    struct guest_paging paging;
    guest_paging_read(vcpu, &paging);
    if (paging.code64 && !guest_canonical(&paging, value))
        return false;
    debug_set_linear_rip(vcpu, value);
    vcpu->halted = false;
    return true;
}

// What the CPU would refuse to load is cut to what it takes.
static void write_base(struct vcpu *vcpu, unsigned which, u64 value)
{
    struct segment segment = segment_of(vcpu, which);
    segment.base = vcpu_canonical_form(vcpu, value);
    vcpu->ops->segment_write(vcpu, (enum vcpu_segment)which, &segment);
}

static void write_flags(struct vcpu *vcpu, u64 value)
{
    u64 old = vcpu_reg(vcpu, REG_RFLAGS);
    vcpu->ops->reg_write(vcpu, REG_RFLAGS, (value & ~RFLAGS_VM) | (old & RFLAGS_VM));
}

static void write_xstate(struct vcpu *vcpu, const struct reg *reg, const u8 *from)
{
    u8 *area = vcpu->xstate, *to = area + reg->index;
    u64 *components = (u64 *)(area + XSTATE_LEGACY_SIZE);
    *components |= XCR0_X87 | XCR0_SSE;
    memcpy(to, from, reg->bytes);
    if (reg->index != XSTATE_MXCSR)
        return;
    u32 *mxcsr = (u32 *)to, mask = *(u32 *)(area + XSTATE_MXCSR_MASK);
    *mxcsr &= mask ? mask : MXCSR_MASK_DEFAULT; // else loading it faults
}

bool gdb_register_write(struct vcpu *vcpu, unsigned number, const u8 from[GDB_REGISTER_MAX])
{
    u64 value;
    if (number >= ARRAY_SIZE(registers))
        return false;
    const struct reg *reg = &registers[number];
    memcpy(&value, from, sizeof(value));
    if (reg->source == FROM_GPR)
        vcpu_gpr_write(vcpu, reg->index, value);
    else if (reg->source == FROM_RIP)
        return write_rip(vcpu, value);
    else if (reg->source == FROM_REG && reg->index == REG_RFLAGS)
        write_flags(vcpu, (u32)value);
    else if (reg->source == FROM_BASE && (reg->index == SEG_FS || reg->index == SEG_GS))
        write_base(vcpu, reg->index, value);
    else if (reg->source == FROM_XSTATE)
        write_xstate(vcpu, reg, from);
    else if (reg->source == FROM_TAGS)
        ((u8 *)vcpu->xstate)[reg->index] = tags_shorten(value);
    else
        return false;
    return true;
}

// --- the description ---

// A window onto the text, which is made anew for each part of it.
struct window {
    struct gdb_reply *reply;
    u64 skip, left;
    bool more; // there is text behind it
};

static void window_text(struct window *w, const char *text)
{
    for (; *text; text++) {
        char one[2] = {*text, '\0'};
        if (w->skip) {
            w->skip--;
        } else if (w->left) {
            w->left--;
            gdb_reply_text(w->reply, one);
        } else {
            w->more = true;
        }
    }
}

static void describe_flags(struct window *w)
{
    static const struct {
        char name[3];
        u8 bit;
    } flags[] = {{"CF", 0},  {"PF", 2},  {"AF", 4},  {"ZF", 6},  {"SF", 7},
                 {"TF", 8},  {"IF", 9},  {"DF", 10}, {"OF", 11}, {"NT", 14},
                 {"RF", 16}, {"VM", 17}, {"AC", 18}, {"ID", 21}};
    char text[FEATURE_MAX];
    window_text(w, "<flags id=\"i386_eflags\" size=\"4\">");
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
        format_text(text, sizeof(text), "<field name=\"%s\" start=\"%u\" end=\"%u\"/>",
                    flags[i].name, flags[i].bit, flags[i].bit);
        window_text(w, text);
    }
    window_text(w, "</flags>");
}

static void describe_register(struct window *w, const struct reg *reg)
{
    static const char *const types[TYPE_COUNT] = {
        [TYPE_INT] = "int",           [TYPE_CODE] = "code_ptr", [TYPE_DATA] = "data_ptr",
        [TYPE_FLAGS] = "i386_eflags", [TYPE_X87] = "i387_ext",  [TYPE_VECTOR] = "uint128"};
    char text[FEATURE_MAX];
    format_text(text, sizeof(text), "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"/>", reg->name,
                reg->size * 8u, types[reg->type]);
    window_text(w, text);
}

static void describe_feature(struct window *w, const char *name, unsigned first, unsigned end)
{
    char text[FEATURE_MAX];
    format_text(text, sizeof(text), "<feature name=\"%s\">", name);
    window_text(w, text);
    if (first == 0)
        describe_flags(w);
    for (unsigned i = first; i < end; i++)
        describe_register(w, &registers[i]);
    window_text(w, "</feature>");
}

bool gdb_description(struct gdb_reply *reply, u64 offset, u64 length)
{
    struct window w = {.reply = reply, .skip = offset, .left = length};
    window_text(&w, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
                    "<architecture>i386:x86-64</architecture>");
    describe_feature(&w, "org.gnu.gdb.i386.core", 0, FIRST_SSE);
    describe_feature(&w, "org.gnu.gdb.i386.sse", FIRST_SSE, FIRST_SYSTEM);
    describe_feature(&w, "org.gnu.gdb.i386.segments", FIRST_SYSTEM, FIRST_SYSTEM + 2);
    describe_feature(&w, "plinth.system", FIRST_SYSTEM + 2, ARRAY_SIZE(registers));
    window_text(&w, "</target>");
    return w.more;
}
