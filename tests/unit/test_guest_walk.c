// SPDX-License-Identifier: MIT
// Walks of page tables of every mode, made by hand in a fake guest's memory, with one bit changed
// at a time.
#include "tests/unit/test.h"
#include "vmm/emulate/guest_walk.c"

#define RAM_SIZE 0x100000ull

static u8 ram[RAM_SIZE] ALIGNED(4096);
static u64 regs[REG_COUNT];
static struct segment segments[SEG_COUNT];
static struct vm vm;
static struct vcpu vcpu;

void *guest_memory_hva(struct guest_memory *gm, gpa_t gpa, u64 *length)
{
    (void)gm;
    if (gpa >= RAM_SIZE)
        return NULL;
    *length = MIN(*length, PAGE_SIZE - (gpa & PAGE_MASK)); // pages are never contiguous here
    return ram + gpa;
}

static u64 reg_read(struct vcpu *v, enum vcpu_reg reg)
{
    (void)v;
    return regs[reg];
}

static void segment_read(struct vcpu *v, enum vcpu_segment which, struct segment *segment)
{
    (void)v;
    *segment = segments[which];
}

static const struct cpu_ops ops = {.reg_read = reg_read, .segment_read = segment_read};

#define CS64  0xa09b
#define CS32  0xc09b
#define SS0   0xc093
#define SS3   0xc0f3
#define P_ALL (PTE_PRESENT | PTE_WRITABLE | PTE_USER)

static void put64(gpa_t at, u64 value)
{
    memcpy(ram + at, &value, sizeof(value));
}

static u64 get64(gpa_t at)
{
    u64 value;
    memcpy(&value, ram + at, sizeof(value));
    return value;
}

static void put32(gpa_t at, u32 value)
{
    memcpy(ram + at, &value, sizeof(value));
}

static void set_cpl(unsigned cpl)
{
    segments[SEG_CS].selector = (u16)(8 | cpl);
    segments[SEG_SS].access = cpl == 3 ? SS3 : SS0;
}

static void reset(void)
{
    memset(ram, 0, sizeof(ram));
    memset(regs, 0, sizeof(regs));
    memset(segments, 0, sizeof(segments));
    vm.memory.slot_count = 1;
    vm.memory.slots[0] = (struct guest_slot){.base = 0, .size = RAM_SIZE};
    vcpu.vm = &vm;
    vcpu.ops = &ops;
    vcpu.gpa_reserved = 0x000ff00000000000ull;
    segments[SEG_CS].access = CS32;
    set_cpl(0);
}

// 4-level: PML4 1000, PDPT 2000, PD 3000, PT 4000; 0x40_0000_5678 -> 5678 and a 2 MiB and a 1 GiB
// page beside it.
#define VA_4K 0x0000004000005678ull
#define VA_2M 0x0000004000234567ull
#define VA_1G 0x0000004050345678ull
#define PML4E 0x1000
#define PDPTE 0x2800
#define PDE   0x3000
#define PTE   0x4028

static void setup_long(void)
{
    reset();
    segments[SEG_CS].access = CS64;
    regs[REG_CR0] = CR0_PE | CR0_PG | CR0_WP;
    regs[REG_CR4] = CR4_PAE;
    regs[REG_EFER] = EFER_LME | EFER_LMA | EFER_NXE;
    regs[REG_CR3] = 0x1000;
    put64(PML4E, 0x2000 | P_ALL);
    put64(0x2000 + 0x100 * 8, 0x3000 | P_ALL);
    put64(PDPTE, 0x3000 | P_ALL);
    put64(0x2000 + 0x101 * 8, 0x40000000 | P_ALL | PTE_LARGE);
    put64(PDE, 0x4000 | P_ALL);
    put64(0x3008, 0x600000 | P_ALL | PTE_LARGE);
    put64(PTE, 0x5000 | P_ALL);
}

static gpa_t gpa;
static u32 error;

static bool walk(gva_t gva, unsigned access)
{
    gpa = 0;
    error = 0xffff;
    return guest_walk(&vcpu, gva, access, &gpa, &error);
}

TEST(no_paging)
{
    reset();
    CHECK(walk(0x12345678, PAGE_READ));
    CHECK_EQ(gpa, 0x12345678);
}

