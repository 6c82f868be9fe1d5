// SPDX-License-Identifier: MIT
// MC146818 "Real-Time Clock Plus RAM". Time is kept in ticks of the crystal, 32768 a second, since
// the epoch; the time registers are worked out when read. Interrupt flags are brought up to date
// when somebody looks, so timers run only for interrupts that are enabled. While the guest holds
// the time, by SET or by the divider's reset, the registers are its own. Left out: daylight saving,
// the square wave, other crystals.
#include "io/rtc.h"
#include "io/bytes.h"
#include "vmm/lib/bcd.h"
#include "vmm/lib/calendar.h"
#include "vmm/lib/string.h"

#define RTC_HZ           32768
#define RTC_SECOND_SHIFT 15
#define RTC_UPDATE_TICKS 73 // UIP: 244 us before the update of 1984 us
#define NS_PER_SECOND    1000000000ull
#define SECONDS_PER_DAY  86400ull
#define INDEX_MASK       0x7f // bit 7 of the index port masks NMI
#define CENTURY_YEARS    100

enum rtc_register {
    RTC_SECONDS = 0x00,
    RTC_SECONDS_ALARM = 0x01,
    RTC_MINUTES = 0x02,
    RTC_MINUTES_ALARM = 0x03,
    RTC_HOURS = 0x04,
    RTC_HOURS_ALARM = 0x05,
    RTC_WEEKDAY = 0x06,
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_A = 0x0a,
    RTC_B = 0x0b,
    RTC_C = 0x0c,
    RTC_D = 0x0d,
    CMOS_EQUIPMENT = 0x14,
    CMOS_BASE_KB = 0x15,
    CMOS_EXTENDED_KB = 0x17,
    CMOS_CHECKED_FIRST = 0x10,
    CMOS_CHECKED_LAST = 0x2d,
    CMOS_CHECKSUM = 0x2e, // high byte first
    CMOS_EXTENDED_KB_POST = 0x30,
    RTC_CENTURY = 0x32,
    CMOS_ABOVE_16M = 0x34, // in 64 KiB
    CMOS_ABOVE_4G = 0x5b,  // in 64 KiB, 24 bits
};

#define RTC_A_UIP            0x80
#define RTC_A_RATE           0x0f
#define RTC_A_WRITABLE       0x7f
#define RTC_A_DIVIDER_RESET  0x60 // both: nothing counts
#define RTC_A_DEFAULT        0x26 // 32768 Hz crystal, 1024 Hz periodic rate
#define RTC_B_SET            0x80
#define RTC_B_UIE            0x10
#define RTC_B_AIE            0x20
#define RTC_B_PIE            0x40
#define RTC_B_BINARY         0x04
#define RTC_B_24H            0x02
#define RTC_B_RESET          (RTC_B_PIE | RTC_B_AIE | RTC_B_UIE | 0x08) // what RESET# clears
#define RTC_C_IRQF           0x80
#define RTC_C_PF             0x40 // the flags lie where their enables do in B
#define RTC_C_AF             0x20
#define RTC_C_UF             0x10
#define RTC_D_VALID          0x80
#define RTC_HOUR_PM          0x80
#define RTC_ALARM_ANY        0xc0
#define EQUIPMENT_FPU        0x02
#define CMOS_BASE_KB_VALUE   640
#define CMOS_EXTENDED_KB_MAX 0xffff

static u64 rtc_now(struct rtc *rtc)
{
    return rtc->base + rtc->set_off + io_clock_to(rtc->clock, rtc->clock->now(rtc->clock), RTC_HZ);
}

// --- time registers ---

static u8 rtc_encode(const struct rtc *rtc, u32 number)
{
    return (u8)(rtc->cmos[RTC_B] & RTC_B_BINARY ? number : bcd_encode(number));
}

static u32 rtc_decode(const struct rtc *rtc, u8 value)
{
    return rtc->cmos[RTC_B] & RTC_B_BINARY ? value : bcd_decode(value);
}

static u8 rtc_encode_hour(const struct rtc *rtc, u32 hour)
{
    if (rtc->cmos[RTC_B] & RTC_B_24H)
        return rtc_encode(rtc, hour);
    u8 value = rtc_encode(rtc, hour % 12 ? hour % 12 : 12);
    return hour >= 12 ? value | RTC_HOUR_PM : value;
}

