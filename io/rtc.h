// SPDX-License-Identifier: MIT
// The real-time clock and its CMOS memory (Motorola MC146818 and the PC/AT's use of it), ports 0x70
// and 0x71. Time is the wall clock at the VM's start plus the VM's clock plus what the guest has
// set it off by.
#pragma once

#include "io/device.h"
#include "io/clock.h"

#define RTC_CMOS_SIZE 128

struct rtc {
    struct io_device ports; // index, data
    struct io_clock *clock;
    struct irq_line irq;
    struct io_timer update_timer, periodic_timer;
    u64 base;        // crystal ticks since the epoch when the VM's clock was 0
    u64 set_off;     // what the guest added to it (modulo 2^64): outlives a reset, like the battery
    u64 last_second; // flags are up to date as of this second and this period
    u64 last_period;
    u8 index;
    u8 cmos[RTC_CMOS_SIZE]; // the time registers in it count only while the guest sets them
};

void rtc_init(struct rtc *rtc, struct io_clock *clock, struct irq_line irq);
// The wall clock now, in ns since 1970, UTC. After rtc_init() and whenever the VM's clock starts
// over.
void rtc_set_wall_clock(struct rtc *rtc, u64 wall_ns);
// The memory sizes that PC software looks for; bytes of RAM below and above 4 GiB.
void rtc_set_memory(struct rtc *rtc, u64 below_4g, u64 above_4g);
void rtc_reset(struct rtc *rtc);