TEST(four_levels_all_page_sizes)
{
    setup_long();
    CHECK(walk(VA_4K, PAGE_READ));
    CHECK_EQ(gpa, 0x5678);
    CHECK(walk(VA_2M, PAGE_READ));
    CHECK_EQ(gpa, 0x634567);
    CHECK(walk(VA_1G, PAGE_READ));
    CHECK_EQ(gpa, 0x50345678);
    CHECK(!walk(VA_4K + 0x1000, PAGE_READ));
    CHECK_EQ(error, 0);
    CHECK(!walk(VA_4K + (1ull << 39), PAGE_WRITE));
    CHECK_EQ(error, PF_WRITE);
}

TEST(five_levels)
{
    setup_long();
    regs[REG_CR4] |= CR4_LA57;
    regs[REG_CR3] = 0x6000;
    put64(0x6000 + 8 * 3, 0x1000 | P_ALL);
    CHECK(walk(VA_4K | 3ull << 48, PAGE_READ));
    CHECK_EQ(gpa, 0x5678);
    CHECK(!walk(VA_4K, PAGE_READ));
}

TEST(accessed_and_dirty_bits)
{
    setup_long();
    CHECK(walk(VA_4K, PAGE_READ));
    CHECK_EQ(get64(PML4E), 0x2000 | P_ALL | PTE_ACCESSED);
    CHECK_EQ(get64(PDE), 0x4000 | P_ALL | PTE_ACCESSED);
    CHECK_EQ(get64(PTE), 0x5000 | P_ALL | PTE_ACCESSED);
    CHECK(walk(VA_4K, PAGE_WRITE));
    CHECK_EQ(get64(PTE), 0x5000 | P_ALL | PTE_ACCESSED | PTE_DIRTY);
    CHECK_EQ(get64(PDE), 0x4000 | P_ALL | PTE_ACCESSED);
    setup_long();
    put64(PTE, 0x5000 | PTE_PRESENT);
    CHECK(!walk(VA_4K, PAGE_WRITE)); // a fault marks nothing
    CHECK_EQ(get64(PML4E), 0x2000 | P_ALL);
    CHECK_EQ(get64(PTE), 0x5000 | PTE_PRESENT);
    u32 e;
    CHECK(guest_walk_peek(&vcpu, VA_4K, &gpa, &e));
    CHECK_EQ(gpa, 0x5678);
    CHECK_EQ(get64(PTE), 0x5000 | PTE_PRESENT);
}

TEST(write_protection)
{
    setup_long();
    put64(PDE, 0x4000 | PTE_PRESENT | PTE_USER);
    CHECK(!walk(VA_4K, PAGE_WRITE));
    CHECK_EQ(error, PF_PRESENT | PF_WRITE);
    CHECK(walk(VA_4K, PAGE_READ));
    regs[REG_CR0] &= ~CR0_WP;
    CHECK(walk(VA_4K, PAGE_WRITE));
    set_cpl(3);
    CHECK(!walk(VA_4K, PAGE_WRITE));
    CHECK_EQ(error, PF_PRESENT | PF_WRITE | PF_USER);
    CHECK(walk(VA_4K, PAGE_WRITE | GUEST_WALK_SYSTEM));
}

TEST(user_and_supervisor)
{
    setup_long();
    put64(PML4E, 0x2000 | PTE_PRESENT | PTE_WRITABLE);
    set_cpl(3);
    CHECK(!walk(VA_4K, PAGE_READ));
    CHECK_EQ(error, PF_PRESENT | PF_USER);
    CHECK(walk(VA_4K, PAGE_READ | GUEST_WALK_SYSTEM));
    set_cpl(0);
    CHECK(walk(VA_4K, PAGE_READ));
}

TEST(no_execute)
{
    setup_long();
    put64(PDPTE, 0x3000 | P_ALL | PTE_NO_EXECUTE);
    CHECK(walk(VA_4K, PAGE_WRITE));
    CHECK(!walk(VA_4K, PAGE_EXECUTE));
    CHECK_EQ(error, PF_PRESENT | PF_FETCH);
    regs[REG_EFER] &= ~EFER_NXE; // then the bit is reserved
    CHECK(!walk(VA_4K, PAGE_READ));
    CHECK_EQ(error, PF_PRESENT | PF_RESERVED);
}

