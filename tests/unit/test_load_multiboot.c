// SPDX-License-Identifier: MIT
// The multiboot loader with made-up kernels of each kind, the flat loader, and a refusal for each
// thing that can be wrong.

#define LOADER load_multiboot
#include "tests/unit/kernel_image.h"
#include "vmm/load/load_multiboot.c"
#include "vmm/load/load_flat.c"

static struct multiboot_header *header(void)
{
    return (struct multiboot_header *)(image + HEADER_OFFSET);
}

static void header_set(u32 flags)
{
    header()->magic = 0x1badb002;
    header()->flags = flags;
    header()->checksum = 0 - 0x1badb002 - flags;
}

static void start(void)
{
    start_elf32();
    header_set(3);
}

// Addresses in the header: the file from CODE_OFFSET - HEADER_OFFSET... on, loaded at 1 MiB.
static void start_kludge(void)
{
    start_empty();
    header_set(1u << 16 | 3);
    header()->addresses.header_addr = MIB + HEADER_OFFSET - 16;
    header()->addresses.load_addr = MIB;
    header()->addresses.load_end_addr = MIB + CODE_BYTES;
    header()->addresses.bss_end_addr = MIB + 3 * PAGE_SIZE + 1;
    header()->entry_addr = MIB + 64;
}

static void start_elf64(void)
{
    start_empty();
    *(struct elf64_ehdr *)image = (struct elf64_ehdr){.e_ident = {0x7f, 'E', 'L', 'F', 2, 1, 1},
                                                      .e_type = 2,
                                                      .e_machine = 62,
                                                      .e_entry = 4 * MIB,
                                                      .e_phoff = sizeof(struct elf64_ehdr),
                                                      .e_phentsize = sizeof(struct elf64_phdr),
                                                      .e_phnum = 1};
    *(struct elf64_phdr *)(image + sizeof(struct elf64_ehdr)) =
        (struct elf64_phdr){.p_type = 1,
                            .p_offset = CODE_OFFSET,
                            .p_vaddr = 4 * MIB,
                            .p_paddr = 4 * MIB,
                            .p_filesz = CODE_BYTES,
                            .p_memsz = CODE_BYTES};
    header_set(0);
}

static struct multiboot_info info(void)
{
    struct multiboot_info i;
    CHECK_EQ(out.rax, 0x2badb002);
    CHECK_EQ(guest_memory_read(&gm, out.rbx, &i, sizeof(i)), OK);
    return i;
}

TEST(an_elf_kernel_is_where_its_segments_say)
{
    start();
    CHECK(load_multiboot_recognises(&in));
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.mode, GUEST_MODE_PROTECTED);
    CHECK_EQ(out.rip, 2 * MIB + 0x10);
    CHECK(guest_has(2 * MIB, image + CODE_OFFSET, CODE_BYTES));
    CHECK(guest_has(2 * MIB + CODE_BYTES, (u8[100]){0}, 100));
    start();
    elf32()->e_entry = 2 * MIB + 20; // physical
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.rip, 2 * MIB + 20);
}

TEST(the_kernel_is_told_what_there_is)
{
    start();
    CHECK_EQ(load(), OK);
    struct multiboot_info i = info();
    CHECK_EQ(i.flags, 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    CHECK_EQ(i.mem_lower, 639);
    CHECK_EQ(i.mem_upper, 31 * KIB);
    CHECK(guest_has(i.cmdline, "\\k a=b c", 9));
    CHECK(guest_has(i.boot_loader_name, "Plinth", 7));
    CHECK_EQ(i.mods_count, 2);
    struct multiboot_module m[2];
    CHECK_EQ(guest_memory_read(&gm, i.mods_addr, m, sizeof(m)), OK);
    CHECK_EQ(m[0].mod_start, 2 * MIB + 2 * PAGE_SIZE);
    CHECK_EQ(m[0].mod_end - m[0].mod_start, sizeof(module));
    CHECK(guest_has(m[0].mod_start, module, sizeof(module)));
    CHECK(guest_has(m[0].string, "\\module x y", 12));
    CHECK_EQ(m[1].mod_start, m[0].mod_start + 2 * PAGE_SIZE);
    CHECK_EQ(m[1].mod_end, m[1].mod_start + 1);
    CHECK(guest_has(m[1].mod_start, module + 1, 1));
    CHECK(guest_has(m[1].string, "\\second", 8));
    CHECK_EQ(i.mmap_length, in.e820_count * 24);
    struct multiboot_mmap_entry entry;
    CHECK_EQ(guest_memory_read(&gm, i.mmap_addr + 3 * 24, &entry, sizeof(entry)), OK);
    CHECK_EQ(entry.size, 20);
    CHECK_EQ(entry.entry.base, MIB);
    CHECK_EQ(entry.entry.size, 31 * MIB);
    CHECK_EQ(entry.entry.type, 1);
}

// They ask for nothing in their header, look at no flags, take mem_upper for all memory, and a
// module only if it is the only one: their environment.
TEST(kvm_unit_tests_find_what_they_read)
{
    start();
    header_set(0);
    elf32()->e_entry = segment()->p_vaddr = segment()->p_paddr = 4 * MIB;
    in.kernel_name = "\\apic.flat";
    in.cmdline = "x2apic 1";
    in.modules[0] = (struct guest_module){"\\env", "", "NR_CPUS=2\n", 10};
    in.module_count = 1;
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.rip, 4 * MIB);
    CHECK_EQ(info().mem_upper, (MEMORY - MIB) / KIB);
    CHECK(guest_has(info().cmdline, "\\apic.flat x2apic 1", 20)); // the first word is skipped
    CHECK_EQ(info().mods_count, 1);
    struct multiboot_module m;
    CHECK_EQ(guest_memory_read(&gm, info().mods_addr, &m, sizeof(m)), OK);
    CHECK_EQ(m.mod_end - m.mod_start, 10);
    CHECK(guest_has(m.mod_start, "NR_CPUS=2\n", 10));
}

