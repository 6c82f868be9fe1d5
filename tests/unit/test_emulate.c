// SPDX-License-Identifier: MIT
// Emulated instructions against the real CPU: the same bytes run on both, on the same values;
// registers, flags and memory must come out the same. Then faults, segments, budgets, and what lies
// outside of RAM.
#include <string.h>
#include <sys/mman.h>
#include "tests/unit/test.h"
#include "arch/x86_64/insn.c"
#include "vmm/alu.c"
#include "vmm/alu_multiply.c"
#include "vmm/guest_walk.c"
#include "vmm/emulate_fetch.c"
#include "vmm/emulate_memory.c"
#include "vmm/emulate_string.c"
#include "vmm/emulate_stack.c"
#include "vmm/emulate_wide.c"
#include "vmm/emulate_arithmetic.c"
#include "vmm/emulate_system.c"
#include "vmm/task_segments.c"
#include "vmm/task_switch.c"
#include "vmm/emulate.c"
#include "tests/unit/fake_guest.h"

void *heap_alloc(size_t size)
{
    return calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

bool control_register_write(struct vcpu *v, unsigned number, u64 value)
{
    (void)v;
    CHECK_EQ(number, 0);
    regs[REG_CR0] = value;
    return true;
}

bool string_copy(char *to, size_t size, const char *from)
{
    return (size_t)snprintf(to, size, "%s", from) < size;
}

static u64 port_value;
static unsigned port_reads, port_writes;
bool vm_port_read(struct vcpu *v, u16 port, unsigned size, u64 *value)
{
    (void)v;
    CHECK_EQ(port, 0x1f0);
    port_reads++;
    *value = port_value++ & bytes_mask(size);
    return true;
}

bool vm_port_write(struct vcpu *v, u16 port, unsigned size, u64 value)
{
    (void)v;
    (void)size;
    CHECK_EQ(port, 0x1f0);
    port_writes++;
    port_value = value;
    return true;
}

// --- the real CPU ---

struct native {
    u64 rax, rcx, rdx, rbx, rsi, rdi, flags;
};
void native_run(struct native *state, const void *code);
__asm__(".text\n"
        "native_run:\n"
        "    push %rbx\n    push %rbp\n    push %rdi\n"
        "    mov %rsi, %rbp\n"
        "    mov 0(%rdi), %rax\n    mov 8(%rdi), %rcx\n    mov 16(%rdi), %rdx\n"
        "    mov 24(%rdi), %rbx\n    mov 32(%rdi), %rsi\n"
        "    push 48(%rdi)\n    popfq\n"
        "    mov 40(%rdi), %rdi\n"
        "    call *%rbp\n"
        "    pushfq\n    pop %r8\n    cld\n    pop %rbp\n"
        "    mov %rax, 0(%rbp)\n    mov %rcx, 8(%rbp)\n    mov %rdx, 16(%rbp)\n"
        "    mov %rbx, 24(%rbp)\n    mov %rsi, 32(%rbp)\n    mov %rdi, 40(%rbp)\n"
        "    mov %r8, 48(%rbp)\n"
        "    pop %rbp\n    pop %rbx\n    ret\n");

static u8 *native_code, *native_memory;

static void native_prepare(const u8 *code, unsigned length)
{
    if (!native_code) {
        native_code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        native_memory = native_code + 4096;
    }
    memcpy(native_code, code, length);
    native_code[length] = 0xc3;
}

// --- the emulator ---

static enum exit_action result;
static struct vm_exit ex;

static enum exit_action emulate(const void *code, unsigned length, gva_t gva, unsigned access)
{
    memcpy(ram + CODE, code, length);
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = CODE};
    ex.memory.gva = ex.memory.gpa = gva;
    ex.memory.gva_valid = true;
    ex.memory.access = access;
    return result = emulate_mmio(&vcpu, &ex);
}
#define EMULATE(code, gva, access) emulate(code, sizeof(code) - 1, gva, access)

static u64 random_state = 88172645463325252ull;
static u64 random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    static const u64 edges[] = {0,          1,      ~0ull,      0x80,       0x7f,
                                0x8000,     0x7fff, 0x80000000, 0x7fffffff, 1ull << 63,
                                ~0ull >> 1, 0xf,    0x10};
    if (random_state % 3 == 0)
        return edges[(random_state >> 8) % ARRAY_SIZE(edges)];
    return random_state;
}

#define ALL_FLAGS (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)
#define MIDDLE    2048 // registers point into the middle of the page

// Run the bytes on both with rdi (and rsi, 1024 below) pointing to the same contents. Returns false
// if they differ.
static bool same(const u8 *code, unsigned length, u64 flags, unsigned access, u64 compared)
{
    native_prepare(code, length);
    u64 a = random_u64(), b = random_u64(), c = random_u64();
    for (unsigned i = 0; i < 4096; i += 8) {
        u64 value = i == MIDDLE ? a : random_u64();
        memcpy(native_memory + i, &value, 8);
    }
    memcpy(device, native_memory, sizeof(device));
    bool strings = code[0] == 0xf2 || code[0] == 0xf3;
    struct native n = {.rax = b,
                       .rcx = strings ? b % 20 : c,
                       .rdx = c ^ a,
                       .rbx = a,
                       .rsi = (u64)native_memory + MIDDLE - 1024,
                       .rdi = (u64)native_memory + MIDDLE,
                       .flags = flags | 0x202};
    if (random_u64() % 4 == 0)
        n.rax = a; // so that CMPXCHG and SCAS find something
    vcpu.gpr[GPR_RAX] = n.rax;
    vcpu.gpr[GPR_RCX] = n.rcx;
    vcpu.gpr[GPR_RDX] = n.rdx;
    vcpu.gpr[GPR_RBX] = n.rbx;
    vcpu.gpr[GPR_RSI] = DEVICE + MIDDLE - 1024;
    vcpu.gpr[GPR_RDI] = DEVICE + MIDDLE;
    regs[REG_RFLAGS] = n.flags;
    native_run(&n, native_code);
    emulate(code, length, DEVICE + MIDDLE, access);
    return result == ACTION_NEXT && ex.length == length && n.rax == vcpu.gpr[GPR_RAX] &&
           n.rcx == vcpu.gpr[GPR_RCX] && n.rdx == vcpu.gpr[GPR_RDX] && n.rbx == vcpu.gpr[GPR_RBX] &&
           n.rdi - (u64)native_memory == vcpu.gpr[GPR_RDI] - DEVICE &&
           n.rsi - (u64)native_memory == vcpu.gpr[GPR_RSI] - DEVICE &&
           ((n.flags ^ regs[REG_RFLAGS]) & compared) == 0 &&
           (regs[REG_RFLAGS] & ~(u64)ALL_FLAGS) == ((flags | 0x202) & ~(u64)ALL_FLAGS) &&
           memcmp(native_memory, device, sizeof(device)) == 0;
}