static u32 rtc_decode_hour(const struct rtc *rtc, u8 value)
{
    if (rtc->cmos[RTC_B] & RTC_B_24H)
        return rtc_decode(rtc, value);
    u32 hour = rtc_decode(rtc, value & (u8)~RTC_HOUR_PM) % 12;
    return value & RTC_HOUR_PM ? hour + 12 : hour;
}

// Write a second's date and time to the registers.
static void rtc_show(struct rtc *rtc, u64 second)
{
    struct calendar date = calendar_from_seconds(second);
    rtc->cmos[RTC_SECONDS] = rtc_encode(rtc, date.second);
    rtc->cmos[RTC_MINUTES] = rtc_encode(rtc, date.minute);
    rtc->cmos[RTC_HOURS] = rtc_encode_hour(rtc, date.hour);
    rtc->cmos[RTC_WEEKDAY] = rtc_encode(rtc, date.weekday + 1);
    rtc->cmos[RTC_DAY] = rtc_encode(rtc, date.day);
    rtc->cmos[RTC_MONTH] = rtc_encode(rtc, date.month);
    rtc->cmos[RTC_YEAR] = rtc_encode(rtc, date.year % CENTURY_YEARS);
    rtc->cmos[RTC_CENTURY] = rtc_encode(rtc, date.year / CENTURY_YEARS);
}

static bool rtc_divider_stands(const struct rtc *rtc)
{
    return (rtc->cmos[RTC_A] & RTC_A_DIVIDER_RESET) == RTC_A_DIVIDER_RESET;
}

static bool rtc_held(const struct rtc *rtc)
{
    return rtc->cmos[RTC_B] & RTC_B_SET || rtc_divider_stands(rtc);
}

static u64 rtc_period(const struct rtc *rtc)
{
    unsigned rate = rtc->cmos[RTC_A] & RTC_A_RATE;
    if (rate == 0 || rtc_divider_stands(rtc))
        return 0;
    return BIT(rate < 3 ? rate + 6 : rate - 1); // rates 1 and 2 are 8 and 9 again
}

// What has passed so far raises no flag.
static void rtc_forget(struct rtc *rtc)
{
    u64 now = rtc_now(rtc), period = rtc_period(rtc);
    rtc->last_second = now >> RTC_SECOND_SHIFT;
    rtc->last_period = period ? now / period : 0;
}

// Make the date and time in the registers the current one, so many ticks into its second.
static void rtc_take(struct rtc *rtc, u64 ticks)
{
    const u8 *r = rtc->cmos;
    struct calendar date = {
        .year = rtc_decode(rtc, r[RTC_CENTURY]) * CENTURY_YEARS + rtc_decode(rtc, r[RTC_YEAR]),
        .month = rtc_decode(rtc, r[RTC_MONTH]),
        .day = rtc_decode(rtc, r[RTC_DAY]),
        .hour = rtc_decode_hour(rtc, r[RTC_HOURS]),
        .minute = rtc_decode(rtc, r[RTC_MINUTES]),
        .second = rtc_decode(rtc, r[RTC_SECONDS]),
    };
    rtc->set_off += (calendar_to_seconds(&date) << RTC_SECOND_SHIFT) + ticks - rtc_now(rtc);
    rtc_forget(rtc);
}

static bool rtc_is_time(unsigned reg)
{
    return reg == RTC_CENTURY || (reg <= RTC_YEAR && reg != RTC_SECONDS_ALARM &&
                                  reg != RTC_MINUTES_ALARM && reg != RTC_HOURS_ALARM);
}

// --- interrupts ---

static bool alarm_part(u8 alarm, u8 now)
{
    return (alarm & RTC_ALARM_ANY) == RTC_ALARM_ANY || alarm == now;
}

static bool rtc_alarm_at(const struct rtc *rtc, u64 second)
{
    u32 of_day = (u32)(second % SECONDS_PER_DAY);
    const u8 *r = rtc->cmos;
    return alarm_part(r[RTC_SECONDS_ALARM], rtc_encode(rtc, of_day % 60)) &&
           alarm_part(r[RTC_MINUTES_ALARM], rtc_encode(rtc, of_day / 60 % 60)) &&
           alarm_part(r[RTC_HOURS_ALARM], rtc_encode_hour(rtc, of_day / 3600));
}

