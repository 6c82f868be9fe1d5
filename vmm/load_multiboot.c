// SPDX-License-Identifier: MIT
// See the header. First everything is checked and placed (struct plan), then memory is written.
// There is no screen: a kernel that demands a video mode is refused. Multiboot Specification, "The
// layout of Multiboot header", "Boot information format".
#include "vmm/load_multiboot.h"
#include "vmm/config.h"
#include "vmm/elf_image.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "vmm/lib/string.h"

// --- with the specification's names ---

#define HEADER_SEARCH 8192u // the header lies within, on 4 bytes
#define HEADER_ALIGN  4u
#define HEADER_MAGIC  0x1badb002u
#define LOADER_MAGIC  0x2badb002u // in EAX at the entry

// Header flags. A loader must understand all of the lower half.
#define PAGE_ALIGN      BIT(0)
#define MEMORY_INFO     BIT(1)
#define AOUT_KLUDGE     BIT(16)
#define FLAGS_REQUIRED  0xffffu
#define FLAGS_SUPPORTED (PAGE_ALIGN | MEMORY_INFO)

struct multiboot_header {
    u32 magic, flags, checksum;
    u32 header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr; // with AOUT_KLUDGE
} PACKED;
#define HEADER_SHORT offsetof(struct multiboot_header, header_addr)

#define INFO_MEMORY           BIT(0)
#define INFO_CMDLINE          BIT(2)
#define INFO_MODS             BIT(3)
#define INFO_MEM_MAP          BIT(6)
#define INFO_BOOT_LOADER_NAME BIT(9)

struct multiboot_info {
    u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
    u32 mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name;
    u32 apm_table, vbe[4], framebuffer[8];
} PACKED;
assert_static(offsetof(struct multiboot_info, mmap_length) == 44);
assert_static(offsetof(struct multiboot_info, boot_loader_name) == 64);

struct multiboot_module {
    u32 mod_start, mod_end, string, reserved;
} PACKED;

struct multiboot_mmap_entry {
    u32 size; // of what follows
    struct e820_entry entry;
} PACKED;

// What MULTIBOOT_AREA holds.
struct area {
    struct multiboot_info info;
    struct multiboot_module module;
    struct multiboot_mmap_entry mmap[LAYOUT_E820_MAX];
    char boot_loader_name[8];
    char module_string[BOOT_NAME_MAX];
    char cmdline[BOOT_NAME_MAX + CONFIG_CMDLINE_MAX];
};
assert_static(sizeof(struct area) <= PAGE_SIZE);
#define AREA_ADDRESS(member) ((u32)(MULTIBOOT_AREA + offsetof(struct area, member)))

struct plan {
    const struct guest_image *in;
    struct multiboot_header header;
    u64 header_offset;
    struct load_parts parts;
    u64 module; // its address
};

// --- checks and places ---

static bool find_header(const struct guest_image *in, struct multiboot_header *header, u64 *offset)
{
    u64 end = MIN(in->kernel_size, HEADER_SEARCH);
    for (u64 at = 0; at + HEADER_SHORT <= end; at += HEADER_ALIGN) {
        *header = (struct multiboot_header){0};
        memcpy(header, (const u8 *)in->kernel + at, MIN(end - at, sizeof(*header)));
        *offset = at;
        if (header->magic == HEADER_MAGIC && header->magic + header->flags + header->checksum == 0)
            return true;
    }
    return false;
}

bool load_multiboot_recognises(const struct guest_image *in)
{
    struct multiboot_header header;
    u64 offset;
    return find_header(in, &header, &offset);
}

static int check_header(struct plan *p)
{
    if (!find_header(p->in, &p->header, &p->header_offset))
        return guest_image_refuse(p->in, ERR_FORMAT,
                                  "not a multiboot kernel: no header in the first %u bytes",
                                  HEADER_SEARCH);
    u32 unknown = p->header.flags & FLAGS_REQUIRED & ~(u32)FLAGS_SUPPORTED;
    if (unknown)
        return guest_image_refuse(p->in, ERR_UNSUPPORTED,
                                  "demands what there is not (multiboot flags 0x%x)", unknown);
    return OK;
}

// The addresses are in the header: one part.
static int parts_from_header(struct plan *p)
{
    const struct multiboot_header *h = &p->header;
    if (p->header_offset + sizeof(*h) > MIN(p->in->kernel_size, HEADER_SEARCH))
        return guest_image_refuse(p->in, ERR_FORMAT, "truncated: the multiboot header is cut off");
    u64 before = (u64)h->header_addr - h->load_addr; // of the header, as loaded
    if (h->header_addr < h->load_addr || before > p->header_offset)
        return guest_image_refuse(
            p->in, ERR_FORMAT, "malformed: header_addr 0x%x, load_addr 0x%x, header at 0x%llx",
            h->header_addr, h->load_addr, (unsigned long long)p->header_offset);
    struct load_part part = {.offset = p->header_offset - before, .gpa = h->load_addr};
    part.file_size = p->in->kernel_size - part.offset;
    if (h->load_end_addr)
        part.file_size = (u64)h->load_end_addr - h->load_addr;
    part.size = h->bss_end_addr ? (u64)h->bss_end_addr - h->load_addr : part.file_size;
    int error = load_part_check(p->in, &part); // ends that lie before the start are too large
    if (error != OK)
        return error;
    p->parts = (struct load_parts){.parts = {part}, .count = 1, .entry = h->entry_addr};
    if (!load_parts_hold(&p->parts, h->entry_addr))
        return guest_image_refuse(p->in, ERR_FORMAT, "malformed: entry_addr 0x%x is not in it",
                                  h->entry_addr);
    return OK;
}