// opcode: with [rdi] as the memory operand and `reg` in the other field; `immediate` bytes follow.
static void compare_cpu(const char *prefix, unsigned prefix_length, const char *opcode,
                        unsigned opcode_length, unsigned reg, unsigned immediate, unsigned access,
                        u64 compared)
{
    u8 code[16];
    for (unsigned round = 0; round < 60; round++) {
        unsigned n = 0;
        memcpy(code, prefix, prefix_length);
        memcpy(code + prefix_length, opcode, opcode_length);
        n = prefix_length + opcode_length;
        code[n++] = (u8)(7 | reg << 3);
        u64 value = random_u64();
        memcpy(code + n, &value, 8);
        n += immediate;
        if (!same(code, n, random_u64() & ALL_FLAGS, access, compared)) {
            printf("differs: prefix %02x opcode %02x %02x reg %u immediate %u\n",
                   prefix_length ? (u8)prefix[0] : 0, (u8)opcode[0],
                   opcode_length > 1 ? (u8)opcode[1] : 0, reg, immediate);
            test_failed = true;
            return;
        }
    }
}

static const struct size {
    const char *prefix;
    unsigned length, immediate; // of a full-size immediate
} sizes[] = {{"", 0, 4}, {"\x66", 1, 2}, {"\x48", 1, 4}};

#define R  PAGE_READ
#define W  PAGE_WRITE
#define RW (PAGE_READ | PAGE_WRITE)

TEST(arithmetic_as_the_cpu_does_it)
{
    fake_guest_reset();
    for (unsigned k = 0; k < 8; k++) { // add or adc sbb and sub xor cmp
        unsigned to_memory = k == 7 ? R : RW;
        for (unsigned reg = 0; reg < 6; reg++) {
            if (reg == 4)
                continue; // RSP; as a byte, AH, below
            char op[] = {(char)(k * 8), 0};
            compare_cpu("", 0, op, 1, reg & 3, 0, to_memory, ALL_FLAGS);
            op[0] = (char)(k * 8 + 2);
            compare_cpu("", 0, op, 1, reg & 3, 0, R, ALL_FLAGS);
        }
        char from_ah[] = {(char)(k * 8 + 2), 0}, to_ah[] = {(char)(k * 8), 0};
        compare_cpu("", 0, from_ah, 1, 4, 0, R, ALL_FLAGS);
        compare_cpu("", 0, to_ah, 1, 5, 0, to_memory, ALL_FLAGS);
        compare_cpu("", 0, "\x80", 1, k, 1, to_memory, ALL_FLAGS);
        for (unsigned s = 0; s < 3; s++) {
            char op[] = {(char)(k * 8 + 1), 0}, back[] = {(char)(k * 8 + 3), 0};
            compare_cpu(sizes[s].prefix, sizes[s].length, op, 1, 1, 0, to_memory, ALL_FLAGS);
            compare_cpu(sizes[s].prefix, sizes[s].length, back, 1, 3, 0, R, ALL_FLAGS);
            compare_cpu(sizes[s].prefix, sizes[s].length, "\x81", 1, k, sizes[s].immediate,
                        to_memory, ALL_FLAGS);
            compare_cpu(sizes[s].prefix, sizes[s].length, "\x83", 1, k, 1, to_memory, ALL_FLAGS);
        }
    }
}

