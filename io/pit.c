// SPDX-License-Identifier: MIT
// Intel 8254 "Programming Interval Timer": all six modes, latches, read-back, BCD. Nothing counts:
// a channel remembers when its count was loaded, and count and output follow from the time that has
// passed since. Left out: ticks that pass while the VM does not run are not made up for.
#include "io/pit.h"
#include "io/bytes.h"
#include "vmm/lib/bcd.h"

#define PIT_REGISTER_CONTROL 3

#define CONTROL_CHANNEL_SHIFT 6
#define CONTROL_ACCESS_SHIFT  4
#define CONTROL_ACCESS_MASK   3
#define CONTROL_MODE_SHIFT    1
#define CONTROL_MODE_MASK     7
#define CONTROL_BCD           0x01
#define CONTROL_READ_BACK     3 // as the channel

#define READ_BACK_NO_COUNT      0x20
#define READ_BACK_NO_STATUS     0x10
#define READ_BACK_CHANNEL_SHIFT 1

#define STATUS_OUTPUT     0x80
#define STATUS_NULL_COUNT 0x40

#define PORT_B_GATE2        0x01
#define PORT_B_SPEAKER      0x02
#define PORT_B_WRITABLE     0x0f // gate, speaker, and the two check enables
#define PORT_B_REFRESH      0x10
#define PORT_B_OUT2         0x20
#define PORT_B_REFRESH_TICK 18 // the refresh request toggles about every 15 us

#define NEVER (~0ull)

enum pit_access { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_LOW_HIGH };
enum pit_mode {
    MODE_TERMINAL_COUNT,
    MODE_ONE_SHOT,
    MODE_RATE,
    MODE_SQUARE,
    MODE_STROBE,
    MODE_HARDWARE_STROBE
};

// "Gate Pin Operations Summary"
static const struct {
    bool periodic;      // starts over by itself, and when the gate goes up
    bool gate_triggers; // counts only once the gate has gone up
} modes[] = {
    [MODE_TERMINAL_COUNT] = {},
    [MODE_ONE_SHOT] = {.gate_triggers = true},
    [MODE_RATE] = {.periodic = true},
    [MODE_SQUARE] = {.periodic = true},
    [MODE_STROBE] = {},
    [MODE_HARDWARE_STROBE] = {.gate_triggers = true},
};

static u64 pit_now(const struct pit *pit)
{
    return io_clock_to(pit->clock, pit->clock->now(pit->clock), PIT_HZ);
}

static u32 channel_modulus(const struct pit_channel *c)
{
    return c->bcd ? 10000 : 0x10000;
}

static bool channel_running(const struct pit_channel *c)
{
    return c->loaded && (c->triggered || !modes[c->mode].gate_triggers);
}

static u64 channel_elapsed(const struct pit_channel *c, u64 now)
{
    if (!c->gate && !modes[c->mode].gate_triggers)
        return c->held;
    return (s64)(now - c->start) > 0 ? now - c->start : 0;
}

// A square wave is high for this long, and low for the rest of its period.
static u32 square_high(u32 count)
{
    return (count + 1) / 2;
}

// The time now. A count that was to come into use by then is in use: at the end of a period, or of
// a square wave's half, where its own second half may be what follows.
static u64 channel_now(const struct pit *pit, struct pit_channel *c)
{
    u64 now = pit_now(pit);
    if (!c->pending || now < c->switch_at)
        return now;
    bool high_over = (c->switch_at - c->start) % c->initial != 0;
    c->start = c->switch_at - (high_over ? square_high(c->next) : 0);
    c->initial = c->next;
    c->pending = false;
    return now;
}

static bool channel_output(const struct pit_channel *c, u64 now)
{
    if (!channel_running(c))
        return c->mode != MODE_TERMINAL_COUNT;
    u64 elapsed = channel_elapsed(c, now);
    switch (c->mode) {
    case MODE_TERMINAL_COUNT:
    case MODE_ONE_SHOT:
        return elapsed >= c->initial;
    case MODE_RATE:
        return !c->gate || elapsed % c->initial != c->initial - 1;
    case MODE_SQUARE:
        return !c->gate || elapsed % c->initial < square_high(c->initial);
    default: // the strobes
        return elapsed != c->initial;
    }
}

// The counting element as it reads: 16 bits, BCD if so chosen.
static u16 channel_count(const struct pit_channel *c, u64 now)
{
    u64 elapsed = channel_running(c) ? channel_elapsed(c, now) : 0;
    u64 count;
    if (c->mode == MODE_SQUARE) // steps by two, twice a period
        count = (c->initial - elapsed % c->initial * 2 % c->initial) & ~1ull;
    else if (c->mode == MODE_RATE)
        count = c->initial - elapsed % c->initial;
    else
        count = c->initial + channel_modulus(c) - elapsed % channel_modulus(c);
    count %= channel_modulus(c);
    return (u16)(c->bcd ? bcd_encode((u32)count) : count);
}

