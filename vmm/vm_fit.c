// SPDX-License-Identifier: MIT
// Each refusal names what to change, and where.
#include "vmm/vm_fit.h"
#include "vmm/layout.h"
#include "vmm/storage.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/cpu.h"
#include "mm/frame.h"

static int engine_choose(struct vm *vm, char *why)
{
    const struct config_vm *c = &vm->config;
    struct engine *engine = engine_find(c->engine);
    if (engine && !engine->refused) {
        if (strcmp(c->mmu, "auto") == 0 || strcmp(c->mmu, engine->ops->stage2_format->name) == 0) {
            vm->ops = engine->ops;
            return OK;
        }
        format_text(why, CONFIG_ERROR_MAX,
                    "plinth.ini:%u: VM %s: engine %s has no mmu '%s': use '%s' or 'auto'", c->line,
                    c->name, engine->ops->name, c->mmu, engine->ops->stage2_format->name);
    } else if (engine) {
        format_text(why, CONFIG_ERROR_MAX, "VM %s cannot run here: %s", c->name, engine->refused);
    } else if (strcmp(c->engine, "auto") == 0) {
        format_text(why, CONFIG_ERROR_MAX, "VM %s cannot run here: %s", c->name,
                    engines[0].refused);
    } else {
        format_text(why, CONFIG_ERROR_MAX, "plinth.ini:%u: VM %s: this build has no engine '%s'",
                    c->line, c->name, c->engine);
    }
    return ERR_UNSUPPORTED;
}

static int apic_choose(struct vm *vm, char *why)
{
    enum config_apic wanted = vm->config.apic;
    vm->apic_hardware = wanted == CONFIG_APIC_AUTO && vm->ops->apic_sound();
    if (wanted != CONFIG_APIC_HARDWARE)
        return OK;
    const char *missing = vm->ops->apic_missing();
    vm->apic_hardware = !missing;
    if (!missing)
        return OK;
    format_text(why, CONFIG_ERROR_MAX,
                "plinth.ini:%u: VM %s: apic: this CPU lacks %s: use 'auto' or 'soft'",
                vm->config.apic_line, vm->config.name, missing);
    return ERR_UNSUPPORTED;
}

static int memory_check(const struct vm *vm, char *why)
{
    u64 free = frame_counts().owned[FRAME_FREE] * PAGE_SIZE;
    if (vm->config.memory < LAYOUT_MEMORY_MIN || !IS_ALIGNED(vm->config.memory, PAGE_SIZE)) {
        format_text(
            why, CONFIG_ERROR_MAX,
            "plinth.ini:%u: VM %s: memory must be at least %llu MiB, and whole pages of 4 KiB",
            vm->config.line, vm->config.name, (unsigned long long)(LAYOUT_MEMORY_MIN / MIB));
        return ERR_INVALID;
    }
    if (vm->config.memory <= free)
        return OK;
    format_text(why, CONFIG_ERROR_MAX,
                "VM %s wants %llu MiB of memory, the host has %llu MiB free: lower 'memory' in "
                "plinth.ini or stop a VM",
                vm->config.name, (unsigned long long)(vm->config.memory / MIB),
                (unsigned long long)(free / MIB));
    return ERR_NO_MEMORY;
}

// What a running VM may still take of the host: pages that it has not touched, and their share of
// page tables and lists, which is 1/512 and a little.
static u64 promised(const struct vm *vm)
{
    if (!vm->memory.slot_count)
        return 0;
    u64 left = vm->memory.size - vm->memory.backed + storage_left(vm);
    return left + left / 256;
}

int vm_fit_promises(struct vm *vm, char *why)
{
    u64 free = frame_counts().owned[FRAME_FREE] * PAGE_SIZE, sum = 0;
    const struct vm *other;
    for (unsigned i = 0; (other = vm_at(i)); i++)
        sum += promised(other);
    if (sum <= free)
        return OK;
    format_text(why, CONFIG_ERROR_MAX,
                "VM %s: %llu MiB more than the host has are promised to its VMs: lower 'memory' in "
                "plinth.ini or stop a VM",
                vm->config.name, (unsigned long long)((sum - free + MIB - 1) / MIB));
    return ERR_NO_MEMORY;
}

static int pins_check(const struct vm *vm, char *why)
{
    for (unsigned i = 0; i < vm->config.pin_count; i++) {
        u32 cpu = vm->config.pin[i];
        if (cpu < cpu_count && percpus[cpu].engine_on)
            continue;
        format_text(why, CONFIG_ERROR_MAX,
                    "plinth.ini:%u: VM %s: pin: the host has no CPU %u that runs guests",
                    vm->config.pin_line, vm->config.name, cpu);
        return ERR_INVALID;
    }
    return OK;
}

int vm_fit(struct vm *vm, char *why)
{
    int error = engine_choose(vm, why);
    if (error == OK)
        error = apic_choose(vm, why);
    if (error == OK)
        error = memory_check(vm, why);
    if (error == OK)
        error = pins_check(vm, why);
    return error;
}
