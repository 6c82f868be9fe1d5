// SPDX-License-Identifier: MIT
// See the header. There is no screen, and the firmware is not EFI: a kernel that demands either is
// refused. Multiboot2 Specification, "The layout of Multiboot2 header", "Boot information format".
#include "vmm/load/load_multiboot2.h"
#include "vmm/load/acpi_tables.h"
#include "vmm/load/elf_image.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"

// --- with the specification's names ---

#define HEADER_SEARCH     32768u // the header lies within, all of it, on 8 bytes
#define TAG_ALIGN         8u
#define HEADER_MAGIC      0xe85250d6u
#define LOADER_MAGIC      0x36d76289u // in EAX at the entry
#define ARCHITECTURE_I386 0u

struct multiboot2_header {
    u32 magic, architecture, header_length, checksum;
} PACKED;

struct header_tag {
    u16 type, flags;
    u32 size;
} PACKED;
#define TAG_OPTIONAL BIT(0) // in flags

enum header_tag_type {
    HEADER_END,
    HEADER_INFORMATION_REQUEST,
    HEADER_ADDRESS,
    HEADER_ENTRY_ADDRESS,
    HEADER_CONSOLE_FLAGS,
    HEADER_FRAMEBUFFER,
    HEADER_MODULE_ALIGN,
    HEADER_EFI_BS,
    HEADER_ENTRY_EFI32,
    HEADER_ENTRY_EFI64,
    HEADER_RELOCATABLE,
};

struct entry_tag {
    struct header_tag tag;
    u32 entry_addr;
} PACKED;

struct address_tag {
    struct header_tag tag;
    struct load_addresses addresses;
} PACKED;
#define LOAD_ADDR_FILE 0xffffffffu // in load_addr: all of the file is loaded

struct console_tag {
    struct header_tag tag;
    u32 console_flags;
} PACKED;
#define CONSOLE_REQUIRED BIT(0)

struct relocatable_tag {
    struct header_tag tag;
    u32 min_addr, max_addr, align, preference;
} PACKED;

enum info_type {
    INFO_END,
    INFO_CMDLINE,
    INFO_BOOT_LOADER_NAME,
    INFO_MODULE,
    INFO_BASIC_MEMINFO,
    INFO_MMAP = 6,
    INFO_ACPI_OLD = 14,
    INFO_ACPI_NEW,
    INFO_LOAD_BASE_ADDR = 21,
};
#define INFO_KNOWN                                                                                 \
    (BIT(INFO_CMDLINE) | BIT(INFO_BOOT_LOADER_NAME) | BIT(INFO_MODULE) | BIT(INFO_BASIC_MEMINFO) | \
     BIT(INFO_MMAP) | BIT(INFO_ACPI_OLD) | BIT(INFO_ACPI_NEW) | BIT(INFO_LOAD_BASE_ADDR))
#define INFO_TYPES 32u

struct info_tag {
    u32 type, size;
} PACKED;

struct plan {
    struct load_plan load;
    struct multiboot2_header header;
    u64 header_offset;
    bool has_addresses, has_entry, relocatable;
    u32 entry;
    struct relocatable_tag range;
};

// --- the header's tags ---

static int take_request(struct plan *p, const u8 *tag, const struct header_tag *head)
{
    for (u32 at = sizeof(*head); at + sizeof(u32) <= head->size; at += sizeof(u32)) {
        u32 type;
        memcpy(&type, tag + at, sizeof(type));
        if (!(head->flags & TAG_OPTIONAL) && (type >= INFO_TYPES || !(INFO_KNOWN & BIT(type))))
            return guest_image_refuse(
                p->load.in, ERR_UNSUPPORTED,
                "demands what there is not (multiboot 2 information of type %u)", type);
    }
    return OK;
}

