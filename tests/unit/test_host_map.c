// SPDX-License-Identifier: MIT
// The host's address space, built over an arena and looked up in; the core's image is a few labels.

#include "tests/unit/arena.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/page_table.c"

static u64 fake_cr3;
static bool fake_1g;

static struct cpuid fake_cpuid(u32 leaf, u32 subleaf)
{
    (void)leaf;
    (void)subleaf;
    return (struct cpuid){.edx = fake_1g ? 1u << 26 : 0};
}

__asm__(".pushsection .bss\n .balign 4096\n"
        ".globl core_text_start, core_text_end, core_rodata_start, core_rodata_end\n"
        ".globl core_data_start, core_end, core_boot_stack_guard, core_boot_stack\n"
        ".globl core_boot_stack_top\n"
        "core_text_start: .skip 8192\n core_text_end:\n"
        "core_rodata_start: .skip 4096\n core_rodata_end:\n"
        "core_data_start: .skip 4096\n"
        "core_boot_stack_guard: .skip 4096\n"
        "core_boot_stack: .skip 8192\n core_boot_stack_top: .skip 4096\n core_end:\n"
        ".popsection\n");

#define lock         host_map_lock
#define write_cr3(v) (fake_cr3 = (v))
#define cpuid(l, s)  fake_cpuid(l, s)
#include "mm/host_map.c"
#undef cpuid

#define CORE_AT (2 * MIB)
#define RAM_END (48 * MIB)

static const struct boot_memory_range ranges[] = {
    {0, 0xa0000, BOOT_MEMORY_FREE, 0},
    {MIB, MIB, BOOT_MEMORY_LOADER, 0},
    {CORE_AT, 10 * PAGE_SIZE, BOOT_MEMORY_CORE, 0},
    {CORE_AT + 10 * PAGE_SIZE, 30 * MIB - 10 * PAGE_SIZE, BOOT_MEMORY_FREE, 0},
    {32 * MIB, MIB, BOOT_MEMORY_ACPI, 0},
    {33 * MIB, MIB, BOOT_MEMORY_RESERVED, 0},
    {34 * MIB, 2 * MIB, BOOT_MEMORY_FIRMWARE, 0},
    {36 * MIB, 12 * MIB, BOOT_MEMORY_FREE, 0},
};

static void start(bool with_1g)
{
    fake_1g = with_1g;
    memset(&host, 0, sizeof(host));
    memset(&firmware, 0, sizeof(firmware));
    memset(stacks, 0, sizeof(stacks));
    stacks_used = 0;
    device_next = DEVICE_BASE;
    ram_end = 0;
    struct boot_info boot = arena_boot(ranges, ARRAY_SIZE(ranges));
    boot.core_base = CORE_AT;
    boot.core_link_base = (u64)core_text_start;
    host_map_init(&boot);
}

static struct page_mapping at(u64 hva)
{
    struct page_mapping m = {0};
    return page_table_lookup(&host, hva, &m) ? m : (struct page_mapping){.physical = ~0ull};
}

TEST(the_direct_map_has_ram_and_nothing_else)
{
    start(true);
    CHECK_EQ(fake_cr3, host_map_cr3());
    CHECK(host_map_cr3() < CR3_BELOW);
    for (hpa_t hpa = 0; hpa < RAM_END + 4 * MIB; hpa += PAGE_SIZE) {
        bool hole = hpa < PAGE_SIZE || (hpa >= 0xa0000 && hpa < MIB) ||
                    (hpa >= 33 * MIB && hpa < 34 * MIB) || hpa >= RAM_END;
        bool core = hpa >= CORE_AT && hpa < CORE_AT + 10 * PAGE_SIZE;
        struct page_mapping m = at(DIRECT_MAP_BASE + hpa);
        CHECK_EQ(m.physical, hole ? ~0ull : hpa);
        CHECK_EQ(m.access, hole ? 0u : core ? PAGE_READ : PAGE_READ | PAGE_WRITE);
    }
    CHECK_EQ(at(DIRECT_MAP_BASE + 34 * MIB).size, PAGE_2M); // across equal neighbours
    CHECK_EQ(at(DIRECT_MAP_BASE + 8 * MIB).size, PAGE_2M);
}

TEST(no_page_is_both_writable_and_executable)
{
    start(true);
    for (u64 hva = (u64)core_text_start; hva < (u64)core_end; hva += PAGE_SIZE) {
        struct page_mapping m = at(hva);
        bool guard = hva == (u64)core_boot_stack_guard;
        CHECK_EQ(m.physical, guard ? ~0ull : CORE_AT + hva - (u64)core_text_start);
        bool text = hva < (u64)core_text_end, constant = !text && hva < (u64)core_rodata_end;
        if (!guard)
            CHECK_EQ(m.access, text       ? PAGE_READ | PAGE_EXECUTE
                               : constant ? PAGE_READ
                                          : PAGE_READ | PAGE_WRITE);
    }
}

