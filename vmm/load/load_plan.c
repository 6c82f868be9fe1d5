// SPDX-License-Identifier: MIT
// See the header.
#include "vmm/load/load_plan.h"
#include "vmm/config.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"

// --- parts ---

int load_plan_add(struct load_plan *plan, const struct load_part *part)
{
    const struct guest_image *in = plan->in;
    if (plan->count == LOAD_PARTS_MAX)
        return guest_image_refuse(in, ERR_UNSUPPORTED, "more than %u segments to load",
                                  LOAD_PARTS_MAX);
    if (part->offset > in->kernel_size || part->file_size > in->kernel_size - part->offset)
        return guest_image_refuse(
            in, ERR_FORMAT, "truncated: wants %llu bytes at 0x%llx of the file, which has %llu",
            (unsigned long long)part->file_size, (unsigned long long)part->offset,
            (unsigned long long)in->kernel_size);
    if (part->file_size > part->size)
        return guest_image_refuse(in, ERR_FORMAT, "malformed: %llu bytes for %llu bytes of memory",
                                  (unsigned long long)part->file_size,
                                  (unsigned long long)part->size);
    plan->parts[plan->count++] = *part;
    return OK;
}

int load_plan_add_addresses(struct load_plan *plan, const struct load_addresses *a,
                            u64 header_offset)
{
    u64 before = (u64)a->header_addr - a->load_addr; // of the header, as loaded
    if (a->header_addr < a->load_addr || before > header_offset)
        return guest_image_refuse(plan->in, ERR_FORMAT,
                                  "malformed: header_addr 0x%x, load_addr 0x%x, header at 0x%llx",
                                  a->header_addr, a->load_addr, (unsigned long long)header_offset);
    struct load_part part = {.offset = header_offset - before, .gpa = a->load_addr};
    part.file_size = plan->in->kernel_size - part.offset;
    if (a->load_end_addr) // an end that lies before the start is too large
        part.file_size = (u64)a->load_end_addr - a->load_addr;
    part.size = a->bss_end_addr ? (u64)a->bss_end_addr - a->load_addr : part.file_size;
    return load_plan_add(plan, &part);
}

bool load_plan_holds(const struct load_plan *plan, u64 gpa)
{
    for (unsigned i = 0; i < plan->count; i++)
        if (gpa - plan->parts[i].gpa < plan->parts[i].size)
            return true;
    return false;
}

// --- places ---

static bool lies_within(const struct load_part *part, u64 start, u64 end)
{
    return part->gpa >= start && part->gpa <= end && part->size <= end - part->gpa;
}

// Low memory is free around what is written there; nothing says where ESP is at the entry, so the
// stack is not kept.
static int check_part(const struct guest_image *in, const struct load_part *part)
{
    u64 end = layout_below_4g(in->memory);
    if (!lies_within(part, BOOT_GDT + PAGE_SIZE, BOOT_AREA) &&
        !lies_within(part, BOOT_AREA_END, LAYOUT_EBDA) && !lies_within(part, LAYOUT_HIGH, end))
        return guest_image_refuse(in, ERR_RANGE,
                                  "wants 0x%llx bytes at 0x%llx; there is memory from 0x%llx to "
                                  "0x%llx",
                                  (unsigned long long)part->size, (unsigned long long)part->gpa,
                                  LAYOUT_HIGH, (unsigned long long)end);
    return OK;
}

static int place_modules(struct load_plan *plan, u64 next)
{
    const struct guest_image *in = plan->in;
    u64 end = layout_below_4g(in->memory);
    for (unsigned i = 0; i < in->module_count; i++) {
        u64 size = in->modules[i].size;
        next = ALIGN_UP(next, PAGE_SIZE);
        if (next > end || size > end - next)
            return guest_image_refuse(
                in, ERR_RANGE,
                "module %s: %llu bytes do not fit from 0x%llx to 0x%llx: raise 'memory'",
                in->modules[i].name, (unsigned long long)size, (unsigned long long)next,
                (unsigned long long)end);
        plan->modules[i] = next;
        next += size;
    }
    return OK;
}

int load_plan_place(struct load_plan *plan)
{
    u64 end = LAYOUT_HIGH; // modules lie in main memory
    for (unsigned i = 0; i < plan->count; i++) {
        int error = check_part(plan->in, &plan->parts[i]);
        if (error != OK)
            return error;
        end = MAX(end, plan->parts[i].gpa + plan->parts[i].size);
    }
    if (!load_plan_holds(plan, plan->entry))
        return guest_image_refuse(plan->in, ERR_FORMAT,
                                  "malformed: the entry 0x%llx is not in what is loaded",
                                  (unsigned long long)plan->entry);
    return place_modules(plan, end);
}

// --- writing ---

static struct boot_area load_plan_write(const struct load_plan *plan, struct guest_memory *gm)
{
    const struct guest_image *in = plan->in;
    int error = boot_tables_write(gm, GUEST_MODE_PROTECTED);
    for (unsigned i = 0; error == OK && i < plan->count; i++) {
        const struct load_part *part = &plan->parts[i];
        error =
            guest_image_copy(gm, part->gpa, (const u8 *)in->kernel + part->offset, part->file_size);
    }
    for (unsigned i = 0; error == OK && i < in->module_count; i++)
        error = guest_image_copy(gm, plan->modules[i], in->modules[i].bytes, in->modules[i].size);
    return (struct boot_area){gm, BOOT_AREA, error};
}

gpa_t boot_area_append(struct boot_area *area, const void *bytes, u64 size)
{
    gpa_t at = area->next;
    if (area->error == OK && size > BOOT_AREA_END - at)
        area->error = ERR_RANGE;
    if (area->error != OK)
        return at;
    area->error = guest_memory_write(area->gm, at, bytes, size);
    area->next += size;
    return at;
}

gpa_t boot_area_put(struct boot_area *area, const void *bytes, u64 size)
{
    area->next = ALIGN_UP(area->next, sizeof(u64));
    return boot_area_append(area, bytes, size);
}

gpa_t boot_area_text(struct boot_area *area, const char *first, const char *second)
{
    gpa_t at = boot_area_append(area, first, strlen(first));
    if (*second) {
        boot_area_append(area, " ", 1);
        boot_area_append(area, second, strlen(second));
    }
    boot_area_append(area, "", 1);
    return at;
}

u64 boot_area_text_size(const char *first, const char *second)
{
    return strlen(first) + (*second ? 1 + strlen(second) : 0) + 1;
}

gpa_t boot_area_memory_map(struct boot_area *area, const struct guest_image *in)
{
    static const u8 padding[BOOT_AREA_MAP_ENTRY - sizeof(struct e820_entry)];
    gpa_t at = boot_area_put(area, NULL, 0);
    for (unsigned i = 0; i < in->e820_count; i++) {
        boot_area_append(area, &in->e820[i], sizeof(in->e820[i]));
        boot_area_append(area, padding, sizeof(padding));
    }
    return at;
}

int load_plan_boot(struct load_plan *plan, const struct load_protocol *protocol,
                   struct guest_memory *gm, struct guest_entry *out)
{
    int error = protocol->plan(plan);
    if (error != OK)
        return error;
    struct boot_area area = load_plan_write(plan, gm);
    *out = (struct guest_entry){.mode = GUEST_MODE_PROTECTED,
                                .rip = plan->entry,
                                .rsp = BOOT_STACK_TOP,
                                .rax = protocol->magic,
                                .rbx = protocol->tell(&area, plan)};
    return guest_image_loaded(plan->in, area.error);
}
