// SPDX-License-Identifier: MIT
// The I/O bus: address ranges and the devices behind them, sorted, found by binary search with the
// last hit remembered. A VM has two: ports and memory. The caller holds the VM's device lock.
#pragma once

#include "io/device.h"

struct io_region {
    u64 base, size;
    struct io_device *device;
};

struct io_bus {
    const char *name; // "port", "memory": for messages
    u64 limit;        // one past the last address: 0x10000 for ports
    struct io_region *regions;
    unsigned count, capacity;
    unsigned last; // index of the last hit
};

void io_bus_init(struct io_bus *bus, const char *name, u64 limit);
void io_bus_destroy(struct io_bus *bus);
// ERR_INVALID (size 0, wrap, past the limit), ERR_EXISTS (overlap), ERR_NO_MEMORY.
MUST_CHECK int io_bus_add(struct io_bus *bus, u64 base, u64 size, struct io_device *device);
void io_bus_remove(struct io_bus *bus, const struct io_device *device); // all of its regions
// Both return false for a hole: address that no device has, or an access that straddles a region's
// end. A hole reads all ones (of `size` bytes) and drops writes; the bool is for who wants to log
// it.
bool io_bus_read(struct io_bus *bus, u64 address, unsigned size, u64 *value);
bool io_bus_write(struct io_bus *bus, u64 address, unsigned size, u64 value);