static int take_address(struct plan *p, const u8 *tag, const struct header_tag *head UNUSED)
{
    struct load_addresses a = ((const struct address_tag *)tag)->addresses;
    if (a.load_addr == LOAD_ADDR_FILE)
        a.load_addr = a.header_addr - (u32)MIN(p->header_offset, a.header_addr);
    p->has_addresses = true;
    return load_plan_add_addresses(&p->load, &a, p->header_offset);
}

static int take_entry(struct plan *p, const u8 *tag, const struct header_tag *head UNUSED)
{
    p->has_entry = true;
    p->entry = ((const struct entry_tag *)tag)->entry_addr;
    return OK;
}

static int take_console(struct plan *p, const u8 *tag, const struct header_tag *head)
{
    u32 flags = ((const struct console_tag *)tag)->console_flags;
    if (flags & CONSOLE_REQUIRED && !(head->flags & TAG_OPTIONAL))
        return guest_image_refuse(p->load.in, ERR_UNSUPPORTED,
                                  "demands a screen (multiboot 2 console flags 0x%x)", flags);
    return OK;
}

static int take_relocatable(struct plan *p, const u8 *tag, const struct header_tag *head UNUSED)
{
    memcpy(&p->range, tag, sizeof(p->range));
    p->relocatable = true;
    if (!p->range.align || (p->range.align & (p->range.align - 1)))
        return guest_image_refuse(p->load.in, ERR_FORMAT, "malformed: relocatable on 0x%x bytes",
                                  p->range.align);
    return OK;
}

// EFI entries count only under EFI; modules are on pages in any case; a framebuffer is a wish.
static int ignore(struct plan *p UNUSED, const u8 *tag UNUSED, const struct header_tag *head UNUSED)
{
    return OK;
}

static const struct tag_kind {
    u32 size;
    int (*take)(struct plan *p, const u8 *tag, const struct header_tag *head);
} tag_kinds[] = {
    [HEADER_INFORMATION_REQUEST] = {sizeof(struct header_tag), take_request},
    [HEADER_ADDRESS] = {sizeof(struct address_tag), take_address},
    [HEADER_ENTRY_ADDRESS] = {sizeof(struct entry_tag), take_entry},
    [HEADER_CONSOLE_FLAGS] = {sizeof(struct console_tag), take_console},
    [HEADER_FRAMEBUFFER] = {sizeof(struct header_tag), ignore},
    [HEADER_MODULE_ALIGN] = {sizeof(struct header_tag), ignore},
    [HEADER_EFI_BS] = {sizeof(struct header_tag), ignore},
    [HEADER_ENTRY_EFI32] = {sizeof(struct header_tag), ignore},
    [HEADER_ENTRY_EFI64] = {sizeof(struct header_tag), ignore},
    [HEADER_RELOCATABLE] = {sizeof(struct relocatable_tag), take_relocatable},
};

static int take_tag(struct plan *p, const u8 *tag, const struct header_tag *head)
{
    if (head->type < ARRAY_SIZE(tag_kinds) && tag_kinds[head->type].take) {
        if (head->size >= tag_kinds[head->type].size)
            return tag_kinds[head->type].take(p, tag, head);
    } else if (head->flags & TAG_OPTIONAL) {
        return OK;
    }
    return guest_image_refuse(p->load.in, ERR_UNSUPPORTED,
                              "demands what there is not (multiboot 2 tag %u of %u bytes)",
                              head->type, head->size);
}

static int take_tags(struct plan *p)
{
    const u8 *header = (const u8 *)p->load.in->kernel + p->header_offset;
    u64 length = p->header.header_length;
    struct header_tag head;
    for (u64 at = sizeof(p->header); at + sizeof(head) <= length;) {
        memcpy(&head, header + at, sizeof(head));
        if (head.type == HEADER_END)
            return OK;
        if (head.size < sizeof(head) || head.size > length - at)
            break;
        int error = take_tag(p, header + at, &head);
        if (error != OK)
            return error;
        at += ALIGN_UP((u64)head.size, TAG_ALIGN);
    }
    return guest_image_refuse(p->load.in, ERR_FORMAT,
                              "malformed: the tags in the multiboot 2 header have no end");
}

