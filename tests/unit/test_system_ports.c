// SPDX-License-Identifier: MIT
#include "tests/unit/chip.h"
#include "io/system_ports.c"

static struct system_ports system_ports;

TEST(ports)
{
    system_ports_init(&system_ports, chip_line(20));
    chip_out(&system_ports.post, 0, 0x42);
    CHECK_EQ(chip_in(&system_ports.post, 0), 0x42);
    CHECK_EQ(chip_in(&system_ports.control, 0), 0x02);
    chip_out(&system_ports.control, 0, 0x00);
    CHECK_EQ(chip_in(&system_ports.control, 0), 0x00);
    chip_out(&system_ports.delay, 0, 0x00);
    CHECK_EQ(chip_in(&system_ports.delay, 0), 0xff);
    CHECK_EQ(chip_rises[20], 0);
    chip_out(&system_ports.control, 0, 0x01);
    chip_out(&system_ports.control, 0, 0x03);
    CHECK_EQ(chip_rises[20], 1);
    CHECK(!chip_level[20]);
}

TEST(survives_anything)
{
    chip_clock_start();
    system_ports_init(&system_ports, chip_line(20));
    const struct chip_ports ports[] = {
        {&system_ports.post, 1}, {&system_ports.control, 1}, {&system_ports.delay, 1}};
    chip_fuzz(ports, 3, 50000);
}
