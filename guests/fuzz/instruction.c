// SPDX-License-Identifier: MIT
// The instruction of a trial: a table of kinds, each with a weight. Most are of sorts that exit;
// the rest are any bytes. What would end the machine (a reset, INIT to CPU 0, other descriptor
// tables) is made seldom.
#include "guests/fuzz/trial.h"

#define PORT_CONFIG_ADDRESS 0xcf8
#define LOCAL_APIC          0xfee00000
#define ICR                 0x30 // number of the register
#define ICR_INIT_MASK       0x700u
#define OPCODE_SYSENTER     0x34 // behind 0FH
#define OPCODE_SYSEXIT      0x35
#define SELDOM              256
#define VERY_SELDOM         4096
#define FW_CFG_DMA_LOW      0x518
// Of 0FH 01H; two below are the stores.
#define GROUP_SGDT          0
#define GROUP_LGDT          2
#define GROUP_LIDT          3
#define GROUP_LMSW          6

static unsigned operand_size(const struct trial *t)
{
    return t->way->bits == 16 ? 2 : 4;
}

static void prefix_any(struct trial *t)
{
    static const u8 prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf0};
    while (one_in(4))
        emit(t, PICK(prefixes));
    if (t->way->bits == 64 && one_in(2))
        emit(t, (u8)(0x40 | random_below(16)));
}

// --- ports ---

static const u16 ports[] = {
    0x20,  0x21,  0xa0,  0xa1,  0x4d0, 0x4d1, 0x40,   0x41,   0x42,   0x43,   0x61,   0x60,
    0x70,  0x71,  0x80,  0xed,  0xe0,  0xe4,  0xe9,   0x402,  0xcf8,  0xcfc,  0xcfd,  0xcfe,
    0x2f8, 0x2fb, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd,  0x3fe,  0x510,  0x511,  0x514,  0x518,
    0x600, 0x608, 0x620, 0x624, 0x1f0, 0x3d4, 0xfff0, 0xffff, 0x2000, 0x2004, 0x2016,
};
static const u16 reset_ports[] = {0x64, 0x92, 0xcf9, 0xf4, 0x604, 0x605, 0x3f8};

static u64 port(void)
{
    if (one_in(VERY_SELDOM))
        return PICK(reset_ports);
    return one_in(4) ? random64() & 0xffff : PICK(ports);
}

static void make_port(struct trial *t)
{
    static const u8 opcodes[] = {0xec, 0xed, 0xee, 0xef};
    u64 number = port();
    t->gpr[GPR_RDX] = one_in(2) ? number : number | (random64() & ~0xffffull);
    if (number == PORT_CONFIG_ADDRESS)
        t->gpr[GPR_RAX] = 0x80000000 | random_below(0x10000);
    if (number == FW_CFG_DMA_LOW)
        t->gpr[GPR_RAX] =
            __builtin_bswap32((u32)FUZZ_REQUESTS + random_below(REQUESTS) * REQUEST_SIZE);
    if (one_in(4))
        emit(t, 0x66);
    if (one_in(6) && number < 0x100) {
        emit(t, (u8)(0xe4 + random_below(4)));
        emit(t, (u8)number);
    } else {
        emit(t, PICK(opcodes));
    }
}

static void make_port_string(struct trial *t)
{
    t->gpr[GPR_RDX] = port();
    if (one_in(2))
        emit(t, one_in(4) ? 0xf2 : 0xf3);
    if (one_in(4))
        emit(t, 0x66);
    if (one_in(4))
        emit(t, 0x67);
    emit(t, (u8)(0x6c + random_below(4)));
}

// --- MSRs ---

static const struct msr_range {
    u32 first, count;
} msr_ranges[] = {
    {0, 0x400},      {0x10, 1},       {0x1b, 1},           {0x3a, 2},        {0x174, 3},
    {0x179, 3},      {0x1a0, 1},      {0x1d9, 1},          {0x200, 16},      {0x250, 32},
    {0x277, 1},      {0x2ff, 1},      {0x400, 0x80},       {0x480, 0x20},    {0x6e0, 1},
    {0x800, 256},    {0x800, 64},     {0xda0, 1},          {0x4b564d00, 16}, {0x40000000, 0x100},
    {0xc0000080, 8}, {0xc0000100, 8}, {0xc0010000, 0x120}, {0, ~0u},
};

