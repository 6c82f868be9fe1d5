// SPDX-License-Identifier: MIT
// Checks and loads the core: an ELF64 executable with one PT_LOAD segment for each permission,
// never writable and executable at once, at fixed addresses. System V ABI: "ELF Header", "Program
// Header".

#include <elf.h>
#include <stdbool.h>
#include "boot/elf.h"

#define ELF_PAGE_SIZE    4096ull
#define ELF_SEGMENTS_MAX 16

static const Elf64_Ehdr *header_of(const void *file)
{
    return file;
}

static const Elf64_Phdr *segments_of(const void *file)
{
    return (const Elf64_Phdr *)((const char *)file + header_of(file)->e_phoff);
}

static uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

static const char *check_header(const void *file, size_t size)
{
    static const unsigned char magic[] = {ELFMAG0,    ELFMAG1,     ELFMAG2,   ELFMAG3,
                                          ELFCLASS64, ELFDATA2LSB, EV_CURRENT};
    if (size < sizeof(Elf64_Ehdr))
        return "is cut short";
    const Elf64_Ehdr *header = header_of(file);
    for (size_t i = 0; i < sizeof(magic); i++)
        if (header->e_ident[i] != magic[i])
            return "is not a 64-bit little-endian ELF file";
    if (header->e_machine != EM_X86_64 || header->e_type != ET_EXEC)
        return "is not an x86-64 executable";
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phoff % _Alignof(Elf64_Phdr))
        return "has program headers of an unknown shape";
    if (header->e_phnum == 0 || header->e_phnum > ELF_SEGMENTS_MAX)
        return "has no or too many segments";
    if (header->e_phoff > size || size - header->e_phoff < header->e_phnum * sizeof(Elf64_Phdr))
        return "has program headers beyond its end";
    return NULL;
}

// `floor`: the end of the segment before, in whole pages.
static const char *check_segment(const Elf64_Phdr *segment, size_t size, uint64_t floor)
{
    if (segment->p_offset > size || size - segment->p_offset < segment->p_filesz)
        return "has a segment beyond its end: the file is cut short";
    if (segment->p_memsz == 0 || segment->p_filesz > segment->p_memsz)
        return "has a segment with more in the file than in memory";
    if (segment->p_vaddr < floor)
        return "has segments out of order, sharing a page, or below the core's addresses";
    // Counted from the lowest address, so that nothing can wrap around.
    uint64_t offset = segment->p_vaddr - CORE_LINK_MIN;
    if (offset > CORE_SIZE_MAX || segment->p_memsz > CORE_SIZE_MAX - offset)
        return "has a segment above the core's addresses";
    if (segment->p_vaddr % ELF_PAGE_SIZE)
        return "has a segment that does not start at a page";
    if ((segment->p_flags & PF_W) && (segment->p_flags & PF_X))
        return "has a segment that is writable and executable";
    return NULL;
}

static bool entry_in(uint64_t entry, const Elf64_Phdr *segment)
{
    return (segment->p_flags & PF_X) && entry >= segment->p_vaddr &&
           entry - segment->p_vaddr < segment->p_filesz;
}

const char *elf_check(const void *file, size_t size, struct elf_layout *layout)
{
    const char *wrong = check_header(file, size);
    if (wrong)
        return wrong;
    const Elf64_Ehdr *header = header_of(file);
    const Elf64_Phdr *segments = segments_of(file);
    uint64_t first = 0, end = CORE_LINK_MIN;
    bool entry_found = false;
    for (unsigned i = 0; i < header->e_phnum; i++) {
        const Elf64_Phdr *segment = &segments[i];
        if (segment->p_type == PT_DYNAMIC || segment->p_type == PT_INTERP)
            return "wants a dynamic linker";
        if (segment->p_type != PT_LOAD)
            continue;
        wrong = check_segment(segment, size, end);
        if (wrong)
            return wrong;
        if (!first)
            first = segment->p_vaddr;
        end = align_up(segment->p_vaddr + segment->p_memsz, ELF_PAGE_SIZE);
        entry_found |= entry_in(header->e_entry, segment);
    }
    if (!entry_found)
        return "has its entry point outside its code";
    layout->link_base = first & ~(CORE_LINK_ALIGN - 1);
    layout->size = end - layout->link_base;
    layout->entry = header->e_entry;
    return NULL;
}

void elf_load(const void *file, const struct elf_layout *layout, void *block)
{
    __builtin_memset(block, 0, layout->size);
    const Elf64_Phdr *segments = segments_of(file);
    for (unsigned i = 0; i < header_of(file)->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD)
            __builtin_memcpy((char *)block + (segments[i].p_vaddr - layout->link_base),
                             (const char *)file + segments[i].p_offset, segments[i].p_filesz);
}
