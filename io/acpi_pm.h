// SPDX-License-Identifier: MIT
// ACPI fixed hardware (ACPI specification "ACPI Hardware Specification"): the PM1 event and control
// registers, the PM timer, one general-purpose event block, the sleep state S5 as power-off, and
// the reset register at 0xcf9.
#pragma once

#include "io/device.h"
#include "io/clock.h"
#include "io/acpi/platform.h"

#define ACPI_PM_TIMER_HZ 3579545

#define ACPI_PM1_SLEEP_TYPE_SHIFT 10
#define ACPI_PM1_SLEEP_ENABLE     0x2000
// What a guest does to power off: this word to that port.
#define ACPI_PM1_CONTROL_PORT     (ACPI_PM_BASE + ACPI_PM1_CONTROL)
#define ACPI_PM1_S5               (ACPI_SLEEP_TYPE_S5 << ACPI_PM1_SLEEP_TYPE_SHIFT | ACPI_PM1_SLEEP_ENABLE)

struct acpi_pm {
    struct io_device ports;         // ACPI_PM_SIZE ports, laid out as io/acpi/platform.h says
    struct io_device reset_control; // 1 port
    struct io_clock *clock;
    struct irq_line sci, poweroff, reset;
    struct io_timer timer; // the PM timer's next overflow, while the guest wants to hear of it
    u64 overflows;         // how often bit 31 had toggled when last looked at
    u16 pm1_status, pm1_enable, pm1_control;
    u32 gpe0_status, gpe0_enable;
    u8 reset_bits;
};

// The reset and power-off lines are pulsed.
void acpi_pm_init(struct acpi_pm *pm, struct io_clock *clock, struct irq_line sci,
                  struct irq_line poweroff, struct irq_line reset);
void acpi_pm_reset(struct acpi_pm *pm);
void acpi_pm_power_button(struct acpi_pm *pm);      // asks the guest to shut down
void acpi_pm_gpe(struct acpi_pm *pm, unsigned gpe); // raises general-purpose event 0 to 31