static void make_msr(struct trial *t)
{
    const struct msr_range *range = &PICK(msr_ranges);
    u32 index = range->first + (u32)((random64() >> 32) % range->count);
    u64 value = random_value(t->way);
    if (index == MSR_IA32_APIC_BASE && !one_in(16))
        value = 0xfee00800 | (random64() & 0x500);
    if (index == MSR_X2APIC_FIRST + ICR && !one_in(VERY_SELDOM))
        value &= ~(u64)ICR_INIT_MASK;
    t->gpr[GPR_RCX] = index;
    t->gpr[GPR_RAX] = (u32)value;
    t->gpr[GPR_RDX] = value >> 32;
    emit(t, 0x0f);
    emit(t, one_in(2) ? 0x30 : 0x32);
}

// --- control and debug registers ---

static u64 near_value(unsigned number)
{
    volatile struct fuzz_header *h = FUZZ_HEADER;
    u64 ends = number == 0 ? CR0_PG | CR0_PE : number == 4 ? CR4_PAE : 0;
    u64 safe = one_in(SELDOM) ? ~0ull : ~ends;
    u64 value = number == 0 ? h->cr0 : number == 3 ? h->cr3 : number == 4 ? h->cr4 : random64();
    if (number == 3)
        return value | (one_in(4) ? BIT(52 + random_below(12)) : 0) | random_below(32);
    unsigned bit = random_below(one_in(8) ? 64 : 31);
    return value ^ (one_in(8) ? 0 : BIT(bit) & safe);
}

static void make_control(struct trial *t)
{
    static const u8 numbers[] = {0, 0, 0, 2, 3, 3, 4, 4, 4};
    bool wide = t->way->bits == 64;
    unsigned number = one_in(8) ? random_below(wide ? 16 : 8) : PICK(numbers);
    if (wide && (number >= 8 || one_in(4)))
        emit(t, (u8)(0x40 | (number >= 8 ? 4 : 0)));
    else if (one_in(16))
        emit(t, 0xf0); // MOV CR8 elsewhere, for some CPUs
    emit(t, 0x0f);
    emit(t, (u8)(0x20 + random_below(2) * 2));
    emit(t, (u8)(0xc0 | (number & 7) << 3 | GPR_RAX));
    t->gpr[GPR_RAX] = near_value(number);
}

static void make_debug(struct trial *t)
{
    emit(t, 0x0f);
    emit(t, (u8)(0x21 + random_below(2) * 2));
    emit_modrm_register(t, random_below(8));
}

// --- system instructions ---

static void make_group(struct trial *t)
{
    operands_in_ram(t);
    prefix_any(t);
    emit(t, 0x0f);
    emit(t, one_in(4) ? 0x00 : 0x01);
    unsigned reg = random_below(8);
    bool ends = reg == GROUP_LGDT || reg == GROUP_LIDT || reg == GROUP_LMSW;
    if (ends && t->way->cpl == 0 && !one_in(32))
        reg -= GROUP_LGDT - GROUP_SGDT; // the store for the load
    if (one_in(2))
        emit_modrm_register(t, reg);
    else
        emit_modrm_memory(t, reg);
}

static void make_selector_group(struct trial *t)
{
    t->gpr[GPR_RAX] = random_any_selector(t->way);
    emit(t, 0x0f);
    emit(t, 0x00);
    emit(t, (u8)(0xc0 | random_below(6) << 3));
}

