// SPDX-License-Identifier: MIT
// The loader's checks of the core's ELF file: every refusal has its own damage.
#include "tests/unit/test.h"
#include "boot/elf.c"

#define TEXT_OFFSET 0x1000
#define DATA_OFFSET 0x2000
#define DATA_SIZE   0x10
#define DATA_MEMORY 0x1801
#define FILE_SIZE   (DATA_OFFSET + DATA_SIZE)

struct image {
    Elf64_Ehdr header;
    Elf64_Phdr segments[3];
    unsigned char rest[FILE_SIZE - sizeof(Elf64_Ehdr) - 3 * sizeof(Elf64_Phdr)];
};

static struct image good(void)
{
    struct image image = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
                               EV_CURRENT},
                   .e_type = ET_EXEC,
                   .e_machine = EM_X86_64,
                   .e_entry = CORE_LINK_MIN + 8,
                   .e_phoff = sizeof(Elf64_Ehdr),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 3},
        .segments = {{.p_type = PT_LOAD,
                      .p_flags = PF_R | PF_X,
                      .p_offset = TEXT_OFFSET,
                      .p_vaddr = CORE_LINK_MIN,
                      .p_filesz = 0x20,
                      .p_memsz = 0x20},
                     {.p_type = PT_NOTE, .p_offset = ~0ull, .p_filesz = ~0ull},
                     {.p_type = PT_LOAD,
                      .p_flags = PF_R | PF_W,
                      .p_offset = DATA_OFFSET,
                      .p_vaddr = CORE_LINK_MIN + 0x1000,
                      .p_filesz = DATA_SIZE,
                      .p_memsz = DATA_MEMORY}},
    };
    unsigned char *bytes = (unsigned char *)&image;
    bytes[TEXT_OFFSET + 8] = 0x90;
    bytes[DATA_OFFSET + DATA_SIZE - 1] = 0x77;
    return image;
}

static const char *check_size(const struct image *image, size_t size)
{
    struct elf_layout layout;
    void *copy = malloc(size ? size : 1);
    __builtin_memcpy(copy, image, size);
    const char *wrong = elf_check(copy, size, &layout);
    free(copy);
    return wrong;
}

TEST(loads_what_is_right)
{
    struct image image = good();
    struct elf_layout layout;
    CHECK(elf_check(&image, sizeof(image), &layout) == NULL);
    CHECK_EQ(layout.link_base, CORE_LINK_MIN);
    CHECK_EQ(layout.size, 0x3000);
    CHECK_EQ(layout.entry, CORE_LINK_MIN + 8);
    unsigned char *block = malloc(layout.size);
    __builtin_memset(block, 0xff, layout.size);
    elf_load(&image, &layout, block);
    CHECK_EQ(block[8], 0x90);
    CHECK_EQ(block[0x20], 0);
    CHECK_EQ(block[0x1000 + DATA_SIZE - 1], 0x77);
    CHECK_EQ(block[0x1000 + DATA_SIZE], 0);
    CHECK_EQ(block[layout.size - 1], 0);
    free(block);
}

TEST(refuses_every_truncation)
{
    struct image image = good();
    for (size_t size = 0; size < FILE_SIZE; size++)
        CHECK(check_size(&image, size) != NULL);
    CHECK(check_size(&image, FILE_SIZE) == NULL);
}

#define REFUSED(damage)                                                                            \
    do {                                                                                           \
        struct image image = good();                                                               \
        damage;                                                                                    \
        CHECK(check_size(&image, FILE_SIZE) != NULL);                                              \
    } while (0)

TEST(refuses_other_headers)
{
    REFUSED(image.header.e_ident[0] = 0);
    REFUSED(image.header.e_ident[EI_CLASS] = ELFCLASS32);
    REFUSED(image.header.e_ident[EI_DATA] = ELFDATA2MSB);
    REFUSED(image.header.e_machine = EM_386);
    REFUSED(image.header.e_type = ET_DYN);
    REFUSED(image.header.e_phentsize = 32);
    REFUSED(image.header.e_phnum = 0);
    REFUSED(image.header.e_phnum = ELF_SEGMENTS_MAX + 1);
    REFUSED(image.header.e_phoff = FILE_SIZE);
    REFUSED(image.header.e_phoff = ~7ull);
    REFUSED(image.header.e_phoff += 1);
}

TEST(refuses_bad_segments)
{
    REFUSED(image.segments[0].p_flags |= PF_W);
    REFUSED(image.segments[0].p_offset = FILE_SIZE + 1);
    REFUSED(image.segments[0].p_offset = ~0ull);
    REFUSED(image.segments[0].p_filesz = ~0ull);
    REFUSED(image.segments[2].p_memsz = DATA_SIZE - 1);
    REFUSED(image.segments[2].p_memsz = ~0ull);
    REFUSED(image.segments[2].p_memsz = CORE_SIZE_MAX);
    REFUSED(image.segments[2].p_vaddr = CORE_LINK_MIN + 0x1010);
    REFUSED(image.segments[2].p_vaddr = CORE_LINK_MIN);
    REFUSED(image.segments[2].p_vaddr = 0x100000);
    REFUSED(image.segments[2].p_vaddr = CORE_LINK_MIN + CORE_SIZE_MAX);
    REFUSED(image.segments[2].p_vaddr = ~0xfffull);
    REFUSED(image.segments[0].p_vaddr = CORE_LINK_MIN - 0x1000);
    REFUSED(image.segments[1].p_type = PT_DYNAMIC);
    REFUSED(image.segments[1].p_type = PT_INTERP);
}

TEST(refuses_an_entry_outside_the_code)
{
    REFUSED(image.header.e_entry = CORE_LINK_MIN + 0x20);
    REFUSED(image.header.e_entry = CORE_LINK_MIN + 0x1000);
    REFUSED(image.header.e_entry = 0);
}