TEST(one_operand_and_test)
{
    fake_guest_reset();
    compare_cpu("", 0, "\x84", 1, 1, 0, R, ALL_FLAGS);
    compare_cpu("", 0, "\xf6", 1, 0, 1, R, ALL_FLAGS);
    compare_cpu("", 0, "\xfe", 1, 0, 0, RW, ALL_FLAGS);
    compare_cpu("", 0, "\xfe", 1, 1, 0, RW, ALL_FLAGS);
    compare_cpu("", 0, "\xf6", 1, 2, 0, RW, ALL_FLAGS);
    compare_cpu("", 0, "\xf6", 1, 3, 0, RW, ALL_FLAGS);
    for (unsigned s = 0; s < 3; s++) {
        const struct size *z = &sizes[s];
        compare_cpu(z->prefix, z->length, "\x85", 1, 2, 0, R, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\xf7", 1, 0, z->immediate, R, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\xff", 1, 0, 0, RW, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\xff", 1, 1, 0, RW, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\xf7", 1, 2, 0, RW, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\xf7", 1, 3, 0, RW, ALL_FLAGS);
    }
}

TEST(moves)
{
    fake_guest_reset();
    compare_cpu("", 0, "\x88", 1, 1, 0, W, ALL_FLAGS);
    compare_cpu("", 0, "\x88", 1, 7, 0, W, ALL_FLAGS);
    compare_cpu("", 0, "\x8a", 1, 1, 0, R, ALL_FLAGS);
    compare_cpu("", 0, "\x8a", 1, 4, 0, R, ALL_FLAGS);
    compare_cpu("", 0, "\xc6", 1, 0, 1, W, ALL_FLAGS);
    compare_cpu("", 0, "\x0f\xc3", 2, 1, 0, W, ALL_FLAGS);
    compare_cpu("\x48", 1, "\x0f\xc3", 2, 1, 0, W, ALL_FLAGS);
    compare_cpu("\x48", 1, "\x63", 1, 2, 0, R, ALL_FLAGS);
    for (unsigned s = 0; s < 3; s++) {
        const struct size *z = &sizes[s];
        compare_cpu(z->prefix, z->length, "\x89", 1, 1, 0, W, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\x8b", 1, 1, 0, R, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\xc7", 1, 0, z->immediate, W, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\x0f\xb6", 2, 1, 0, R, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\x0f\xb7", 2, 1, 0, R, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\x0f\xbe", 2, 1, 0, R, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\x0f\xbf", 2, 1, 0, R, ALL_FLAGS);
    }
}

TEST(exchanges)
{
    fake_guest_reset();
    compare_cpu("", 0, "\x86", 1, 1, 0, RW, ALL_FLAGS);
    compare_cpu("", 0, "\x0f\xb0", 2, 1, 0, RW, ALL_FLAGS);
    compare_cpu("", 0, "\x0f\xc0", 2, 1, 0, RW, ALL_FLAGS);
    compare_cpu("\xf0", 1, "\x0f\xb1", 2, 1, 0, RW, ALL_FLAGS);
    for (unsigned s = 0; s < 3; s++) {
        const struct size *z = &sizes[s];
        compare_cpu(z->prefix, z->length, "\x87", 1, 1, 0, RW, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\x0f\xb1", 2, 1, 0, RW, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\x0f\xb1", 2, 3, 0, RW, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\x0f\xc1", 2, 1, 0, RW, ALL_FLAGS);
        compare_cpu(z->prefix, z->length, "\x0f\xc1", 2, 0, 0, RW, ALL_FLAGS);
    }
}

TEST(products)
{
    const u64 compared = RFLAGS_CF | RFLAGS_OF; // the others are undefined
    fake_guest_reset();
    compare_cpu("", 0, "\xf6", 1, 4, 0, R, compared);
    compare_cpu("", 0, "\xf6", 1, 5, 0, R, compared);
    for (unsigned s = 0; s < 3; s++) {
        const struct size *z = &sizes[s];
        compare_cpu(z->prefix, z->length, "\xf7", 1, 4, 0, R, compared);
        compare_cpu(z->prefix, z->length, "\xf7", 1, 5, 0, R, compared);
        compare_cpu(z->prefix, z->length, "\x0f\xaf", 2, 1, 0, R, compared);
        compare_cpu(z->prefix, z->length, "\x6b", 1, 1, 1, R, compared);
        compare_cpu(z->prefix, z->length, "\x69", 1, 3, z->immediate, R, compared);
    }
}

TEST(conditions)
{
    fake_guest_reset();
    for (unsigned condition = 0; condition < 16; condition++) {
        char set[] = {0x0f, (char)(0x90 + condition), 0},
             move[] = {0x0f, (char)(0x40 + condition), 0};
        compare_cpu("", 0, set, 2, 0, 0, W, ALL_FLAGS);
        for (unsigned s = 0; s < 3; s++)
            compare_cpu(sizes[s].prefix, sizes[s].length, move, 2, 1, 0, R, ALL_FLAGS);
    }
}

// A quotient that does not fit is #DE on the CPU, so the values are made to fit, and not by chance.
static void divide(bool is_signed, unsigned size, u64 divisor, u64 quotient, u64 remainder)
{
    const struct size *z = &sizes[size == 2 ? 1 : size == 8 ? 2 : 0];
    unsigned __int128 n = (unsigned __int128)divisor * quotient + remainder;
    u8 code[4] = {0};
    memcpy(code, z->prefix, z->length);
    code[z->length] = size == 1 ? 0xf6 : 0xf7;
    code[z->length + 1] = is_signed ? 0x3f : 0x37; // [rdi]
    if (is_signed)
        n = (unsigned __int128)((__int128)(s64)divisor * (s64)quotient + (s64)remainder);
    fake_guest_reset();
    memcpy(device, &divisor, 8);
    vcpu.gpr[GPR_RDI] = DEVICE;
    u64 mask = bytes_mask(size), low = (u64)n & mask, high = (u64)(n >> size * 8) & mask;
    vcpu.gpr[GPR_RAX] = size == 1 ? low | high << 8 : low;
    vcpu.gpr[GPR_RDX] = high;
    CHECK_EQ(emulate(code, z->length + 2, DEVICE, R), ACTION_NEXT);
    quotient &= mask;
    remainder &= mask;
    CHECK_EQ(vcpu.gpr[GPR_RAX], size == 1 ? quotient | remainder << 8 : quotient);
    CHECK_EQ(vcpu.gpr[GPR_RDX], size == 1 ? high : remainder);
}

TEST(quotients)
{
    for (unsigned size = 1; size <= 8; size *= 2) {
        u64 most = bytes_mask(size), least = ~(most >> 1); // signed: the most negative
        divide(false, size, 3, 5, 1);
        divide(false, size, most, most, most - 1);
        divide(true, size, (u64)-3, 5, (u64)-1);
        divide(true, size, (u64)-3, (u64)-5, 1);
        divide(true, size, 3, (u64)-5, (u64)-1);
        divide(true, size, (u64)-3, (u64)-5, 0);
        divide(true, size, 1, least, 0);
        divide(true, size, least, 1, 0);
        divide(true, size, (u64)-1, (u64)-7, 0);
    }
}

TEST(division_by_zero_and_too_large_quotients)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\x48\xf7\x37", DEVICE, R), ACTION_FAULT); // div
    CHECK_EQ(ex.fault.vector, VECTOR_DE);
    CHECK(!ex.fault.has_error);
    device[0] = 1;
    vcpu.gpr[GPR_RDX] = 1;
    CHECK_EQ(EMULATE("\x48\xf7\x37", DEVICE, R), ACTION_FAULT);
    vcpu.gpr[GPR_RDX] = 0;
    vcpu.gpr[GPR_RAX] = 1ull << 63;
    CHECK_EQ(EMULATE("\x48\xf7\x3f", DEVICE, R), ACTION_FAULT); // idiv: 2^63 is one too many
    vcpu.gpr[GPR_RDX] = ~0ull;
    CHECK_EQ(EMULATE("\x48\xf7\x3f", DEVICE, R), ACTION_NEXT); // -2^63 is not
    CHECK_EQ(vcpu.gpr[GPR_RAX], 1ull << 63);
}

TEST(counting_bits)
{
    static const struct {
        const char *code;
        u64 value, result, flags;
    } rows[] = {
        {"\x66\x0f\xbc\x07", 0xc000, 14, 0},      {"\x48\x0f\xbd\x07", 1ull << 47, 47, 0},
        {"\x48\x0f\xbc\x07", 0, 0x55, RFLAGS_ZF}, {"\xf3\x0f\xbc\x07", 0, 32, RFLAGS_CF},
        {"\xf3\x0f\xbd\x07", 1, 31, 0},           {"\xf3\x0f\xbd\x07", 1u << 31, 0, RFLAGS_ZF},
        {"\xf3\x0f\xb8\x07", 0xf0f1, 9, 0},       {"\xf3\x0f\xb8\x07", 0, 0, RFLAGS_ZF},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        fake_guest_reset();
        memcpy(device, &rows[i].value, 8);
        vcpu.gpr[GPR_RDI] = DEVICE;
        vcpu.gpr[GPR_RAX] = 0x55;
        CHECK_EQ(emulate(rows[i].code, 4, DEVICE, R), ACTION_NEXT);
        CHECK_EQ(vcpu.gpr[GPR_RAX], rows[i].result);
        CHECK_EQ(regs[REG_RFLAGS] & (RFLAGS_ZF | RFLAGS_CF), rows[i].flags);
    }
}

TEST(mmx_registers_and_halves_of_vectors)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RDI] = DEVICE;
    memset(mmx[3], 0x33, 8);
    CHECK_EQ(EMULATE("\x0f\x7f\x1f", DEVICE, W), ACTION_NEXT); // movq [rdi], mm3
    CHECK(memcmp(device, mmx[3], 8) == 0);
    CHECK_EQ(EMULATE("\x0f\x6e\x2f", DEVICE, R), ACTION_NEXT); // movd mm5, [rdi]
    CHECK(mmx[5][3] == 0x33 && mmx[5][4] == 0);
    mmx_faults = true;
    CHECK_EQ(EMULATE("\x0f\x6f\x07", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_MF);
    mmx_faults = false;
    memset(vectors[1], 0x11, 16);
    CHECK_EQ(EMULATE("\x0f\x16\x0f", DEVICE, R), ACTION_NEXT); // movhps xmm1, [rdi]
    CHECK(vectors[1][7] == 0x11 && vectors[1][8] == 0x33);
    CHECK_EQ(EMULATE("\x0f\x13\x0f", DEVICE, W), ACTION_NEXT); // movlps [rdi], xmm1
    CHECK_EQ(device[0], 0x11);
}

