// SPDX-License-Identifier: MIT
// The I/O bus. The regions are a sorted array without overlap, so one binary search finds the only
// candidate; most accesses come in runs to one device, so the last hit is tried first. Regions are
// validated when they are added and accesses when they are made: a device sees only offsets that
// lie in its region.
#include "io/bus.h"
#include "mm/heap.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"

#define BUS_FIRST_CAPACITY 16

// Bit n is set if an access may be n bytes wide.
#define ACCESS_SIZES (BIT(1) | BIT(2) | BIT(4) | BIT(8))
#define ACCESS_MAX   8

void io_bus_init(struct io_bus *bus, const char *name, u64 limit)
{
    *bus = (struct io_bus){.name = name, .limit = limit};
}

void io_bus_destroy(struct io_bus *bus)
{
    heap_free(bus->regions);
    io_bus_init(bus, bus->name, bus->limit);
}

// Index of the first region that lies wholly above the address.
static unsigned region_above(const struct io_bus *bus, u64 address)
{
    unsigned low = 0, high = bus->count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (bus->regions[middle].base > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static bool region_holds(const struct io_region *region, u64 address, unsigned size)
{
    u64 offset = address - region->base;
    return offset < region->size &&
           offset + size <= region->size; // no wrap: regions end below 2^63
}

static int bus_grow(struct io_bus *bus)
{
    unsigned capacity = bus->capacity ? bus->capacity * 2 : BUS_FIRST_CAPACITY;
    struct io_region *regions = heap_alloc(capacity * sizeof(*regions));
    if (!regions)
        return ERR_NO_MEMORY;
    if (bus->count)
        memcpy(regions, bus->regions, bus->count * sizeof(*regions));
    heap_free(bus->regions);
    bus->regions = regions;
    bus->capacity = capacity;
    return OK;
}

int io_bus_add(struct io_bus *bus, u64 base, u64 size, struct io_device *device)
{
    if (!device || size == 0 || base >= bus->limit || size > bus->limit - base)
        return ERR_INVALID;
    unsigned at = region_above(bus, base);
    if (at > 0 && base - bus->regions[at - 1].base < bus->regions[at - 1].size)
        return ERR_EXISTS;
    if (at < bus->count && bus->regions[at].base - base < size)
        return ERR_EXISTS;
    if (bus->count == bus->capacity && bus_grow(bus) != OK)
        return ERR_NO_MEMORY;
    memmove(&bus->regions[at + 1], &bus->regions[at], (bus->count - at) * sizeof(*bus->regions));
    bus->regions[at] = (struct io_region){.base = base, .size = size, .device = device};
    bus->count++;
    return OK;
}

void io_bus_remove(struct io_bus *bus, const struct io_device *device)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < bus->count; i++) {
        if (bus->regions[i].device != device)
            bus->regions[kept++] = bus->regions[i];
    }
    bus->count = kept;
}

// Everything but a hit on the last region: also an access of a width that no bus has.
static __attribute__((noinline)) struct io_region *bus_search(struct io_bus *bus, u64 address,
                                                              unsigned size)
{
    if (size > ACCESS_MAX || !(ACCESS_SIZES >> size & 1))
        return NULL;
    unsigned above = region_above(bus, address);
    if (above == 0 || !region_holds(&bus->regions[above - 1], address, size))
        return NULL;
    bus->last = above - 1;
    return &bus->regions[above - 1];
}

static inline struct io_region *bus_find(struct io_bus *bus, u64 address, unsigned size)
{
    if (likely(bus->last < bus->count && size <= ACCESS_MAX && (ACCESS_SIZES >> size & 1))) {
        struct io_region *last = &bus->regions[bus->last];
        if (likely(region_holds(last, address, size)))
            return last;
    }
    return bus_search(bus, address, size);
}

// All ones in the bytes that were asked for; a width of no bus counts as the widest.
static u64 size_mask(unsigned size)
{
    return size - 1 < ACCESS_MAX ? bytes_mask(size) : ~0ull;
}

// The region is not looked at after the call: the device may change the bus.
bool io_bus_read(struct io_bus *bus, u64 address, unsigned size, u64 *value)
{
    struct io_region *region = bus_find(bus, address, size);
    if (unlikely(!region)) {
        *value = size_mask(size);
        return false;
    }
    struct io_device *device = region->device;
    *value = device->ops->read(device, address - region->base, size) & bytes_mask(size);
    return true;
}

bool io_bus_write(struct io_bus *bus, u64 address, unsigned size, u64 value)
{
    struct io_region *region = bus_find(bus, address, size);
    if (unlikely(!region))
        return false;
    struct io_device *device = region->device;
    device->ops->write(device, address - region->base, size, value & bytes_mask(size));
    return true;
}
