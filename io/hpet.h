// SPDX-License-Identifier: MIT
// High Precision Event Timers (IA-PC HPET Specification 1.0a): a 64-bit counter at 100 MHz and
// three comparators, the first of them periodic, with the legacy replacement route.
#pragma once

#include "io/device.h"
#include "io/clock.h"

#define HPET_SIZE      0x400
#define HPET_HZ        100000000ull
#define HPET_TIMERS    3
#define HPET_BLOCK_ID  0x8086a201u // General Capabilities, low half, as the ACPI table repeats it
#define HPET_TICKS_MIN 2000        // that a period has at least, as the ACPI table says

struct hpet_timer {
    struct hpet *hpet;
    struct io_timer timer; // its next match
    u64 config, comparator, period;
};

struct hpet {
    struct io_device mmio;
    struct io_clock *clock;
    struct irq_line lines; // the number is replaced by the pin that a timer is routed to
    u64 config, status;
    u64 counter; // at the clock's time `start` if it runs, else now
    u64 start;
    struct hpet_timer timers[HPET_TIMERS];
};

void hpet_init(struct hpet *hpet, struct io_clock *clock, struct irq_line lines);
void hpet_reset(struct hpet *hpet);
bool hpet_replaces_legacy(const struct hpet *hpet); // it has the lines of the PIT and the RTC now