TEST(devices_are_mapped_as_asked)
{
    start(true);
    u8 *apic = host_map_device(0xfee00020, 4, HOST_UNCACHED);
    CHECK_EQ((u64)apic & PAGE_MASK, 0x20);
    struct page_mapping m = at((u64)apic);
    CHECK_EQ(m.physical, 0xfee00020);
    CHECK_EQ(m.type, PAGE_UC);
    CHECK_EQ(m.access, PAGE_READ | PAGE_WRITE);
    CHECK_EQ(at((u64)apic + PAGE_SIZE).physical, ~0ull);
    u8 *screen = host_map_device(0xe0001000, 8 * MIB, HOST_WRITE_COMBINING);
    m = at((u64)screen + 4 * MIB);
    CHECK_EQ(m.physical, 0xe0001000 + 4 * MIB);
    CHECK_EQ(m.type, PAGE_WC);
    CHECK_EQ(m.size, PAGE_2M);
    u8 *two = host_map_device(0xfffff000 - 1, 2, HOST_UNCACHED); // on two pages
    CHECK_EQ(at((u64)two + 1).physical, 0xfffff000);
    CHECK(!host_map_device(0, 0, HOST_UNCACHED));
    CHECK(!host_map_device(0, ~0ull, HOST_UNCACHED));
    CHECK(!host_map_device(~0ull - 8, 8, HOST_UNCACHED));
    CHECK_STR(host_map_describe((u64)apic), "device registers");
}

TEST(stacks_have_guards_and_are_used_again)
{
    start(true);
    u8 *a = host_stack_alloc(4 * PAGE_SIZE), *b = host_stack_alloc(STACK_MAX);
    CHECK(a && b && a != b);
    for (u64 i = 1; i <= 4; i++)
        CHECK(at((u64)a - i * PAGE_SIZE).physical != ~0ull);
    CHECK_EQ(at((u64)a - 5 * PAGE_SIZE).physical, ~0ull);
    CHECK_EQ(at((u64)a).physical, ~0ull);
    CHECK_EQ(at((u64)b - STACK_MAX - 1).physical, ~0ull);
    CHECK_STR(host_map_describe((u64)a - 1), "stack");
    CHECK_STR(host_map_describe((u64)a - 4 * PAGE_SIZE - 1), "guard page of a stack");
    hpa_t frame = at((u64)a - 1).physical;
    host_stack_free(a, 4 * PAGE_SIZE);
    CHECK(host_stack_alloc(2 * PAGE_SIZE) != a);
    CHECK(host_stack_alloc(4 * PAGE_SIZE) == a);
    CHECK_EQ(at((u64)a - 1).physical, frame);
    host_stack_free(a, 4 * PAGE_SIZE);
    CHECK_PANICS(host_stack_free(a, 4 * PAGE_SIZE));
    host_map_lock = (struct spinlock)SPINLOCK_INIT;
    CHECK(!host_stack_alloc(0));
    CHECK(!host_stack_alloc(STACK_MAX + PAGE_SIZE));
    CHECK(!host_stack_alloc(100));
}

TEST(no_memory_is_null_and_leaks_nothing)
{
    for (u64 left = 0; left < 8; left++) {
        start(true);
        arena_exhaust(left);
        u64 tables = host.tables;
        void *stack = host_stack_alloc(4 * PAGE_SIZE);
        CHECK_EQ(stack != NULL, left >= 7); // three tables and four pages
        if (!stack)
            CHECK_EQ(frame_counts().owned[FRAME_FREE] + host.tables - tables, left);
    }
    start(true);
    arena_exhaust(1);
    CHECK(!host_map_device(0xfee00000, 4, HOST_UNCACHED));
    CHECK_EQ(host_map_firmware_cr3(), 0);
}

TEST(the_firmware_sees_memory_one_to_one)
{
    for (int with_1g = 0; with_1g < 2; with_1g++) {
        start(with_1g);
        host_map_device(0xfee00000, 4, HOST_UNCACHED);
        u64 cr3 = host_map_firmware_cr3();
        CHECK(cr3 && cr3 < CR3_BELOW);
        struct page_mapping m;
        u64 last = with_1g ? 512 * GIB : 4 * GIB;
        CHECK(page_table_lookup(&firmware, last - 1, &m));
        CHECK_EQ(m.physical, last - 1);
        CHECK_EQ(m.access, PAGE_READ | PAGE_WRITE | PAGE_EXECUTE);
        CHECK(!page_table_lookup(&firmware, last, &m));
        CHECK(page_table_lookup(&firmware, DEVICE_BASE, &m));
        u8 *stack = host_stack_alloc(PAGE_SIZE);
        CHECK_EQ(host_map_firmware_cr3(), cr3);
        CHECK(page_table_lookup(&firmware, (u64)stack - 1, &m)); // what came later is there, too
    }
}

TEST(describe_names_what_an_address_belongs_to)
{
    start(true);
    CHECK_STR(host_map_describe(0), "null page");
    CHECK_STR(host_map_describe((u64)core_text_start), "core text");
    CHECK_STR(host_map_describe((u64)core_rodata_start), "core constants");
    CHECK_STR(host_map_describe((u64)core_end - 1), "core data");
    CHECK_STR(host_map_describe((u64)core_boot_stack_guard), "guard page of the boot stack");
    CHECK_STR(host_map_describe((u64)core_boot_stack), "boot stack");
    CHECK_STR(host_map_describe(DIRECT_MAP_BASE + MIB), "direct map");
    CHECK_STR(host_map_describe(DIRECT_MAP_BASE + 33 * MIB), "hole in the direct map");
    CHECK_STR(host_map_describe(DIRECT_MAP_BASE), "page 0 of the direct map");
    CHECK_STR(host_map_describe(~0ull), "nothing");
}
