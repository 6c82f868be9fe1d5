// SPDX-License-Identifier: MIT
// The machine as a block of trials finds it: modes.asm anew, GDT, IDT, tasks and page tables. What
// modes.asm stands on is sound; beside it there are random descriptors, gates and page tables.
// Manual: SDM volume 3, "Protected-Mode Memory Management", "Task Management", "Paging".
#include "guests/fuzz/fuzz.h"

#define DESCRIPTOR_CODE32      0x00c09b000000009full
#define DESCRIPTOR_DATA        0x00c093000000009full
#define DESCRIPTOR_CODE64      0x00a09b000000009full
#define DESCRIPTOR_USER_DATA   0x00cff3000000ffffull
#define DESCRIPTOR_USER_CODE32 0x00c0fb000000009full
#define DESCRIPTOR_USER_CODE64 0x00a0fb000000009full
#define DESCRIPTOR_CODE16      0x00809b000000009full
#define DESCRIPTOR_USER_CODE16 0x0080fb000000009full
#define DESCRIPTOR_SMALL       0x00c0f3030000004full // the ground, from its start
#define DESCRIPTOR_TSS         0x0000890000000000ull
#define DESCRIPTOR_LDT         0x0000820000000000ull
#define GATE_INTERRUPT         0x8e00u
#define GATE_TASK              0x8500u
#define GATE_CALL              0xec00u // for users
#define GATE_USER              0x6000u
#define STUB_SIZE              5
#define STUB16_SIZE            3
#define TSS_STRIDE             0x200
#define TSS_LIMIT              0x1ff
#define TSS_IOPB               0x80
#define FILL_INT3              0x0004cccc0004ccccull // as code and as an address
#define RANDOM_GATE_FIRST      0xa0
#define RANDOM_GATE_LAST       0xaf

#define PTE_P     BIT(0)
#define PTE_W     BIT(1)
#define PTE_U     BIT(2)
#define PTE_PS    BIT(7)
#define PTE_NX    BIT(63)
#define PTE_FLAGS (PTE_P | PTE_W | PTE_U)

// Page tables. The directories are those of both long mode and PAE.
enum {
    ROOT_LONG,
    PDPT,
    PD0,
    PD_MAZE,
    PD2,
    PD3,
    PT_LOW,
    PT_MAZE,
    ROOT_PAE = 10,
    ROOT_32,
    PT_LOW_32,
    PT_MAZE_32
};
#define MAZE_TABLES  2
#define TABLE(n)     ((volatile u64 *)(FUZZ_TABLES + (n)*PAGE_SIZE))
#define FUZZ_MAZE_PT (FUZZ_TABLES + PT_MAZE * PAGE_SIZE)
#define TABLE32(n)   ((volatile u32 *)(FUZZ_TABLES + (n)*PAGE_SIZE))
#define PDE_2M(a)    ((a) >> 21 & 511)
#define PDE_4M(a)    ((a) >> 22)

struct PACKED tss32 {
    u32 link, esp0, ss0, stacks[4], cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs, ldt;
    u16 trap, iopb;
};

extern const u8 fuzz_modes[], fuzz_modes_end[];

const struct way ways[] = {
    {"real mode", REAL, PAGING_NONE, 16, 0, false},
    {"virtual-8086 mode, 32-bit paging", PROTECTED, PAGING_32, 16, 3, true},
    {"virtual-8086 mode, PAE", PROTECTED, PAGING_PAE, 16, 3, true},
    {"protected mode, no paging", PROTECTED, PAGING_NONE, 32, 0, false},
    {"protected mode, no paging, user", PROTECTED, PAGING_NONE, 32, 3, false},
    {"protected mode, 16-bit code", PROTECTED, PAGING_NONE, 16, 0, false},
    {"protected mode, 32-bit paging", PROTECTED, PAGING_32, 32, 0, false},
    {"protected mode, 32-bit paging, user", PROTECTED, PAGING_32, 32, 3, false},
    {"protected mode, PAE", PROTECTED, PAGING_PAE, 32, 0, false},
    {"protected mode, PAE, user", PROTECTED, PAGING_PAE, 32, 3, false},
    {"protected mode, PAE, 16-bit code, user", PROTECTED, PAGING_PAE, 16, 3, false},
    {"compatibility mode", LONG, PAGING_LONG, 32, 0, false},
    {"compatibility mode, user", LONG, PAGING_LONG, 32, 3, false},
    {"compatibility mode, 16-bit code", LONG, PAGING_LONG, 16, 0, false},
    {"64-bit mode", LONG, PAGING_LONG, 64, 0, false},
    {"64-bit mode, user", LONG, PAGING_LONG, 64, 3, false},
};
const unsigned way_count = ARRAY_SIZE(ways);

