// SPDX-License-Identifier: MIT
#include "tests/unit/chip.h"
#include "io/acpi_pm.c"

static struct acpi_pm pm;
enum { SCI = 9, POWEROFF = 20, RESET = 21 };

static void start(void)
{
    chip_clock_start();
    acpi_pm_init(&pm, &chip_clock, chip_line(SCI), chip_line(POWEROFF), chip_line(RESET));
}

static u64 get(unsigned offset, unsigned size)
{
    return chip_read(&pm.ports, offset, size);
}

static void set(unsigned offset, unsigned size, u64 value)
{
    pm.ports.ops->write(&pm.ports, offset, size, value);
}

TEST(timer_runs_at_its_rate)
{
    start();
    chip_pass(SECOND);
    CHECK_EQ(get(8, 4), 3579545);
    CHECK_EQ(get(9, 1), 3579545 >> 8 & 0xff);
    CHECK_EQ(get(10, 2), 3579545 >> 16);
    set(8, 4, 0);
    CHECK_EQ(get(8, 4), 3579545);
    chip_pass(1200 * SECOND);
    CHECK_EQ(get(8, 4), (u32)(1201ull * 3579545));
}

TEST(timer_overflow_interrupts)
{
    start();
    set(2, 2, 1);
    chip_pass(599 * SECOND);
    CHECK(!chip_level[SCI]);
    chip_pass(SECOND);
    CHECK(chip_level[SCI]);
    CHECK_EQ(get(0, 4), 0x00010001);
    set(0, 2, 1);
    CHECK(!chip_level[SCI]);
    chip_pass(600 * SECOND);
    CHECK_EQ(chip_rises[SCI], 2);
    set(2, 2, 0);
    CHECK(!chip_level[SCI]);
    CHECK_EQ(chip_clock.next, ~0ull);
    set(0, 2, 0xffff);
    chip_pass(600 * SECOND);
    CHECK_EQ(get(0, 2), 1); // without an interrupt the flag is there all the same
}

TEST(power_button)
{
    start();
    acpi_pm_power_button(&pm);
    CHECK(!chip_level[SCI]);
    set(3, 1, 0x01); // the enable's high byte alone
    CHECK(chip_level[SCI]);
    CHECK_EQ(get(0, 4), 0x01000100);
    set(1, 1, 0x01);
    CHECK(!chip_level[SCI]);
    CHECK_EQ(get(2, 2), 0x0100);
}

TEST(s5_powers_off)
{
    start();
    CHECK_EQ(get(4, 2), 1); // ACPI mode is on for good
    set(4, 2, 0);
    CHECK_EQ(get(4, 2), 1);
    set(4, 2, 5 << 10 | 0x2000);
    CHECK_EQ(chip_rises[POWEROFF], 0);
    set(4, 2, ACPI_PM1_S5);
    CHECK_EQ(chip_rises[POWEROFF], 1);
    CHECK_EQ(get(4, 2), 7 << 10 | 1);
    set(5, 1, ACPI_PM1_S5 >> 8);
    CHECK_EQ(chip_rises[POWEROFF], 2);
    CHECK_EQ(chip_rises[RESET], 0);
}

TEST(programs_for_qemu_power_off_by_type_0)
{
    start();
    set(4, 2, 0);
    CHECK_EQ(chip_rises[POWEROFF], 0);
    set(4, 2, 0x2000);
    CHECK_EQ(chip_rises[POWEROFF], 1);
    set(4, 2, 1 << 10 | 0x2000); // S3 there
    CHECK_EQ(chip_rises[POWEROFF], 1);
}

TEST(general_purpose_events)
{
    start();
    acpi_pm_gpe(&pm, 3);
    acpi_pm_gpe(&pm, 99); // not there
    CHECK(!chip_level[SCI]);
    set(ACPI_GPE0_ENABLE, 1, 0x08);
    CHECK(chip_level[SCI]);
    CHECK_EQ(get(ACPI_GPE0_STATUS, 8), 0x0000000800000008ull);
    set(ACPI_GPE0_STATUS, 1, 0x08);
    CHECK(!chip_level[SCI]);
}

TEST(reset_register)
{
    start();
    chip_out(&pm.reset_control, 0, 0x02);
    CHECK_EQ(chip_rises[RESET], 0);
    chip_out(&pm.reset_control, 0, ACPI_RESET_VALUE);
    CHECK_EQ(chip_rises[RESET], 1);
    CHECK_EQ(chip_in(&pm.reset_control, 0), 0x06);
}

TEST(survives_anything)
{
    start();
    const struct chip_ports ports[] = {{&pm.ports, ACPI_PM_SIZE}, {&pm.reset_control, 1}};
    chip_fuzz(ports, 2, 300000);
    acpi_pm_reset(&pm);
    CHECK_EQ(chip_clock.next, ~0ull);
    CHECK(!chip_level[SCI]);
}
