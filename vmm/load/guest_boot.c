// SPDX-License-Identifier: MIT
// From a configuration to a machine that is ready to run: files, ACPI tables, memory map, loader,
// first vCPU.
#include "vmm/load/guest_boot.h"
#include "vmm/load/acpi_tables.h"
#include "vmm/load/boot_files.h"
#include "vmm/load/firmware.h"
#include "vmm/layout.h"
#include "vmm/load/load_flat.h"
#include "vmm/load/load_linux.h"
#include "vmm/load/load_multiboot.h"
#include "vmm/load/load_multiboot2.h"
#include "vmm/load/load_pvh.h"
#include "vmm/load/smbios.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "arch/x86_64/regs.h"

// Descriptor types and attributes as struct segment.access has them (SDM volume 3, "Code- and
// Data-Segment Descriptor Types").
#define ACCESS_CODE    (0x9bu | BIT(15)) // execute, read, accessed; present; 4 KiB units
#define ACCESS_CODE_32 (ACCESS_CODE | SEGMENT_DB)
#define ACCESS_CODE_64 (ACCESS_CODE | SEGMENT_L)
#define ACCESS_DATA    (0x93u | SEGMENT_DB | BIT(15))
#define LIMIT_4G       0xffffffffu
#define REAL_IP_MASK   0xffffull // the rest of a real-mode address is in CS

// --- loaders ---

static const struct loader {
    const char *what;
    bool (*recognises)(const struct guest_image *in); // null: only if asked for
    int (*load)(struct guest_memory *gm, const struct guest_image *in, struct guest_entry *out);
} loaders[] = {
    [GUEST_BOOT_LINUX] = {"Linux kernel (bzImage)", load_linux_recognises, load_linux},
    [GUEST_BOOT_MULTIBOOT2] = {"multiboot 2 kernel", load_multiboot2_recognises, load_multiboot2},
    [GUEST_BOOT_MULTIBOOT] = {"multiboot kernel", load_multiboot_recognises, load_multiboot},
    [GUEST_BOOT_PVH] = {"PVH kernel", load_pvh_recognises, load_pvh},
    [GUEST_BOOT_FLAT] = {"flat image", NULL, load_flat},
};

// By what the configuration says, or else by what is in the file; null with a line in in->why.
static const struct loader *loader_choose(const struct guest_image *in, enum guest_boot_kind kind)
{
    char list[128] = "";
    size_t length = 0;
    if (kind != GUEST_BOOT_AUTO)
        return &loaders[kind];
    for (unsigned i = 0; i < ARRAY_SIZE(loaders); i++) {
        if (!loaders[i].recognises)
            continue;
        if (loaders[i].recognises(in))
            return &loaders[i];
        length += (size_t)format_text(list + length, sizeof(list) - length, "%snot a %s",
                                      length ? ", " : "", loaders[i].what);
        length = MIN(length, sizeof(list) - 1);
    }
    guest_image_refuse(in, ERR_FORMAT, "%s", list);
    return NULL;
}

static bool module_add(struct guest_image *in, const char *what, const char *name,
                       const char *arguments, unsigned line)
{
    struct guest_module *module = &in->modules[in->module_count++];
    module->name = name;
    module->arguments = arguments;
    module->bytes = boot_file_bytes(what, name, line, &module->size, in->why);
    return module->bytes;
}

static bool files_find(const struct config_vm *c, struct guest_image *in)
{
    in->kernel_name = c->kernel;
    in->kernel = boot_file_bytes("kernel", c->kernel, c->kernel_line, &in->kernel_size, in->why);
    bool found = in->kernel;
    if (found && c->initrd[0])
        found = module_add(in, "initrd", c->initrd, "", c->initrd_line);
    for (unsigned i = 0; found && i < c->module_count; i++)
        found = module_add(in, "module", c->modules[i].name, c->modules[i].arguments,
                           c->modules[i].line);
    return found;
}

// --- the first vCPU ---

// As after a reset, but for where it is: CS:IP with the offset below 64 KiB.
static void enter_real(struct vcpu *vcpu, const struct guest_entry *entry)
{
    u64 base = entry->rip & ~REAL_IP_MASK;
    struct segment code;
    vcpu->ops->segment_read(vcpu, SEG_CS, &code);
    code.selector = (u16)(base >> 4);
    code.base = base;
    vcpu->ops->segment_write(vcpu, SEG_CS, &code);
    vcpu->ops->reg_write(vcpu, REG_RIP, entry->rip & REAL_IP_MASK);
}

