// SPDX-License-Identifier: MIT
// For tests of the loaders of ELF kernels: a guest, a made-up kernel in `image`, two modules. The
// test defines LOADER, the function under test, before it includes this file.
#pragma once

#include <string.h>
#include "tests/unit/arena.h"
#define lock heap_lock
#include "mm/heap.c"
#undef lock
#include "arch/x86_64/page_table.c"
#include "mm/guest_memory.c"
#include "vmm/lib/format.c"
#include "vmm/layout.c"
#include "vmm/load/guest_image.c"
#include "vmm/load/load_plan.c"
#include "vmm/load/elf_image.c"

#define IMAGE_BYTES   (32 * KIB)
#define HEADER_OFFSET 256
#define CODE_OFFSET   4096
#define CODE_BYTES    1000
#define MEMORY        (32 * MIB)

void thread_yield(void)
{
}

static struct guest_memory gm;
static u8 image[IMAGE_BYTES];
static u8 module[PAGE_SIZE + 5];
static struct e820_entry e820[LAYOUT_E820_MAX];
static struct guest_image in;
static struct guest_entry out;
static char why[CONFIG_ERROR_MAX];

static void start_empty(void)
{
    memset(roomy, 0, sizeof(roomy));
    arena_start(64 * MIB);
    CHECK_EQ(guest_memory_init(&gm, &page_format_ept, 2, GUEST_PAGES_4K), OK);
    CHECK_EQ(guest_memory_add(&gm, 0, LAYOUT_LOW_SIZE, GUEST_SLOT_RAM), OK);
    CHECK_EQ(guest_memory_add(&gm, LAYOUT_HIGH, MEMORY - LAYOUT_HIGH, GUEST_SLOT_RAM), OK);
    for (unsigned i = 0; i < sizeof(image); i++)
        image[i] = (u8)(i * 31 + (i >> 8));
    for (unsigned i = 0; i < sizeof(module); i++)
        module[i] = (u8)(i * 17 + 3);
    in = (struct guest_image){
        .kernel_name = "\\k",
        .kernel = image,
        .kernel_size = sizeof(image),
        .modules = {{"\\module", "x y", module, sizeof(module)}, {"\\second", "", module + 1, 1}},
        .module_count = 2,
        .cmdline = "a=b c",
        .memory = MEMORY,
        .e820 = e820,
        .e820_count = layout_e820(MEMORY, e820),
        .why = why};
    why[0] = 0;
}

static struct elf32_ehdr *elf32(void)
{
    return (struct elf32_ehdr *)image;
}

static struct elf32_phdr *segment(void)
{
    return (struct elf32_phdr *)(image + sizeof(struct elf32_ehdr));
}

// 32-bit ELF: linked at 3 GiB, loaded at 2 MiB.
static void start_elf32(void)
{
    start_empty();
    *elf32() = (struct elf32_ehdr){.e_ident = {0x7f, 'E', 'L', 'F', 1, 1, 1},
                                   .e_type = 2,
                                   .e_machine = 3,
                                   .e_entry = 0xc0200010,
                                   .e_phoff = sizeof(struct elf32_ehdr),
                                   .e_phentsize = sizeof(struct elf32_phdr),
                                   .e_phnum = 2};
    segment()[0] = (struct elf32_phdr){.p_type = 1,
                                       .p_offset = CODE_OFFSET,
                                       .p_vaddr = 0xc0200000,
                                       .p_paddr = 2 * MIB,
                                       .p_filesz = CODE_BYTES,
                                       .p_memsz = CODE_BYTES + 5000};
    segment()[1] = (struct elf32_phdr){.p_type = 4, .p_offset = ~0u, .p_filesz = ~0u}; // a note
}

static bool guest_has(gpa_t gpa, const void *bytes, u64 size)
{
    u8 *read = malloc(size);
    bool same = guest_memory_read(&gm, gpa, read, size) == OK && memcmp(read, bytes, size) == 0;
    free(read);
    return same;
}

int LOADER(struct guest_memory *gm, const struct guest_image *in, struct guest_entry *out);

// The kernel in `image`, into `out`. Who refuses it says why.
static int load(void)
{
    int error = LOADER(&gm, &in, &out);
    CHECK_EQ(error != OK, why[0] != 0);
    return error;
}

// What was made is refused with a text that has this part; `again` makes a good one for what
// follows.
static void refused(int error, const char *part, void (*again)(void))
{
    CHECK_EQ(load(), error);
    if (!strstr(why, part))
        CHECK_STR(why, part);
    again();
}
