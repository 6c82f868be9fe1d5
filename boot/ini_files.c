// SPDX-License-Identifier: MIT
// The scan of plinth.ini for file names. Unknown keys, sections and nonsense are passed over: the
// core reports them with their line, and it does so better with the files at hand.

#include "boot/ini_files.h"

struct span {
    const char *begin, *end;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct span span_trim(struct span s)
{
    while (s.begin < s.end && is_blank(*s.begin))
        s.begin++;
    while (s.begin < s.end && is_blank(s.end[-1]))
        s.end--;
    return s;
}

// Up to `mark`, or all of it.
static struct span span_until(struct span s, char mark)
{
    for (const char *p = s.begin; p < s.end; p++)
        if (*p == mark)
            return (struct span){s.begin, p};
    return s;
}

// A comment starts at the line's start or after a blank: \a;b is a name.
static struct span without_comment(struct span s)
{
    for (const char *p = s.begin; p < s.end; p++)
        if ((*p == ';' || *p == '#') && (p == s.begin || is_blank(p[-1])))
            return (struct span){s.begin, p};
    return s;
}

static struct span span_after_last(struct span s, char mark)
{
    for (const char *p = s.end; p > s.begin; p--)
        if (p[-1] == mark)
            return (struct span){p, s.end};
    return s;
}

static struct span take_line(struct ini_scan *scan)
{
    struct span line = span_until((struct span){scan->next, scan->end}, '\n');
    scan->next = line.end < scan->end ? line.end + 1 : scan->end;
    return line;
}

static bool span_is(struct span s, const char *word)
{
    while (s.begin < s.end && *word && *s.begin == *word) {
        s.begin++;
        word++;
    }
    return s.begin == s.end && !*word;
}

static struct span first_word(struct span s)
{
    for (const char *p = s.begin; p < s.end; p++)
        if (is_blank(*p))
            return (struct span){s.begin, p};
    return s;
}

// Of the one key that has more than a path behind it, the path.
static struct span value_of(struct span line)
{
    line = without_comment(line);
    struct span key = span_until(line, '=');
    if (key.end == line.end)
        return (struct span){line.end, line.end};
    struct span value = span_trim((struct span){key.end + 1, line.end});
    return span_is(span_trim(key), "module") ? first_word(value) : value;
}

static enum ini_found copy_name(struct span s, char name[BOOT_NAME_MAX])
{
    size_t length = 0;
    while (s.begin < s.end && length < BOOT_NAME_MAX - 1)
        name[length++] = *s.begin++;
    name[length] = '\0';
    return s.begin < s.end ? INI_TOO_LONG : INI_FILE;
}

void ini_scan_start(struct ini_scan *scan, const char *text, size_t size)
{
    scan->next = text;
    scan->end = text + size;
}

enum ini_found ini_scan_next(struct ini_scan *scan, char name[BOOT_NAME_MAX])
{
    while (scan->next < scan->end) {
        struct span value = value_of(take_line(scan));
        if (value.begin < value.end && *value.begin != '\\')
            value = span_after_last(value, ':');
        if (value.begin < value.end && *value.begin == '\\')
            return copy_name(value, name);
    }
    return INI_END;
}