// Length first.
static const u8 plain[][6] = {
    {1, 0xf4},
    {2, 0xfb, 0xf4},
    {2, 0xfa, 0xf4},
    {2, 0x0f, 0xa2},
    {2, 0x0f, 0xa2},
    {2, 0x0f, 0xa2},
    {2, 0x0f, 0x06},
    {2, 0x0f, 0x08},
    {2, 0x0f, 0x09},
    {2, 0x0f, 0x31},
    {2, 0x0f, 0x33},
    {3, 0x0f, 0x01, 0xc1},
    {3, 0x0f, 0x01, 0xd9},
    {3, 0x0f, 0x01, 0xc2},
    {3, 0x0f, 0x01, 0xc3},
    {3, 0x0f, 0x01, 0xc4},
    {3, 0x0f, 0x01, 0xd4},
    {3, 0x0f, 0x01, 0xc8},
    {3, 0x0f, 0x01, 0xc9},
    {3, 0x0f, 0x01, 0xd0},
    {3, 0x0f, 0x01, 0xd1},
    {3, 0x0f, 0x01, 0xf8},
    {3, 0x0f, 0x01, 0xf9},
    {3, 0x0f, 0x01, 0xd8},
    {3, 0x0f, 0x01, 0xcf},
    {3, 0x0f, 0x01, 0xd7},
    {3, 0x0f, 0x01, 0xca},
    {3, 0x0f, 0x01, 0xcb},
    {3, 0x0f, 0x01, 0xee},
    {2, 0x0f, 0x05},
    {2, 0x0f, 0x07},
    {2, 0x0f, 0x34},
    {2, 0x0f, 0x35},
    {3, 0x48, 0x0f, 0x07},
    {2, 0x0f, 0x37},
    {2, 0x0f, 0xaa},
    {2, 0x0f, 0x0b},
    {1, 0xf1},
    {1, 0xcc},
    {1, 0xce},
    {2, 0xf3, 0x90},
    {1, 0x9c},
    {1, 0x9d},
    {1, 0xfa},
    {1, 0xfb},
    {2, 0x8e, 0xd0},
    {2, 0x0f, 0x78},
    {3, 0x0f, 0x78, 0xc1},
    {3, 0x0f, 0x79, 0xc1},
    {4, 0x66, 0x0f, 0x38, 0x80},
    {4, 0x66, 0x0f, 0x38, 0x81},
    {4, 0x66, 0x0f, 0x38, 0x82},
    {3, 0x0f, 0xc7, 0xf0},
    {3, 0x0f, 0xc7, 0xf8},
    {4, 0xf3, 0x0f, 0xc7, 0xf8},
    {4, 0xf3, 0x0f, 0xae, 0xf0},
    {4, 0xf2, 0x0f, 0xae, 0xf0},
    {4, 0x66, 0x0f, 0xae, 0xf0},
    {4, 0xf3, 0x0f, 0xae, 0xd0},
    {4, 0xf3, 0x0f, 0xae, 0xc8},
    {2, 0x0f, 0x77},
    {2, 0x0f, 0x0e},
    {2, 0xdb, 0xe3},
    {1, 0x9b},
};

static void make_plain(struct trial *t)
{
    static const u32 leaves[] = {0, 1, 4, 7, 0xb, 0xd, 0x15, 0x40000000, 0x80000000};
    const u8 *bytes = PICK(plain);
    t->gpr[GPR_RAX] = one_in(2) ? PICK(leaves) + random_below(4) : random_value(t->way);
    if (one_in(2))
        t->gpr[GPR_RCX] = random_below(4);
    bool syscall = bytes[0] == 2 && (bytes[2] == OPCODE_SYSENTER || bytes[2] == OPCODE_SYSEXIT);
    if (syscall && t->way->flavour != LONG && t->way->cpl == 0 && !one_in(SELDOM))
        return;
    for (unsigned i = 1; i <= bytes[0]; i++)
        emit(t, bytes[i]);
    if (bytes[0] != 4 || bytes[3] != 0x38)
        return;
    operands_in_ram(t);
    emit_modrm_memory(t, random_below(8));
}

// --- control flow ---

