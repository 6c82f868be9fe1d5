// SPDX-License-Identifier: MIT
#include "io/debugcon.h"

static u64 debugcon_read(struct io_device *device UNUSED, u64 offset UNUSED, unsigned size UNUSED)
{
    return DEBUGCON_PORT;
}

static void debugcon_write(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED,
                           u64 value)
{
    struct debugcon *d = container_of(device, struct debugcon, port);
    const u8 byte = (u8)value;
    d->output(d->context, &byte, 1);
}

static const struct io_device_ops debugcon_ops = {"debugcon", debugcon_read, debugcon_write};

void debugcon_init(struct debugcon *d, void (*output)(void *context, const u8 *bytes, unsigned n),
                   void *context)
{
    *d = (struct debugcon){.port = {&debugcon_ops}, .output = output, .context = context};
}
