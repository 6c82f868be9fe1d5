// SPDX-License-Identifier: MIT
// What the tests of the guest's chips share: a clock that the test sets, interrupt lines that it
// watches, and a fuzzer that hits a device's registers at random.
#pragma once

#include "tests/unit/test.h"
#include "io/clock.c"
#include "io/device.h"

#define CHIP_HZ 1000000000ull // the clock's ticks are nanoseconds
#define US      1000ull
#define MS      1000000ull
#define SECOND  1000000000ull

static u64 chip_now;
static struct io_clock chip_clock;

static u64 chip_clock_now(struct io_clock *clock UNUSED)
{
    return chip_now;
}

static void chip_clock_start(void)
{
    chip_now = 0;
    io_clock_init(&chip_clock, CHIP_HZ, chip_clock_now);
}

// Let time pass, firing timers when they are due.
static void chip_pass(u64 ticks)
{
    u64 end = chip_now + ticks;
    while (chip_clock.next <= end) {
        chip_now = MAX(chip_now, chip_clock.next);
        io_clock_run(&chip_clock, chip_now);
    }
    chip_now = end;
}

#define CHIP_LINES 32
static bool chip_level[CHIP_LINES];
static unsigned chip_rises[CHIP_LINES];

static void chip_line_set(void *context UNUSED, unsigned number, bool level)
{
    if (level && !chip_level[number])
        chip_rises[number]++;
    chip_level[number] = level;
}

static struct irq_line chip_line(unsigned number)
{
    chip_level[number] = false;
    chip_rises[number] = 0;
    return (struct irq_line){chip_line_set, NULL, number};
}

static u64 chip_read(struct io_device *device, u64 offset, unsigned size)
{
    return device->ops->read(device, offset, size) & bytes_mask(size);
}

static u8 chip_in(struct io_device *device, u64 offset)
{
    return (u8)chip_read(device, offset, 1);
}

static void chip_out(struct io_device *device, u64 offset, u8 value)
{
    device->ops->write(device, offset, 1, value);
}

static u64 chip_random_state = 0x9e3779b97f4a7c15ull;

static u64 chip_random(void)
{
    chip_random_state ^= chip_random_state << 13;
    chip_random_state ^= chip_random_state >> 7;
    chip_random_state ^= chip_random_state << 17;
    return chip_random_state;
}

struct chip_ports {
    struct io_device *device;
    u64 size;
};

// Random accesses of random widths while time passes in random steps.
static void chip_fuzz(const struct chip_ports *ports, unsigned count, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        const struct chip_ports *p = &ports[chip_random() % count];
        unsigned size = 1u << chip_random() % 4;
        u64 offset = chip_random() % p->size;
        if (size > p->size - offset)
            size = 1;
        if (chip_random() & 1)
            p->device->ops->write(p->device, offset, size, chip_random() & bytes_mask(size));
        else
            p->device->ops->read(p->device, offset, size);
        if (chip_random() % 8 == 0) { // late, as a busy host is
            chip_now += chip_random() % (1ull << chip_random() % 36);
            io_clock_run(&chip_clock, chip_now);
        }
    }
}
