// SPDX-License-Identifier: MIT
// The MC146818 in the host. Its registers change under the reader: they are read twice, outside an
// update, until both readings agree. Waits are bounded by tries, for a machine without the chip
// reads all ones.
#include "drivers/rtc.h"
#include "arch/x86_64/cpu.h"
#include "vmm/lib/bcd.h"
#include "vmm/lib/calendar.h"
#include "vmm/lib/spinlock.h"
#include "vmm/lib/string.h"

#define RTC_INDEX_PORT 0x70
#define RTC_DATA_PORT  0x71

#define RTC_SECONDS 0x00
#define RTC_MINUTES 0x02
#define RTC_HOURS   0x04
#define RTC_DAY     0x07
#define RTC_MONTH   0x08
#define RTC_YEAR    0x09
#define RTC_A       0x0a
#define RTC_B       0x0b
#define RTC_CENTURY 0x32

#define RTC_A_UIP    0x80
#define RTC_B_BINARY 0x04
#define RTC_B_24H    0x02
#define RTC_HOUR_PM  0x80

#define UIP_TRIES     100000 // an update takes 2 ms, a port read about 1 us
#define READING_TRIES 8

// What has no century register (or not there) shows one that is not this.
#define CENTURY_FIRST 20
#define CENTURY_LAST  29
#define CENTURY_YEARS 100
#define NS_PER_US     1000
#define NS_PER_SECOND 1000000000ull

struct reading {
    u8 second, minute, hour, day, month, year, century;
};

static u8 rtc_register(u8 reg)
{
    out8(RTC_INDEX_PORT, reg);
    return in8(RTC_DATA_PORT);
}

static bool rtc_wait_update(void)
{
    for (unsigned i = 0; i < UIP_TRIES; i++)
        if (!(rtc_register(RTC_A) & RTC_A_UIP))
            return true;
    return false;
}

static struct reading rtc_reading(void)
{
    return (struct reading){
        .second = rtc_register(RTC_SECONDS),
        .minute = rtc_register(RTC_MINUTES),
        .hour = rtc_register(RTC_HOURS),
        .day = rtc_register(RTC_DAY),
        .month = rtc_register(RTC_MONTH),
        .year = rtc_register(RTC_YEAR),
        .century = rtc_register(RTC_CENTURY),
    };
}

static u32 decode(u8 value, u8 b)
{
    return b & RTC_B_BINARY ? value : bcd_decode(value);
}

static u32 decode_hour(u8 value, u8 b)
{
    if (b & RTC_B_24H)
        return decode(value, b);
    u32 hour = decode(value & (u8)~RTC_HOUR_PM, b) % 12;
    return value & RTC_HOUR_PM ? hour + 12 : hour;
}

static u64 reading_seconds(const struct reading *r, u8 b)
{
    u32 century = decode(r->century, b);
    if (century < CENTURY_FIRST || century > CENTURY_LAST)
        century = CENTURY_FIRST;
    struct calendar date = {
        .year = century * CENTURY_YEARS + decode(r->year, b),
        .month = decode(r->month, b),
        .day = decode(r->day, b),
        .hour = decode_hour(r->hour, b),
        .minute = decode(r->minute, b),
        .second = decode(r->second, b),
    };
    return calendar_to_seconds(&date);
}

u64 rtc_read_epoch_seconds(void)
{
    u8 b = rtc_register(RTC_B);
    for (unsigned i = 0; i < READING_TRIES; i++) {
        if (!rtc_wait_update())
            return 0;
        struct reading first = rtc_reading();
        if (!rtc_wait_update())
            return 0;
        struct reading second = rtc_reading();
        if (memcmp(&first, &second, sizeof(first)) == 0)
            return reading_seconds(&first, b);
    }
    return 0;
}

static struct spinlock wall_lock;
static bool wall_known;
static u64 wall_at_boot_ns; // when time_microseconds() was 0

u64 rtc_wall_clock_ns(void)
{
    spin_lock(&wall_lock);
    if (!wall_known) {
        u64 since_boot_ns = time_microseconds() * NS_PER_US;
        wall_at_boot_ns = rtc_read_epoch_seconds() * NS_PER_SECOND - since_boot_ns;
        wall_known = true;
    }
    u64 at_boot_ns = wall_at_boot_ns;
    spin_unlock(&wall_lock);
    return at_boot_ns + time_microseconds() * NS_PER_US;
}