static void make_branch(struct trial *t)
{
    operands_in_ram(t);
    static const u8 returns[] = {0xcf, 0xcb, 0xca, 0xc3, 0xc2};
    static const u8 far_direct[] = {0x9a, 0xea};
    if (one_in(4) && t->way->bits != 64)
        emit(t, 0x66);
    if (t->way->bits == 64 && one_in(2))
        emit(t, 0x48);
    switch (random_below(5)) {
    case 0:
        emit(t, PICK(returns));
        emit_number(t, random_below(64), 2);
        break;
    case 1:
        emit(t, PICK(far_direct));
        emit_number(t, one_in(2) ? FUZZ_HEADER->finish32 : random_value(t->way), operand_size(t));
        emit_number(t, random_any_selector(t->way), 2);
        break;
    case 2:
        emit(t, 0xff);
        emit_modrm_memory(t, 2 + random_below(4));
        break;
    default:
        emit(t, OPCODE_INT);
        emit(t, one_in(4) ? (u8)(0xa0 + random_below(16)) : (u8)random64());
    }
}

static void make_segment(struct trial *t)
{
    operands_in_ram(t);
    static const u8 loads[] = {0xb2, 0xb4, 0xb5};
    t->gpr[GPR_RAX] = random_any_selector(t->way);
    switch (random_below(3)) {
    case 0:
        emit(t, 0x8e);
        emit(t, (u8)(0xc0 | random_below(8) << 3));
        break;
    case 1:
        emit(t, 0x0f);
        emit(t, PICK(loads));
        emit_modrm_memory(t, random_below(8));
        break;
    default:
        emit(t, 0x8e);
        emit_modrm_memory(t, random_below(8));
    }
}

// Another stack, then something that uses it.
static void make_stack(struct trial *t)
{
    static const u8 users[] = {0x50, 0x58, 0x60, 0x61, 0xc8, 0xc9,
                               0xcf, 0xcc, 0xc3, 0x9c, 0x06, 0x07};
    emit(t, 0x89);
    emit(t, 0xc4); // MOV ESP, EAX
    operands_in_ram(t);
    if (one_in(8) && (t->way->flavour != LONG || t->way->cpl))
        t->gpr[GPR_RAX] = random_address(t->way);
    if (one_in(4)) {
        emit(t, 0xff);
        emit_modrm_memory(t, 6);
    } else {
        emit(t, PICK(users));
    }
    emit_number(t, 0, 3);
    t->loose = true;
}

// --- memory ---

// It may be shorter; what is left over must not be an instruction that ends a kernel's VM.
static void emit_immediate(struct trial *t)
{
    emit_number(t, t->ram || t->way->cpl ? random64() : 0, 4);
    t->loose = true;
}

static void make_memory(struct trial *t)
{
    operands_in_ram(t);
    prefix_any(t);
    if (one_in(2))
        emit(t, 0x0f);
    emit(t, (u8)random64());
    emit_modrm_memory(t, random_below(8));
    emit_immediate(t);
}

// ALU and moves: what drivers use.
static void make_move(struct trial *t)
{
    static const u8 opcodes[] = {0x88, 0x89, 0x8a, 0x8b, 0x00, 0x01, 0x03, 0x09, 0x21,
                                 0x31, 0x39, 0x85, 0x86, 0x87, 0xfe, 0xff, 0xf6, 0xf7,
                                 0x80, 0x81, 0x83, 0xc6, 0xc7, 0xd1, 0xd3, 0x8f};
    prefix_any(t);
    u8 opcode = PICK(opcodes);
    bool divides = opcode == 0xf6 || opcode == 0xf7;
    emit(t, opcode);
    emit_modrm_memory(t, random_below(divides ? 4 : 8));
    emit_immediate(t);
}

static void make_locked(struct trial *t)
{
    static const u8 opcodes[] = {0x01, 0x08, 0x11, 0x29, 0x31, 0x87, 0x39,
                                 0x89, 0x8b, 0xfe, 0xff, 0xf7, 0x81};
    static const u8 wide[] = {0xb0, 0xb1, 0xc0, 0xc1, 0xab, 0xb3, 0xbb, 0xba, 0xc7, 0xa3};
    emit(t, 0xf0);
    if (one_in(2)) {
        emit(t, 0x0f);
        emit(t, PICK(wide));
    } else {
        emit(t, PICK(opcodes));
    }
    emit_modrm_memory(t, random_below(8));
    emit_immediate(t);
}