// When, in ticks since the start, the output goes up next.
static u64 channel_next_rise(const struct pit_channel *c, u64 elapsed)
{
    if (!channel_running(c) || !c->gate)
        return NEVER;
    u64 end = (elapsed / c->initial + 1) * c->initial;
    if (modes[c->mode].periodic && c->pending && c->switch_at - c->start < end)
        return c->switch_at - c->start + c->next - square_high(c->next);
    if (modes[c->mode].periodic)
        return end;
    bool strobe = c->mode == MODE_STROBE || c->mode == MODE_HARDWARE_STROBE;
    u64 rise = c->initial + (strobe ? 1u : 0u);
    return elapsed < rise ? rise : NEVER;
}

// Only the output's rising edges matter to interrupt controllers, so only these are timed.
#define TICK_MAX_HZ 50000 // how often channel 0 interrupts at most

static void pit_schedule(struct pit *pit)
{
    struct pit_channel *c = &pit->channels[0];
    u64 now = channel_now(pit, c), rise = channel_next_rise(c, channel_elapsed(c, now));
    if (rise == NEVER)
        io_timer_cancel(pit->clock, &pit->timer);
    else
        io_timer_arm(pit->clock, &pit->timer,
                     io_clock_from(pit->clock, c->start + rise, PIT_HZ) + 1);
}

static void pit_fire(struct io_timer *timer)
{
    struct pit *pit = container_of(timer, struct pit, timer);
    irq_line_set(&pit->irq, false);
    irq_line_set(&pit->irq, true);
    pit_schedule(pit);
    // A period that a host could not serve is stretched; ticks in between are lost.
    u64 earliest = pit->clock->now(pit->clock) + pit->clock->hz / TICK_MAX_HZ;
    if (io_timer_armed(timer) && timer->deadline < earliest)
        io_timer_arm(pit->clock, timer, earliest);
}

// Something about a channel's count changed; the output of channel 0 is low until it rises.
static void channel_changed(struct pit *pit, const struct pit_channel *c)
{
    if (c != &pit->channels[0])
        return;
    irq_line_set(&pit->irq, false);
    pit_schedule(pit);
}

// When a new count comes into use by itself.
static u64 channel_cycle_end(const struct pit_channel *c, u64 now)
{
    u64 elapsed = channel_elapsed(c, now), phase = elapsed % c->initial;
    u32 high = square_high(c->initial);
    bool in_high = c->mode == MODE_SQUARE && phase < high;
    return c->start + elapsed - phase + (in_high ? high : c->initial);
}

static void channel_load(struct pit *pit, struct pit_channel *c, u16 value)
{
    u32 count = (c->bcd ? bcd_decode(value) : value) % channel_modulus(c);
    if (count == 0)
        count = channel_modulus(c);
    if (modes[c->mode].periodic && count == 1) // "1 is illegal"
        count = 2;
    u64 now = channel_now(pit, c);
    bool triggered = modes[c->mode].gate_triggers, periodic = modes[c->mode].periodic;
    bool waits = (triggered && c->triggered) || (periodic && c->loaded);
    c->next = count;
    c->pending = triggered || waits;
    c->switch_at = periodic && c->gate ? channel_cycle_end(c, now) : NEVER;
    c->loaded = true;
    if (waits) {
        if (c == &pit->channels[0])
            pit_schedule(pit);
        return;
    }
    c->initial = count;
    c->start = now;
    c->held = 0;
    channel_changed(pit, c);
}

static void channel_write(struct pit *pit, struct pit_channel *c, u8 value)
{
    switch (c->access) {
    case ACCESS_LOW:
        channel_load(pit, c, value);
        break;
    case ACCESS_HIGH:
        channel_load(pit, c, (u16)(value << 8));
        break;
    default:
        c->write_high = !c->write_high;
        if (!c->write_high) {
            channel_load(pit, c, (u16)(value << 8 | c->write_low));
            break;
        }
        c->write_low = value;
        if (c->mode == MODE_TERMINAL_COUNT) { // the first byte stops the counting
            c->loaded = false;
            channel_changed(pit, c);
        }
    }
}

static u8 channel_read(struct pit *pit, struct pit_channel *c)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->status_latch;
    }
    u16 count = c->count_latched ? c->count_latch : channel_count(c, channel_now(pit, c));
    bool high = c->access == ACCESS_HIGH || (c->access == ACCESS_LOW_HIGH && c->read_high);
    if (c->access == ACCESS_LOW_HIGH)
        c->read_high = !c->read_high;
    if (!c->read_high) // the latch holds until it was read whole
        c->count_latched = false;
    return (u8)(high ? count >> 8 : count);
}

static void channel_latch_count(struct pit_channel *c, u64 now)
{
    if (c->count_latched)
        return;
    c->count_latch = channel_count(c, now);
    c->count_latched = true;
}

