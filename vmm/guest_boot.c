// SPDX-License-Identifier: MIT
// From a configuration to a machine that is ready to run: files, ACPI tables, memory map, loader,
// first vCPU.
#include "vmm/guest_boot.h"
#include "vmm/acpi_tables.h"
#include "vmm/boot_files.h"
#include "vmm/layout.h"
#include "vmm/load_linux.h"
#include "vmm/vm.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "arch/x86_64/regs.h"

// Descriptor types and attributes as struct segment.access has them (SDM volume 3, "Code- and
// Data-Segment Descriptor Types").
#define ACCESS_CODE_64                                                                             \
    (0x9bu | SEGMENT_L | BIT(15)) // execute, read, accessed; present; 4 KiB units
#define ACCESS_DATA (0x93u | SEGMENT_DB | BIT(15))
#define LIMIT_4G    0xffffffffu

static bool files_find(const struct config_vm *c, struct load_linux_input *in, char *why)
{
    in->kernel_name = c->kernel;
    in->kernel = boot_file_bytes("kernel", c->kernel, c->kernel_line, &in->kernel_size, why);
    if (!in->kernel)
        return false;
    if (!c->initrd[0])
        return true;
    in->initrd_name = c->initrd;
    in->initrd = boot_file_bytes("initrd", c->initrd, c->initrd_line, &in->initrd_size, why);
    return in->initrd;
}

// The state that the 64-bit boot protocol asks for.
static void enter_long_mode(struct vcpu *vcpu, const struct load_linux_entry *entry)
{
    const struct cpu_ops *ops = vcpu->ops;
    const struct segment code = {LINUX_BOOT_CS, ACCESS_CODE_64, LIMIT_4G, 0};
    const struct segment data = {LINUX_BOOT_DS, ACCESS_DATA, LIMIT_4G, 0};
    const struct segment gdtr = {.base = entry->gdt_base, .limit = entry->gdt_limit};
    ops->reg_write(vcpu, REG_CR4, CR4_PAE);
    ops->reg_write(vcpu, REG_CR3, entry->cr3);
    ops->reg_write(vcpu, REG_EFER, EFER_LME);
    ops->reg_write(vcpu, REG_CR0, CR0_PE | CR0_ET | CR0_NE | CR0_PG);
    ops->segment_write(vcpu, SEG_CS, &code);
    ops->segment_write(vcpu, SEG_DS, &data);
    ops->segment_write(vcpu, SEG_ES, &data);
    ops->segment_write(vcpu, SEG_SS, &data);
    ops->segment_write(vcpu, SEG_GDTR, &gdtr);
    ops->reg_write(vcpu, REG_RIP, entry->rip);
    ops->reg_write(vcpu, REG_RSP, entry->rsp);
    ops->reg_write(vcpu, REG_RFLAGS, RFLAGS_RESERVED);
    vcpu->gpr[GPR_RSI] = entry->rsi;
}

int guest_boot(struct vm *vm, char *why)
{
    struct e820_entry map[LAYOUT_E820_MAX];
    struct load_linux_entry entry;
    struct load_linux_input in = {
        .cmdline = vm->config.cmdline,
        .memory = vm->config.memory,
        .e820 = map,
        .e820_count = layout_e820(vm->config.memory, map),
    };
    if (!files_find(&vm->config, &in, why))
        return ERR_NOT_FOUND;
    format_text(why, CONFIG_ERROR_MAX, "VM %s: no memory for the ACPI tables", vm->config.name);
    int error = acpi_tables_build(&vm->memory, vm->vcpu_count, &in.rsdp);
    if (error == OK)
        error = load_linux(&vm->memory, &in, &entry, why);
    if (error == OK)
        enter_long_mode(&vm->vcpus[0], &entry);
    return error;
}