TEST(no_module_and_an_empty_command_line)
{
    start();
    in.module_count = 0;
    in.cmdline = "";
    CHECK_EQ(load(), OK);
    CHECK_EQ(info().flags & 1 << 3, 0);
    CHECK_EQ(info().mods_count, 0);
    CHECK(guest_has(info().cmdline, "\\k", 3));
}

TEST(addresses_in_the_header)
{
    start_kludge();
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.rip, MIB + 64);
    CHECK(guest_has(MIB, image + 16, CODE_BYTES));
    CHECK(guest_has(MIB + CODE_BYTES, (u8[8]){0}, 8));
    struct multiboot_module first;
    CHECK_EQ(guest_memory_read(&gm, info().mods_addr, &first, sizeof(first)), OK);
    CHECK_EQ(first.mod_start, MIB + 4 * PAGE_SIZE);
    start_kludge();
    header()->addresses.load_end_addr = header()->addresses.bss_end_addr =
        0; // all of the file, no bss
    CHECK_EQ(load(), OK);
    CHECK(guest_has(MIB, image + 16, sizeof(image) - 16));
}

TEST(a_64_bit_elf_file_is_entered_in_32_bit_mode)
{
    start_elf64();
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.mode, GUEST_MODE_PROTECTED);
    CHECK_EQ(out.rip, 4 * MIB);
    CHECK(guest_has(4 * MIB, image + CODE_OFFSET, CODE_BYTES));
    start_elf64();
    in.kernel_size = sizeof(struct elf64_ehdr) - 1;
    struct load_plan plan = {.in = &in};
    CHECK_EQ(elf_parts(&plan), ERR_FORMAT);
}

TEST(each_wrong_header_is_refused)
{
    start();
    header()->checksum++;
    CHECK(!load_multiboot_recognises(&in));
    refused(ERR_FORMAT, "not a multiboot kernel: no header in the first 8192 bytes", start);
    header_set(7);
    refused(ERR_UNSUPPORTED, "demands what there is not (multiboot flags 0x4)", start);
    header_set(0x8003);
    refused(ERR_UNSUPPORTED, "(multiboot flags 0x8000)", start);
    image[0] = 0;
    refused(ERR_FORMAT, "without addresses, and not an ELF file", start);
    memmove(image + 8192 - 8, header(), 12);
    header()->magic = 0;
    refused(ERR_FORMAT, "no header", start);
    in.modules[0].size = 31 * MIB;
    refused(ERR_RANGE, "module \\module: 32505856 bytes do not fit from 0x202000 to 0x2000000",
            start);
    in.modules[0].size = ~0ull;
    refused(ERR_RANGE, "raise 'memory'", start);
}

TEST(a_kernel_may_lie_in_low_memory)
{
    static const u64 places[] = {BOOT_GDT + PAGE_SIZE, 0x8000, BOOT_AREA - 0x1770, BOOT_AREA_END,
                                 LAYOUT_EBDA - 0x1770};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        start();
        segment()->p_paddr = (u32)places[i];
        CHECK_EQ(load(), OK);
        CHECK(guest_has(places[i], image + CODE_OFFSET, CODE_BYTES));
        struct multiboot_info found = info();
        struct multiboot_module module;
        CHECK_EQ(guest_memory_read(&gm, found.mods_addr, &module, sizeof(module)), OK);
        CHECK(module.mod_start >= LAYOUT_HIGH);
    }
}

