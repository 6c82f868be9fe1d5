// SPDX-License-Identifier: MIT
// The host's real-time clock: the wall clock that guests start from.
#pragma once

#include "vmm/lib/types.h"

// Seconds since 1970 as the CMOS clock has them, UTC assumed. 0 if the clock is not there or does
// not hold still.
u64 rtc_read_epoch_seconds(void);
// The wall clock in ns since 1970: the clock chip as first read, carried on by time_microseconds().
// Any CPU.
u64 rtc_wall_clock_ns(void);
