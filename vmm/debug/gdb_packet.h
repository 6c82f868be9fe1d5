// SPDX-License-Identifier: MIT
// GDB's remote protocol below its commands: packets with checksums out of a stream of bytes, and
// what commands are made of: hexadecimal numbers and bytes. Bounded whatever comes in. GDB manual,
// appendix "GDB Remote Serial Protocol", section "Overview".
#pragma once

#include "vmm/lib/types.h"

#define GDB_PACKET_MAX 1024 // characters between '$' and '#'

enum gdb_input {
    GDB_INPUT_NONE,      // not complete yet
    GDB_INPUT_PACKET,    // one is in `text`, `length`, checksum and all
    GDB_INPUT_DAMAGED,   // one came whose checksum is wrong, or that is too long
    GDB_INPUT_RESEND,    // '-': the last packet did not arrive
    GDB_INPUT_INTERRUPT, // Ctrl-C outside a packet
};

struct gdb_parser {
    enum { GDB_BETWEEN, GDB_TEXT, GDB_SUM_HIGH, GDB_SUM_LOW } state;
    u8 sum, sent_sum;
    bool bad;
    unsigned length;
    char text[GDB_PACKET_MAX + 1]; // terminated; binary data may hold zeros, too
};

enum gdb_input gdb_parse_byte(struct gdb_parser *parser, u8 byte);

// A command's arguments, from left to right.
struct gdb_scan {
    const char *at, *end;
};
// False: there is no number, or it has more than 64 bits.
MUST_CHECK bool gdb_scan_number(struct gdb_scan *scan, u64 *value);
MUST_CHECK bool gdb_scan_char(struct gdb_scan *scan, char c); // takes it, if it is the next
MUST_CHECK bool gdb_scan_range(struct gdb_scan *scan, u64 *gva, u64 *length); // "gva,length"
// size bytes: hexadecimal (two digits each), or binary (with '}' before those that are escaped).
MUST_CHECK bool gdb_scan_hex(struct gdb_scan *scan, u8 *to, unsigned size);
MUST_CHECK bool gdb_scan_binary(struct gdb_scan *scan, u8 *to, unsigned size);

// A packet to be sent: what does not fit is dropped.
struct gdb_reply {
    unsigned length;
    char text[GDB_PACKET_MAX];
};
void gdb_reply_text(struct gdb_reply *reply, const char *text);
void gdb_reply_hex(struct gdb_reply *reply, const void *bytes, unsigned size);
void gdb_reply_number(struct gdb_reply *reply, u64 value);
void gdb_reply_status(struct gdb_reply *reply, bool good); // "OK", or an error and nothing else
u8 gdb_checksum(const struct gdb_reply *reply);
extern const char gdb_digits[16];
