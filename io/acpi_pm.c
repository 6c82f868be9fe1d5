// SPDX-License-Identifier: MIT
// ACPI fixed hardware. There is no SMI command port, so ACPI mode is always on. The PM timer is 32
// bits wide; its overflow flag is brought up to date when somebody looks, and a timer runs only
// while its interrupt is enabled. Sleep states other than S5 are not offered.
#include "io/acpi_pm.h"
#include "vmm/lib/bits.h"

#define PM1_TIMER        0x0001
#define PM1_BUS_MASTER   0x0010
#define PM1_GLOBAL       0x0020
#define PM1_POWER_BUTTON 0x0100
#define PM1_SLEEP_BUTTON 0x0200
#define PM1_RTC          0x0400
#define PM1_WAKE         0x8000
#define PM1_ENABLES      (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC)

#define PM1_CONTROL_SCI_ENABLE 0x0001
#define SLEEP_TYPE_S5_QEMU     0
#define PM1_CONTROL_KEPT       0x1c02 // sleep type, bus master reload

#define RESET_CPU  0x04 // going up resets
#define RESET_KEPT 0x0e

#define TIMER_OVERFLOW_SHIFT 31

#define SMI_ENABLE 0x30 // register: read-only here
#define SMI_ENABLE_APMC                                                                            \
    0x20u // firmware takes it for "System Management Mode is set up", and lets it be

static u64 acpi_pm_ticks(struct acpi_pm *pm)
{
    return io_clock_to(pm->clock, pm->clock->now(pm->clock), ACPI_PM_TIMER_HZ);
}

// True if the timer overflowed since the last look.
static bool acpi_pm_catch_up(struct acpi_pm *pm)
{
    u64 overflows = acpi_pm_ticks(pm) >> TIMER_OVERFLOW_SHIFT;
    if (overflows == pm->overflows)
        return false;
    pm->overflows = overflows;
    pm->pm1_status |= PM1_TIMER;
    return true;
}

static void acpi_pm_update(struct acpi_pm *pm)
{
    bool pm1 = pm->pm1_status & pm->pm1_enable;
    irq_line_set(&pm->sci, pm1 || pm->gpe0_status & pm->gpe0_enable);
    if (pm->pm1_enable & PM1_TIMER)
        io_timer_arm(pm->clock, &pm->timer,
                     io_clock_from(pm->clock, (pm->overflows + 1) << TIMER_OVERFLOW_SHIFT,
                                   ACPI_PM_TIMER_HZ) +
                         1);
    else
        io_timer_cancel(pm->clock, &pm->timer);
}

static void acpi_pm_fire(struct io_timer *timer)
{
    struct acpi_pm *pm = container_of(timer, struct acpi_pm, timer);
    acpi_pm_catch_up(pm);
    acpi_pm_update(pm);
}

static void pulse(const struct irq_line *line)
{
    irq_line_set(line, true);
    irq_line_set(line, false);
}

// The four bytes at an aligned offset.
static u32 acpi_pm_register(struct acpi_pm *pm, unsigned offset)
{
    switch (offset) {
    case ACPI_PM1_STATUS: // and enable
        return (u32)pm->pm1_enable << 16 | pm->pm1_status;
    case ACPI_PM1_CONTROL:
        return pm->pm1_control;
    case ACPI_PM_TIMER:
        return (u32)acpi_pm_ticks(pm);
    case ACPI_GPE0_STATUS:
        return pm->gpe0_status;
    case ACPI_GPE0_ENABLE:
        return pm->gpe0_enable;
    case SMI_ENABLE:
        return SMI_ENABLE_APMC;
    default:
        return 0;
    }
}

static u64 acpi_pm_read(struct io_device *device, u64 offset, unsigned size)
{
    struct acpi_pm *pm = container_of(device, struct acpi_pm, ports);
    if (acpi_pm_catch_up(pm)) // a guest that reads the time all day pays for no more
        acpi_pm_update(pm);
    unsigned aligned = (unsigned)offset & ~3u;
    u64 value = acpi_pm_register(pm, aligned);
    value |= (u64)acpi_pm_register(pm, aligned + 4) << 32;
    return value >> (8 * (offset - aligned)) & bytes_mask(size);
}

// Bytes of a register, of which only those under `lanes` are written.
static u32 merge(u32 old, u32 lanes, u32 value)
{
    return (old & ~lanes) | (value & lanes);
}