// Raise the flags of everything since the last look. A day's seconds hold every alarm there is.
static void rtc_catch_up(struct rtc *rtc)
{
    u64 now = rtc_now(rtc), second = now >> RTC_SECOND_SHIFT, period = rtc_period(rtc);
    u8 flags = 0;
    if (period && now / period != rtc->last_period) {
        rtc->last_period = now / period;
        flags |= RTC_C_PF;
    }
    if (!rtc_held(rtc) && second > rtc->last_second) {
        flags |= RTC_C_UF;
        u64 s = MAX(rtc->last_second + 1, second - MIN(second, SECONDS_PER_DAY) + 1);
        for (; s <= second && !(flags & RTC_C_AF); s++)
            if (rtc_alarm_at(rtc, s))
                flags |= RTC_C_AF;
    }
    rtc->last_second = second;
    rtc->cmos[RTC_C] |= flags;
}

static void rtc_arm(struct rtc *rtc, struct io_timer *timer, bool wanted, u64 tick)
{
    u64 clock_zero = rtc->base + rtc->set_off;
    if (wanted)
        io_timer_arm(rtc->clock, timer, io_clock_from(rtc->clock, tick - clock_zero, RTC_HZ) + 1);
    else
        io_timer_cancel(rtc->clock, timer);
}

// Drive the line and the timers from flags and enables.
static void rtc_update(struct rtc *rtc)
{
    u8 enabled = rtc->cmos[RTC_B] & (RTC_B_PIE | RTC_B_AIE | RTC_B_UIE);
    bool raise = rtc->cmos[RTC_C] & enabled;
    rtc->cmos[RTC_C] = (u8)((rtc->cmos[RTC_C] & ~RTC_C_IRQF) | (raise ? RTC_C_IRQF : 0));
    irq_line_set(&rtc->irq, raise);

    u64 period = rtc_period(rtc);
    rtc_arm(rtc, &rtc->update_timer, enabled & (RTC_B_AIE | RTC_B_UIE) && !rtc_held(rtc),
            (rtc->last_second + 1) << RTC_SECOND_SHIFT);
    rtc_arm(rtc, &rtc->periodic_timer, enabled & RTC_B_PIE && period,
            (rtc->last_period + 1) * period);
}

static void rtc_update_fire(struct io_timer *timer)
{
    struct rtc *rtc = container_of(timer, struct rtc, update_timer);
    rtc_catch_up(rtc);
    rtc_update(rtc);
}

static void rtc_periodic_fire(struct io_timer *timer)
{
    struct rtc *rtc = container_of(timer, struct rtc, periodic_timer);
    rtc_catch_up(rtc);
    rtc_update(rtc);
}

// --- registers ---

static u8 rtc_read_a(struct rtc *rtc)
{
    u64 left = RTC_HZ - rtc_now(rtc) % RTC_HZ;
    bool updating = !rtc_held(rtc) && left <= RTC_UPDATE_TICKS;
    return updating ? rtc->cmos[RTC_A] | RTC_A_UIP : rtc->cmos[RTC_A];
}

static u8 rtc_read_c(struct rtc *rtc)
{
    rtc_catch_up(rtc);
    rtc_update(rtc);
    u8 value = rtc->cmos[RTC_C];
    rtc->cmos[RTC_C] = 0;
    rtc_update(rtc);
    return value;
}

static u8 rtc_read_register(struct rtc *rtc, unsigned reg)
{
    if (reg == RTC_A)
        return rtc_read_a(rtc);
    if (reg == RTC_C)
        return rtc_read_c(rtc);
    if (rtc_is_time(reg) && !rtc_held(rtc))
        rtc_show(rtc, rtc_now(rtc) >> RTC_SECOND_SHIFT);
    return rtc->cmos[reg];
}

// The first update is half a second after the divider's reset has ended.
static void rtc_write_control(struct rtc *rtc, unsigned reg, u8 value)
{
    bool was_held = rtc_held(rtc);
    if (!was_held)
        rtc_show(rtc, rtc_now(rtc) >> RTC_SECOND_SHIFT);
    rtc->cmos[reg] = value;
    if (was_held && !rtc_held(rtc)) // in the format that is chosen now
        rtc_take(rtc, reg == RTC_A ? RTC_HZ / 2 : 0);
    else if (reg == RTC_A)
        rtc_forget(rtc);
}

static void rtc_write_b(struct rtc *rtc, u8 value)
{
    rtc_write_control(rtc, RTC_B, value & RTC_B_SET ? value & (u8)~RTC_B_UIE : value);
}

static void rtc_write_time(struct rtc *rtc, unsigned reg, u8 value)
{
    if (rtc_held(rtc)) {
        rtc->cmos[reg] = value;
        return;
    }
    rtc_show(rtc, rtc_now(rtc) >> RTC_SECOND_SHIFT);
    rtc->cmos[reg] = value;
    rtc_take(rtc, 0);
}