TEST(each_wrong_address_is_refused)
{
    start_kludge();
    header()->addresses.load_addr = header()->addresses.header_addr + 1;
    refused(ERR_FORMAT, "malformed: header_addr 0x1000f0, load_addr 0x1000f1", start_kludge);
    header()->addresses.load_addr -= 17;
    refused(ERR_FORMAT, "header at 0x100", start_kludge);
    header()->addresses.header_addr = HEADER_OFFSET;
    header()->addresses.load_addr = 0;
    refused(ERR_FORMAT, "truncated", start_kludge);
    header()->addresses.load_end_addr = MIB - 1;
    refused(ERR_FORMAT, "truncated", start_kludge);
    header()->addresses.load_end_addr = MIB + sizeof(image);
    refused(ERR_FORMAT, "truncated: wants 32768 bytes at 0x10 of the file, which has 32768",
            start_kludge);
    header()->addresses.bss_end_addr = MIB + 1;
    refused(ERR_FORMAT, "malformed: 1000 bytes for 1 bytes of memory", start_kludge);
    header()->addresses.bss_end_addr = 33 * MIB;
    refused(ERR_RANGE, "wants 0x2000000 bytes at 0x100000; there is memory from 0x100000",
            start_kludge);
    header()->addresses.bss_end_addr = MIB - 1;
    refused(ERR_RANGE, "wants 0xffffffffffffffff bytes", start_kludge);
    header()->entry_addr = MIB - 1;
    refused(ERR_FORMAT, "the entry 0xfffff is not in what is loaded", start_kludge);
    in.kernel_size = HEADER_OFFSET + 20;
    refused(ERR_FORMAT, "the multiboot header is cut off", start_kludge);
}

TEST(each_wrong_elf_file_is_refused)
{
    start();
    image[EI_CLASS] = 3;
    refused(ERR_UNSUPPORTED, "ELF class 3, data encoding 1: not for x86", start);
    image[EI_DATA] = 2;
    refused(ERR_UNSUPPORTED, "data encoding 2", start);
    elf32()->e_type = 3;
    refused(ERR_UNSUPPORTED, "ELF type 3, machine 3: not an x86 executable", start);
    elf32()->e_machine = 40;
    refused(ERR_UNSUPPORTED, "machine 40", start);
    elf32()->e_phoff = ~0u;
    refused(ERR_FORMAT, "2 segment headers of 32 bytes at 0xffffffff", start);
    elf32()->e_phnum = 0xffff;
    refused(ERR_FORMAT, "65535 segment headers", start);
    elf32()->e_phentsize = 31;
    refused(ERR_FORMAT, "of 31 bytes", start);
    elf32()->e_phnum = 0;
    refused(ERR_FORMAT, "no segment holds the entry 0xc0200010", start);
    elf32()->e_entry = 5;
    refused(ERR_FORMAT, "no segment holds the entry 0x5", start);
    segment()->p_offset = ~0u;
    refused(ERR_FORMAT, "truncated: wants 1000 bytes at 0xffffffff", start);
    segment()->p_filesz = IMAGE_BYTES;
    refused(ERR_FORMAT, "truncated", start);
    segment()->p_memsz = 1;
    refused(ERR_FORMAT, "1000 bytes for 1 bytes of memory", start);
    segment()->p_paddr = BOOT_GDT; // this low memory is the loader's
    refused(ERR_RANGE, "wants 0x1770 bytes at 0x1000", start);
    segment()->p_paddr = BOOT_AREA - 0x176f;
    refused(ERR_RANGE, "at 0xe891", start);
    segment()->p_paddr = BOOT_AREA_END - 1;
    refused(ERR_RANGE, "at 0x1ffff", start);
    segment()->p_paddr = LAYOUT_EBDA - 0x176f;
    refused(ERR_RANGE, "at 0x9e491", start);
    segment()->p_paddr = LAYOUT_HIGH - 1;
    refused(ERR_RANGE, "at 0xfffff", start);
    segment()->p_memsz = ~0u;
    refused(ERR_RANGE, "wants 0xffffffff bytes", start);
    elf32()->e_phoff = 2048;
    elf32()->e_phnum = LOAD_PARTS_MAX + 1;
    for (unsigned i = 0; i <= LOAD_PARTS_MAX; i++)
        memcpy(image + 2048 + i * sizeof(*segment()), segment(), sizeof(*segment()));
    refused(ERR_UNSUPPORTED, "more than 16 segments", start);
}

