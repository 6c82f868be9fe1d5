// SPDX-License-Identifier: MIT
// See the header. Xen's docs/misc/pvh.pandoc; public/arch-x86/hvm/start_info.h, version 1;
// public/elfnote.h.
#include "vmm/load/load_pvh.h"
#include "vmm/load/elf_image.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/error.h"

#define NOTE_OWNER               "Xen"
#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define START_MAGIC              0x336ec578u // "xEn3", the top bit set
#define START_VERSION            1           // the first with a memory map

struct hvm_start_info {
    u32 magic, version, flags, nr_modules;
    u64 modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
    u32 memmap_entries, reserved;
} PACKED;
assert_static(offsetof(struct hvm_start_info, memmap_entries) == 48);

struct hvm_modlist_entry {
    u64 paddr, size, cmdline_paddr, reserved;
} PACKED;

static bool find_entry(const struct guest_image *in, u32 *entry)
{
    return elf_note(in, NOTE_OWNER, XEN_ELFNOTE_PHYS32_ENTRY, entry);
}

bool load_pvh_recognises(const struct guest_image *in)
{
    u32 entry;
    return find_entry(in, &entry);
}

static int plan_make(struct load_plan *plan)
{
    u32 entry;
    if (!find_entry(plan->in, &entry))
        return guest_image_refuse(plan->in, ERR_FORMAT,
                                  "not a PVH kernel: no ELF file with the note PHYS32_ENTRY");
    int error = elf_parts(plan);
    plan->entry = entry;
    return error == OK ? load_plan_place(plan) : error;
}

static gpa_t put_modules(struct boot_area *area, const struct load_plan *plan)
{
    const struct guest_image *in = plan->in;
    struct hvm_modlist_entry modules[GUEST_MODULES_MAX];
    for (unsigned i = 0; i < in->module_count; i++)
        modules[i] = (struct hvm_modlist_entry){
            .paddr = plan->modules[i],
            .size = in->modules[i].size,
            .cmdline_paddr = boot_area_text(area, in->modules[i].arguments, ""),
        };
    return boot_area_put(area, modules, in->module_count * sizeof(*modules));
}

static gpa_t put_start_info(struct boot_area *area, const struct load_plan *plan)
{
    const struct guest_image *in = plan->in;
    struct hvm_start_info info = {
        .magic = START_MAGIC,
        .version = START_VERSION,
        .nr_modules = in->module_count,
        .cmdline_paddr = boot_area_text(area, in->cmdline, ""),
        .rsdp_paddr = in->rsdp,
        .memmap_paddr = boot_area_memory_map(area, in),
        .memmap_entries = in->e820_count,
    };
    if (in->module_count)
        info.modlist_paddr = put_modules(area, plan);
    return boot_area_put(area, &info, sizeof(info));
}

static const struct load_protocol protocol = {.plan = plan_make, .tell = put_start_info};

int load_pvh(struct guest_memory *gm, const struct guest_image *in, struct guest_entry *out)
{
    struct load_plan plan = {.in = in};
    return load_plan_boot(&plan, &protocol, gm, out);
}
