// SPDX-License-Identifier: MIT
// Control sequences by ECMA-48 "Control Functions for Coded Character Sets", taken out whole: ESC
// with intermediate bytes, CSI, and the strings that DCS, SOS, OSC, PM and APC open; each also by
// its C1 code, alone or in UTF-8. What is not ASCII is shown as one '?' a character: which bytes
// are a terminal's C1 codes depends on its encoding, which nobody knows here. A newline ends
// whatever was begun, so that one stray byte does not hide the rest of a log.

#include "vmm/console/text_filter.h"

#define CODE_BEL 0x07 // xterm's end of an OSC string
#define CODE_CAN 0x18
#define CODE_SUB 0x1a
#define CODE_ESC 0x1b
#define CODE_DEL 0x7f

#define C1_FIRST  0x80
#define C1_LAST   0x9f
#define C1_LETTER 0x40 // C1_FIRST is what ESC and this mean

#define UTF8_TAIL_LAST 0xbf
#define UTF8_LEAD_C1   0xc2
#define UTF8_LEAD_3    0xe0
#define UTF8_LEAD_4    0xf0

#define ESCAPE_LAST_BYTE   '0' // from here on
#define SEQUENCE_LAST_BYTE '@'

// What the letter after ESC begins.
static enum text_state state_after(u8 letter)
{
    switch (letter) {
    case '[': // CSI
        return TEXT_SEQUENCE;
    case 'P': // DCS
    case 'X': // SOS
    case ']': // OSC
    case '^': // PM
    case '_': // APC
        return TEXT_STRING;
    default:
        return letter < ESCAPE_LAST_BYTE ? TEXT_INTERMEDIATE : TEXT_SHOWN;
    }
}

static char filter_control(struct text_filter *f, u8 c)
{
    bool ends_string = c == CODE_BEL && f->state == TEXT_STRING;
    if (c == CODE_ESC)
        f->state = TEXT_ESCAPE;
    else if (c == '\n' || c == CODE_CAN || c == CODE_SUB || ends_string)
        f->state = TEXT_SHOWN;
    return c == '\n' || (c == '\t' && f->state == TEXT_SHOWN) ? (char)c : 0;
}

static char filter_printable(struct text_filter *f, u8 c)
{
    switch (f->state) {
    case TEXT_SHOWN:
        return (char)c;
    case TEXT_ESCAPE:
        f->state = state_after(c);
        break;
    case TEXT_INTERMEDIATE:
        f->state = c < ESCAPE_LAST_BYTE ? TEXT_INTERMEDIATE : TEXT_SHOWN;
        break;
    case TEXT_SEQUENCE:
        f->state = c < SEQUENCE_LAST_BYTE ? TEXT_SEQUENCE : TEXT_SHOWN;
        break;
    case TEXT_STRING:
        break;
    }
    return 0;
}

// A character, or a C1 code, once its last byte is there.
static char filter_high(struct text_filter *f, u8 c, u8 tail)
{
    if (c > UTF8_TAIL_LAST) {
        f->lead = c;
        f->tail = c >= UTF8_LEAD_4 ? 3 : c >= UTF8_LEAD_3 ? 2 : 1;
        return 0;
    }
    if (c <= C1_LAST && (tail == 0 || f->lead == UTF8_LEAD_C1)) {
        f->state = state_after((u8)(c - C1_FIRST + C1_LETTER));
        return 0;
    }
    f->tail = tail ? tail - 1 : 0;
    return f->state == TEXT_SHOWN && f->tail == 0 ? '?' : 0;
}

char text_filter(struct text_filter *f, u8 c)
{
    u8 tail = f->tail;
    f->tail = 0;
    if (c >= C1_FIRST)
        return filter_high(f, c, tail);
    return c < ' ' || c == CODE_DEL ? filter_control(f, c) : filter_printable(f, c);
}