TEST(bits_by_number)
{
    fake_guest_reset();
    for (unsigned s = 0; s < 3; s++)
        for (unsigned k = 4; k < 8; k++) {
            u64 flags = RFLAGS_CF | RFLAGS_ZF; // the others are undefined
            compare_cpu(sizes[s].prefix, sizes[s].length, "\x0f\xba", 2, k, 1, k == 4 ? R : RW,
                        flags);
        }
}

TEST(bits_of_a_string)
{
    static const char ops[] = {'\xa3', '\xab', '\xb3', '\xbb'};
    fake_guest_reset();
    for (unsigned s = 0; s < 3; s++)
        for (unsigned k = 0; k < 4; k++)
            for (int number = -300; number < 300; number += 7) {
                u8 code[8];
                memcpy(code, sizes[s].prefix, sizes[s].length);
                u8 *at = code + sizes[s].length;
                *at++ = 0x0f;
                *at++ = (u8)ops[k];
                *at++ = 7 | 1 << 3;
                unsigned length = (unsigned)(at - code);
                native_prepare(code, length);
                for (unsigned i = 0; i < 4096; i++)
                    device[i] = native_memory[i] = (u8)random_u64();
                struct native n = {
                    .rcx = (u64)(s64)number, .rdi = (u64)native_memory + MIDDLE, .flags = 2};
                vcpu.gpr[GPR_RCX] = n.rcx;
                vcpu.gpr[GPR_RDI] = DEVICE + MIDDLE;
                regs[REG_RFLAGS] = 2;
                native_run(&n, native_code);
                CHECK_EQ(emulate(code, length, DEVICE + MIDDLE, k ? RW : R), ACTION_NEXT);
                CHECK(memcmp(native_memory, device, 4096) == 0);
                CHECK_EQ(n.flags & RFLAGS_CF, regs[REG_RFLAGS] & RFLAGS_CF);
            }
}

TEST(strings_as_the_cpu_does_them)
{
    static const u8 ops[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
    static const u8 repeats[] = {0, 0xf3, 0xf2};
    fake_guest_reset();
    for (unsigned o = 0; o < ARRAY_SIZE(ops); o++)
        for (unsigned r = 0; r < 3; r++)
            for (unsigned s = 0; s < 3; s++)
                for (unsigned round = 0; round < 40; round++) {
                    u8 code[4];
                    unsigned n = 0;
                    if (repeats[r])
                        code[n++] = repeats[r];
                    if (sizes[s].length)
                        code[n++] = (u8)sizes[s].prefix[0];
                    code[n++] = ops[o];
                    u64 flags = (random_u64() & ALL_FLAGS) | (round & 1 ? RFLAGS_DF : 0);
                    if (!same(code, n, flags, RW, ALL_FLAGS)) {
                        printf("differs: %02x %02x %02x\n", code[0], code[1], code[2]);
                        test_failed = true;
                        break;
                    }
                }
}

TEST(long_strings_take_several_exits)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RCX] = 600;
    vcpu.gpr[GPR_RDI] = DEVICE;
    vcpu.gpr[GPR_RSI] = 0x20000;
    memset(ram + 0x20000, 0x5a, 600);
    CHECK_EQ(EMULATE("\xf3\xa4", DEVICE, W), ACTION_RETRY);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 600 - ELEMENTS_PER_EXIT);
    CHECK_EQ(vcpu.gpr[GPR_RDI], DEVICE + ELEMENTS_PER_EXIT);
    CHECK_EQ(EMULATE("\xf3\xa4", DEVICE, W), ACTION_RETRY);
    CHECK_EQ(EMULATE("\xf3\xa4", DEVICE, W), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0);
    CHECK(device[599] == 0x5a && device[600] == 0);
    CHECK_EQ(EMULATE("\xf3\xa4", DEVICE, W), ACTION_NEXT); // count 0: nothing
    CHECK_EQ(vcpu.gpr[GPR_RSI], 0x20000 + 600);
}

TEST(a_string_stops_where_it_faults)
{
    fake_guest_reset();
    // 4 KiB pages: 0x40000000 is the device, the page after it is not present.
    put64(PAGES + 0x1008, 0x4000 | PTE_FLAGS);
    put64(0x4000, 0x5000 | PTE_FLAGS);
    put64(0x5000, DEVICE | PTE_FLAGS);
    vcpu.gpr[GPR_RCX] = 10;
    vcpu.gpr[GPR_RAX] = 0x11223344;
    vcpu.gpr[GPR_RDI] = 0x40000ff8;
    memcpy(ram + CODE, "\xf3\xab", 2);
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = CODE};
    ex.memory.gpa = DEVICE + 0xff8;
    ex.memory.gva = 0x40000ff8;
    ex.memory.gva_valid = true;
    ex.memory.access = W;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_PF);
    CHECK_EQ(ex.fault.error, PF_WRITE);
    CHECK(ex.fault.has_cr2 && ex.fault.cr2 == 0x40001000);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 8);
    CHECK_EQ(vcpu.gpr[GPR_RDI], 0x40001000);
    CHECK_EQ(device[0xffc], 0x44);
}

TEST(an_access_across_two_pages)
{
    fake_guest_reset();
    put64(PAGES + 0x1008, 0x4000 | PTE_FLAGS);
    put64(0x4000, 0x5000 | PTE_FLAGS);
    put64(0x5000, DEVICE | PTE_FLAGS);
    put64(0x5008, 0x9000 | PTE_FLAGS); // then RAM
    vcpu.gpr[GPR_RDI] = 0x40000ffd;
    vcpu.gpr[GPR_RAX] = 0x1122334455667788;
    memcpy(ram + CODE, "\x48\x89\x07", 3); // mov [rdi], rax
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = CODE};
    ex.memory.gpa = DEVICE + 0xffd;
    ex.memory.gva = 0x40000ffd;
    ex.memory.gva_valid = true;
    ex.memory.access = W;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_NEXT);
    CHECK(device[0xffd] == 0x88 && device[0xfff] == 0x66 && ram[0x9000] == 0x55 &&
          ram[0x9004] == 0x11);
    CHECK_EQ(holes, 0);
    memcpy(ram + CODE, "\x48\x8b\x1f", 3); // mov rbx, [rdi]
    ex.memory.access = R;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RBX], 0x1122334455667788);
    put64(0x5008,
          0); // the second page goes away: a fault there, and nothing was written to the first
    memset(device, 0, sizeof(device));
    memcpy(ram + CODE, "\x48\x89\x07", 3);
    ex.memory.access = W;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.cr2, 0x40001000);
    CHECK_EQ(device[0xffd], 0);
}

