// SPDX-License-Identifier: MIT
// The last steps: everything the core gets is laid out while the firmware still gives memory; then
// boot services end, the final memory map is translated, and the core is entered. UEFI 2.9: 7.4
// "EFI_BOOT_SERVICES.ExitBootServices()".

#include <cpuid.h>
#include "boot/loader.h"
#include "boot/memory_map.h"

#define STACK_SIZE    (64 * 1024)
#define EXIT_ATTEMPTS 3
#define CR4_LA57      (1ull << 12)
#define CR4_CET       (1ull << 23)

#define CPUID_EXTENDED_FEATURES   0x80000001u
#define CPUID_EDX_EXECUTE_DISABLE (1u << 20)

// Claiming a range for the core or a file may split one into three.
#define SPLITS_PER_CLAIM 2

struct handover {
    struct firmware_map firmware;
    struct memory_map memory;
    uint64_t page_tables, stack;
};

static EFI_STATUS fail_memory(void)
{
    return loader_fail("this machine", "has too little memory for the files that plinth.ini names",
                       "name fewer, or give it more", EFI_OUT_OF_RESOURCES);
}

static bool five_level_paging(void)
{
    uint64_t cr4;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    return cr4 & CR4_LA57;
}

static bool execute_disable(void)
{
    uint32_t a, b, c, d;
    return __get_cpuid(CPUID_EXTENDED_FEATURES, &a, &b, &c, &d) && (d & CPUID_EDX_EXECUTE_DISABLE);
}

// What the core could say on a serial line only: it has no screen yet when it needs these.
static EFI_STATUS check_cpu(void)
{
    if (five_level_paging())
        return loader_fail("this firmware", "runs with 5-level paging",
                           "switch that off in its set-up", EFI_UNSUPPORTED);
    if (!execute_disable())
        return loader_fail("this CPU", "shows no execute-disable (XD, NX)",
                           "switch that on in the firmware's set-up", EFI_UNSUPPORTED);
    return EFI_SUCCESS;
}

static EFI_STATUS prepare(struct loader *loader, struct handover *h)
{
    struct boot_info *info = loader->info;
    info->trampoline = memory_allocate(PAGE_SIZE, MEMORY_BELOW_640K);
    h->stack = memory_allocate(STACK_SIZE, MEMORY_BELOW_4G);
    if (!h->stack || firmware_map_allocate(&h->firmware) != EFI_SUCCESS ||
        firmware_map_read(&h->firmware) != EFI_SUCCESS)
        return fail_memory();
    h->memory.capacity = h->firmware.capacity / h->firmware.descriptor_size +
                         SPLITS_PER_CLAIM * (loader->file_count + 2);
    h->memory.ranges = (void *)memory_allocate(
        h->memory.capacity * sizeof(struct boot_memory_range), MEMORY_ANYWHERE);
    h->page_tables = page_tables_build(loader, &h->firmware);
    if (!h->memory.ranges || !h->page_tables)
        return fail_memory();
    info->files = loader->files;
    info->file_count = loader->file_count;
    info->core_base = loader->core_base;
    info->core_size = loader->core.size;
    info->core_link_base = loader->core.link_base;
    return EFI_SUCCESS;
}

// The key goes stale whenever the firmware itself allocates, so a refusal is answered with a fresh
// map. After the first attempt no other service may be called.
static EFI_STATUS exit_boot_services(EFI_HANDLE image, struct firmware_map *map)
{
    EFI_STATUS status = EFI_INVALID_PARAMETER;
    for (unsigned i = 0; i < EXIT_ATTEMPTS && status == EFI_INVALID_PARAMETER; i++) {
        status = firmware_map_read(map);
        if (status == EFI_SUCCESS)
            status = BS->ExitBootServices(image, map->key);
    }
    return status;
}

static void translate_memory(const struct loader *loader, struct handover *h)
{
    struct memory_map *memory = &h->memory;
    for (uint32_t i = 0; i < firmware_map_count(&h->firmware); i++) {
        const EFI_MEMORY_DESCRIPTOR *range = firmware_map_at(&h->firmware, i);
        memory_map_add(memory, (struct boot_memory_range){
                                   .base = range->PhysicalStart,
                                   .size = range->NumberOfPages * PAGE_SIZE,
                                   .type = firmware_memory_type(range),
                                   .attributes = (uint32_t)range->Attribute,
                               });
    }
    struct boot_info *info = loader->info;
    memory_map_merge(memory);
    memory_map_claim(memory, info->core_base, info->core_size, BOOT_MEMORY_CORE);
    for (uint32_t i = 0; i < info->file_count; i++)
        if (info->files[i].status == BOOT_FILE_OK)
            memory_map_claim(memory, info->files[i].base, info->files[i].size, BOOT_MEMORY_FILE);
    // Page 0 stays out of it: as a trampoline it could not be told from "none".
    if (!info->trampoline)
        info->trampoline = memory_map_take_page(memory, PAGE_SIZE, MEMORY_BELOW_640K);
    memory_map_merge(memory);
    info->memory = memory->ranges;
    info->memory_count = (uint32_t)memory->count;
}

_Noreturn static void enter(const struct loader *loader, const struct handover *h)
{
    // The System V ABI has the stack 8 bytes off 16 at a function's entry, as after a call.
    uint64_t stack_top = h->stack + STACK_SIZE - sizeof(uint64_t);
    uint64_t cr4;
    __asm__("mov %%cr4, %0" : "=r"(cr4));
    // With control-flow enforcement the jump and the core's first far return would fault.
    __asm__ volatile("cli\n\t"
                     "cld\n\t"
                     "mov %4, %%cr4\n\t"
                     "mov %0, %%cr3\n\t"
                     "mov %1, %%rsp\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "jmp *%2"
                     :
                     : "r"(h->page_tables), "r"(stack_top), "r"(loader->core.entry),
                       "D"(loader->info), "r"(cr4 & ~CR4_CET)
                     : "memory");
    __builtin_unreachable();
}

EFI_STATUS handover(struct loader *loader)
{
    struct handover h = {0};
    EFI_STATUS status = check_cpu();
    if (!EFI_ERROR(status))
        status = prepare(loader, &h);
    if (EFI_ERROR(status))
        return status;
    Print(L"Entering the core.\r\n");
    status = exit_boot_services(loader->image, &h.firmware);
    if (EFI_ERROR(status))
        return loader_fail("the firmware", "refuses to end its boot services",
                           "reset the machine and try again", status);
    translate_memory(loader, &h);
    enter(loader, &h);
}
