// SPDX-License-Identifier: MIT
// What the loaders share: their refusals, and the tables for an entry in protected or long mode.
#include "vmm/guest_image.h"
#include "vmm/config.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include <stdarg.h>

int guest_image_refuse(const struct guest_image *image, int error, const char *format, ...)
{
    int length = format_text(image->why, CONFIG_ERROR_MAX, "kernel %s: ", image->kernel_name);
    size_t used = MIN((size_t)length, CONFIG_ERROR_MAX - 1ul);
    va_list arguments;
    va_start(arguments, format);
    format_text_v(image->why + used, CONFIG_ERROR_MAX - used, format, arguments);
    va_end(arguments);
    return error;
}

// By selector: BOOT_CS_32 and BOOT_CS_64 are code, BOOT_DS is data, all of them flat.
static const u64 boot_gdt[] = {0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff};
assert_static(sizeof(boot_gdt) == BOOT_GDT_LIMIT + 1);

int boot_gdt_write(struct guest_memory *gm)
{
    return guest_memory_write(gm, BOOT_GDT, boot_gdt, sizeof(boot_gdt));
}

#define PTE_PRESENT   BIT(0)
#define PTE_WRITE     BIT(1)
#define PTE_LARGE     BIT(7)
#define TABLE_ENTRIES 512
#define IDENTITY_GIBS 4
assert_static(BOOT_PML4 + (2 + IDENTITY_GIBS) * PAGE_SIZE == BOOT_TABLES_END);

// The low 4 GiB one to one in pages of 2 MiB.
int boot_page_tables_write(struct guest_memory *gm)
{
    const u64 pdpt = BOOT_PML4 + PAGE_SIZE, directories = pdpt + PAGE_SIZE;
    u64 entry = pdpt | PTE_PRESENT | PTE_WRITE;
    int error = guest_memory_fill(gm, BOOT_PML4, 0, 2 * PAGE_SIZE);
    if (error == OK)
        error = guest_memory_write(gm, BOOT_PML4, &entry, sizeof(entry));
    for (u64 i = 0; error == OK && i < IDENTITY_GIBS; i++) {
        entry = (directories + i * PAGE_SIZE) | PTE_PRESENT | PTE_WRITE;
        error = guest_memory_write(gm, pdpt + i * sizeof(entry), &entry, sizeof(entry));
    }
    for (u64 i = 0; error == OK && i < IDENTITY_GIBS * TABLE_ENTRIES; i++) {
        entry = i * PAGE_2M | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
        error = guest_memory_write(gm, directories + i * sizeof(entry), &entry, sizeof(entry));
    }
    return error;
}