TEST(read_modify_write_needs_write_permission)
{
    fake_guest_reset();
    put64(PAGES + 0x1008, DEVICE | (PTE_FLAGS & ~2ull) | PTE_BIG); // read-only, GiB-aligned: a hole
    put64(PAGES + 0x1008, 0x4000 | PTE_FLAGS);
    put64(0x4000, 0x5000 | PTE_FLAGS);
    put64(0x5000, DEVICE | (PTE_FLAGS & ~2ull));
    vcpu.gpr[GPR_RDI] = 0x40000000;
    memcpy(ram + CODE, "\xff\x07", 2); // inc dword [rdi]
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = CODE};
    ex.memory.gpa = DEVICE;
    ex.memory.gva = 0x40000000;
    ex.memory.gva_valid = true;
    ex.memory.access = R;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.error, PF_PRESENT | PF_WRITE);
    CHECK_EQ(device_reads, 0);
}

TEST(rom_reads_back_and_drops_writes)
{
    fake_guest_reset();
    vm.memory.slots[0].kind = GUEST_SLOT_ROM;
    vm.memory.other_kinds = true;
    ram[0x30000] = 0x41;
    vcpu.gpr[GPR_RDI] = 0x30000;
    CHECK_EQ(EMULATE("\xfe\x07", 0x30000, RW), ACTION_NEXT); // inc byte [rdi]
    CHECK_EQ(ram[0x30000], 0x41);
    CHECK_EQ(device_reads, 0);
    CHECK_EQ(device_writes, 1);
    CHECK(!(regs[REG_RFLAGS] & RFLAGS_ZF));
}

TEST(canonical_addresses)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RDI] = 0x8000000000000000ull;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE, R), ACTION_FAULT);
    CHECK(ex.fault.vector == VECTOR_GP && ex.fault.has_error && ex.fault.error == 0);
    vcpu.gpr[GPR_RBP] = 0x00007ffffffffffdull; // ends beyond
    CHECK_EQ(EMULATE("\x8b\x45\x00", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_SS);
    segments[SEG_GS].base = DEVICE;
    device[0x20] = 0x77;
    CHECK_EQ(EMULATE("\x65\x8a\x04\x25\x20\x00\x00\x00", DEVICE + 0x20, R), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x77);
    CHECK_EQ(EMULATE("\x8a\x05\x00\x00\xff\x0f", DEVICE, R), ACTION_NEXT); // rip-relative
    CHECK_EQ(holes, 1);
}

static void protected_mode(void)
{
    fake_guest_reset();
    regs[REG_CR0] = CR0_PE;
    regs[REG_EFER] = 0;
    segments[SEG_CS].access = CODE32;
    segments[SEG_CS].limit = ~0u;
}

TEST(segments_of_32_bits)
{
    protected_mode();
    segments[SEG_DS].base = DEVICE;
    segments[SEG_DS].limit = 0xff;
    device[0xfc] = 0x99;
    vcpu.gpr[GPR_RDI] = 0xffffffff000000fc; // upper half does not count
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE + 0xfc, R), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x99);
    vcpu.gpr[GPR_RDI] = 0xfd;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE + 0xfd, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_GP);
    segments[SEG_DS].access = DATA & ~2u; // read-only
    vcpu.gpr[GPR_RDI] = 0;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE, R), ACTION_NEXT);
    CHECK_EQ(EMULATE("\x89\x07", DEVICE, W), ACTION_FAULT);
    segments[SEG_DS].access = DATA | 4; // expand-down: above the limit only
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE, R), ACTION_FAULT);
    vcpu.gpr[GPR_RDI] = 0x100;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE + 0x100, R), ACTION_NEXT);
    segments[SEG_DS].access = SEGMENT_UNUSABLE;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(EMULATE("\x2e\x89\x07", DEVICE, W), ACTION_FAULT); // a code segment is never written
    segments[SEG_SS].limit = 0;
    CHECK_EQ(EMULATE("\x8b\x45\x00", DEVICE, R), ACTION_NEXT - ACTION_NEXT + ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_SS);
}

TEST(real_mode)
{
    protected_mode();
    regs[REG_CR0] = 0;
    segments[SEG_CS].access = CODE16;
    segments[SEG_ES] =
        (struct segment){.selector = 0xffff, .base = 0xffff0, .limit = 0xffff, .access = 0x93};
    vcpu.gpr[GPR_RDI] = 0x10010;
    vcpu.gpr[GPR_RAX] = 0xab;
    vcpu.gpr[GPR_RCX] = 0xffff0002;
    CHECK_EQ(EMULATE("\xf3\xaa", 0x100000, W), ACTION_NEXT); // rep stosb at ffff:0010
    CHECK_EQ(device_writes, 2);
    CHECK_EQ(vcpu.gpr[GPR_RDI], 0x10012);
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0xffff0000);
    segments[SEG_CS].limit = 0xffff;
    CHECK_EQ(EMULATE("\x2e\xc6\x05\x12", 0x12, W), ACTION_NEXT); // through CS: real mode may
}

TEST(code_that_is_not_there)
{
    fake_guest_reset();
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = 0x7f0000000000};
    ex.memory.access = R;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_PF);
    CHECK_EQ(ex.fault.cr2, 0x7f0000000000);
    CHECK_EQ(ex.fault.error, PF_FETCH);
    ex.rip = DEVICE;
    ex.memory.access = PAGE_EXECUTE;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_STOP);
    CHECK(strstr(killed, "0x10000000"));
}

TEST(code_across_two_pages)
{
    fake_guest_reset();
    put64(PAGES + 0x1008, 0x4000 | PTE_FLAGS);
    put64(0x4000, 0x5000 | PTE_FLAGS);
    put64(0x5000, 0x6000 | PTE_FLAGS);
    memcpy(ram + 0x6ffe, "\x8b\x47", 2); // mov eax, [rdi + 4], the last byte on the next page
    device[4] = 0x31;
    vcpu.gpr[GPR_RDI] = DEVICE;
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = 0x40000ffe};
    ex.memory.access = R;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.cr2, 0x40001000);
    put64(0x5008, 0x9000 | PTE_FLAGS);
    ram[0x9000] = 4;
    for (unsigned i = 0; i < 2; i++) { // decoded, then from the cache
        vcpu.gpr[GPR_RAX] = 0;
        CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_NEXT);
        CHECK_EQ(vcpu.gpr[GPR_RAX], 0x31);
    }
}

TEST(changed_code_is_seen)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RDI] = DEVICE;
    device[0] = 0x55;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE, R), ACTION_NEXT); // mov eax, [rdi]
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x55);
    CHECK_EQ(EMULATE("\x8b\x1f", DEVICE, R), ACTION_NEXT); // mov ebx, [rdi]
    CHECK_EQ(vcpu.gpr[GPR_RBX], 0x55);
    segments[SEG_CS].access = CODE32; // compatibility mode: the same bytes, addressed by edi
    vcpu.gpr[GPR_RDI] = DEVICE | 1ull << 40;
    vcpu.gpr[GPR_RBX] = 0;
    CHECK_EQ(EMULATE("\x8b\x1f", DEVICE, R), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RBX], 0x55);
}

