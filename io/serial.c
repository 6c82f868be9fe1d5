// SPDX-License-Identifier: MIT
// PC16550D "Universal Asynchronous Receiver/Transmitter with FIFOs". Line speed and format are
// remembered and mean nothing: a character takes no time, so the transmitter is always empty, and
// fewer characters than the trigger level are "timed out" at once. A break is received in loopback,
// and shows at once, before its null character's turn. Left out: errors of parity and framing by
// themselves, which need a wire.
#include "io/serial.h"
#include "io/bytes.h"

enum serial_register {
    SERIAL_DATA, // RBR, THR; divisor low
    SERIAL_IER,  // divisor high
    SERIAL_IIR_FCR,
    SERIAL_LCR,
    SERIAL_MCR,
    SERIAL_LSR,
    SERIAL_MSR,
    SERIAL_SCR,
};

#define IER_RDA  0x01
#define IER_THRE 0x02
#define IER_LINE 0x04
#define IER_MSR  0x08
#define IER_MASK 0x0f

#define IIR_NONE    0x01
#define IIR_MSR     0x00
#define IIR_THRE    0x02
#define IIR_RDA     0x04
#define IIR_LINE    0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFO    0xc0

#define FCR_ENABLE        0x01
#define FCR_CLEAR_RECEIVE 0x02
#define FCR_TRIGGER_SHIFT 6
#define FCR_KEPT          0xc9

#define LCR_BREAK 0x40
#define LCR_DLAB  0x80

#define MCR_DTR      0x01
#define MCR_RTS      0x02
#define MCR_OUT1     0x04
#define MCR_OUT2     0x08 // on a PC: lets the interrupt through
#define MCR_LOOPBACK 0x10
#define MCR_MASK     0x1f

#define LSR_DATA    0x01
#define LSR_OVERRUN 0x02
#define LSR_FRAMING 0x08
#define LSR_BREAK   0x10
#define LSR_THRE    0x20
#define LSR_TEMT    0x40
#define LSR_FIFO    0x80 // with a FIFO: an error in it

#define MSR_DELTA_CTS 0x01
#define MSR_DELTA_DSR 0x02
#define MSR_RI_FELL   0x04
#define MSR_DELTA_DCD 0x08
#define MSR_DELTAS    0x0f
#define MSR_CTS       0x10
#define MSR_DSR       0x20
#define MSR_RI        0x40
#define MSR_DCD       0x80
#define MSR_CONNECTED (MSR_CTS | MSR_DSR | MSR_DCD)

#define DIVISOR_DEFAULT 12 // 9600 baud

static const u8 trigger_levels[] = {1, 4, 8, 14};

static bool serial_looped(const struct serial *s)
{
    return s->mcr & MCR_LOOPBACK;
}

static unsigned serial_capacity(const struct serial *s)
{
    return s->fcr & FCR_ENABLE ? SERIAL_FIFO : 1;
}

// The interrupt to report: "Interrupt Control Functions", highest priority first.
static u8 serial_interrupt(const struct serial *s)
{
    unsigned trigger = s->fcr & FCR_ENABLE ? trigger_levels[s->fcr >> FCR_TRIGGER_SHIFT] : 1;
    if (s->ier & IER_LINE && s->lsr)
        return IIR_LINE;
    if (s->ier & IER_RDA && s->fifo_count >= trigger)
        return IIR_RDA;
    if (s->ier & IER_RDA && s->fifo_count)
        return IIR_TIMEOUT;
    if (s->ier & IER_THRE && s->thre_pending)
        return IIR_THRE;
    if (s->ier & IER_MSR && s->msr & MSR_DELTAS)
        return IIR_MSR;
    return IIR_NONE;
}

static void serial_update(struct serial *s)
{
    bool level = serial_interrupt(s) != IIR_NONE && s->mcr & MCR_OUT2;
    if (level == s->irq_level)
        return;
    s->irq_level = level;
    irq_line_set(&s->irq, level);
}

