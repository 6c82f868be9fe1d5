// SPDX-License-Identifier: MIT
// The Gregorian calendar, counted in years that begin on 1 March: the leap day is then a year's
// last day, and the months' lengths (31, 30, 31, 30, 31, 31, ...) follow one line, (153 * month +
// 2) / 5. An era is 400 years.
#include "vmm/lib/calendar.h"

#define DAY_SECONDS   86400
#define ERA_DAYS      146097 // 400 years
#define CENTURY_DAYS  36524  // without the leap day that ends an era
#define CYCLE_DAYS    1461   // 4 years
#define YEAR_DAYS     365
#define EPOCH_DAYS    719468 // 0000-03-01 to 1970-01-01
#define EPOCH_WEEKDAY 4      // Thursday

static u64 days_before(u64 year, u32 month, u32 day)
{
    // March is month 0 here, January and February belong to the year before.
    u64 y = month > 2 ? year : year - 1;
    u32 m = month > 2 ? month - 3 : month + 9;
    return y * YEAR_DAYS + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
}

struct calendar calendar_from_seconds(u64 seconds)
{
    u64 days = seconds / DAY_SECONDS;
    u32 rest = (u32)(seconds % DAY_SECONDS);
    u64 since = days + EPOCH_DAYS;
    u32 of_era = (u32)(since % ERA_DAYS);
    u32 year =
        (of_era - of_era / (CYCLE_DAYS - 1) + of_era / CENTURY_DAYS - of_era / (ERA_DAYS - 1)) /
        YEAR_DAYS;
    u32 of_year = of_era - (year * YEAR_DAYS + year / 4 - year / 100);
    u32 month = (5 * of_year + 2) / 153;
    return (struct calendar){
        .year = (u32)(since / ERA_DAYS * 400) + year + (month >= 10),
        .month = month < 10 ? month + 3 : month - 9,
        .day = of_year - (153 * month + 2) / 5 + 1,
        .hour = rest / 3600,
        .minute = rest / 60 % 60,
        .second = rest % 60,
        .weekday = (u32)((days + EPOCH_WEEKDAY) % 7),
    };
}

u64 calendar_to_seconds(const struct calendar *date)
{
    u32 month = MIN(MAX(date->month, 1u), 12u);
    if (date->year < 1970)
        return 0;
    u64 days = days_before(date->year, month, MAX(date->day, 1u)) - EPOCH_DAYS;
    return days * DAY_SECONDS + date->hour * 3600ull + date->minute * 60ull + date->second;
}