// --- checks and places ---

static bool find_header(const struct guest_image *in, struct multiboot2_header *header, u64 *offset)
{
    u64 end = MIN(in->kernel_size, HEADER_SEARCH);
    for (u64 at = 0; at + sizeof(*header) <= end; at += TAG_ALIGN) {
        memcpy(header, (const u8 *)in->kernel + at, sizeof(*header));
        *offset = at;
        if (header->magic == HEADER_MAGIC &&
            header->magic + header->architecture + header->header_length + header->checksum == 0 &&
            header->header_length <= end - at)
            return true;
    }
    return false;
}

bool load_multiboot2_recognises(const struct guest_image *in)
{
    struct multiboot2_header header;
    u64 offset;
    return find_header(in, &header, &offset) && header.architecture == ARCHITECTURE_I386;
}

static int find_parts(struct plan *p)
{
    int error = OK;
    if (p->has_addresses && !p->has_entry)
        return guest_image_refuse(p->load.in, ERR_FORMAT,
                                  "malformed: a multiboot 2 header with addresses, without entry");
    if (!p->has_addresses && !elf_recognises(p->load.in))
        return guest_image_refuse(p->load.in, ERR_FORMAT,
                                  "a multiboot 2 header without addresses, and not an ELF file");
    if (!p->has_addresses)
        error = elf_parts(&p->load);
    if (p->has_entry)
        p->load.entry = p->entry;
    return error;
}

static u64 lowest(const struct load_plan *load)
{
    u64 base = load->parts[0].gpa;
    for (unsigned i = 1; i < load->count; i++)
        base = MIN(base, load->parts[i].gpa);
    return base;
}

static bool in_range(const struct plan *p)
{
    const struct load_plan *load = &p->load;
    u64 end = MIN(layout_below_4g(load->in->memory), (u64)p->range.max_addr + 1);
    bool fits = lowest(load) >= MAX((u64)p->range.min_addr, LAYOUT_HIGH);
    for (unsigned i = 0; i < load->count; i++)
        fits = fits && load->parts[i].gpa <= end && load->parts[i].size <= end - load->parts[i].gpa;
    return fits;
}

// Where it was linked for if there is memory; else as low as it may be.
static int relocate(struct plan *p)
{
    struct load_plan *load = &p->load;
    if (in_range(p))
        return OK;
    u64 least = MAX((u64)p->range.min_addr, LAYOUT_HIGH);
    u64 moved = ALIGN_UP(least, (u64)p->range.align) - lowest(load);
    for (unsigned i = 0; i < load->count; i++)
        load->parts[i].gpa += moved;
    load->entry += moved;
    if (in_range(p))
        return OK;
    return guest_image_refuse(load->in, ERR_RANGE,
                              "does not fit where it may be, on 0x%x bytes from 0x%x to 0x%x: "
                              "raise 'memory' if it ends earlier",
                              p->range.align, p->range.min_addr, p->range.max_addr);
}

static int plan_make(struct load_plan *load)
{
    struct plan *p = container_of(load, struct plan, load);
    const struct guest_image *in = p->load.in;
    if (!find_header(in, &p->header, &p->header_offset))
        return guest_image_refuse(in, ERR_FORMAT,
                                  "not a multiboot 2 kernel: no header in the first %u bytes",
                                  HEADER_SEARCH);
    if (p->header.architecture != ARCHITECTURE_I386)
        return guest_image_refuse(in, ERR_UNSUPPORTED, "multiboot 2 for architecture %u, not i386",
                                  p->header.architecture);
    int error = take_tags(p);
    if (error == OK)
        error = find_parts(p);
    if (error != OK)
        return error;
    if (p->relocatable)
        error = relocate(p);
    return error == OK ? load_plan_place(&p->load) : error;
}

// --- writing it ---

