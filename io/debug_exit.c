// SPDX-License-Identifier: MIT
#include "io/debug_exit.h"

static u64 debug_exit_read(struct io_device *device UNUSED, u64 offset UNUSED, unsigned size UNUSED)
{
    return 0;
}

static void debug_exit_write(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED,
                             u64 value)
{
    struct debug_exit *d = container_of(device, struct debug_exit, ports);
    d->exit(d->context, (u32)value << 1 | 1);
}

static const struct io_device_ops debug_exit_ops = {"debug-exit", debug_exit_read,
                                                    debug_exit_write};

void debug_exit_init(struct debug_exit *d, void (*exit)(void *context, u32 code), void *context)
{
    *d = (struct debug_exit){.ports = {&debug_exit_ops}, .exit = exit, .context = context};
}
