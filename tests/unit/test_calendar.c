// SPDX-License-Identifier: MIT
#include "tests/unit/test.h"
#include "vmm/lib/bcd.h"
#include "vmm/lib/calendar.c"

TEST(known_dates)
{
    static const struct {
        u64 seconds;
        struct calendar date;
    } known[] = {
        {0, {1970, 1, 1, 0, 0, 0, 4}},          {951782399, {2000, 2, 28, 23, 59, 59, 1}},
        {951782400, {2000, 2, 29, 0, 0, 0, 2}}, {1709208000, {2024, 2, 29, 12, 0, 0, 4}},
        {4107542400, {2100, 3, 1, 0, 0, 0, 1}}, {253402300799, {9999, 12, 31, 23, 59, 59, 5}},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
        struct calendar date = calendar_from_seconds(known[i].seconds);
        CHECK(memcmp(&date, &known[i].date, sizeof(date)) == 0);
        CHECK_EQ(calendar_to_seconds(&known[i].date), known[i].seconds);
    }
}

TEST(every_day_of_five_centuries_goes_around)
{
    u32 weekday = 4;
    for (u64 day = 0; day < 500 * 366; day++, weekday = (weekday + 1) % 7) {
        struct calendar date = calendar_from_seconds(day * DAY_SECONDS + 4711);
        CHECK_EQ(calendar_to_seconds(&date), day * DAY_SECONDS + 4711);
        CHECK_EQ(date.weekday, weekday);
    }
}

TEST(nonsense_is_taken)
{
    struct calendar date = {1999, 0, 0, 200, 200, 200, 99};
    CHECK_EQ(calendar_to_seconds(&date), 915148800ull + 200 * 3661);
    date = (struct calendar){0, 99, 99, 99, 99, 99, 0};
    CHECK_EQ(calendar_to_seconds(&date), 0);
    date = (struct calendar){16665, 255, 255, 255, 255, 255, 0};
    CHECK(calendar_to_seconds(&date) > 253402300799);
}

TEST(bcd)
{
    CHECK_EQ(bcd_encode(9876), 0x9876);
    CHECK_EQ(bcd_decode(0x9876), 9876);
    CHECK_EQ(bcd_encode(0), 0);
    CHECK_EQ(bcd_decode(0xff), 165);
    CHECK_EQ(bcd_encode(~0u), 0x94967295);
    for (u32 n = 0; n < 10000; n++)
        CHECK_EQ(bcd_decode(bcd_encode(n)), n);
}