TEST(smep)
{
    setup_long();
    regs[REG_CR4] |= CR4_SMEP;
    CHECK(!walk(VA_4K, PAGE_EXECUTE));
    CHECK_EQ(error, PF_PRESENT | PF_FETCH);
    CHECK(walk(VA_4K, PAGE_READ));
    put64(PTE, 0x5000 | PTE_PRESENT);
    CHECK(walk(VA_4K, PAGE_EXECUTE));
    put64(PTE, 0x5000 | P_ALL);
    set_cpl(3);
    CHECK(walk(VA_4K, PAGE_EXECUTE));
}

TEST(smap)
{
    setup_long();
    regs[REG_CR4] |= CR4_SMAP;
    CHECK(!walk(VA_4K, PAGE_READ));
    CHECK_EQ(error, PF_PRESENT);
    CHECK(!walk(VA_4K, PAGE_WRITE));
    CHECK(walk(VA_4K, PAGE_EXECUTE));
    regs[REG_RFLAGS] = RFLAGS_AC;
    CHECK(walk(VA_4K, PAGE_READ));
    CHECK(!walk(VA_4K, PAGE_READ | GUEST_WALK_SYSTEM));
    regs[REG_RFLAGS] = 0;
    set_cpl(3);
    CHECK(walk(VA_4K, PAGE_READ));
}

TEST(reserved_bits)
{
    static const struct {
        gpa_t at;
        u64 value;
        gva_t va;
    } cases[] = {
        {PTE, 0x5000 | P_ALL | BIT(46), VA_4K},     // beyond MAXPHYADDR
        {PML4E, 0x2000 | P_ALL | PTE_LARGE, VA_4K}, // no such page size
        {0x3008, 0x600000 | BIT(13) | P_ALL | PTE_LARGE, VA_2M},
        {0x2000 + 0x101 * 8, 0x40000000 | BIT(29) | P_ALL | PTE_LARGE, VA_1G},
        {PDE, RAM_SIZE | P_ALL, VA_4K}, // a table in a hole
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        setup_long();
        CHECK(walk(cases[i].va, PAGE_READ));
        put64(cases[i].at, cases[i].value);
        CHECK(!walk(cases[i].va, PAGE_READ));
        CHECK_EQ(error, PF_PRESENT | PF_RESERVED);
    }
    setup_long();
    put64(PTE, 0x5000 | P_ALL | BIT(62) | BIT(52)); // ignored in 4-level paging
    CHECK(walk(VA_4K, PAGE_READ));
    put64(0x3008, 0x600000 | BIT(12) | P_ALL | PTE_LARGE); // PAT of a large page
    CHECK(walk(VA_2M, PAGE_READ));
    CHECK_EQ(gpa, 0x634567);
}

static void setup_pae(void)
{
    reset();
    regs[REG_CR0] = CR0_PE | CR0_PG | CR0_WP;
    regs[REG_CR4] = CR4_PAE;
    regs[REG_PDPTE2] = 0x3000 | PTE_PRESENT;
    put64(0x3000 + 8, 0x4000 | P_ALL);
    put64(0x4000 + 16, 0x7000 | P_ALL);
    put64(0x3000 + 16, 0x12345600000ull | P_ALL | PTE_LARGE);
}

TEST(pae)
{
    setup_pae();
    CHECK(walk(0x80202123, PAGE_WRITE));
    CHECK_EQ(gpa, 0x7123);
    CHECK_EQ(get64(0x4010), 0x7000 | P_ALL | PTE_ACCESSED | PTE_DIRTY);
    CHECK(walk(0x80454321, PAGE_READ));
    CHECK_EQ(gpa, 0x12345654321ull);
    CHECK(!walk(0x40000000, PAGE_READ));
    CHECK_EQ(error, 0);
    regs[REG_EFER] = EFER_NXE;
    CHECK(!walk(0x40000000, PAGE_EXECUTE)); // a bit of its own if NX or SMEP is on
    CHECK_EQ(error, PF_FETCH);
    regs[REG_EFER] = 0;
    CHECK(!walk(0x40000000, PAGE_EXECUTE));
    CHECK_EQ(error, 0);
    regs[REG_CR4] |= CR4_SMEP;
    CHECK(!walk(0x40000000, PAGE_EXECUTE));
    CHECK_EQ(error, PF_FETCH);
    put64(0x4010, 0x7000 | P_ALL | BIT(52));
    CHECK(!walk(0x80202123, PAGE_READ));
    CHECK_EQ(error, PF_PRESENT | PF_RESERVED);
}

