// SPDX-License-Identifier: MIT
// One trial: registers, flags and selectors, and a few bytes of code, mostly one instruction,
// chosen from those that a hypervisor has to do with. Behind it the code leads back to modes.asm:
// by a jump at privilege level 0, else by INT 80H. Opcodes: SDM volume 2, "Opcode Map".
#include "guests/fuzz/fuzz.h"
#include "guests/fuzz/trial.h"

#define CODE_END         44 // where the way back lies, at the latest
#define OPCODE_JMP       0xe9
#define PREFIX_O32       0x66
#define JMP_SELF         0xfeeb
#define FLAGS_RANDOM     0x4cd5ull // all but TF, IF, IOPL
#define SIB_NO_INDEX     0x20
#define REAL_RAM         5
#define GROUND_PARAGRAPH (FUZZ_GROUND >> 4)
#define NOPS             0x9090909090909090ull
#define FRAME_VALUES     16

typedef u64 u64_unaligned ALIGNED(1);

// --- numbers ---

static u64 state;

void random_seed(u64 seed)
{
    state = seed * 0x9e3779b97f4a7c15ull + 0x632be59bd9b4e019ull;
    for (unsigned i = 0; i < 8; i++)
        random64();
}

// "xorshift64*", Marsaglia and Vigna.
u64 random64(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1dull;
}

static const u64 devices[] = {
    0xa0000,    0xb8000,    0xb0000000, 0xb0001000, 0xb0008000, 0xd0000000, 0xfec00000, 0xfec00010,
    0xfec00040, 0xfed00000, 0xfed000f0, 0xfee00000, 0xfee00020, 0xfee00080, 0xfee000b0, 0xfee000f0,
    0xfee00300, 0xfee00310, 0xfee00320, 0xfee00380, 0xfee003e0, 0xff000000, 0xff000ff8, 0xff00fff0,
    0xfed00100, 0xfed00108, 0xb00fa000, 0xb00fa024, 0xc1000000, 0xc1000010, 0xc1000110, 0xc1000138,
};

u64 random_address(const struct way *way)
{
    switch (random_below(8)) {
    case 0:
    case 1:
        return FUZZ_GROUND + random_below(GROUND_SIZE - PAGE_SIZE);
    case 2: // across pages
        return FUZZ_GROUND + (1 + random_below(16)) * PAGE_SIZE - random_below(16);
    case 3:
        if (way->paging != PAGING_NONE)
            return FUZZ_MAZE + random_below((unsigned)MAZE_SIZE);
        return PICK(devices);
    case 4:
        return PICK(devices) + random_below(64);
    case 5:
        return one_in(8) ? random64() : PICK(devices) - random_below(16);
    default:
        return PICK(devices);
    }
}

// For instructions that are not emulated: there, the VM of a kernel that tries them on a device
// ends.
void operands_in_ram(struct trial *t)
{
    t->ram = t->way->cpl == 0;
    for (unsigned i = 0; t->ram && i < ARRAY_SIZE(t->gpr); i++)
        t->gpr[i] = FUZZ_GROUND + (random_below(GROUND_SIZE / 2) & ~15u);
}

u64 random_value(const struct way *way)
{
    switch (random_below(6)) {
    case 0:
        return random_below(64);
    case 1:
        return BIT(random_below(64));
    case 2:
        return random64();
    case 3:
        return ~(u64)random_below(16);
    default:
        return random_address(way);
    }
}

static u16 random_selector(const struct way *way, bool ram)
{
    static const u16 real[] = {0x3000, 0x3fff, 0x4000, 0x5001, 0x6000, // RAM
                               0x7000, 0xa000, 0xb800, 0xf000};
    static const u16 system[] = {0, SEL_USER_DATA, SEL_USER_DATA, SEL_SMALL, SEL_SMALL, SEL_DATA};
    static const u16 user[] = {0, SEL_USER_DATA, SEL_USER_DATA, SEL_SMALL, SEL_SMALL};
    if (way->flavour == REAL || way->vm86)
        return ram ? real[random_below(REAL_RAM)] : PICK(real);
    if (ram)
        return SEL_SMALL;
    return way->cpl ? PICK(user) : PICK(system);
}

