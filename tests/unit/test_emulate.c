// SPDX-License-Identifier: MIT
// What an emulated instruction meets on its way to a device: its code, segments, pages, faults, and
// what lies outside of RAM. Arithmetic that is compared with no CPU.
#include "tests/unit/emulate_rig.h"

static const char *const prefixes_of_size[] = {[1] = "", [2] = "\x66", [4] = "", [8] = "\x48"};

// A quotient that does not fit is #DE on the CPU, so the values are made to fit, and not by chance.
static void divide(bool is_signed, unsigned size, u64 divisor, u64 quotient, u64 remainder)
{
    const char *prefix = prefixes_of_size[size];
    unsigned n_prefix = (unsigned)strlen(prefix);
    unsigned __int128 n = (unsigned __int128)divisor * quotient + remainder;
    u8 code[4] = {0};
    memcpy(code, prefix, n_prefix);
    code[n_prefix] = size == 1 ? 0xf6 : 0xf7;
    code[n_prefix + 1] = is_signed ? 0x3f : 0x37; // [rdi]
    if (is_signed)
        n = (unsigned __int128)((__int128)(s64)divisor * (s64)quotient + (s64)remainder);
    fake_guest_reset();
    memcpy(device, &divisor, 8);
    vcpu.gpr[GPR_RDI] = DEVICE;
    u64 mask = bytes_mask(size), low = (u64)n & mask, high = (u64)(n >> size * 8) & mask;
    vcpu.gpr[GPR_RAX] = size == 1 ? low | high << 8 : low;
    vcpu.gpr[GPR_RDX] = high;
    CHECK_EQ(emulate(code, n_prefix + 2, DEVICE, R), ACTION_NEXT);
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
    memcpy(ram + CODE, "\x0f\x0b", 2); // ud2 stands for what cannot be emulated
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.error, PF_PRESENT | PF_RESERVED);
    vcpu.gpr[GPR_RDI] = ex.memory.gva;
    memcpy(ram + CODE, "\x8b\x07", 2); // mov eax, [rdi]
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.error, PF_PRESENT | PF_RESERVED);
    memcpy(ram + CODE, "\x89\x07", 2); // mov [rdi], eax
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.error, PF_PRESENT | PF_RESERVED | PF_WRITE);
    CHECK_EQ(ex.fault.cr2, 0x40000000);
    ex.rip = 0x40000000; // or the instruction itself is there
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.error, PF_PRESENT | PF_RESERVED | PF_FETCH);
    ex.memory.gva_valid = false; // MOV to CR3 with PAE paging
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.vector, VECTOR_GP);
}

TEST(page_tables_in_a_hole_while_an_event_is_delivered)
{
    fake_guest_reset();
    put64(PAGES + 0x1008, 0x30000000 | PTE_FLAGS);
    segments[SEG_SS].access = DATA_USER; // the CPU's own accesses are a supervisor's
    segments[SEG_IDTR] = (struct segment){.base = 0x40001000, .limit = 0xfff};
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = CODE};
    ex.memory.walk = ex.memory.gva_valid = true;
    ex.memory.gva = 0x40001010;
    ex.memory.access = R;
    vcpu.event.valid = true;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.error, PF_PRESENT | PF_RESERVED);
    ex.memory.gva = 0x40002010; // the stack
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_FAULT);
    CHECK_EQ(ex.fault.error, PF_PRESENT | PF_RESERVED | PF_WRITE);
    vcpu.event.valid = false;
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

TEST(code_across_the_end_of_32_bit_addresses)
{
    protected_mode();
    segments[SEG_CS].base = 0xffff8000;
    vcpu.gpr[GPR_RDI] = DEVICE;
    ex = (struct vm_exit){.kind = EXIT_MEMORY, .rip = 0x7fff};
    regs[REG_CR0] |= CR0_PG;
    regs[REG_CR4] = CR4_PAE;
    regs[REG_EFER] = EFER_LMA | EFER_LME;
    put64(PAGES + 0x1018, 0x4000 | PTE_FLAGS);
    put64(0x4000 + 511 * 8, 0x5000 | PTE_FLAGS);
    put64(0x5000 + 511 * 8, 0x6000 | PTE_FLAGS);
    memcpy(ram + 0x6fff, "\x8b", 1);
    memcpy(ram, "\x47\x04", 2); // mov eax, [edi + 4], all but its opcode at 0
    device[4] = 0x31;
    CHECK_EQ(emulate_mmio(&vcpu, &ex), ACTION_NEXT);
    CHECK_EQ(vcpu.gpr[GPR_RAX], 0x31);
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
    CHECK_EQ(EMULATE("\x0f\xae\x07", DEVICE, R), ACTION_STOP);
    CHECK_STR(killed, "cannot emulate: fxsave [rdi] at 0x8000, on device address 0x10000000");
    CHECK_EQ(EMULATE("\x0f\xff\xff", DEVICE, R), ACTION_STOP);
}

TEST(a_user_takes_ud_for_what_cannot_be_emulated)
{
    fake_guest_reset();
    killed[0] = '\0';
    segments[SEG_CS].selector |= 3;
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\x0f\xae\x07", DEVICE, R), ACTION_FAULT);
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

TEST(works_without_memory_for_a_cache)
{
    fake_guest_reset();
    emulate_destroy(&vcpu);
    CHECK(!vcpu.decode_cache);
    vcpu.gpr[GPR_RDI] = DEVICE;
    CHECK_EQ(EMULATE("\x8b\x07", DEVICE, R), ACTION_NEXT);
    emulate_destroy(&vcpu);
}
