// SPDX-License-Identifier: MIT
// The flush port is written with a page's address: QEMU remaps that page; here all of the machine's
// translations are dropped, which is more.
#include "io/testdev.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/string.h"

static u64 latch_read(struct io_device *device, u64 offset, unsigned size UNUSED)
{
    return container_of(device, struct testdev, latch_ports)->latch >> offset * 8;
}

static void latch_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct testdev *t = container_of(device, struct testdev, latch_ports);
    u32 mask = (u32)(bytes_mask(size) << offset * 8);
    t->latch = (t->latch & ~mask) | ((u32)(value << offset * 8) & mask);
}

static u64 zero_read(struct io_device *device UNUSED, u64 offset UNUSED, unsigned size UNUSED)
{
    return 0;
}

static void flush_write(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED,
                        u64 value UNUSED)
{
    struct testdev *t = container_of(device, struct testdev, flush_ports);
    t->flush(t->context);
}

static void line_write(struct io_device *device, u64 offset, unsigned size UNUSED, u64 value)
{
    struct testdev *t = container_of(device, struct testdev, line_ports);
    t->lines.number = (unsigned)offset;
    irq_line_set(&t->lines, value != 0);
}

static u64 memory_read(struct io_device *device, u64 offset, unsigned size)
{
    u64 value = 0;
    memcpy(&value, container_of(device, struct testdev, memory_window)->memory + offset, size);
    return value;
}

static void memory_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    memcpy(container_of(device, struct testdev, memory_window)->memory + offset, &value, size);
}

static const struct io_device_ops latch_ops = {"testdev-latch", latch_read, latch_write};
static const struct io_device_ops flush_ops = {"testdev-flush", zero_read, flush_write};
static const struct io_device_ops line_ops = {"testdev-lines", zero_read, line_write};
static const struct io_device_ops memory_ops = {"testdev-memory", memory_read, memory_write};

void testdev_init(struct testdev *t, struct irq_line lines, void (*flush)(void *context),
                  void *context)
{
    t->latch_ports.ops = &latch_ops;
    t->flush_ports.ops = &flush_ops;
    t->line_ports.ops = &line_ops;
    t->memory_window.ops = &memory_ops;
    t->lines = lines;
    t->flush = flush;
    t->context = context;
    testdev_reset(t);
}

void testdev_reset(struct testdev *t)
{
    t->latch = 0;
    memset(t->memory, 0, sizeof(t->memory));
    for (t->lines.number = 0; t->lines.number < TESTDEV_LINES; t->lines.number++)
        irq_line_set(&t->lines, false);
}
