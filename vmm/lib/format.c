// SPDX-License-Identifier: MIT
// printf-like formatting, as C17 section 7.21.6.1 has it, without floating point, %n and wide
// characters. A conversion that is not known is shown as it stands.

#include "vmm/lib/format.h"
#include "vmm/lib/string.h"

// Where the text goes; `length` counts on past the end of the room.
struct output {
    char *to;
    size_t size, length;
};

struct conversion {
    bool minus, zero, alternate, plus, space;
    int width;
    int precision; // -1: none given
    int length;    // bytes of an integer argument
    char type;
};

static void put(struct output *o, char c)
{
    if (o->length + 1 < o->size)
        o->to[o->length] = c;
    o->length++;
}

static void put_many(struct output *o, char c, int count)
{
    for (; count > 0; count--)
        put(o, c);
}

static void put_text(struct output *o, const char *text, int length)
{
    for (int i = 0; i < length; i++)
        put(o, text[i]);
}

// prefix, zeros, text: padded to the width.
static void put_field(struct output *o, const struct conversion *c, const char *prefix, int zeros,
                      const char *text, int length)
{
    int prefix_length = (int)strlen(prefix);
    int blanks = c->width - prefix_length - zeros - length;
    if (!c->minus)
        put_many(o, ' ', blanks);
    put_text(o, prefix, prefix_length);
    put_many(o, '0', zeros);
    put_text(o, text, length);
    if (c->minus)
        put_many(o, ' ', blanks);
}

static unsigned type_base(char type)
{
    return type == 'o' ? 8 : type == 'x' || type == 'X' || type == 'p' ? 16 : 10;
}

// Digits of n, ending at `end`; returns where they begin. 0 has none here.
static char *digits_before(char *end, u64 n, unsigned base, bool upper)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    for (; n; n /= base)
        *--end = digits[n % base];
    return end;
}

static const char *number_prefix(const struct conversion *c, bool negative, u64 magnitude)
{
    if (c->type == 'p' || (c->alternate && magnitude && c->type == 'x'))
        return "0x";
    if (c->alternate && magnitude && c->type == 'X')
        return "0X";
    if (c->type != 'd' && c->type != 'i')
        return "";
    return negative ? "-" : c->plus ? "+" : c->space ? " " : "";
}

static void put_number(struct output *o, const struct conversion *c, bool negative, u64 magnitude)
{
    char buffer[24]; // 64 bits in octal are 22 digits
    char *end = buffer + sizeof(buffer);
    char *first = digits_before(end, magnitude, type_base(c->type), c->type == 'X');
    int length = (int)(end - first);
    const char *prefix = number_prefix(c, negative, magnitude);
    int zeros = (c->precision < 0 ? 1 : c->precision) - length;
    if (c->precision < 0 && c->zero && !c->minus)
        zeros = MAX(zeros, c->width - (int)strlen(prefix) - length);
    if (c->type == 'o' && c->alternate)
        zeros = MAX(zeros, 1);
    put_field(o, c, prefix, MAX(zeros, 0), first, length);
}

// --- arguments ---

// A va_list as a member, so that a pointer to it can be handed on.
struct arguments {
    va_list list;
};

static s64 take_signed(struct arguments *a, int length)
{
    switch (length) {
    case 1:
        return (s8)va_arg(a->list, int);
    case 2:
        return (s16)va_arg(a->list, int);
    case 4:
        return va_arg(a->list, s32);
    default:
        return va_arg(a->list, s64);
    }
}

static u64 take_unsigned(struct arguments *a, int length)
{
    switch (length) {
    case 1:
        return (u8)va_arg(a->list, unsigned);
    case 2:
        return (u16)va_arg(a->list, unsigned);
    case 4:
        return va_arg(a->list, u32);
    default:
        return va_arg(a->list, u64);
    }
}

static void convert_string(struct output *o, const struct conversion *c, const char *text)
{
    if (!text)
        text = "(null)";
    int length = 0;
    while ((c->precision < 0 || length < c->precision) && text[length])
        length++;
    put_field(o, c, "", 0, text, length);
}

static void convert_signed(struct output *o, const struct conversion *c, struct arguments *a)
{
    s64 n = take_signed(a, c->length);
    put_number(o, c, n < 0, n < 0 ? 0 - (u64)n : (u64)n);
}

// False: no such conversion.
static bool convert(struct output *o, const struct conversion *c, struct arguments *a)
{
    char character;
    switch (c->type) {
    case 'd':
    case 'i':
        convert_signed(o, c, a);
        return true;
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        put_number(o, c, false, take_unsigned(a, c->length));
        return true;
    case 'p':
        put_number(o, c, false, (u64)va_arg(a->list, void *));
        return true;
    case 'c':
        character = (char)va_arg(a->list, int);
        put_field(o, c, "", 0, &character, 1);
        return true;
    case 's':
        convert_string(o, c, va_arg(a->list, const char *));
        return true;
    case '%':
        put(o, '%');
        return true;
    default:
        return false;
    }
}

// --- the parts between % and the type ---

static const char *scan_flags(struct conversion *c, const char *p)
{
    for (;; p++) {
        switch (*p) {
        case '-':
            c->minus = true;
            break;
        case '0':
            c->zero = true;
            break;
        case '#':
            c->alternate = true;
            break;
        case '+':
            c->plus = true;
            break;
        case ' ':
            c->space = true;
            break;
        default:
            return p;
        }
    }
}

// A width or a precision: digits or *. What is past this is cut, so that sums cannot overflow.
#define FIELD_MAX 4096

static const char *scan_field(const char *p, struct arguments *a, int *value)
{
    if (*p == '*') {
        int n = va_arg(a->list, int);
        *value = MAX(MIN(n, FIELD_MAX), -FIELD_MAX);
        return p + 1;
    }
    *value = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        *value = MIN(*value * 10 + (*p - '0'), FIELD_MAX);
    return p;
}

static const char *scan_length(struct conversion *c, const char *p)
{
    c->length = sizeof(int);
    switch (*p) {
    case 'h':
        c->length = p[1] == 'h' ? 1 : 2;
        return p + (p[1] == 'h' ? 2 : 1);
    case 'l':
        c->length = 8;
        return p + (p[1] == 'l' ? 2 : 1);
    case 'z':
    case 't':
        c->length = 8;
        return p + 1;
    default:
        return p;
    }
}

// p is behind the %; returns what is behind the conversion.
static const char *format_one(struct output *o, const char *p, struct arguments *a)
{
    struct conversion c = {.precision = -1};
    const char *start = p;
    p = scan_flags(&c, p);
    p = scan_field(p, a, &c.width);
    if (c.width < 0) {
        c.minus = true;
        c.width = -c.width;
    }
    if (*p == '.')
        p = scan_field(p + 1, a, &c.precision);
    p = scan_length(&c, p);
    c.type = *p;
    if (c.type && convert(o, &c, a))
        return p + 1;
    put(o, '%');
    return start;
}

int format_text_v(char *to, size_t size, const char *format, va_list list)
{
    struct output o = {to, size, 0};
    struct arguments a;
    va_copy(a.list, list);
    for (const char *p = format; *p;) {
        if (*p == '%') {
            p = format_one(&o, p + 1, &a);
            continue;
        }
        put(&o, *p++);
    }
    va_end(a.list);
    if (size)
        to[MIN(o.length, size - 1)] = 0;
    return (int)o.length;
}

int format_text(char *to, size_t size, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int length = format_text_v(to, size, format, list);
    va_end(list);
    return length;
}
