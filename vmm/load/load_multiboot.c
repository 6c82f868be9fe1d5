// SPDX-License-Identifier: MIT
// See the header. There is no screen: a kernel that demands a video mode is refused. Multiboot
// Specification, "The layout of Multiboot header", "Boot information format".
#include "vmm/load/load_multiboot.h"
#include "vmm/load/elf_image.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/error.h"
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
    struct load_addresses addresses; // with AOUT_KLUDGE
    u32 entry_addr;
} PACKED;
#define HEADER_SHORT offsetof(struct multiboot_header, addresses)

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

static int find_parts(struct load_plan *plan, const struct multiboot_header *h, u64 header_offset)
{
    if (!(h->flags & AOUT_KLUDGE)) {
        if (elf_recognises(plan->in))
            return elf_parts(plan);
        return guest_image_refuse(plan->in, ERR_FORMAT,
                                  "a multiboot header without addresses, and not an ELF file");
    }
    if (header_offset + sizeof(*h) > MIN(plan->in->kernel_size, HEADER_SEARCH))
        return guest_image_refuse(plan->in, ERR_FORMAT,
                                  "truncated: the multiboot header is cut off");
    plan->entry = h->entry_addr;
    return load_plan_add_addresses(plan, &h->addresses, header_offset);
}

static int plan_make(struct load_plan *plan)
{
    struct multiboot_header header;
    u64 offset;
    if (!find_header(plan->in, &header, &offset))
        return guest_image_refuse(plan->in, ERR_FORMAT,
                                  "not a multiboot kernel: no header in the first %u bytes",
                                  HEADER_SEARCH);
    u32 unknown = header.flags & FLAGS_REQUIRED & ~(u32)FLAGS_SUPPORTED;
    if (unknown)
        return guest_image_refuse(plan->in, ERR_UNSUPPORTED,
                                  "demands what there is not (multiboot flags 0x%x)", unknown);
    int error = find_parts(plan, &header, offset);
    return error == OK ? load_plan_place(plan) : error;
}

// --- writing it ---

static void put_modules(struct boot_area *area, const struct load_plan *plan,
                        struct multiboot_info *info)
{
    struct multiboot_module modules[GUEST_MODULES_MAX];
    info->mods_count = plan->in->module_count;
    if (!info->mods_count)
        return;
    for (unsigned i = 0; i < info->mods_count; i++) {
        const struct guest_module *m = &plan->in->modules[i];
        modules[i] = (struct multiboot_module){
            .mod_start = (u32)plan->modules[i],
            .mod_end = (u32)(plan->modules[i] + m->size),
            .string = (u32)boot_area_text(area, m->name, m->arguments),
        };
    }
    info->mods_addr = (u32)boot_area_put(area, modules, info->mods_count * sizeof(*modules));
    info->flags |= INFO_MODS;
}

static void put_memory_map(struct boot_area *area, const struct guest_image *in,
                           struct multiboot_info *info)
{
    info->mmap_addr = (u32)boot_area_put(area, NULL, 0);
    info->mmap_length = (u32)(in->e820_count * sizeof(struct multiboot_mmap_entry));
    for (unsigned i = 0; i < in->e820_count; i++) {
        const struct multiboot_mmap_entry entry = {sizeof(entry.entry), in->e820[i]};
        boot_area_append(area, &entry, sizeof(entry));
    }
    info->mem_lower = LAYOUT_EBDA / KIB;
    info->mem_upper = (u32)((layout_below_4g(in->memory) - LAYOUT_HIGH) / KIB);
    info->flags |= INFO_MEMORY | INFO_MEM_MAP;
}

static gpa_t put_info(struct boot_area *area, const struct load_plan *plan)
{
    struct multiboot_info info = {
        .flags = INFO_CMDLINE | INFO_BOOT_LOADER_NAME,
        // The first word is the kernel's name, as other loaders have it.
        .cmdline = (u32)boot_area_text(area, plan->in->kernel_name, plan->in->cmdline),
        .boot_loader_name = (u32)boot_area_text(area, GUEST_LOADER_NAME, ""),
    };
    put_modules(area, plan, &info);
    put_memory_map(area, plan->in, &info);
    return boot_area_put(area, &info, sizeof(info));
}

static const struct load_protocol protocol = {
    .plan = plan_make, .tell = put_info, .magic = LOADER_MAGIC};

int load_multiboot(struct guest_memory *gm, const struct guest_image *in, struct guest_entry *out)
{
    struct load_plan plan = {.in = in};
    return load_plan_boot(&plan, &protocol, gm, out);
}