u16 random_any_selector(const struct way *way)
{
    if (way->flavour == REAL)
        return (u16)(GROUND_PARAGRAPH + random_below(0x5000));
    return one_in(8) ? (u16)random64() : (u16)(random_below(SEL_RANDOM + 64) & ~4u);
}

// --- code ---

void emit(struct trial *t, u8 byte)
{
    if (t->length < CODE_MAX)
        t->code[t->length++] = byte;
}

void emit_number(struct trial *t, u64 value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        emit(t, (u8)(value >> 8 * i));
}

void emit_modrm_register(struct trial *t, unsigned reg)
{
    emit(t, (u8)(0xc0 | (reg & 7) << 3 | random_below(8)));
}

// An operand in memory, by a register, with a displacement perhaps.
void emit_modrm_memory(struct trial *t, unsigned reg)
{
    unsigned mod = one_in(4) ? 1 + random_below(2) : 0, rm = random_below(8);
    bool wide = t->way->bits != 16;
    if (wide && mod == 0 && rm == 5)
        rm = 3; // no absolute address
    emit(t, (u8)(mod << 6 | (reg & 7) << 3 | rm));
    if (wide && rm == 4) // SIB; two addresses in memory make one beyond it
        emit(t, (u8)(t->ram ? SIB_NO_INDEX | random_below(4) : random_below(0x40)));
    emit_number(t, random_below(32), mod == 1 ? 1 : mod == 2 ? (wide ? 4 : 2) : 0);
}

static u32 way_back(const struct way *way)
{
    volatile struct fuzz_header *h = FUZZ_HEADER;
    if (way->flavour == REAL)
        return h->finish16;
    if (way->flavour == PROTECTED)
        return way->bits == 32 ? h->finish32 : h->finish_wide16;
    return way->bits == 64 ? h->finish64 : way->bits == 32 ? h->finish_compat : h->finish_compat16;
}

// Eight bytes, of which those that count are followed by what is placed next.
static void place(u8 *at, u64 value)
{
    *(volatile u64_unaligned *)at = value;
}

static void end_place(const struct way *way, u8 *code)
{
    bool prefix = way->bits == 16 && way->flavour != REAL;
    unsigned operand = way->flavour == REAL ? 2 : 4;
    if (way->cpl) {
        place(code, OPCODE_INT | INT_FINISHED << 8 | (u64)JMP_SELF << 16 | NOPS << 32);
        return;
    }
    if (prefix)
        *code++ = PREFIX_O32;
    *code++ = OPCODE_JMP;
    u64 displacement = (way_back(way) - ((u64)code + operand)) & (BIT(8 * operand) - 1);
    place(code, displacement | NOPS << 8 * operand);
}

static void code_place(const struct trial *t, unsigned number)
{
    u8 *code = (u8 *)(FUZZ_CODE + number * CODE_SIZE);
    for (unsigned i = 0; i < CODE_SIZE; i += sizeof(u64))
        place(code + i, NOPS);
    for (unsigned i = 0; i < t->length; i++)
        code[i] = t->code[i];
    end_place(t->way, code + CODE_END);
    if (!t->loose)
        end_place(t->way, code + t->length);
}

// --- the record ---

struct record {
    u8 *at;
};

static void record_add(struct record *r, u64 value, unsigned size)
{
    place(r->at, value);
    r->at += size;
}

static u64 random_flags(const struct way *way, bool steps)
{
    u64 flags =
        RFLAGS_RESERVED | (random64() & FLAGS_RANDOM & ~(one_in(4) ? 0 : RFLAGS_NT | RFLAGS_DF));
    if (one_in(2))
        flags |= RFLAGS_IF;
    if (steps && one_in(16))
        flags |= RFLAGS_TF;
    if (one_in(2))
        flags |= RFLAGS_IOPL;
    if (one_in(8) && way->flavour != REAL)
        flags |= RFLAGS_RF | RFLAGS_AC;
    return way->vm86 ? flags | RFLAGS_VM : flags;
}

static u16 code_selector(const struct way *way)
{
    if (way->flavour == REAL || way->vm86)
        return FUZZ_SEGMENT;
    if (way->bits == 64)
        return way->cpl ? SEL_USER_CODE64 : SEL_CODE64;
    if (way->bits == 32)
        return way->cpl ? SEL_USER_CODE32 : SEL_CODE32;
    return way->cpl ? SEL_USER_CODE16 : SEL_CODE16;
}