static void copy(u64 to, const u8 *from, u64 size)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

static void fill(u64 to, u64 size, u64 value)
{
    size /= sizeof(u64);
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(size) : "a"(value) : "memory");
}

static void clear(u64 to, u64 size)
{
    fill(to, size, 0);
}

// --- descriptors ---

static u64 with_base(u64 descriptor, u64 base, u64 limit)
{
    return descriptor | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56 | limit;
}

static u64 gate(u64 offset, u64 selector, u64 type)
{
    return (offset & 0xffff) | selector << 16 | type << 32 | (offset >> 16 & 0xffff) << 48;
}

static void gdt_make(const struct way *way)
{
    volatile u64 *gdt = (volatile u64 *)FUZZ_GDT;
    static const u64 fixed[] = {0,
                                DESCRIPTOR_CODE32,
                                DESCRIPTOR_DATA,
                                DESCRIPTOR_CODE64,
                                DESCRIPTOR_USER_DATA,
                                DESCRIPTOR_USER_CODE32,
                                DESCRIPTOR_USER_CODE64,
                                DESCRIPTOR_CODE16,
                                DESCRIPTOR_USER_CODE16};
    clear(FUZZ_GDT, PAGE_SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++)
        gdt[i] = fixed[i];
    for (unsigned i = 0; i < 3; i++)
        gdt[SEL_TSS / 8 + i * 2] = with_base(DESCRIPTOR_TSS, FUZZ_TSS + i * TSS_STRIDE, TSS_LIMIT);
    gdt[SEL_LDT / 8] = with_base(DESCRIPTOR_LDT, FUZZ_GDT, SEL_END - 1);
    bool is_long = way->flavour == LONG;
    u32 target = is_long ? FUZZ_HEADER->finish64 : FUZZ_HEADER->finish32;
    gdt[SEL_CALL_GATE / 8] = gate(target, is_long ? SEL_CODE64 : SEL_CODE32, GATE_CALL);
    gdt[SEL_SMALL / 8] = DESCRIPTOR_SMALL;
    for (unsigned i = SEL_RANDOM / 8; i < SEL_END / 8; i++)
        gdt[i] = random64();
}

// A gate that trials may use leads anywhere, through any descriptor.
static u64 random_gate(void)
{
    return gate(random64(), random_below(SEL_END), random64() & 0xff1f) | GATE_USER;
}

static void idt_entry(const struct way *way, unsigned vector, u64 low)
{
    volatile u64 *idt = (volatile u64 *)FUZZ_IDT;
    if (way->flavour == LONG) {
        idt[vector * 2] = low | 1ull << 32; // IST 1
        idt[vector * 2 + 1] = 0;
    } else {
        idt[vector] = low;
    }
}

static bool for_users(unsigned vector)
{
    return vector == VECTOR_BP || vector == VECTOR_OF || vector == INT_FINISHED;
}

static void idt_make(const struct way *way)
{
    bool is_long = way->flavour == LONG;
    u64 stubs = is_long ? FUZZ_HEADER->stubs64 : FUZZ_HEADER->stubs32;
    for (unsigned v = 0; v < FUZZ_VECTORS; v++)
        idt_entry(way, v,
                  gate(stubs + v * STUB_SIZE, is_long ? SEL_CODE64 : SEL_CODE32,
                       GATE_INTERRUPT | (for_users(v) ? GATE_USER : 0u)));
    for (unsigned v = RANDOM_GATE_FIRST; v <= RANDOM_GATE_LAST; v++)
        idt_entry(way, v, random_gate());
    if (!is_long)
        idt_entry(way, VECTOR_DF, gate(0, SEL_DOUBLE_FAULT, GATE_TASK));
}

static void ivt_make(void)
{
    static u32 table[FUZZ_VECTORS];
    for (unsigned v = 0; v < FUZZ_VECTORS; v++)
        table[v] =
            (u32)FUZZ_SEGMENT << 16 | (u32)(FUZZ_HEADER->stubs16 - FUZZ_BASE + v * STUB16_SIZE);
    copy(0, (const u8 *)table, sizeof(table));
}