static void make_string(struct trial *t)
{
    static const u8 opcodes[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
    if (!one_in(4))
        emit(t, one_in(4) ? 0xf2 : 0xf3);
    prefix_any(t);
    emit(t, PICK(opcodes));
}

static void make_vector(struct trial *t)
{
    static const u8 prefixes[] = {0x66, 0xf2, 0xf3};
    static const u8 moves[] = {0x10, 0x11, 0x28, 0x29, 0x2b};
    bool any = one_in(2);
    if (any)
        operands_in_ram(t);
    if (one_in(3) && t->way->flavour != REAL && !t->way->vm86) {
        emit(t, 0xc5);
        emit(t, (u8)(0xc0 | (random64() & 0x3f)));
    } else {
        if (one_in(2))
            emit(t, PICK(prefixes));
        emit(t, 0x0f);
    }
    emit(t, any ? (u8)random64() : PICK(moves));
    emit_modrm_memory(t, random_below(8));
    emit_immediate(t);
}

static const struct registers {
    u64 base;
    unsigned count, stride;
} devices[] = {
    {LOCAL_APIC, 64, 16},  {LOCAL_APIC, 64, 16},          {0xfec00000, 2, 16}, // the I/O APIC
    {0xfed00000, 64, 4},                        // HPET, and its timers
    {0xfed00100, 24, 4},   {0xb00fa000, 64, 4}, // the disks' host adapter: PCI, then its own
    {FUZZ_ADAPTER, 11, 4}, {FUZZ_ADAPTER + 0x110, 12, 4}, {0xb0000000, 1024, 4},
    {0xb00f8000, 64, 4},
};

static void make_register(struct trial *t)
{
    const struct registers *device = &PICK(devices);
    unsigned reg = random_below(device->count);
    u64 value = random_value(t->way);
    if (device->base == LOCAL_APIC && reg == ICR && !one_in(VERY_SELDOM))
        value &= ~(u64)ICR_INIT_MASK;
    t->gpr[GPR_RBX] = device->base + reg * device->stride + (one_in(32) ? random_below(16) : 0);
    t->gpr[GPR_RAX] = value;
    if (t->way->bits == 16)
        emit(t, 0x67); // EBX
    if (one_in(16))
        emit(t, 0x66);
    else if (t->way->bits == 64 && one_in(8))
        emit(t, 0x48);
    emit(t, one_in(3) ? 0x8b : 0x89);
    emit(t, 0x03);
}

static void make_hypercall(struct trial *t)
{
    t->gpr[GPR_RAX] = one_in(4) ? random64() : random_below(16);
    emit(t, 0x0f);
    emit(t, 0x01);
    emit(t, one_in(4) ? 0xd9 : 0xc1);
}

static void make_bytes(struct trial *t)
{
    operands_in_ram(t);
    unsigned length = 1 + random_below(15);
    for (unsigned i = 0; i < length; i++)
        emit(t, (u8)random64());
    t->loose = true;
}

static const struct kind {
    u8 weight;
    void (*make)(struct trial *);
} kinds[] = {
    {12, make_port},    {6, make_port_string}, {10, make_msr},           {8, make_control},
    {2, make_debug},    {6, make_group},       {3, make_selector_group}, {12, make_plain},
    {5, make_branch},   {3, make_segment},     {3, make_stack},          {8, make_memory},
    {10, make_move},    {4, make_locked},      {8, make_string},         {6, make_vector},
    {8, make_register}, {2, make_hypercall},   {8, make_bytes},
};

void instruction_make(struct trial *t)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
        sum += kinds[i].weight;
    unsigned choice = random_below(sum);
    const struct kind *kind = kinds;
    while (choice >= kind->weight)
        choice -= kind++->weight;
    kind->make(t);
}