static void rtc_write_register(struct rtc *rtc, unsigned reg, u8 value)
{
    rtc_catch_up(rtc);
    if (reg == RTC_A) {
        rtc_write_control(rtc, RTC_A, value & RTC_A_WRITABLE);
    } else if (reg == RTC_B) {
        rtc_write_b(rtc, value);
    } else if (rtc_is_time(reg)) {
        rtc_write_time(rtc, reg, value);
    } else if (reg != RTC_C && reg != RTC_D) {
        rtc->cmos[reg] = value;
    }
    rtc_update(rtc);
}

static u8 rtc_read_byte(struct io_device *device, unsigned port)
{
    struct rtc *rtc = container_of(device, struct rtc, ports);
    return port == 1 ? rtc_read_register(rtc, rtc->index) : (u8)~0;
}

static void rtc_write_byte(struct io_device *device, unsigned port, u8 value)
{
    struct rtc *rtc = container_of(device, struct rtc, ports);
    if (port == 1)
        rtc_write_register(rtc, rtc->index, value);
    else
        rtc->index = value & INDEX_MASK;
}

static u64 rtc_read(struct io_device *device, u64 offset, unsigned size)
{
    return io_bytes_read(device, offset, size, rtc_read_byte);
}

static void rtc_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    io_bytes_write(device, offset, size, value, rtc_write_byte);
}

static const struct io_device_ops rtc_ops = {"rtc", rtc_read, rtc_write};

static void cmos_set_word(struct rtc *rtc, unsigned reg, u64 value)
{
    rtc->cmos[reg] = (u8)value;
    rtc->cmos[reg + 1] = (u8)(value >> 8);
}

void rtc_set_memory(struct rtc *rtc, u64 below_4g, u64 above_4g)
{
    u64 extended_kb = below_4g > MIB ? (below_4g - MIB) / KIB : 0;
    u64 above_16m = below_4g > 16 * MIB ? (below_4g - 16 * MIB) / (64 * KIB) : 0;
    cmos_set_word(rtc, CMOS_BASE_KB, CMOS_BASE_KB_VALUE);
    cmos_set_word(rtc, CMOS_EXTENDED_KB, MIN(extended_kb, (u64)CMOS_EXTENDED_KB_MAX));
    cmos_set_word(rtc, CMOS_EXTENDED_KB_POST, MIN(extended_kb, (u64)CMOS_EXTENDED_KB_MAX));
    cmos_set_word(rtc, CMOS_ABOVE_16M, above_16m);
    cmos_set_word(rtc, CMOS_ABOVE_4G, above_4g / (64 * KIB));
    rtc->cmos[CMOS_ABOVE_4G + 2] = (u8)(above_4g / (64 * KIB) >> 16);

    unsigned sum = 0;
    for (unsigned i = CMOS_CHECKED_FIRST; i <= CMOS_CHECKED_LAST; i++)
        sum += rtc->cmos[i];
    rtc->cmos[CMOS_CHECKSUM] = (u8)(sum >> 8);
    rtc->cmos[CMOS_CHECKSUM + 1] = (u8)sum;
}

void rtc_set_wall_clock(struct rtc *rtc, u64 wall_ns)
{
    rtc->base = mul_div(wall_ns, RTC_HZ, NS_PER_SECOND) -
                io_clock_to(rtc->clock, rtc->clock->now(rtc->clock), RTC_HZ);
    rtc_forget(rtc);
    rtc_update(rtc);
}

void rtc_init(struct rtc *rtc, struct io_clock *clock, struct irq_line irq)
{
    *rtc = (struct rtc){.ports = {&rtc_ops}, .clock = clock, .irq = irq};
    io_timer_init(&rtc->update_timer, rtc_update_fire);
    io_timer_init(&rtc->periodic_timer, rtc_periodic_fire);
    rtc->cmos[RTC_B] = RTC_B_24H;
    rtc->cmos[RTC_D] = RTC_D_VALID;
    rtc->cmos[CMOS_EQUIPMENT] = EQUIPMENT_FPU;
    rtc_reset(rtc);
}

void rtc_reset(struct rtc *rtc)
{
    rtc->index = 0;
    rtc->cmos[RTC_A] = RTC_A_DEFAULT;
    rtc->cmos[RTC_B] &= (u8) ~(RTC_B_RESET | RTC_B_SET);
    rtc->cmos[RTC_C] = 0;
    rtc_forget(rtc);
    rtc_update(rtc);
}
