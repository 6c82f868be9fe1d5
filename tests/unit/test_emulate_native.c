// SPDX-License-Identifier: MIT
// Emulated instructions against the real CPU: the same bytes run on both, on the same values;
// registers, flags and memory must come out the same.
#include <sys/mman.h>
#include "tests/unit/emulate_rig.h"

// --- the real CPU ---

struct real {
    u64 rax, rcx, rdx, rbx, rsi, rdi, flags;
};
void real_run(struct real *state, const void *code);
__asm__(".text\n"
        "real_run:\n"
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
    struct real n = {.rax = b,
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
    real_run(&n, native_code);
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
                struct real n = {
                    .rcx = (u64)(s64)number, .rdi = (u64)native_memory + MIDDLE, .flags = 2};
                vcpu.gpr[GPR_RCX] = n.rcx;
                vcpu.gpr[GPR_RDI] = DEVICE + MIDDLE;
                regs[REG_RFLAGS] = 2;
                real_run(&n, native_code);
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