TEST(code_that_is_mapped_elsewhere_is_seen)
{
    fake_guest_reset();
    put64(PAGES + 0x1008, 0x4000 | PTE_FLAGS);
    put64(0x4000, 0x5000 | PTE_FLAGS);
    put64(0x5000, 0x6000 | PTE_FLAGS);
    memcpy(ram + 0x6000, "\x8b\x07", 2); // mov eax, [rdi]
    memcpy(ram + 0x7000, "\x8b\x1f", 2); // mov ebx, [rdi]
    vcpu.gpr[GPR_RDI] = DEVICE;
    device[0] = 0x55;
    for (unsigned i = 0; i < 3; i++) {
        ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = 0x40000000};
        ex.memory.gva = ex.memory.gpa = DEVICE;
        ex.memory.gva_valid = true;
        ex.memory.access = R;
        vcpu.gpr[GPR_RAX] = vcpu.gpr[GPR_RBX] = 0;
        if (i == 1)
            put64(0x5000, 0x6000 | (PTE_FLAGS & ~0x20ull)); // accessed bit off
        if (i == 2)
            put64(0x5000, 0x7000 | PTE_FLAGS);
        CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_NEXT);
        CHECK_EQ(vcpu.gpr[GPR_RAX], i == 2 ? 0 : 0x55);
        CHECK_EQ(vcpu.gpr[GPR_RBX], i == 2 ? 0x55 : 0);
        CHECK(ram[0x5000] & 0x20);
    }
    put64(0x5000, 0); // gone, though the CPU may still have it: a fault is what a fetch would give
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.cr2, 0x40000000);
}

TEST(what_cannot_be_emulated_stops_the_vm)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\x0f\x58\x07", DEVICE, R), ACTION_STOP);
    CHECK_STR(killed, "cannot emulate: addps xmm0, [rdi] at 0x8000, on device address 0x10000000");
    CHECK_EQ(EMULATE("\x0f\xff\xff", DEVICE, R), ACTION_STOP);
}

TEST(a_user_takes_ud_for_what_cannot_be_emulated)
{
    fake_guest_reset();
    killed[0] = '\0';
    segments[SEG_CS].selector |= 3;
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\x0f\x58\x07", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_UD);
    CHECK_EQ(EMULATE("\x0f\xff\xff", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_UD);
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = DEVICE};
    ex.memory.gpa = DEVICE;
    ex.memory.access = PAGE_EXECUTE;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_UD);
    CHECK_STR(killed, "");
}

TEST(shifts_as_the_cpu_does_them)
{
    const u64 defined = RFLAGS_CF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_PF;
    fake_guest_reset();
    for (unsigned k = 0; k < 8; k++) { // rol ror rcl rcr shl shr shl sar
        if (k == 6)
            continue;
        compare_cpu("", 0, "\xd0", 1, k, 0, RW, defined | RFLAGS_OF);
        compare_cpu("", 0, "\xc0", 1, k, 1, RW, k < 4 ? defined : defined & ~RFLAGS_CF);
        for (unsigned s = 0; s < 3; s++) {
            u64 flags = s == 1 && k >= 4 ? defined & ~RFLAGS_CF : defined; // count beyond 16 bits
            compare_cpu(sizes[s].prefix, sizes[s].length, "\xd1", 1, k, 0, RW, defined | RFLAGS_OF);
            compare_cpu(sizes[s].prefix, sizes[s].length, "\xc1", 1, k, 1, RW, flags);
            compare_cpu(sizes[s].prefix, sizes[s].length, "\xd3", 1, k, 0, RW, flags);
        }
    }
    for (unsigned s = 0; s < 3; s += 2) {
        compare_cpu(sizes[s].prefix, sizes[s].length, "\x0f\xa4", 2, 3, 1, RW, defined);
        compare_cpu(sizes[s].prefix, sizes[s].length, "\x0f\xa5", 2, 3, 0, RW, defined);
        compare_cpu(sizes[s].prefix, sizes[s].length, "\x0f\xac", 2, 2, 1, RW, defined);
        compare_cpu(sizes[s].prefix, sizes[s].length, "\x0f\xad", 2, 0, 0, RW, defined);
    }
}

TEST(movbe_and_cmpxchg8b_as_the_cpu_does_them)
{
    fake_guest_reset();
    for (unsigned s = 0; s < 3; s++) {
        compare_cpu(sizes[s].prefix, sizes[s].length, "\x0f\x38\xf0", 3, 1, 0, R, ALL_FLAGS);
        compare_cpu(sizes[s].prefix, sizes[s].length, "\x0f\x38\xf1", 3, 1, 0, W, ALL_FLAGS);
    }
    compare_cpu("", 0, "\x0f\xc7", 2, 1, 0, RW, ALL_FLAGS);
    compare_cpu("\xf0\x48", 2, "\x0f\xc7", 2, 1, 0, RW, ALL_FLAGS);
}

TEST(cmpxchg16b_of_what_is_there)
{
    fake_guest_reset();
    memset(device, 0x11, 16);
    vcpu.gpr[GPR_RAX] = vcpu.gpr[GPR_RDX] = 0x1111111111111111;
    vcpu.gpr[GPR_RBX] = 0x2222222222222222;
    vcpu.gpr[GPR_RCX] = 0x3333333333333333;
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\xf0\x48\x0f\xc7\x0f", DEVICE, RW), ACTION_NEXT);
    CHECK(regs[REG_RFLAGS] & RFLAGS_ZF);
    CHECK(device[0] == 0x22 && device[7] == 0x22 && device[8] == 0x33 && device[15] == 0x33);
    CHECK_EQ(device[16], 0);
    CHECK_EQ(EMULATE("\xf0\x48\x0f\xc7\x0f", DEVICE, RW), ACTION_NEXT);
    CHECK(!(regs[REG_RFLAGS] & RFLAGS_ZF));
    CHECK_EQ(vcpu.gpr[GPR_RDX], 0x3333333333333333);
    vcpu.gpr[GPR_RDI] = DEVICE + 8;
    CHECK_EQ(EMULATE("\xf0\x48\x0f\xc7\x0f", DEVICE + 8, RW), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_GP);
    memset(device, 0x11, 8);
    vcpu.gpr[GPR_RAX] = vcpu.gpr[GPR_RDX] = ~0ull << 32 | 0x11111111;
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\x0f\xc7\x0f", DEVICE, RW), ACTION_NEXT); // 8 bytes
    CHECK(device[3] == 0x22 && device[4] == 0x33 && device[8] == 0x33);
}