static int find_parts(struct plan *p)
{
    if (p->header.flags & AOUT_KLUDGE)
        return parts_from_header(p);
    if (elf_recognises(p->in))
        return elf_parts(p->in, &p->parts);
    return guest_image_refuse(p->in, ERR_FORMAT,
                              "a multiboot header without addresses, and not an ELF file");
}

static int place_module(struct plan *p)
{
    u64 end = 0, ram_end = layout_below_4g(p->in->memory);
    for (unsigned i = 0; i < p->parts.count; i++)
        end = MAX(end, p->parts.parts[i].gpa + p->parts.parts[i].size);
    p->module = ALIGN_UP(end, PAGE_SIZE);
    if (p->in->initrd_size && (p->module > ram_end || p->in->initrd_size > ram_end - p->module))
        return guest_image_refuse(
            p->in, ERR_RANGE,
            "initrd %s: %llu bytes do not fit from 0x%llx to 0x%llx: raise 'memory'",
            p->in->initrd_name, (unsigned long long)p->in->initrd_size,
            (unsigned long long)p->module, (unsigned long long)ram_end);
    return OK;
}

// --- writing it ---

static void mmap_write(struct area *area, const struct guest_image *in)
{
    unsigned count = MIN(in->e820_count, LAYOUT_E820_MAX);
    for (unsigned i = 0; i < count; i++)
        area->mmap[i] = (struct multiboot_mmap_entry){sizeof(struct e820_entry), in->e820[i]};
    area->info.mmap_length = (u32)(count * sizeof(*area->mmap));
    area->info.mmap_addr = AREA_ADDRESS(mmap);
    area->info.mem_lower = LAYOUT_EBDA / KIB;
    area->info.mem_upper = (u32)((layout_below_4g(in->memory) - LAYOUT_HIGH) / KIB);
    area->info.flags |= INFO_MEMORY | INFO_MEM_MAP;
}

static void module_write(struct area *area, const struct plan *p)
{
    const struct guest_image *in = p->in;
    if (!in->initrd_size)
        return;
    area->module = (struct multiboot_module){.mod_start = (u32)p->module,
                                             .mod_end = (u32)(p->module + in->initrd_size),
                                             .string = AREA_ADDRESS(module_string)};
    format_text(area->module_string, sizeof(area->module_string), "%s", in->initrd_name);
    area->info.mods_count = 1;
    area->info.mods_addr = AREA_ADDRESS(module);
    area->info.flags |= INFO_MODS;
}

static int area_write(struct guest_memory *gm, const struct plan *p)
{
    u64 length = PAGE_SIZE;
    struct area *area = guest_memory_hva(gm, MULTIBOOT_AREA, &length);
    if (!area || length < PAGE_SIZE)
        return ERR_NO_MEMORY;
    memset(area, 0, sizeof(*area));
    mmap_write(area, p->in);
    module_write(area, p);
    // The first word is the kernel's name, as other loaders have it.
    format_text(area->cmdline, sizeof(area->cmdline), "%s %s", p->in->kernel_name, p->in->cmdline);
    area->info.cmdline = AREA_ADDRESS(cmdline);
    format_text(area->boot_loader_name, sizeof(area->boot_loader_name), "Plinth");
    area->info.boot_loader_name = AREA_ADDRESS(boot_loader_name);
    area->info.flags |= INFO_CMDLINE | INFO_BOOT_LOADER_NAME;
    return OK;
}

static int memory_write(struct guest_memory *gm, const struct plan *p)
{
    int error = boot_tables_write(gm, GUEST_MODE_PROTECTED);
    for (unsigned i = 0; error == OK && i < p->parts.count; i++) {
        const struct load_part *part = &p->parts.parts[i];
        error = guest_memory_write(gm, part->gpa, (const u8 *)p->in->kernel + part->offset,
                                   part->file_size);
    }
    if (error == OK && p->in->initrd_size)
        error = guest_memory_write(gm, p->module, p->in->initrd, p->in->initrd_size);
    if (error == OK)
        error = area_write(gm, p);
    return error;
}

int load_multiboot(struct guest_memory *gm, const struct guest_image *in, struct guest_entry *out)
{
    struct plan plan = {.in = in};
    int error = check_header(&plan);
    if (error == OK)
        error = find_parts(&plan);
    if (error == OK)
        error = place_module(&plan);
    if (error != OK)
        return error;
    if (memory_write(gm, &plan) != OK)
        return guest_image_refuse(in, ERR_NO_MEMORY, "the host ran out of memory while loading it");
    *out = (struct guest_entry){.mode = GUEST_MODE_PROTECTED,
                                .rip = plan.parts.entry,
                                .rsp = BOOT_STACK_TOP,
                                .rax = LOADER_MAGIC,
                                .rbx = AREA_ADDRESS(info)};
    return OK;
}
