// SPDX-License-Identifier: MIT
// See the header. Both classes are brought into one form (struct segment_header), then checked. An
// entry that no segment has as a physical address is taken as a virtual one.
#include "vmm/load/elf_image.h"
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
#define PT_NOTE     4

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

static int open_file(const struct guest_image *in, struct file_header *h)
{
    int error = read_header(in, h);
    return error == OK ? check_file_header(in, h) : error;
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

int elf_parts(struct load_plan *plan)
{
    const struct guest_image *in = plan->in;
    struct file_header h = {0};
    int error = open_file(in, &h);
    u64 entry_virtual = 0; // the entry's physical address if it is a virtual one
    for (u32 i = 0; error == OK && i < h.count; i++) {
        struct segment_header s = read_segment(in, &h, i);
        if (s.type != PT_LOAD || !s.size)
            continue;
        const struct load_part part = {s.offset, s.file_size, s.paddr, s.size};
        error = load_plan_add(plan, &part);
        if (h.entry - s.vaddr < s.size)
            entry_virtual = h.entry - s.vaddr + s.paddr;
    }
    plan->entry = load_plan_holds(plan, h.entry) ? h.entry : entry_virtual;
    if (error == OK && !load_plan_holds(plan, plan->entry))
        error = guest_image_refuse(in, ERR_FORMAT, "malformed: no segment holds the entry 0x%llx",
                                   (unsigned long long)h.entry);
    return error;
}

// --- notes ---

struct elf_note {
    u32 namesz, descsz, type;
} PACKED;
#define NOTE_ALIGN 4

// Looks through the notes of a segment: name and contents, each filled up to NOTE_ALIGN.
static bool segment_note(const u8 *at, u64 left, const char *name, u32 type, u32 *value)
{
    size_t name_size = strlen(name) + 1;
    struct elf_note note;
    while (left >= sizeof(note)) {
        memcpy(&note, at, sizeof(note));
        at += sizeof(note);
        left -= sizeof(note);
        u64 skip = ALIGN_UP((u64)note.namesz, NOTE_ALIGN),
            size = ALIGN_UP((u64)note.descsz, NOTE_ALIGN);
        if (skip > left || size > left - skip)
            return false;
        if (note.type == type && note.namesz == name_size && memcmp(at, name, name_size) == 0 &&
            note.descsz >= sizeof(*value)) {
            memcpy(value, at + skip, sizeof(*value));
            return true;
        }
        at += skip + size;
        left -= skip + size;
    }
    return false;
}

bool elf_note(const struct guest_image *in, const char *name, u32 type, u32 *value)
{
    struct file_header h = {0};
    if (!elf_recognises(in) || open_file(in, &h) != OK)
        return false;
    for (u32 i = 0; i < h.count; i++) {
        struct segment_header s = read_segment(in, &h, i);
        if (s.type != PT_NOTE || s.offset > in->kernel_size ||
            s.file_size > in->kernel_size - s.offset)
            continue;
        if (segment_note((const u8 *)in->kernel + s.offset, s.file_size, name, type, value))
            return true;
    }
    return false;
}
