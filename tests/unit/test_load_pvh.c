// SPDX-License-Identifier: MIT
// The PVH loader: finding the entry's note, what the kernel is told, and refusals.

#define LOADER load_pvh
#include "tests/unit/kernel_image.h"
#include "vmm/load/load_pvh.c"

#define NOTES_OFFSET 512
#define NOTES_BYTES  (20 + 12 + 4 + 8)

static u32 *notes(void)
{
    return (u32 *)(image + NOTES_OFFSET);
}

// A build id, then the entry's note.
static void start(void)
{
    static const u32 texts[] = {4, 4, 3, 0x00554e47, 0x12345678, 4, 8, 18, 0x006e6558};
    start_elf32();
    segment()[1] = (struct elf32_phdr){
        .p_type = 4, .p_offset = NOTES_OFFSET, .p_filesz = NOTES_BYTES, .p_memsz = NOTES_BYTES};
    memcpy(notes(), texts, sizeof(texts));
    notes()[9] = 2 * MIB + 0x20;
    notes()[10] = 0;
    in.rsdp = LAYOUT_RSDP;
}

static struct hvm_start_info info(void)
{
    struct hvm_start_info i;
    CHECK_EQ(guest_memory_read(&gm, out.rbx, &i, sizeof(i)), OK);
    CHECK_EQ(i.magic, 0x336ec578);
    CHECK_EQ(i.version, 1);
    return i;
}

TEST(the_note_says_the_entry)
{
    start();
    CHECK(load_pvh_recognises(&in));
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.mode, GUEST_MODE_PROTECTED);
    CHECK_EQ(out.rip, 2 * MIB + 0x20);
    CHECK(guest_has(2 * MIB, image + CODE_OFFSET, CODE_BYTES));
}

TEST(the_kernel_is_told_what_there_is)
{
    start();
    CHECK_EQ(load(), OK);
    struct hvm_start_info i = info();
    CHECK(guest_has(i.cmdline_paddr, "a=b c", 6));
    CHECK_EQ(i.rsdp_paddr, LAYOUT_RSDP);
    CHECK_EQ(i.nr_modules, 2);
    struct hvm_modlist_entry m[2];
    CHECK_EQ(guest_memory_read(&gm, i.modlist_paddr, m, sizeof(m)), OK);
    CHECK_EQ(m[0].paddr, 2 * MIB + 2 * PAGE_SIZE);
    CHECK_EQ(m[0].size, sizeof(module));
    CHECK(guest_has(m[0].paddr, module, sizeof(module)));
    CHECK(guest_has(m[0].cmdline_paddr, "x y", 4));
    CHECK(guest_has(m[1].cmdline_paddr, "", 1));
    CHECK_EQ(i.memmap_entries, in.e820_count);
    for (unsigned n = 0; n < in.e820_count; n++)
        CHECK(guest_has(i.memmap_paddr + n * 24, &e820[n], sizeof(e820[n])));
    start();
    in.module_count = 0;
    CHECK_EQ(load(), OK);
    CHECK_EQ(info().nr_modules, 0);
    CHECK_EQ(info().modlist_paddr, 0);
}

TEST(files_without_the_note_are_refused)
{
    static const char no_note[] = "not a PVH kernel";
    start();
    notes()[7] = 17;
    CHECK(!load_pvh_recognises(&in));
    refused(ERR_FORMAT, no_note, start);
    notes()[8]++; // the owner
    refused(ERR_FORMAT, no_note, start);
    notes()[6] = 3; // contents too small
    refused(ERR_FORMAT, no_note, start);
    notes()[0] = ~0u; // a name longer than the notes
    refused(ERR_FORMAT, no_note, start);
    notes()[1] = ~0u;
    refused(ERR_FORMAT, no_note, start);
    segment()[1].p_filesz = NOTES_BYTES - 5;
    refused(ERR_FORMAT, no_note, start);
    segment()[1].p_filesz = ~0u;
    refused(ERR_FORMAT, no_note, start);
    segment()[1].p_offset = ~0u;
    refused(ERR_FORMAT, no_note, start);
    elf32()->e_phnum = 0xffff;
    refused(ERR_FORMAT, no_note, start);
    image[0] = 0;
    refused(ERR_FORMAT, no_note, start);
    in.kernel_size = 3;
    refused(ERR_FORMAT, no_note, start);
}

TEST(wrong_addresses_are_refused)
{
    start();
    notes()[9] = 5 * MIB;
    refused(ERR_FORMAT, "the entry 0x500000 is not in what is loaded", start);
    segment()->p_paddr = 0;
    refused(ERR_RANGE, "wants 0x1770 bytes at 0x0", start);
    in.modules[1].size = 64 * MIB;
    refused(ERR_RANGE, "module \\second: 67108864 bytes do not fit", start);
}

TEST(a_host_without_memory_says_so)
{
    start();
    arena_exhaust(2);
    CHECK_EQ(load(), ERR_NO_MEMORY);
}