static void load_segments(struct vcpu *vcpu, const struct segment *code)
{
    static const enum vcpu_segment data_segments[] = {SEG_DS, SEG_ES, SEG_SS, SEG_FS, SEG_GS};
    const struct segment data = {BOOT_DS, ACCESS_DATA, LIMIT_4G, 0};
    const struct segment gdtr = {.base = BOOT_GDT, .limit = BOOT_GDT_LIMIT};
    vcpu->ops->segment_write(vcpu, SEG_CS, code);
    for (unsigned i = 0; i < ARRAY_SIZE(data_segments); i++)
        vcpu->ops->segment_write(vcpu, data_segments[i], &data);
    vcpu->ops->segment_write(vcpu, SEG_GDTR, &gdtr);
}

static void enter_protected(struct vcpu *vcpu, const struct guest_entry *entry)
{
    const struct segment code = {BOOT_CS, ACCESS_CODE_32, LIMIT_4G, 0};
    vcpu->ops->reg_write(vcpu, REG_CR0, CR0_PE | CR0_ET);
    load_segments(vcpu, &code);
    vcpu->ops->reg_write(vcpu, REG_RIP, entry->rip);
}

static void enter_long(struct vcpu *vcpu, const struct guest_entry *entry)
{
    const struct cpu_ops *ops = vcpu->ops;
    const struct segment code = {BOOT_CS, ACCESS_CODE_64, LIMIT_4G, 0};
    ops->reg_write(vcpu, REG_CR4, CR4_PAE);
    ops->reg_write(vcpu, REG_CR3, BOOT_PML4);
    ops->reg_write(vcpu, REG_EFER, EFER_LME);
    ops->reg_write(vcpu, REG_CR0, CR0_PE | CR0_ET | CR0_NE | CR0_PG);
    load_segments(vcpu, &code);
    ops->reg_write(vcpu, REG_RIP, entry->rip);
}

static void enter(struct vcpu *vcpu, const struct guest_entry *entry)
{
    static void (*const modes[])(struct vcpu * vcpu, const struct guest_entry *entry) = {
        [GUEST_MODE_REAL] = enter_real,
        [GUEST_MODE_PROTECTED] = enter_protected,
        [GUEST_MODE_LONG] = enter_long,
    };
    modes[entry->mode](vcpu, entry);
    vcpu->ops->reg_write(vcpu, REG_RSP, entry->rsp);
    vcpu->ops->reg_write(vcpu, REG_RFLAGS, RFLAGS_RESERVED);
    vcpu->gpr[GPR_RAX] = entry->rax;
    vcpu->gpr[GPR_RBX] = entry->rbx;
    vcpu->gpr[GPR_RSI] = entry->rsi;
}

// Where an operating system looks for it without UEFI's help.
static int smbios_write(struct vm *vm)
{
    struct smbios smbios;
    const struct smbios_machine m = {vm->config.name, vm->config.memory, vm->vcpu_count, true};
    smbios_make(&smbios, &m, LAYOUT_SMBIOS + SMBIOS_ANCHOR_ROOM);
    int error = guest_memory_write(&vm->memory, LAYOUT_SMBIOS, smbios.anchor, SMBIOS_ANCHOR_SIZE);
    if (error != OK)
        return error;
    return guest_memory_write(&vm->memory, LAYOUT_SMBIOS + SMBIOS_ANCHOR_ROOM, smbios.tables,
                              smbios.size);
}

int guest_boot(struct vm *vm, char *why)
{
    const struct config_vm *c = &vm->config;
    if (vm->firmware)
        return firmware_load(vm);
    struct e820_entry map[LAYOUT_E820_MAX];
    struct guest_entry entry;
    struct guest_image in = {
        .cmdline = c->cmdline,
        .memory = c->memory,
        .e820 = map,
        .e820_count = layout_e820(c->memory, map),
        .load = c->load,
        .load_mode = c->mode,
        .why = why,
    };
    if (!files_find(c, &in))
        return ERR_NOT_FOUND;
    const struct loader *loader = loader_choose(&in, c->boot);
    if (!loader)
        return ERR_FORMAT;
    format_text(why, CONFIG_ERROR_MAX, "VM %s: no memory for the firmware's tables", c->name);
    int error = bios_data_write(&vm->memory);
    if (error == OK)
        error = acpi_tables_build(&vm->memory, vm->vcpu_count, c->devices & CONFIG_HPET, &in.rsdp);
    if (error == OK)
        error = smbios_write(vm);
    if (error == OK)
        error = loader->load(&vm->memory, &in, &entry);
    if (error != OK)
        return error;
    vcpu_load_here(&vm->vcpus[0]); // not before: loading lets other threads run
    enter(&vm->vcpus[0], &entry);
    vcpu_unload_here(&vm->vcpus[0]);
    return OK;
}