// Type 0 is what QEMU's machines take for S5. Programs for them write it to these very ports
// without a look at \_S5.
static bool powers_off(u32 control)
{
    u32 type = (u32)bits_get(control, ACPI_PM1_SLEEP_TYPE_SHIFT, 3);
    return type == ACPI_SLEEP_TYPE_S5 || type == SLEEP_TYPE_S5_QEMU;
}

static void acpi_pm_write_control(struct acpi_pm *pm, u32 lanes, u32 value)
{
    u32 control = merge(pm->pm1_control, lanes, value);
    pm->pm1_control = (control & PM1_CONTROL_KEPT) | PM1_CONTROL_SCI_ENABLE;
    bool sleep = value & lanes & ACPI_PM1_SLEEP_ENABLE;
    if (sleep && powers_off(control))
        pulse(&pm->poweroff);
}

static void acpi_pm_write_register(struct acpi_pm *pm, unsigned offset, u32 lanes, u32 value)
{
    u32 ones = value & lanes; // status bits are cleared by writing ones
    switch (offset) {
    case ACPI_PM1_STATUS: // and enable
        pm->pm1_status &= (u16)~ones;
        pm->pm1_enable = (u16)(merge((u32)pm->pm1_enable << 16, lanes, value) >> 16) & PM1_ENABLES;
        break;
    case ACPI_PM1_CONTROL:
        acpi_pm_write_control(pm, lanes, value);
        break;
    case ACPI_GPE0_STATUS:
        pm->gpe0_status &= ~ones;
        break;
    case ACPI_GPE0_ENABLE:
        pm->gpe0_enable = merge(pm->gpe0_enable, lanes, value);
        break;
    default: // the timer is read-only
        break;
    }
}

static void acpi_pm_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct acpi_pm *pm = container_of(device, struct acpi_pm, ports);
    acpi_pm_catch_up(pm);
    unsigned aligned = (unsigned)offset & ~3u, shift = 8 * ((unsigned)offset & 3);
    u64 lanes = bytes_mask(size);
    acpi_pm_write_register(pm, aligned, (u32)(lanes << shift), (u32)(value << shift));
    unsigned done = 4 - ((unsigned)offset & 3);
    if (size > done)
        acpi_pm_write_register(pm, aligned + 4, (u32)(lanes >> 8 * done), (u32)(value >> 8 * done));
    acpi_pm_update(pm);
}

static u64 reset_read(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED)
{
    return container_of(device, struct acpi_pm, reset_control)->reset_bits;
}

static void reset_write(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED,
                        u64 value)
{
    struct acpi_pm *pm = container_of(device, struct acpi_pm, reset_control);
    bool rises = value & RESET_CPU && !(pm->reset_bits & RESET_CPU);
    pm->reset_bits = value & RESET_KEPT;
    if (rises)
        pulse(&pm->reset);
}

static const struct io_device_ops pm_ops = {"acpi-pm", acpi_pm_read, acpi_pm_write};
static const struct io_device_ops reset_ops = {"reset-control", reset_read, reset_write};

void acpi_pm_power_button(struct acpi_pm *pm)
{
    pm->pm1_status |= PM1_POWER_BUTTON;
    acpi_pm_update(pm);
}

void acpi_pm_gpe(struct acpi_pm *pm, unsigned gpe)
{
    if (gpe < 32)
        pm->gpe0_status |= (u32)BIT(gpe);
    acpi_pm_update(pm);
}

void acpi_pm_init(struct acpi_pm *pm, struct io_clock *clock, struct irq_line sci,
                  struct irq_line poweroff, struct irq_line reset)
{
    *pm = (struct acpi_pm){
        .ports = {&pm_ops},
        .reset_control = {&reset_ops},
        .clock = clock,
        .sci = sci,
        .poweroff = poweroff,
        .reset = reset,
    };
    io_timer_init(&pm->timer, acpi_pm_fire);
    acpi_pm_reset(pm);
}

void acpi_pm_reset(struct acpi_pm *pm)
{
    pm->overflows = acpi_pm_ticks(pm) >> TIMER_OVERFLOW_SHIFT;
    pm->pm1_status = pm->pm1_enable = 0;
    pm->pm1_control = PM1_CONTROL_SCI_ENABLE;
    pm->gpe0_status = pm->gpe0_enable = 0;
    pm->reset_bits = 0;
    acpi_pm_update(pm);
}