static void task_make(unsigned number, u32 eip)
{
    volatile struct tss32 *tss = (volatile struct tss32 *)(FUZZ_TSS + number * TSS_STRIDE);
    tss->esp0 = tss->esp = FUZZ_STACK - (number + 1) * TSS_STRIDE;
    tss->ss0 = tss->ss = tss->ds = tss->es = SEL_DATA;
    tss->cs = SEL_CODE32;
    tss->cr3 = FUZZ_HEADER->cr3;
    tss->eip = eip;
    tss->eflags = RFLAGS_RESERVED;
    tss->trap = (u16)one_in(4);
    tss->iopb = TSS_IOPB;
}

// In long mode the first is the only one: RSP0 and IST 1; the rest of the fields is in the way.
static void tasks_make(const struct way *way)
{
    clear(FUZZ_TSS, PAGE_SIZE);
    if (way->flavour == LONG) {
        *(volatile u32 *)(FUZZ_TSS + 0x04) = FUZZ_STACK;
        *(volatile u32 *)(FUZZ_TSS + 0x24) = FUZZ_STACK;
        *(volatile u16 *)(FUZZ_TSS + 0x66) = TSS_IOPB;
        return;
    }
    task_make(0, FUZZ_HEADER->task);
    task_make(1, FUZZ_HEADER->double_fault);
    task_make(2, FUZZ_HEADER->task);
}

// --- paging ---

// None is that of what modes.asm stands on.
#define PLACE_PAGES 16
static const u64 places[] = {
    FUZZ_GROUND,  FUZZ_GROUND + GROUND_SIZE - PLACE_PAGES *PAGE_SIZE,
    0xa0000,      0xe0000,
    0xb0000000,   0xd0000000,
    0xfec00000,   0xfed00000,
    0xfee00000,   0xff000000,
    0xffff0000,   0xfffff000,
    FUZZ_ADAPTER, FUZZ_MAZE_PT,
};

// There are thousands in a block: the bits of one random number have to do.
static u64 random_entry(void)
{
    u64 bits = random64(), entry = places[bits % ARRAY_SIZE(places)];
    bits /= ARRAY_SIZE(places);
    if (entry != FUZZ_MAZE_PT)
        entry += bits & (PLACE_PAGES - 1) << PAGE_SHIFT;
    entry |= bits & 0x700000 ? PTE_FLAGS | (bits & 0xe78) : bits & 0xfff;
    if (!(bits & 0xf000000))
        entry |= BIT(bits >> 28 & 63);
    if (!(bits & 0xf00000000000))
        entry &= ~BIT((bits >> 48) % 12);
    return entry;
}

static void maze_make(const struct way *way)
{
    volatile u64 *directory = TABLE(PD_MAZE), *table = TABLE(PT_MAZE);
    for (unsigned i = 0; i < MAZE_SIZE / PAGE_2M; i++) {
        u64 next = FUZZ_TABLES + (PT_MAZE + i % MAZE_TABLES) * PAGE_SIZE;
        directory[i] = one_in(4) ? random_entry() : next | PTE_FLAGS;
    }
    for (unsigned i = 0; i < MAZE_TABLES * 512; i++)
        table[i] = random_entry();
    if (way->paging != PAGING_32)
        return;
    TABLE32(ROOT_32)[PDE_4M(FUZZ_MAZE)] = FUZZ_TABLES + PT_MAZE_32 * PAGE_SIZE + PTE_FLAGS;
    for (unsigned i = 1; i < MAZE_SIZE / PAGE_2M / 2; i++)
        TABLE32(ROOT_32)[PDE_4M(FUZZ_MAZE) + i] = (u32)random_entry();
    for (unsigned i = 0; i < 1024; i++)
        TABLE32(PT_MAZE_32)[i] = (u32)random_entry();
}

// Low memory one to one. Users have the first page, their code and the ground.
static u64 low_entry(u64 address)
{
    bool user = address < FUZZ_BASE ||
                (address >= FUZZ_CODE && address < FUZZ_CODE + FUZZ_TRIALS * CODE_SIZE) ||
                address >= FUZZ_GROUND;
    return address < MIB ? address | PTE_P | PTE_W | (user ? PTE_U : 0) : 0;
}

// Devices one to one, in large pages; no code, which would be a kernel's last.
static const u64 devices[] = {0xb0000000, 0xd0000000, 0xfec00000,  0xfee00000,
                              0xff000000, 0xffe00000, FUZZ_ADAPTER};

