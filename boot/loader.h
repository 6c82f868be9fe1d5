// SPDX-License-Identifier: MIT
// The parts of the loader that talk to the firmware. main.c calls them in this order.
#pragma once

#include <efi.h>
#include <efilib.h>
#include <stdbool.h>
#include "boot/boot_info.h"
#include "boot/elf.h"

#define PAGE_SIZE EFI_PAGE_SIZE

struct loader {
    EFI_HANDLE image;
    EFI_FILE_HANDLE volume; // the root of the volume that the loader was started from
    struct boot_file *files;
    uint32_t file_count;
    struct elf_layout core;
    uint64_t core_base; // physical
    struct boot_info *info;
};

// console.c: says in one line what is wrong with what and what to do, waits for a key a while,
// returns `status`.
EFI_STATUS loader_fail(const char *what, const char *wrong, const char *remedy, EFI_STATUS status);

// memory.c: `limit` is the highest address that the last byte may have; 0 if there is no room.
#define MEMORY_ANYWHERE   UINT64_MAX
#define MEMORY_BELOW_4G   0xffffffffull
#define MEMORY_BELOW_640K 0x9ffffull
uint64_t memory_allocate(uint64_t size, uint64_t limit);
uint64_t memory_allocate_aligned(uint64_t size, uint64_t alignment, uint64_t limit);
void memory_free(uint64_t base, uint64_t size);

// The firmware's memory map, in a buffer with room for it to grow a little.
struct firmware_map {
    EFI_MEMORY_DESCRIPTOR *descriptors;
    UINTN capacity, size, descriptor_size, key;
};
EFI_STATUS firmware_map_allocate(struct firmware_map *map);
EFI_STATUS firmware_map_read(struct firmware_map *map);
uint32_t firmware_map_count(const struct firmware_map *map);
const EFI_MEMORY_DESCRIPTOR *firmware_map_at(const struct firmware_map *map, uint32_t index);
bool firmware_memory_is_ram(const EFI_MEMORY_DESCRIPTOR *descriptor);
uint32_t firmware_memory_type(const EFI_MEMORY_DESCRIPTOR *descriptor); // enum boot_memory_type

// volume.c
EFI_STATUS volume_open(EFI_HANDLE image, EFI_FILE_HANDLE *root);
// Reads file->name into memory of its own; fills in base, size and status.
void volume_read(EFI_FILE_HANDLE root, struct boot_file *file);
// What a status says of a file: "is not on the volume".
const char *volume_status_text(uint32_t status);

// files.c
EFI_STATUS files_load(struct loader *loader);

// core_file.c
EFI_STATUS core_load(struct loader *loader);

// platform.c: processors, interrupt routing, console, framebuffer.
void platform_collect(struct boot_info *info);

// page_table.c: CR3 for the core's entry, 0 if memory ran out.
uint64_t page_tables_build(const struct loader *loader, const struct firmware_map *map);

// handover.c: returns only if it failed.
EFI_STATUS handover(struct loader *loader);