// Registers in the order of POPA.
static void record_legacy(const struct trial *t, struct record *r, u64 ip, u64 flags)
{
    const struct way *way = t->way;
    unsigned size = way->flavour == REAL ? 2 : 4;
    for (int i = GPR_RDI; i >= GPR_RAX; i--)
        record_add(r, t->gpr[i], 4);
    record_add(r, ip, size);
    record_add(r, code_selector(way), size);
    record_add(r, flags, size);
    if (!way->cpl)
        return;
    record_add(r, way->vm86 ? random_below(0x10000) : random_address(way), size);
    record_add(r, way->vm86 ? PICK(((const u16[]){0x3000, 0x4000, 0x5000})) : SEL_USER_DATA, size);
    for (unsigned i = 0; way->vm86 && i < 4; i++)
        record_add(r, random_selector(way, t->ram), size);
}

static void record_long(const struct trial *t, struct record *r, u64 ip, u64 flags)
{
    static const u8 order[] = {GPR_RAX, GPR_RCX, GPR_RDX, GPR_RBX, GPR_RBP, GPR_RSI, GPR_RDI};
    const struct way *way = t->way;
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        record_add(r, t->gpr[order[i]], 8);
    for (unsigned i = GPR_R8; i <= GPR_R15; i++)
        record_add(r, t->gpr[i], 8);
    record_add(r, ip, 8);
    record_add(r, code_selector(way), 8);
    record_add(r, flags, 8);
    bool any = way->cpl && one_in(8); // what a kernel's stack is on, is emulated in part only
    record_add(r, any ? random_address(way) : FUZZ_GROUND + 0x100 + random_below(0x8000), 8);
    record_add(r, way->cpl ? SEL_USER_DATA : SEL_DATA, 8);
}

// No steps where tables or stacks may be gone. Behind its registers a trial has its stack, if it
// has that of level 0: frames to return to, then what was there before.
static void record_place(const struct trial *t, unsigned number)
{
    u8 *start = (u8 *)(FUZZ_RECORDS + number * RECORD_SIZE);
    struct record r = {start};
    u64 ip = FUZZ_CODE + number * CODE_SIZE;
    if (t->way->flavour == REAL || t->way->vm86)
        ip -= FUZZ_BASE;
    for (unsigned i = 0; i < 4; i++)
        record_add(&r, t->way->vm86 ? SEL_DATA : random_selector(t->way, t->ram), 2);
    if (t->way->flavour == LONG)
        record_long(t, &r, ip, random_flags(t->way, !t->ram));
    else
        record_legacy(t, &r, ip, random_flags(t->way, !t->ram));
    for (unsigned i = 0; i < FRAME_VALUES; i++)
        record_add(&r, one_in(2) ? random_any_selector(t->way) : random_value(t->way),
                   one_in(4) ? 2 : 4);
}

// What stands before the instruction: it blocks or unblocks interrupts, or turns strings around. It
// changes no register that the instruction has values in.
static void lead_make(struct trial *t)
{
    static const u8 leads[][2] = {{0xfa}, {0xfb}, {0xfd}, {0x0f, 0x06}, {0x16, 0x17}};
    const u8 *lead = leads[random_below(ARRAY_SIZE(leads) - (t->way->bits == 64))];
    emit(t, lead[0]);
    if (lead[1])
        emit(t, lead[1]);
}

// A string instruction that goes on for long overwrites what modes.asm stands on.
static u64 random_repeats(void)
{
    if (one_in(1024))
        return random64();
    return random_below(one_in(16) ? PAGE_SIZE / sizeof(u64) : 40);
}

void trial_make(const struct way *way, unsigned number)
{
    struct trial t = {.way = way};
    for (unsigned i = 0; i < ARRAY_SIZE(t.gpr); i++)
        t.gpr[i] = one_in(4) ? random_value(way) : random_address(way);
    t.gpr[GPR_RCX] = random_repeats();
    if (one_in(4))
        lead_make(&t);
    instruction_make(&t);
    record_place(&t, number);
    code_place(&t, number);
}