static void channel_latch_status(struct pit_channel *c, u64 now)
{
    if (c->status_latched)
        return;
    c->status_latch = (u8)((channel_output(c, now) ? STATUS_OUTPUT : 0) |
                           (c->loaded && !c->pending ? 0 : STATUS_NULL_COUNT) |
                           c->access << CONTROL_ACCESS_SHIFT | c->mode << CONTROL_MODE_SHIFT |
                           (c->bcd ? CONTROL_BCD : 0));
    c->status_latched = true;
}

static void pit_read_back(struct pit *pit, u8 command)
{
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        if (!(command >> READ_BACK_CHANNEL_SHIFT & 1 << i))
            continue;
        u64 now = channel_now(pit, &pit->channels[i]);
        if (!(command & READ_BACK_NO_COUNT))
            channel_latch_count(&pit->channels[i], now);
        if (!(command & READ_BACK_NO_STATUS))
            channel_latch_status(&pit->channels[i], now);
    }
}

static void pit_control_word(struct pit *pit, u8 value)
{
    unsigned channel = value >> CONTROL_CHANNEL_SHIFT;
    if (channel == CONTROL_READ_BACK) {
        pit_read_back(pit, value);
        return;
    }
    struct pit_channel *c = &pit->channels[channel];
    u8 access = value >> CONTROL_ACCESS_SHIFT & CONTROL_ACCESS_MASK;
    if (access == ACCESS_LATCH) {
        channel_latch_count(c, channel_now(pit, c));
        return;
    }
    u8 mode = value >> CONTROL_MODE_SHIFT & CONTROL_MODE_MASK;
    *c = (struct pit_channel){
        .initial = channel_modulus(c),
        .mode = mode < ARRAY_SIZE(modes) ? mode : mode & 3, // 6 and 7 are 2 and 3
        .access = access,
        .bcd = value & CONTROL_BCD,
        .gate = c->gate,
    };
    c->initial = channel_modulus(c);
    channel_changed(pit, c);
}

static void channel_set_gate(struct pit *pit, struct pit_channel *c, bool gate)
{
    if (c->gate == gate)
        return;
    u64 now = channel_now(pit, c);
    u64 elapsed = channel_elapsed(c, now);
    c->gate = gate;
    if (!gate) {
        c->held = elapsed;
        c->switch_at = NEVER;
        return;
    }
    bool triggers = modes[c->mode].gate_triggers || modes[c->mode].periodic;
    c->start = triggers ? now : now - MIN(c->held, now);
    if (!triggers || !c->loaded)
        return;
    c->triggered = true;
    c->initial = c->next;
    c->pending = false;
}

static u8 pit_read_byte(struct io_device *device, unsigned reg)
{
    struct pit *pit = container_of(device, struct pit, ports);
    return reg < PIT_CHANNELS ? channel_read(pit, &pit->channels[reg]) : (u8)~0;
}

static void pit_write_byte(struct io_device *device, unsigned reg, u8 value)
{
    struct pit *pit = container_of(device, struct pit, ports);
    if (reg < PIT_CHANNELS)
        channel_write(pit, &pit->channels[reg], value);
    else
        pit_control_word(pit, value);
}

static u64 pit_read(struct io_device *device, u64 offset, unsigned size)
{
    return io_bytes_read(device, offset, size, pit_read_byte);
}

static void pit_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    io_bytes_write(device, offset, size, value, pit_write_byte);
}

static u64 control_read(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED)
{
    struct pit *pit = container_of(device, struct pit, control);
    u64 now = channel_now(pit, &pit->channels[2]);
    u64 value = pit->control_bits;
    if (now / PORT_B_REFRESH_TICK & 1)
        value |= PORT_B_REFRESH;
    if (channel_output(&pit->channels[2], now))
        value |= PORT_B_OUT2;
    return value;
}

static void control_write(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED,
                          u64 value)
{
    struct pit *pit = container_of(device, struct pit, control);
    pit->control_bits = value & PORT_B_WRITABLE;
    channel_set_gate(pit, &pit->channels[2], value & PORT_B_GATE2);
}

static const struct io_device_ops pit_ops = {"pit", pit_read, pit_write};
static const struct io_device_ops control_ops = {"port-61", control_read, control_write};

void pit_init(struct pit *pit, struct io_clock *clock, struct irq_line irq)
{
    *pit = (struct pit){.ports = {&pit_ops}, .control = {&control_ops}, .clock = clock, .irq = irq};
    io_timer_init(&pit->timer, pit_fire);
    pit_reset(pit);
}

void pit_reset(struct pit *pit)
{
    io_timer_cancel(pit->clock, &pit->timer);
    pit->control_bits = 0;
    for (unsigned i = 0; i < PIT_CHANNELS; i++)
        pit->channels[i] = (struct pit_channel){
            .initial = 0x10000,
            .mode = MODE_SQUARE,
            .access = ACCESS_LOW_HIGH,
            .gate = i != 2, // channels 0 and 1 are wired to run
        };
    irq_line_set(&pit->irq, false);
}