static void put_tag(struct boot_area *area, enum info_type type, const void *bytes, u64 size)
{
    const struct info_tag tag = {type, (u32)(sizeof(tag) + size)};
    boot_area_put(area, &tag, sizeof(tag));
    boot_area_append(area, bytes, size);
}

static void put_text_tag(struct boot_area *area, enum info_type type, const char *first,
                         const char *second)
{
    const struct info_tag tag = {type, (u32)(sizeof(tag) + boot_area_text_size(first, second))};
    boot_area_put(area, &tag, sizeof(tag));
    boot_area_text(area, first, second);
}

static void put_modules(struct boot_area *area, const struct load_plan *plan)
{
    for (unsigned i = 0; i < plan->in->module_count; i++) {
        const struct guest_module *m = &plan->in->modules[i];
        const u32 range[] = {(u32)plan->modules[i], (u32)(plan->modules[i] + m->size)};
        u64 text = boot_area_text_size(m->name, m->arguments);
        const struct info_tag tag = {INFO_MODULE, (u32)(sizeof(tag) + sizeof(range) + text)};
        boot_area_put(area, &tag, sizeof(tag));
        boot_area_append(area, range, sizeof(range));
        boot_area_text(area, m->name, m->arguments);
    }
}

static void put_memory(struct boot_area *area, const struct guest_image *in)
{
    const u32 basic[] = {LAYOUT_EBDA / KIB,
                         (u32)((layout_below_4g(in->memory) - LAYOUT_HIGH) / KIB)};
    const u32 head[] = {BOOT_AREA_MAP_ENTRY, 0}; // entry_size, entry_version
    const struct info_tag tag = {
        INFO_MMAP, (u32)(sizeof(tag) + sizeof(head) + in->e820_count * BOOT_AREA_MAP_ENTRY)};
    put_tag(area, INFO_BASIC_MEMINFO, basic, sizeof(basic));
    boot_area_put(area, &tag, sizeof(tag));
    boot_area_append(area, head, sizeof(head));
    boot_area_memory_map(area, in);
}

// Copies: the first version of it is the beginning of the second.
static void put_rsdp(struct boot_area *area, const struct guest_image *in)
{
    u8 rsdp[ACPI_RSDP_SIZE];
    if (!in->rsdp || area->error != OK)
        return;
    area->error = guest_memory_read(area->gm, in->rsdp, rsdp, sizeof(rsdp));
    put_tag(area, INFO_ACPI_OLD, rsdp, ACPI_RSDP_V1_SIZE);
    put_tag(area, INFO_ACPI_NEW, rsdp, sizeof(rsdp));
}

static gpa_t put_info(struct boot_area *area, const struct load_plan *load)
{
    const struct plan *p = container_of(load, const struct plan, load);
    const struct guest_image *in = p->load.in;
    u32 head[2] = {0, 0}; // total_size, reserved
    gpa_t info = boot_area_put(area, head, sizeof(head));
    // The first word is the kernel's name, as other loaders have it.
    put_text_tag(area, INFO_CMDLINE, in->kernel_name, in->cmdline);
    put_text_tag(area, INFO_BOOT_LOADER_NAME, GUEST_LOADER_NAME, "");
    put_modules(area, &p->load);
    put_memory(area, in);
    put_rsdp(area, in);
    if (p->relocatable) {
        const u32 base = (u32)lowest(&p->load);
        put_tag(area, INFO_LOAD_BASE_ADDR, &base, sizeof(base));
    }
    put_tag(area, INFO_END, NULL, 0);
    head[0] = (u32)(area->next - info);
    if (area->error == OK)
        area->error = guest_memory_write(area->gm, info, head, sizeof(head));
    return info;
}

static const struct load_protocol protocol = {
    .plan = plan_make, .tell = put_info, .magic = LOADER_MAGIC};

int load_multiboot2(struct guest_memory *gm, const struct guest_image *in, struct guest_entry *out)
{
    struct plan plan = {.load.in = in};
    return load_plan_boot(&plan.load, &protocol, gm, out);
}