static void serial_receive(struct serial *s, u8 byte)
{
    if (s->fifo_count >= serial_capacity(s)) {
        s->lsr |= LSR_OVERRUN;
        return;
    }
    s->fifo[(s->fifo_first + s->fifo_count) % SERIAL_FIFO] = byte;
    s->fifo_count++;
}

static void serial_refill(struct serial *s)
{
    if (serial_looped(s))
        return;
    while (s->fifo_count < serial_capacity(s) && s->backlog_read != s->backlog_written)
        serial_receive(s, s->backlog[s->backlog_read++ % SERIAL_BACKLOG]);
}

static u8 serial_read_data(struct serial *s)
{
    if (!s->fifo_count)
        return 0;
    u8 byte = s->fifo[s->fifo_first];
    s->fifo_first = (s->fifo_first + 1) % SERIAL_FIFO;
    s->fifo_count--;
    serial_refill(s);
    return byte;
}

// The looped line is held at 0 from now on, or no longer: the receiver takes that for one null
// character without its stop bit, however long it lasts.
static void serial_break(struct serial *s)
{
    bool breaking = serial_looped(s) && s->lcr & LCR_BREAK;
    if (breaking && !s->breaking) {
        serial_receive(s, 0);
        s->lsr |= LSR_BREAK | LSR_FRAMING;
    }
    s->breaking = breaking;
}

static void serial_write_data(struct serial *s, u8 byte)
{
    if (!serial_looped(s) && s->output)
        s->output(s->context, &byte, 1);
    else if (serial_looped(s) && !s->breaking)
        serial_receive(s, byte);
    if (s->irq_level && s->lsr_seen) { // who looks at LSR and not at IIR gets an edge all the same
        s->thre_pending = false;
        serial_update(s);
    }
    s->lsr_seen = false;
    s->thre_pending = true; // it was sent, the transmitter has run empty again
}

static void serial_write_fcr(struct serial *s, u8 value)
{
    bool toggled = (s->fcr ^ value) & FCR_ENABLE;
    if (toggled || (value & FCR_ENABLE && value & FCR_CLEAR_RECEIVE))
        s->fifo_count = 0;
    s->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
    serial_refill(s);
}

// The modem lines after a change of MCR, and what changed about them.
static void serial_modem(struct serial *s)
{
    u8 lines = MSR_CONNECTED;
    if (serial_looped(s))
        lines = (u8)((s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0));
    u8 changed = lines ^ (s->msr & (u8)~MSR_DELTAS);
    u8 deltas =
        (u8)((changed & MSR_CTS ? MSR_DELTA_CTS : 0) | (changed & MSR_DSR ? MSR_DELTA_DSR : 0) |
             (changed & MSR_DCD ? MSR_DELTA_DCD : 0) |
             (changed & MSR_RI && !(lines & MSR_RI) ? MSR_RI_FELL : 0));
    s->msr = lines | deltas | (s->msr & MSR_DELTAS);
}

static u8 serial_read_iir(struct serial *s)
{
    u8 interrupt = serial_interrupt(s);
    if (interrupt == IIR_THRE)
        s->thre_pending = false;
    return s->fcr & FCR_ENABLE ? interrupt | IIR_FIFO : interrupt;
}

static u8 serial_read_lsr(struct serial *s)
{
    u8 value = s->lsr | LSR_THRE | LSR_TEMT | (s->fifo_count ? LSR_DATA : 0);
    if (s->lsr & LSR_BREAK && s->fcr & FCR_ENABLE)
        value |= LSR_FIFO;
    s->lsr = 0;
    s->lsr_seen = true;
    return value;
}

static u8 serial_read_msr(struct serial *s)
{
    u8 value = s->msr;
    s->msr &= (u8)~MSR_DELTAS;
    return value;
}

