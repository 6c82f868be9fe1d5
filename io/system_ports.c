// SPDX-License-Identifier: MIT
// IBM PS/2 Hardware Interface Technical Reference "System Control Port A". A20 is a bit that reads
// back.
#include "io/system_ports.h"

#define CONTROL_FAST_RESET 0x01 // going up resets
#define CONTROL_A20        0x02

static u64 post_read(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED)
{
    return container_of(device, struct system_ports, post)->post_code;
}

static void post_write(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED, u64 value)
{
    container_of(device, struct system_ports, post)->post_code = (u8)value;
}

static u64 control_read(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED)
{
    return container_of(device, struct system_ports, control)->control_bits;
}

static void control_write(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED,
                          u64 value)
{
    struct system_ports *ports = container_of(device, struct system_ports, control);
    bool rises = value & CONTROL_FAST_RESET && !(ports->control_bits & CONTROL_FAST_RESET);
    ports->control_bits = value & (CONTROL_FAST_RESET | CONTROL_A20);
    if (!rises)
        return;
    irq_line_set(&ports->reset, true);
    irq_line_set(&ports->reset, false);
}

static u64 delay_read(struct io_device *device UNUSED, u64 offset UNUSED, unsigned size UNUSED)
{
    return ~0ull;
}

static void delay_write(struct io_device *device UNUSED, u64 offset UNUSED, unsigned size UNUSED,
                        u64 value UNUSED)
{
}

static const struct io_device_ops post_ops = {"post-code", post_read, post_write};
static const struct io_device_ops control_ops = {"port-92", control_read, control_write};
static const struct io_device_ops delay_ops = {"io-delay", delay_read, delay_write};

void system_ports_init(struct system_ports *ports, struct irq_line reset)
{
    *ports = (struct system_ports){
        .post = {&post_ops}, .control = {&control_ops}, .delay = {&delay_ops}, .reset = reset};
    system_ports_reset(ports);
}

void system_ports_reset(struct system_ports *ports)
{
    ports->post_code = 0;
    ports->control_bits = CONTROL_A20;
}
