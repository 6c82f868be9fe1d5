// SPDX-License-Identifier: MIT
// Seconds since 1970-01-01 00:00:00 <-> date and time of day in the Gregorian calendar, no time
// zones.
#pragma once

#include "vmm/lib/types.h"

struct calendar {
    u32 year;
    u32 month, day; // from 1
    u32 hour, minute, second;
    u32 weekday; // 0 is Sunday; not looked at by calendar_to_seconds
};

struct calendar calendar_from_seconds(u64 seconds);
// Takes any values: the month is brought into 1 to 12, years before 1970 give 0, the rest just adds
// up.
u64 calendar_to_seconds(const struct calendar *date);
