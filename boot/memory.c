// SPDX-License-Identifier: MIT
// Memory from the firmware. All of it is EfiLoaderData; what is a file or the core is told apart in
// handover.c. UEFI 2.9: 7.2 "Memory Allocation Services".

#include "boot/loader.h"

// Room for the descriptors that our own later allocations add to the map.
#define MAP_SLACK_DESCRIPTORS 64

static UINTN pages_of(uint64_t size)
{
    return size ? EFI_SIZE_TO_PAGES(size) : 1;
}

uint64_t memory_allocate(uint64_t size, uint64_t limit)
{
    EFI_PHYSICAL_ADDRESS base = limit;
    EFI_ALLOCATE_TYPE how = limit == MEMORY_ANYWHERE ? AllocateAnyPages : AllocateMaxAddress;
    if (BS->AllocatePages(how, EfiLoaderData, pages_of(size), &base) != EFI_SUCCESS)
        return 0;
    return base;
}

void memory_free(uint64_t base, uint64_t size)
{
    if (base && size)
        BS->FreePages(base, pages_of(size));
}

// Asks for more and gives back what sticks out on both sides.
uint64_t memory_allocate_aligned(uint64_t size, uint64_t alignment, uint64_t limit)
{
    size = pages_of(size) * PAGE_SIZE;
    uint64_t whole = size + alignment - PAGE_SIZE;
    uint64_t start = memory_allocate(whole, limit);
    if (!start)
        return 0;
    uint64_t base = (start + alignment - 1) & ~(alignment - 1);
    memory_free(start, base - start);
    memory_free(base + size, start + whole - (base + size));
    return base;
}

EFI_STATUS firmware_map_allocate(struct firmware_map *map)
{
    UINT32 version;
    UINTN size = 0, key, descriptor_size = 0;
    EFI_STATUS status = BS->GetMemoryMap(&size, NULL, &key, &descriptor_size, &version);
    if (status != EFI_BUFFER_TOO_SMALL || descriptor_size < sizeof(EFI_MEMORY_DESCRIPTOR))
        return EFI_DEVICE_ERROR;
    map->capacity = size + MAP_SLACK_DESCRIPTORS * descriptor_size;
    map->descriptors = (void *)memory_allocate(map->capacity, MEMORY_ANYWHERE);
    return map->descriptors ? EFI_SUCCESS : EFI_OUT_OF_RESOURCES;
}

EFI_STATUS firmware_map_read(struct firmware_map *map)
{
    UINT32 version;
    map->size = map->capacity;
    return BS->GetMemoryMap(&map->size, map->descriptors, &map->key, &map->descriptor_size,
                            &version);
}

uint32_t firmware_map_count(const struct firmware_map *map)
{
    return (uint32_t)(map->size / map->descriptor_size);
}

// Descriptors may be longer than the structure that we know.
const EFI_MEMORY_DESCRIPTOR *firmware_map_at(const struct firmware_map *map, uint32_t index)
{
    return (const void *)((const char *)map->descriptors + index * map->descriptor_size);
}

static const uint32_t boot_types[] = {
    [EfiLoaderCode] = BOOT_MEMORY_LOADER,
    [EfiLoaderData] = BOOT_MEMORY_LOADER,
    [EfiBootServicesCode] = BOOT_MEMORY_FREE,
    [EfiBootServicesData] = BOOT_MEMORY_FREE,
    [EfiRuntimeServicesCode] = BOOT_MEMORY_FIRMWARE,
    [EfiRuntimeServicesData] = BOOT_MEMORY_FIRMWARE,
    [EfiConventionalMemory] = BOOT_MEMORY_FREE,
    [EfiACPIReclaimMemory] = BOOT_MEMORY_ACPI,
    [EfiACPIMemoryNVS] = BOOT_MEMORY_ACPI,
};

uint32_t firmware_memory_type(const EFI_MEMORY_DESCRIPTOR *descriptor)
{
    uint32_t type = descriptor->Type;
    if (type >= sizeof(boot_types) / sizeof(boot_types[0]) || !boot_types[type])
        return BOOT_MEMORY_RESERVED;
    return boot_types[type];
}

bool firmware_memory_is_ram(const EFI_MEMORY_DESCRIPTOR *descriptor)
{
    return firmware_memory_type(descriptor) != BOOT_MEMORY_RESERVED;
}