TEST(files_that_end_early)
{
    void (*const starts[])(void) = {start, start_kludge, start_elf64};
    for (unsigned kind = 0; kind < ARRAY_SIZE(starts); kind++) {
        for (u64 size = 0; size < CODE_OFFSET; size += 7) {
            starts[kind]();
            u8 *exact = malloc(size + !size); // the sanitizer watches its end
            memcpy(exact, image, size);
            in.kernel = exact;
            in.kernel_size = size;
            bool enough = kind == 1 && size >= 16 + CODE_BYTES;
            CHECK_EQ(load() == OK, enough);
            free(exact);
        }
    }
}

TEST(a_host_without_memory_says_so)
{
    for (u64 left = 0; left < 8; left += 2) {
        start();
        arena_exhaust(left);
        CHECK_EQ(load(), ERR_NO_MEMORY);
        CHECK_STR(why, "kernel \\k: the host ran out of memory while loading it");
    }
}

TEST(random_kernels_do_no_harm)
{
    void (*const starts[])(void) = {start, start_kludge, start_elf64};
    srand(1);
    for (unsigned round = 0; round < 3000; round++) {
        starts[round % 3]();
        for (unsigned i = 0; i < 1 + round % 5; i++)
            image[(unsigned)rand() % 2 ? (unsigned)rand() % 120
                                       : HEADER_OFFSET + 12 + (unsigned)rand() % 20] = (u8)rand();
        if (load() == OK)
            CHECK(out.rip >= MIB && out.rip < MEMORY);
    }
}

// --- what firmware leaves ---

TEST(low_memory_says_where_it_ends)
{
    start();
    CHECK_EQ(bios_data_write(&gm), OK);
    CHECK(guest_has(0x400, (u16[]){0x3f8}, 2));
    CHECK(guest_has(0x40e, (u16[]){0x9fc0}, 2)); // the EBDA's segment
    CHECK(guest_has(0x413, (u16[]){639}, 2));    // KiB below it
    CHECK(guest_has(0x9fc00, (u8[]){1}, 1));     // its size
}

// --- flat images ---

static int flat(u64 load_address, enum guest_mode mode)
{
    start_empty();
    in.load = load_address;
    in.load_mode = mode;
    int error = load_flat(&gm, &in, &out);
    CHECK_EQ(error != OK, why[0] != 0);
    return error;
}

TEST(flat_images_are_entered_at_their_start)
{
    static const enum guest_mode modes[] = {GUEST_MODE_REAL, GUEST_MODE_PROTECTED, GUEST_MODE_LONG};
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        CHECK_EQ(flat(0x20000, modes[i]), OK);
        CHECK_EQ(out.mode, modes[i]);
        CHECK_EQ(out.rip, 0x20000);
        CHECK(guest_has(0x20000, image, sizeof(image)));
    }
    CHECK_EQ(flat(MIB, GUEST_MODE_LONG), OK);
    u64 entry;
    CHECK_EQ(guest_memory_read(&gm, BOOT_PML4, &entry, sizeof(entry)), OK);
    CHECK_EQ(entry, (BOOT_PML4 + PAGE_SIZE) | 3);
    CHECK_EQ(guest_memory_read(&gm, BOOT_GDT + BOOT_CS, &entry, sizeof(entry)), OK);
    CHECK_EQ(entry, 0x00af9b000000ffff);
    CHECK_EQ(flat(0, GUEST_MODE_REAL), OK); // nothing of ours is in its way
    CHECK(guest_has(0, image, sizeof(image)));
}

TEST(flat_images_that_do_not_fit)
{
    CHECK_EQ(flat(MIB, GUEST_MODE_REAL), ERR_RANGE);
    CHECK_STR(why, "kernel \\k: 32768 bytes at 0x100000: in real mode there is memory below "
                   "0x9fc00");
    CHECK_EQ(flat(LAYOUT_EBDA - 4, GUEST_MODE_PROTECTED), ERR_RANGE);
    CHECK_EQ(flat(MEMORY - 1, GUEST_MODE_PROTECTED), ERR_RANGE);
    CHECK_EQ(flat(~0ull, GUEST_MODE_LONG), ERR_RANGE);
    CHECK_EQ(flat(0x7c00, GUEST_MODE_LONG), ERR_RANGE);
    CHECK_STR(why, "kernel \\k: at 0x7c00 it lies over the entry's tables, 0x1000 to 0xf000");
    CHECK_EQ(flat(0, GUEST_MODE_PROTECTED), ERR_RANGE);
}