TEST(push_and_pop_of_an_operand)
{
    fake_guest_reset();
    regs[REG_RSP] = 0x20008;
    vcpu.gpr[GPR_RDI] = DEVICE;
    memset(device, 0x44, 8);
    CHECK_EQ(EMULATE("\xff\x37", DEVICE, R), ACTION_NEXT); // push qword [rdi]
    CHECK_EQ(regs[REG_RSP], 0x20000);
    CHECK(ram[0x20000] == 0x44 && ram[0x20007] == 0x44);
    ram[0x20000] = 0x55;
    CHECK_EQ(EMULATE("\x8f\x47\x10", DEVICE + 0x10, W), ACTION_NEXT); // pop qword [rdi + 16]
    CHECK_EQ(regs[REG_RSP], 0x20008);
    CHECK(device[0x10] == 0x55 && device[0x17] == 0x44);
    regs[REG_RSP] = DEVICE - 8; // pop qword [rsp]: where RSP is afterwards
    put64(PAGES + 0x1000, 0 | PTE_FLAGS | PTE_BIG);
    CHECK_EQ(EMULATE("\x66\x8f\x04\x24", DEVICE, W), ACTION_NEXT);
    CHECK_EQ(regs[REG_RSP], DEVICE - 6);
    regs[REG_RSP] = 0x8000000000000000ull + 4;
    CHECK_EQ(EMULATE("\xff\x37", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_SS);
    CHECK_EQ(regs[REG_RSP], 0x8000000000000000ull + 4);
}

TEST(branches_through_an_operand)
{
    u64 target = 0x123456;
    fake_guest_reset();
    memcpy(device, &target, 8);
    regs[REG_RSP] = 0x20008;
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\xff\x17", DEVICE, R), ACTION_RETRY); // call [rdi]
    CHECK_EQ(regs[REG_RIP], target);
    CHECK_EQ(regs[REG_RSP], 0x20000);
    CHECK_EQ(ram[0x20000], (CODE + 2) & 0xff);
    CHECK_EQ(ram[0x20001], CODE >> 8);
    regs[REG_RIP] = 0;
    CHECK_EQ(EMULATE("\xff\x27", DEVICE, R), ACTION_RETRY); // jmp [rdi]
    CHECK_EQ(regs[REG_RIP], target);
    CHECK_EQ(regs[REG_RSP], 0x20000);
    device[7] = 0x80;
    CHECK_EQ(EMULATE("\xff\x17", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_GP);
    CHECK_EQ(regs[REG_RSP], 0x20000);
}

TEST(a_stack_in_a_device)
{
    fake_guest_reset();
    segments[SEG_FS].selector = 0x53;
    regs[REG_RSP] = DEVICE + 0x100;
    vcpu.gpr[GPR_RBX] = 0x1122334455667788;
    CHECK_EQ(EMULATE("\x6a\xf9", DEVICE + 0xf8, W), ACTION_NEXT); // push -7
    CHECK_EQ(EMULATE("\x53", DEVICE + 0xf0, W), ACTION_NEXT);     // push rbx
    CHECK_EQ(EMULATE("\x0f\xa0", DEVICE + 0xe8, W), ACTION_NEXT); // push fs
    CHECK_EQ(regs[REG_RSP], DEVICE + 0xe8);
    CHECK(device[0xf8] == 0xf9 && device[0xff] == 0xff);
    CHECK(memcmp(device + 0xf0, &vcpu.gpr[GPR_RBX], 8) == 0 && device[0xe8] == 0x53);
    CHECK_EQ(EMULATE("\x59", DEVICE + 0xe8, R), ACTION_NEXT); // pop rcx
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0x53);
    CHECK_EQ(EMULATE("\x66\x59", DEVICE + 0xf0, R), ACTION_NEXT); // pop cx
    CHECK_EQ(vcpu.gpr[GPR_RCX], 0x7788);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0xf2);
    regs[REG_RSP] = DEVICE + 0xf0;
    CHECK_EQ(EMULATE("\x5c", DEVICE + 0xf0, R), ACTION_NEXT); // pop rsp
    CHECK_EQ(regs[REG_RSP], 0x1122334455667788);
}

TEST(calls_and_returns_with_a_stack_in_a_device)
{
    fake_guest_reset();
    regs[REG_RSP] = DEVICE + 0x100;
    CHECK_EQ(EMULATE("\xe8\xfe\xff\xff\xff", DEVICE + 0xf8, W), ACTION_RETRY); // call -2
    CHECK_EQ(regs[REG_RIP], CODE + 3);
    vcpu.gpr[GPR_RBX] = 0x4321;
    CHECK_EQ(EMULATE("\xff\xd3", DEVICE + 0xf0, W), ACTION_RETRY); // call rbx
    CHECK_EQ(regs[REG_RIP], 0x4321);
    CHECK_EQ(EMULATE("\xc3", DEVICE + 0xf0, R), ACTION_RETRY); // ret
    CHECK_EQ(regs[REG_RIP], CODE + 2);
    CHECK_EQ(EMULATE("\xc2\x10\x00", DEVICE + 0xf8, R), ACTION_RETRY); // ret 16
    CHECK_EQ(regs[REG_RIP], CODE + 5);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0x110);
    device[0x117] = 0x80;
    CHECK_EQ(EMULATE("\xc3", DEVICE + 0x110, R), ACTION_FAULT); // to nowhere canonical
    CHECK_EQ(ex.fault.vector, VECTOR_GP);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0x110);
}

TEST(frames_in_a_device)
{
    fake_guest_reset();
    regs[REG_RSP] = DEVICE + 0x100;
    vcpu.gpr[GPR_RBP] = 0xaa55aa55;
    CHECK_EQ(EMULATE("\xc8\x38\x02\x00", DEVICE + 0xf8, W), ACTION_NEXT); // enter 238h, 0
    CHECK_EQ(vcpu.gpr[GPR_RBP], DEVICE + 0xf8);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0xf8 - 0x238);
    CHECK_EQ(EMULATE("\xc9", DEVICE + 0xf8, R), ACTION_NEXT); // leave
    CHECK_EQ(vcpu.gpr[GPR_RBP], 0xaa55aa55);
    CHECK_EQ(regs[REG_RSP], DEVICE + 0x100);
    CHECK_EQ(EMULATE("\xc8\x38\x02\x01", DEVICE + 0xf8, W), ACTION_STOP); // of level 1
}

TEST(alignment_is_checked_for_users_who_ask)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RDI] = DEVICE + 1;
    segments[SEG_CS].selector = 3;
    regs[REG_CR0] |= CR0_AM;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE + 1, R), ACTION_NEXT);
    regs[REG_RFLAGS] |= RFLAGS_AC;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE + 1, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_AC);
    CHECK(ex.fault.has_error && ex.fault.error == 0);
    CHECK_EQ(EMULATE("\x8a\x07", DEVICE + 1, R), ACTION_NEXT); // a byte
    vcpu.gpr[GPR_RDI] = DEVICE + 4;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE + 4, R), ACTION_NEXT);
    CHECK_EQ(EMULATE("\x0f\x10\x07", DEVICE + 4, R), ACTION_NEXT); // movups: has no alignment
    vcpu.gpr[GPR_RDI] = DEVICE + 1;
    segments[SEG_CS].selector = 0;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE + 1, R), ACTION_NEXT);
}