TEST(paging_of_32_bits)
{
    reset();
    regs[REG_CR0] = CR0_PE | CR0_PG;
    regs[REG_CR3] = 0x1000 | 0x18;
    put32(0x1000 + 4 * 0x300, 0x2000 | P_ALL);
    put32(0x2000 + 4 * 5, 0x9000 | P_ALL);
    put32(0x1000 + 4 * 0x301, 0x00400000 | BIT(13) | P_ALL | PTE_LARGE);
    CHECK(walk(0xc0005abc, PAGE_WRITE));
    CHECK_EQ(gpa, 0x9abc);
    CHECK_EQ(get64(0x2000 + 4 * 5),
             0x9000 | P_ALL | PTE_ACCESSED | PTE_DIRTY); // its neighbour is untouched
    regs[REG_CR4] = CR4_PSE;
    CHECK(walk(0xc0005abc, PAGE_WRITE)); // not large
    CHECK_EQ(gpa, 0x9abc);
    CHECK(walk(0xc0512345, PAGE_READ));
    CHECK_EQ(gpa, 0x100512345ull);
    put32(0x1000 + 4 * 0x301, 0x00400000 | BIT(21) | P_ALL | PTE_LARGE);
    CHECK(!walk(0xc0512345, PAGE_READ));
    CHECK_EQ(error, PF_PRESENT | PF_RESERVED);
    regs[REG_CR4] = 0; // without PSE the bit is ignored: a table at 0x600000, which is a hole here
    CHECK(!walk(0xc0512345, PAGE_READ));
    set_cpl(3);
    CHECK(!walk(0xc0006000, PAGE_EXECUTE)); // no execute bit in error codes of this mode
    CHECK_EQ(error, PF_USER);
}

TEST(canonical)
{
    struct guest_paging p = {.code64 = true, .levels = 4};
    CHECK(guest_canonical(&p, 0x00007fffffffffffull));
    CHECK(!guest_canonical(&p, 0x0000800000000000ull));
    CHECK(guest_canonical(&p, 0xffff800000000000ull));
    p.levels = 5;
    CHECK(guest_canonical(&p, 0x0000800000000000ull));
    CHECK(!guest_canonical(&p, 0x0100000000000000ull));
    p.code64 = false;
    CHECK(!guest_canonical(&p, 0x100000000ull));
}

TEST(copies_across_pages)
{
    setup_long();
    put64(PTE + 8, 0xa000 | P_ALL);
    struct guest_paging p;
    struct guest_page_fault fault;
    u8 out[0x1000 + 16], in[sizeof(out)];
    for (unsigned i = 0; i < sizeof(out); i++)
        out[i] = (u8)(i * 7);
    guest_paging_read(&vcpu, &p);
    gva_t at = (VA_4K & ~PAGE_MASK) + 0xff8;
    CHECK(guest_write_virtual(&p, at, out, 16, &fault));
    CHECK(memcmp(ram + 0x5ff8, out, 8) == 0 && memcmp(ram + 0xa000, out + 8, 8) == 0);
    CHECK(guest_read_virtual(&p, at, in, 16, &fault));
    CHECK(memcmp(in, out, 16) == 0);
    CHECK(!guest_read_virtual(&p, at, in, sizeof(in), &fault)); // the third page is not there
    CHECK_EQ(fault.gva, (VA_4K & ~PAGE_MASK) + 0x2000);
    CHECK_EQ(fault.error, 0);
    vm.memory.slots[0].kind = GUEST_SLOT_ROM;
    vm.memory.other_kinds = true;
    CHECK(guest_write_virtual(&p, at, in + 16, 8, &fault));
    CHECK(memcmp(ram + 0x5ff8, out, 8) == 0);
    put64(PTE, RAM_SIZE | P_ALL);
    CHECK(guest_read_virtual(&p, at, in, 8, &fault));
    CHECK_EQ(in[7], 0xff);
}

TEST(code_segment)
{
    struct guest_paging p;
    setup_long();
    guest_paging_read(&vcpu, &p);
    CHECK(p.code64 && p.code_bits == 64 && p.code_base == 0);
    segments[SEG_CS].access = CS32;
    segments[SEG_CS].base = 0x1000;
    guest_paging_read(&vcpu, &p);
    CHECK(!p.code64 && p.code_bits == 32 && p.code_base == 0x1000);
    segments[SEG_CS].access = 0x9b;
    guest_paging_read(&vcpu, &p);
    CHECK_EQ(p.code_bits, 16);
}