static void long_tables(bool is_long)
{
    const u64 no_execute = is_long ? PTE_NX : 0;
    for (unsigned i = 0; i < 512; i++)
        TABLE(PT_LOW)[i] = low_entry(i * PAGE_SIZE);
    TABLE(ROOT_LONG)[0] = (u64)TABLE(PDPT) | PTE_FLAGS;
    TABLE(ROOT_LONG)[511] = (u64)TABLE(PDPT) | PTE_FLAGS;
    for (unsigned i = 0; i < 4; i++) {
        TABLE(PDPT)[i] = (u64)TABLE(PD0 + i) | PTE_FLAGS;
        TABLE(ROOT_PAE)[i] = (u64)TABLE(PD0 + i) | PTE_P;
    }
    TABLE(PD0)[0] = (u64)TABLE(PT_LOW) | PTE_FLAGS;
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
        TABLE(PD2 + (devices[i] >> 30) - 2)
    [PDE_2M(devices[i])] = devices[i] | PTE_FLAGS | PTE_PS | no_execute;
}

static void tables_32(void)
{
    for (unsigned i = 0; i < 1024; i++)
        TABLE32(PT_LOW_32)[i] = (u32)low_entry(i * PAGE_SIZE);
    TABLE32(ROOT_32)[0] = (u32)(FUZZ_TABLES + PT_LOW_32 * PAGE_SIZE + PTE_FLAGS);
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
        TABLE32(ROOT_32)
    [PDE_4M(devices[i])] = (u32)((devices[i] & 0xffc00000) | PTE_FLAGS | PTE_PS);
}

static void paging_make(const struct way *way)
{
    clear(FUZZ_TABLES, 16 * PAGE_SIZE);
    if (way->paging == PAGING_32 || way->paging == PAGING_NONE)
        tables_32();
    else
        long_tables(way->flavour == LONG);
    if (way->paging != PAGING_NONE)
        maze_make(way);
}

// --- registers ---

static u32 random_cr4(const struct way *way)
{
    static const u64 features[] = {CR4_PSE, CR4_TSD, CR4_DE, CR4_PGE, CR4_PCE};
    u64 cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    if (cpuid(1, 0).ecx & BIT(26))
        cr4 |= CR4_OSXSAVE;
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
        if (one_in(2))
            cr4 |= features[i];
    if (way->flavour == PROTECTED && one_in(2))
        cr4 |= CR4_VME | CR4_PVI;
    if (way->paging == PAGING_32)
        cr4 |= CR4_PSE;
    if (way->paging == PAGING_PAE || way->paging == PAGING_LONG)
        cr4 |= CR4_PAE;
    return (u32)cr4;
}

static void header_make(const struct way *way)
{
    static const u32 roots[] = {ROOT_32, ROOT_32, ROOT_PAE, ROOT_LONG};
    volatile struct fuzz_header *h = FUZZ_HEADER;
    h->flavour = way->flavour;
    h->cr0 = (u32)CR0_ET | (one_in(2) ? (u32)CR0_WP : 0) |
             (one_in(2) ? (u32)(CR0_NE | CR0_MP) : 0) | (one_in(4) ? (u32)CR0_AM : 0);
    if (way->flavour != REAL)
        h->cr0 |= (u32)CR0_PE;
    if (way->paging != PAGING_NONE)
        h->cr0 |= (u32)CR0_PG;
    h->cr3 = (u32)(FUZZ_TABLES + roots[way->paging] * PAGE_SIZE);
    h->cr4 = random_cr4(way);
    h->efer = way->flavour == LONG ? (u32)(EFER_LME | EFER_NXE | EFER_SCE) : 0;
    h->xcr0 = h->cr4 & CR4_OSXSAVE ? cpuid(0xd, 0).eax & 7 : 0;
    h->count = FUZZ_TRIALS;
}

// Code that runs away finds INT3.
void world_fill(void)
{
    static const struct {
        u64 base, size;
    } areas[] = {{0x1000, 0xf000},
                 {0x24000, 0xc000},
                 {FUZZ_GROUND, GROUND_SIZE},
                 {0x80000, 0x1fc00},
                 {0xc0000, 0x20000}};
    for (unsigned i = 0; i < ARRAY_SIZE(areas); i++)
        fill(areas[i].base, areas[i].size, FILL_INT3);
}

void world_make(const struct way *way)
{
    copy(FUZZ_BASE, fuzz_modes, (u64)(fuzz_modes_end - fuzz_modes));
    header_make(way);
    gdt_make(way);
    if (way->flavour == REAL)
        ivt_make();
    else
        idt_make(way);
    tasks_make(way);
    paging_make(way);
    devices_make();
}