TEST(cache_flushes_touch_nothing)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RDI] = DEVICE + 0x21;
    CHECK_EQ(EMULATE("\x0f\xae\x3f", DEVICE + 0x21, R), ACTION_NEXT); // clflush [rdi]
    CHECK_EQ(device_reads + device_writes, 0);
}

TEST(what_is_no_instruction_is_undefined)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\xf0\x8b\x07", DEVICE, R), ACTION_FAULT); // lock mov
    CHECK_EQ(ex.fault.vector, VECTOR_UD);
    CHECK(!killed[0]);
    CHECK_EQ(EMULATE("\x62\xf1\x7c\x48\x10\x07", DEVICE, R), ACTION_STOP); // vmovups zmm0, [rdi]
    CHECK(strstr(killed, "AVX-512") != NULL);
}

TEST(xlat)
{
    fake_guest_reset();
    vcpu.gpr[GPR_RBX] = DEVICE;
    vcpu.gpr[GPR_RAX] = 0x1120;
    device[0x20] = 0x99;
    CHECK_EQ(EMULATE("\xd7", DEVICE + 0x20, R), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x1199);
    segments[SEG_FS].base = 0x100;
    device[0x120 + 0x79] = 0x31;
    CHECK_EQ(EMULATE("\x64\xd7", DEVICE + 0x199, R), ACTION_NEXT); // fs:
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x1131);
}

TEST(vector_moves)
{
    fake_guest_reset();
    vcpu.xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    for (unsigned i = 0; i < 64; i++)
        device[i] = (u8)(i + 1);
    memset(vectors, 0xee, sizeof(vectors));
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\x0f\x28\x0f", DEVICE, R), ACTION_NEXT); // movaps xmm1, [rdi]
    CHECK(memcmp(vectors[1], device, 16) == 0 && vectors[1][16] == 0xee);
    CHECK_EQ(EMULATE("\x66\x44\x0f\x6e\x0f", DEVICE, R), ACTION_NEXT); // movd xmm9, [rdi]
    CHECK(vectors[9][3] == 4 && vectors[9][4] == 0 && vectors[9][15] == 0 &&
          vectors[9][16] == 0xee);
    CHECK_EQ(EMULATE("\xf2\x0f\x10\x17", DEVICE, R), ACTION_NEXT); // movsd xmm2, [rdi]
    CHECK(vectors[2][7] == 8 && vectors[2][8] == 0);
    CHECK_EQ(EMULATE("\xc5\xfa\x6f\x1f", DEVICE, R), ACTION_NEXT); // vmovdqu xmm3, [rdi]
    CHECK(vectors[3][15] == 16 && vectors[3][16] == 0);
    CHECK_EQ(EMULATE("\xc5\xfe\x6f\x27", DEVICE, R), ACTION_NEXT); // vmovdqu ymm4, [rdi]
    CHECK(memcmp(vectors[4], device, 32) == 0);
    CHECK_EQ(EMULATE("\xc5\xfe\x7f\x67\x40", DEVICE + 0x40, W),
             ACTION_NEXT); // vmovdqu [rdi + 64], ymm4
    CHECK(memcmp(device + 0x40, vectors[4], 32) == 0);
    CHECK_EQ(EMULATE("\x66\x0f\xd6\x8f\x80\x00\x00\x00", DEVICE + 0x80, W),
             ACTION_NEXT); // movq [], xmm1
    CHECK(memcmp(device + 0x80, vectors[1], 8) == 0 && device[0x88] == 0);
    vcpu.gpr[GPR_RDI] = DEVICE + 0xffc; // the end of the device: half of it elsewhere
    CHECK_EQ(EMULATE("\xf3\x0f\x7f\x0f", DEVICE + 0xffc, W), ACTION_NEXT);
    CHECK(memcmp(device + 0xffc, vectors[1], 4) == 0 && holes > 0);
    vcpu.xcr0 = XCR0_X87;
    CHECK_EQ(EMULATE("\xc5\xfe\x6f\x27", DEVICE, R), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_UD);
}

TEST(page_tables_in_a_hole)
{
    fake_guest_reset();
    put64(PAGES + 0x1008, 0x30000000 | PTE_FLAGS);
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = CODE};
    ex.memory.walk = true;
    ex.memory.gva = 0x40000000;
    ex.memory.gpa = 0x30000000;
    ex.memory.gva_valid = true;
    ex.memory.access = R;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.error, PF_PRESENT | PF_RESERVED);
    ex.memory.gva_valid = false; // MOV to CR3 with PAE paging
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_GP);
}

TEST(strings_on_ports)
{
    fake_guest_reset();
    ex = (struct vm_exit){.kind = EXIT_IO, .rip = CODE};
    ex.io.port = 0x1f0;
    ex.io.size = 2;
    ex.io.string = true;
    memcpy(ram + CODE, "\xf3\x66\x6d", 3); // rep insw
    vcpu.gpr[GPR_RCX] = 3;
    vcpu.gpr[GPR_RDI] = 0x20000;
    port_value = 0x1234;
    port_reads = port_writes = 0;
    CHECK_EQ(emulate_string_io(&vcpu, &ex), ACTION_NEXT);
    CHECK_EQ(ex.length, 3);
    CHECK_EQ(port_reads, 3);
    CHECK_EQ(vcpu.gpr[GPR_RDI], 0x20006);
    CHECK(ram[0x20000] == 0x34 && ram[0x20001] == 0x12 && ram[0x20004] == 0x36);
    ex.io.write = true;
    ex.io.size = 1;
    memcpy(ram + CODE, "\x6e", 1); // outsb
    vcpu.gpr[GPR_RSI] = 0x20004;
    CHECK_EQ(emulate_string_io(&vcpu, &ex), ACTION_NEXT);
    CHECK_EQ(port_value, 0x36);
    CHECK_EQ(vcpu.gpr[GPR_RSI], 0x20005);
    ex.io.write = false; // the code changed under way: let the CPU decide again
    CHECK_EQ(emulate_string_io(&vcpu, &ex), ACTION_RETRY);
    // A fault comes before the port is read.
    memcpy(ram + CODE, "\x6c", 1); // insb
    vcpu.gpr[GPR_RDI] = 0x7f0000000000;
    port_reads = 0;
    CHECK_EQ(emulate_string_io(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(port_reads, 0);
}

TEST(works_without_memory_for_a_cache)
{
    fake_guest_reset();
    emulate_destroy(&vcpu);
    CHECK(!vcpu.decode_cache);
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE, R), ACTION_NEXT);
    emulate_destroy(&vcpu);
}
