// SPDX-License-Identifier: MIT
// What a guest-facing device is to the bus: it knows offsets, not addresses, and it cannot fail. A
// chip embeds one struct io_device for each of its register blocks and finds itself with
// container_of.
#pragma once

#include "vmm/lib/types.h"

struct io_device;

struct io_device_ops {
    const char *name;
    // offset + size never passes the end of the registered region; size is 1, 2, 4 or 8. Only the
    // low `size` bytes of a value count. A register that does not exist reads as the hardware has
    // it.
    u64 (*read)(struct io_device *device, u64 offset, unsigned size);
    void (*write)(struct io_device *device, u64 offset, unsigned size, u64 value);
};

struct io_device {
    const struct io_device_ops *ops;
};

// An interrupt line: a device raises and lowers it and does not know where it leads. A line with
// set == null leads nowhere.
struct irq_line {
    void (*set)(void *context, unsigned number, bool level);
    void *context;
    unsigned number;
};

static inline void irq_line_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->context, line->number, level);
}
