// SPDX-License-Identifier: MIT
// A guest's page tables with any contents, in every mode of paging.
#include "tests/fuzz/fuzz.h"
#include "vmm/emulate/guest_walk.c"
#include "vmm/layout.h"
#include "tests/unit/fake_guest.h"

#define TABLES     0x4000u // pages from 0 on that the input fills
#define COPY_MAX   0x2800u
#define ERROR_BITS 0x1fu // of a #PF: P, W/R, U/S, RSVD, I/D

static void set_mode(struct fuzz *f)
{
    static const u64 cr0[] = {CR0_PE | CR0_PG | CR0_WP, CR0_PE | CR0_PG, CR0_PE, 0};
    static const u64 cr4[] = {CR4_PAE, CR4_PAE | CR4_SMEP | CR4_SMAP, CR4_PSE, 0,
                              CR4_PAE | CR4_LA57};
    static const u64 efer[] = {EFER_LME | EFER_LMA | EFER_NXE, EFER_LME | EFER_LMA, EFER_NXE, 0};
    static const u32 code[] = {CODE64, CODE32, CODE16};
    regs[REG_CR0] = cr0[fuzz_below(f, ARRAY_SIZE(cr0))];
    regs[REG_CR4] = cr4[fuzz_below(f, ARRAY_SIZE(cr4))];
    regs[REG_EFER] = efer[fuzz_below(f, ARRAY_SIZE(efer))];
    segments[SEG_CS].access = code[fuzz_below(f, ARRAY_SIZE(code))];
    bool user = fuzz_below(f, 2);
    segments[SEG_CS].selector = user ? 3 : 0;
    segments[SEG_SS].access = user ? DATA_USER : DATA;
    regs[REG_RFLAGS] = RFLAGS_RESERVED | (fuzz_below(f, 2) ? RFLAGS_AC : 0);
    regs[REG_CR3] =
        fuzz_below(f, 4) ? fuzz_number(f, 1) * PAGE_SIZE / 2 % TABLES : fuzz_number(f, 8);
    vcpu.gpa_reserved = fuzz_below(f, 2) ? 0x000ff00000000000ull : 0;
}

// Entries here and there: mostly such that lead on within the tables.
static void fill_tables(struct fuzz *f)
{
    for (unsigned n = fuzz_below(f, 64); n; n--) {
        u64 at = fuzz_number(f, 2) * sizeof(u64) % TABLES;
        u64 entry = fuzz_number(f, 2);
        put64(at, fuzz_below(f, 4) ? ((entry << 4) % TABLES & ~PAGE_MASK) | (entry & PAGE_MASK)
                                   : fuzz_number(f, 8));
    }
}

static u64 any_address(struct fuzz *f)
{
    static const unsigned shifts[] = {0, 12, 21, 22, 30, 39, 47, 48};
    u64 near = fuzz_number(f, 2), far = fuzz_number(f, 2);
    u64 address = near + (far << shifts[fuzz_below(f, ARRAY_SIZE(shifts))]);
    return fuzz_below(f, 2) ? address : (u64)((s64)(address << 16) >> 16);
}

static void walk(struct fuzz *f, const struct guest_paging *paging)
{
    u64 gva = any_address(f);
    unsigned access = fuzz_below(f, 8) | (fuzz_below(f, 8) ? 0 : (unsigned)GUEST_WALK_SYSTEM);
    gpa_t gpa = 0;
    u32 error = 0;
    u8 before[TABLES];
    struct guest_path path = {0};
    memcpy(before, ram, sizeof(before));
    bool there = guest_walk_peek(&vcpu, gva, &gpa, &error);
    CHECK(!there || ((gpa ^ gva) & PAGE_MASK) == 0);
    if (guest_paging_path(paging, gva, &path))
        CHECK(path.count <= GUEST_WALK_LEVELS && guest_path_holds(&path));
    CHECK(memcmp(before, ram, sizeof(before)) == 0); // these two change nothing
    bool allowed = guest_paging_walk(paging, gva, access, &gpa, &error);
    CHECK(!allowed || there);
    CHECK(!allowed || (((gpa ^ gva) & PAGE_MASK) == 0 && gpa < LAYOUT_MEMORY_SPACE));
    CHECK(allowed || (error & ~ERROR_BITS) == 0);
}

// Byte by byte it is the same; but the tables themselves change as they are walked.
static void check_copy(const struct guest_paging *paging, gva_t gva, const u8 *buffer, u64 size)
{
    for (u64 i = 0; i < size; i += MIN(size - 1 - i, PAGE_SIZE / 2) + 1) {
        gpa_t gpa = 0;
        u32 error;
        bool there = guest_paging_walk(paging, gva + i, PAGE_READ, &gpa, &error);
        if (there && gpa >= TABLES)
            CHECK(buffer[i] == (gpa < RAM_SIZE ? ram[gpa] : 0xff));
    }
}

static void copy(struct fuzz *f, const struct guest_paging *paging)
{
    u64 gva = any_address(f), size = fuzz_number(f, 2) % COPY_MAX;
    u8 *buffer = calloc(1, MAX(size, 1ull));
    struct guest_page_fault fault = {0};
    if (size)
        ram[TABLES + gva % (RAM_SIZE - TABLES)] = (u8)size;
    bool reads = fuzz_below(f, 2);
    bool done = reads ? guest_read_virtual(paging, gva, buffer, size, &fault)
                      : guest_write_virtual(paging, gva, buffer, size, &fault);
    CHECK(done || (fault.error & ~ERROR_BITS) == 0);
    if (done && reads)
        check_copy(paging, gva, buffer, size);
    free(buffer);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz f = {data, size};
    struct guest_paging paging;
    fake_guest_reset();
    set_mode(&f);
    fill_tables(&f);
    guest_paging_read(&vcpu, &paging);
    for (unsigned n = 0; n < 16 && f.left; n++) {
        guest_canonical(&paging, any_address(&f));
        if (fuzz_below(&f, 4))
            walk(&f, &paging);
        else
            copy(&f, &paging);
    }
    fuzz_verdict();
    return 0;
}