static u8 serial_read_register(struct serial *s, unsigned reg)
{
    bool divisor = s->lcr & LCR_DLAB;
    switch ((enum serial_register)reg) {
    case SERIAL_DATA:
        return divisor ? (u8)s->divisor : serial_read_data(s);
    case SERIAL_IER:
        return divisor ? (u8)(s->divisor >> 8) : s->ier;
    case SERIAL_IIR_FCR:
        return serial_read_iir(s);
    case SERIAL_LCR:
        return s->lcr;
    case SERIAL_MCR:
        return s->mcr;
    case SERIAL_LSR:
        return serial_read_lsr(s);
    case SERIAL_MSR:
        return serial_read_msr(s);
    case SERIAL_SCR:
        return s->scr;
    }
    return (u8)~0;
}

static void serial_write_ier(struct serial *s, u8 value)
{
    if (value & IER_THRE && !(s->ier & IER_THRE)) // it is empty: enabling tells so
        s->thre_pending = true;
    s->ier = value & IER_MASK;
}

static void serial_write_register(struct serial *s, unsigned reg, u8 value)
{
    bool divisor = s->lcr & LCR_DLAB;
    switch ((enum serial_register)reg) {
    case SERIAL_DATA:
        if (divisor)
            s->divisor = (u16)(s->divisor >> 8 << 8 | value);
        else
            serial_write_data(s, value);
        break;
    case SERIAL_IER:
        if (divisor)
            s->divisor = (u16)(value << 8 | (u8)s->divisor);
        else
            serial_write_ier(s, value);
        break;
    case SERIAL_IIR_FCR:
        serial_write_fcr(s, value);
        break;
    case SERIAL_LCR:
        s->lcr = value;
        serial_break(s);
        break;
    case SERIAL_MCR:
        s->mcr = value & MCR_MASK;
        serial_break(s);
        serial_modem(s);
        serial_refill(s);
        break;
    case SERIAL_SCR:
        s->scr = value;
        break;
    case SERIAL_LSR: // read-only
    case SERIAL_MSR:
        break;
    }
}

static u8 serial_read_byte(struct io_device *device, unsigned reg)
{
    struct serial *s = container_of(device, struct serial, ports);
    u8 value = serial_read_register(s, reg);
    serial_update(s);
    return value;
}

static void serial_write_byte(struct io_device *device, unsigned reg, u8 value)
{
    struct serial *s = container_of(device, struct serial, ports);
    serial_write_register(s, reg, value);
    serial_update(s);
}

static u64 serial_read(struct io_device *device, u64 offset, unsigned size)
{
    return io_bytes_read(device, offset, size, serial_read_byte);
}

static void serial_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    io_bytes_write(device, offset, size, value, serial_write_byte);
}

static const struct io_device_ops serial_ops = {"serial", serial_read, serial_write};

unsigned serial_input(struct serial *s, const u8 *bytes, unsigned n)
{
    unsigned taken = 0;
    while (taken < n && s->backlog_written - s->backlog_read < SERIAL_BACKLOG)
        s->backlog[s->backlog_written++ % SERIAL_BACKLOG] = bytes[taken++];
    serial_refill(s);
    serial_update(s);
    return taken;
}

void serial_init(struct serial *s, struct irq_line irq,
                 void (*output)(void *context, const u8 *bytes, unsigned n), void *context)
{
    *s = (struct serial){.ports = {&serial_ops}, .irq = irq, .output = output, .context = context};
    serial_reset(s);
}

void serial_reset(struct serial *s)
{
    s->ier = s->fcr = s->lcr = s->mcr = s->lsr = s->scr = 0;
    s->msr = MSR_CONNECTED;
    s->divisor = DIVISOR_DEFAULT;
    s->thre_pending = s->lsr_seen = s->breaking = false;
    s->fifo_first = s->fifo_count = 0;
    s->backlog_read = s->backlog_written = 0;
    serial_update(s);
}
