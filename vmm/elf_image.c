// SPDX-License-Identifier: MIT
// See the header. Both classes are brought into one form (struct segment_header), then checked. An
// entry that no segment has as a physical address is taken as a virtual one.
#include "vmm/elf_image.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"

// --- the file, with the ABI's names ---

#define EI_CLASS    4
#define EI_DATA     5
#define EI_NIDENT   16
#define ELFCLASS32  1
#define ELFCLASS64  2
#define ELFDATA2LSB 1
#define ET_EXEC     2
#define EM_386      3
#define EM_X86_64   62
#define PT_LOAD     1

struct elf32_ehdr {
    u8 e_ident[EI_NIDENT];
    u16 e_type, e_machine;
    u32 e_version, e_entry, e_phoff, e_shoff, e_flags;
    u16 e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx;
} PACKED;

struct elf64_ehdr {
    u8 e_ident[EI_NIDENT];
    u16 e_type, e_machine;
    u32 e_version;
    u64 e_entry, e_phoff, e_shoff;
    u32 e_flags;
    u16 e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx;
} PACKED;

struct elf32_phdr {
    u32 p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags, p_align;
} PACKED;

struct elf64_phdr {
    u32 p_type, p_flags;
    u64 p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
} PACKED;

static const u8 elf_magic[] = {0x7f, 'E', 'L', 'F'};

// --- one form for both ---

struct file_header {
    bool wide;
    u16 type, machine;
    u64 entry, table; // table: of segment headers, in the file
    u32 stride, count;
};

struct segment_header {
    u32 type;
    u64 offset, vaddr, paddr, file_size, size;
};

bool elf_recognises(const struct guest_image *in)
{
    return in->kernel_size >= EI_NIDENT && memcmp(in->kernel, elf_magic, sizeof(elf_magic)) == 0;
}

static int read_header(const struct guest_image *in, struct file_header *h)
{
    const u8 *ident = in->kernel;
    h->wide = ident[EI_CLASS] == ELFCLASS64;
    if ((ident[EI_CLASS] != ELFCLASS32 && !h->wide) || ident[EI_DATA] != ELFDATA2LSB)
        return guest_image_refuse(in, ERR_UNSUPPORTED,
                                  "ELF class %u, data encoding %u: not for x86", ident[EI_CLASS],
                                  ident[EI_DATA]);
    if (in->kernel_size < (h->wide ? sizeof(struct elf64_ehdr) : sizeof(struct elf32_ehdr)))
        return guest_image_refuse(in, ERR_FORMAT, "truncated: %llu bytes are no ELF header",
                                  (unsigned long long)in->kernel_size);
    if (h->wide) {
        const struct elf64_ehdr *e = in->kernel;
        *h = (struct file_header){true,       e->e_type,      e->e_machine, e->e_entry,
                                  e->e_phoff, e->e_phentsize, e->e_phnum};
    } else {
        const struct elf32_ehdr *e = in->kernel;
        *h = (struct file_header){false,      e->e_type,      e->e_machine, e->e_entry,
                                  e->e_phoff, e->e_phentsize, e->e_phnum};
    }
    return OK;
}

static int check_file_header(const struct guest_image *in, const struct file_header *h)
{
    u32 least = h->wide ? sizeof(struct elf64_phdr) : sizeof(struct elf32_phdr);
    if (h->type != ET_EXEC || (h->machine != EM_386 && h->machine != EM_X86_64))
        return guest_image_refuse(in, ERR_UNSUPPORTED,
                                  "ELF type %u, machine %u: not an x86 executable", h->type,
                                  h->machine);
    if (h->stride < least || h->table > in->kernel_size ||
        (u64)h->stride * h->count > in->kernel_size - h->table)
        return guest_image_refuse(
            in, ERR_FORMAT, "malformed: %u segment headers of %u bytes at 0x%llx, file of %llu",
            h->count, h->stride, (unsigned long long)h->table, (unsigned long long)in->kernel_size);
    return OK;
}

static struct segment_header read_segment(const struct guest_image *in, const struct file_header *h,
                                          u32 index)
{
    const u8 *at = (const u8 *)in->kernel + h->table + (u64)h->stride * index;
    if (h->wide) {
        const struct elf64_phdr *p = (const void *)at;
        return (struct segment_header){p->p_type,  p->p_offset, p->p_vaddr,
                                       p->p_paddr, p->p_filesz, p->p_memsz};
    }
    const struct elf32_phdr *p = (const void *)at;
    return (struct segment_header){p->p_type,  p->p_offset, p->p_vaddr,
                                   p->p_paddr, p->p_filesz, p->p_memsz};
}

// --- checks ---

int load_part_check(const struct guest_image *in, const struct load_part *part)
{
    u64 end = layout_below_4g(in->memory);
    if (part->offset > in->kernel_size || part->file_size > in->kernel_size - part->offset)
        return guest_image_refuse(
            in, ERR_FORMAT, "truncated: wants %llu bytes at 0x%llx of the file, which has %llu",
            (unsigned long long)part->file_size, (unsigned long long)part->offset,
            (unsigned long long)in->kernel_size);
    if (part->file_size > part->size)
        return guest_image_refuse(in, ERR_FORMAT, "malformed: %llu bytes for %llu bytes of memory",
                                  (unsigned long long)part->file_size,
                                  (unsigned long long)part->size);
    if (part->gpa < LAYOUT_HIGH || part->gpa > end || part->size > end - part->gpa)
        return guest_image_refuse(in, ERR_RANGE,
                                  "wants 0x%llx bytes at 0x%llx; there is memory from 0x%llx to "
                                  "0x%llx",
                                  (unsigned long long)part->size, (unsigned long long)part->gpa,
                                  LAYOUT_HIGH, (unsigned long long)end);
    return OK;
}

bool load_parts_hold(const struct load_parts *parts, u64 gpa)
{
    for (unsigned i = 0; i < parts->count; i++)
        if (gpa - parts->parts[i].gpa < parts->parts[i].size)
            return true;
    return false;
}

static int add_part(const struct guest_image *in, const struct segment_header *s,
                    struct load_parts *out)
{
    const struct load_part part = {s->offset, s->file_size, s->paddr, s->size};
    if (out->count == LOAD_PARTS_MAX)
        return guest_image_refuse(in, ERR_UNSUPPORTED, "more than %u segments to load",
                                  LOAD_PARTS_MAX);
    int error = load_part_check(in, &part);
    if (error == OK)
        out->parts[out->count++] = part;
    return error;
}

int elf_parts(const struct guest_image *in, struct load_parts *out)
{
    struct file_header h = {0};
    out->count = 0;
    int error = read_header(in, &h);
    if (error == OK)
        error = check_file_header(in, &h);
    u64 entry_virtual = 0; // the entry's physical address if it is a virtual one
    for (u32 i = 0; error == OK && i < h.count; i++) {
        struct segment_header s = read_segment(in, &h, i);
        if (s.type != PT_LOAD || !s.size)
            continue;
        error = add_part(in, &s, out);
        if (h.entry - s.vaddr < s.size)
            entry_virtual = h.entry - s.vaddr + s.paddr;
    }
    if (error != OK)
        return error;
    out->entry = load_parts_hold(out, h.entry) ? h.entry : entry_virtual;
    if (!load_parts_hold(out, out->entry))
        return guest_image_refuse(in, ERR_FORMAT, "malformed: no segment holds the entry 0x%llx",
                                  (unsigned long long)h.entry);
    return OK;
}
