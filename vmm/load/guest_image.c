// SPDX-License-Identifier: MIT
// What the loaders share: their refusals, and the tables for an entry in protected or long mode.
#include "vmm/load/guest_image.h"
#include "vmm/config.h"
#include "vmm/thread.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include <stdarg.h>

// What is copied without letting others run: some ten microseconds.
#define COPY_PIECE (128 * KIB)

int guest_image_copy(struct guest_memory *gm, gpa_t gpa, const void *from, u64 size)
{
    int error = OK;
    for (u64 done = 0; error == OK && done < size; done += COPY_PIECE) {
        error = guest_memory_write(gm, gpa + done, (const u8 *)from + done,
                                   MIN(COPY_PIECE, size - done));
        thread_yield();
    }
    return error;
}

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

int guest_image_loaded(const struct guest_image *image, int error)
{
    if (error == OK)
        return OK;
    return guest_image_refuse(image, ERR_NO_MEMORY, "the host ran out of memory while loading it");
}

#define BIOS_DATA_AREA 0x400ull
#define COM1           0x3f8

struct bios_data_area {
    u16 com_ports[4], lpt_ports[3], ebda_segment, equipment;
    u8 post_status;
    u16 base_memory; // KiB
} PACKED;
assert_static(offsetof(struct bios_data_area, ebda_segment) == 0x0e);
assert_static(offsetof(struct bios_data_area, base_memory) == 0x13);

int bios_data_write(struct guest_memory *gm)
{
    static const struct bios_data_area data = {
        .com_ports = {COM1}, .ebda_segment = LAYOUT_EBDA >> 4, .base_memory = LAYOUT_EBDA / KIB};
    static const u8 ebda_size = (LAYOUT_LOW_SIZE - LAYOUT_EBDA) / KIB;
    int error = guest_memory_write(gm, BIOS_DATA_AREA, &data, sizeof(data));
    return error == OK ? guest_memory_write(gm, LAYOUT_EBDA, &ebda_size, 1) : error;
}

// Flat segments.
#define DESCRIPTOR_CODE_32 0x00cf9b000000ffffull
#define DESCRIPTOR_CODE_64 0x00af9b000000ffffull
#define DESCRIPTOR_DATA    0x00cf93000000ffffull
#define GDT_INDEX(sel)     ((sel) / sizeof(u64))

static int gdt_write(struct guest_memory *gm, enum guest_mode mode)
{
    const u64 gdt[] = {
        [GDT_INDEX(BOOT_CS)] = mode == GUEST_MODE_LONG ? DESCRIPTOR_CODE_64 : DESCRIPTOR_CODE_32,
        [GDT_INDEX(BOOT_DS)] = DESCRIPTOR_DATA,
    };
    assert_static(sizeof(gdt) == BOOT_GDT_LIMIT + 1);
    return guest_memory_write(gm, BOOT_GDT, gdt, sizeof(gdt));
}

#define PTE_PRESENT   BIT(0)
#define PTE_WRITE     BIT(1)
#define PTE_LARGE     BIT(7)
#define TABLE_ENTRIES 512
#define IDENTITY_GIBS 4
assert_static(BOOT_PML4 + (2 + IDENTITY_GIBS) * PAGE_SIZE == BOOT_TABLES_END);

// The low 4 GiB one to one in pages of 2 MiB.
static int page_tables_write(struct guest_memory *gm)
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

int boot_tables_write(struct guest_memory *gm, enum guest_mode mode)
{
    int error = mode == GUEST_MODE_REAL ? OK : gdt_write(gm, mode);
    if (error == OK && mode == GUEST_MODE_LONG)
        error = page_tables_write(gm);
    return error;
}
