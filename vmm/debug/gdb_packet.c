// SPDX-License-Identifier: MIT
// Packets of GDB's remote protocol: $text#checksum, the checksum being the sum of the text's bytes
// as two hexadecimal digits.
#include "vmm/debug/gdb_packet.h"

#define INTERRUPT   0x03
#define ESCAPE      '}'
#define ESCAPE_FLIP 0x20
#define DIGIT_BITS  4

const char gdb_digits[16] = "0123456789abcdef";

// -1: none.
static int digit_value(u8 c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// --- input ---

static enum gdb_input between(struct gdb_parser *p, u8 byte)
{
    if (byte == '$') {
        p->state = GDB_TEXT;
        p->length = 0;
        p->sum = 0;
        p->bad = false;
    }
    if (byte == INTERRUPT)
        return GDB_INPUT_INTERRUPT;
    return byte == '-' ? GDB_INPUT_RESEND : GDB_INPUT_NONE;
}

static void text_byte(struct gdb_parser *p, u8 byte)
{
    p->sum = (u8)(p->sum + byte);
    if (p->length < GDB_PACKET_MAX)
        p->text[p->length++] = (char)byte;
    else
        p->bad = true;
}

static void sum_digit(struct gdb_parser *p, u8 byte)
{
    int value = digit_value(byte);
    p->bad |= value < 0;
    p->sent_sum = (u8)(p->sent_sum << DIGIT_BITS | (value & 0xf));
}

static enum gdb_input packet_end(struct gdb_parser *p)
{
    p->state = GDB_BETWEEN;
    p->text[p->length] = '\0';
    return p->bad || p->sum != p->sent_sum ? GDB_INPUT_DAMAGED : GDB_INPUT_PACKET;
}

enum gdb_input gdb_parse_byte(struct gdb_parser *p, u8 byte)
{
    // No text holds a bare one: the rest of the packet before was lost.
    if (byte == '$' || p->state == GDB_BETWEEN) {
        p->state = GDB_BETWEEN;
        return between(p, byte);
    }
    if (p->state == GDB_TEXT) {
        if (byte == '#')
            p->state = GDB_SUM_HIGH;
        else
            text_byte(p, byte);
        return GDB_INPUT_NONE;
    }
    sum_digit(p, byte);
    if (p->state == GDB_SUM_LOW)
        return packet_end(p);
    p->state = GDB_SUM_LOW;
    return GDB_INPUT_NONE;
}

// --- arguments ---

static int scan_digit(struct gdb_scan *scan)
{
    int value = scan->at < scan->end ? digit_value((u8)*scan->at) : -1;
    scan->at += value >= 0;
    return value;
}

bool gdb_scan_number(struct gdb_scan *scan, u64 *value)
{
    unsigned digits = 0;
    *value = 0;
    for (int digit; (digit = scan_digit(scan)) >= 0; digits++) {
        if (*value >> (64 - DIGIT_BITS))
            return false;
        *value = *value << DIGIT_BITS | (unsigned)digit;
    }
    return digits;
}

bool gdb_scan_char(struct gdb_scan *scan, char c)
{
    bool is = scan->at < scan->end && *scan->at == c;
    scan->at += is;
    return is;
}

bool gdb_scan_hex(struct gdb_scan *scan, u8 *to, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        int high = scan_digit(scan), low = scan_digit(scan);
        if (high < 0 || low < 0)
            return false;
        to[i] = (u8)(high << DIGIT_BITS | low);
    }
    return true;
}

bool gdb_scan_binary(struct gdb_scan *scan, u8 *to, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        u8 flip = gdb_scan_char(scan, ESCAPE) ? ESCAPE_FLIP : 0;
        if (scan->at == scan->end)
            return false;
        to[i] = (u8)*scan->at++ ^ flip;
    }
    return true;
}

bool gdb_scan_range(struct gdb_scan *scan, u64 *gva, u64 *length)
{
    return gdb_scan_number(scan, gva) && gdb_scan_char(scan, ',') && gdb_scan_number(scan, length);
}

// --- output ---

static void reply_char(struct gdb_reply *reply, char c)
{
    if (reply->length < sizeof(reply->text))
        reply->text[reply->length++] = c;
}

void gdb_reply_text(struct gdb_reply *reply, const char *text)
{
    while (*text)
        reply_char(reply, *text++);
}

void gdb_reply_status(struct gdb_reply *reply, bool good)
{
    reply->length = 0;
    gdb_reply_text(reply, good ? "OK" : "E01");
}

void gdb_reply_hex(struct gdb_reply *reply, const void *bytes, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        u8 byte = ((const u8 *)bytes)[i];
        reply_char(reply, gdb_digits[byte >> DIGIT_BITS]);
        reply_char(reply, gdb_digits[byte % 16]);
    }
}

void gdb_reply_number(struct gdb_reply *reply, u64 value)
{
    unsigned shift = 64;
    do
        shift -= DIGIT_BITS;
    while (shift && !(value >> shift));
    for (;; shift -= DIGIT_BITS) {
        reply_char(reply, gdb_digits[value >> shift & 0xf]);
        if (!shift)
            break;
    }
}

u8 gdb_checksum(const struct gdb_reply *reply)
{
    u8 sum = 0;
    for (unsigned i = 0; i < reply->length; i++)
        sum = (u8)(sum + (u8)reply->text[i]);
    return sum;
}
