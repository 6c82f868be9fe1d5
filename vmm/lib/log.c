// SPDX-License-Identifier: MIT
// The log: a ring of terminated lines in RAM, and a sink. Positions in the ring count bytes since
// boot, so a reader that was overtaken sees it. A line longer than LOG_LINE_MAX is cut.

#include "vmm/lib/log.h"
#include "vmm/lib/format.h"
#include "vmm/lib/spinlock.h"
#include "vmm/lib/string.h"
#include <stdarg.h>

#define LOG_RING     (64 * KIB)
#define LOG_LINE_MAX 256

static struct {
    struct spinlock lock;
    u64 oldest; // position of the first line kept
    u64 next;   // where the next line goes
    enum log_level threshold;
    void (*sink)(enum log_level level, const char *line);
    u64 (*clock)(void);
} log_state = {.threshold = LOG_INFO};
static char ring[LOG_RING]; // apart: it starts as zero and so is not in the image

static const char *const level_prefixes[] = {
    [LOG_ERROR] = "error: ", [LOG_WARN] = "warning: ", [LOG_INFO] = "", [LOG_DEBUG] = "debug: "};

static char *ring_at(u64 position)
{
    return &ring[position % LOG_RING];
}

static void ring_drop_oldest(void)
{
    while (*ring_at(log_state.oldest++))
        ;
}

// `size` includes the terminator.
static void ring_append(const char *line, size_t size)
{
    while (log_state.next + size - log_state.oldest > LOG_RING)
        ring_drop_oldest();
    for (size_t i = 0; i < size; i++)
        *ring_at(log_state.next++) = line[i];
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[LOG_LINE_MAX];
    u64 us = log_state.clock ? log_state.clock() : 0;
    int length =
        format_text(line, sizeof(line), "[%5llu.%06llu] %s", (unsigned long long)us / 1000000,
                    (unsigned long long)us % 1000000, level_prefixes[level]);
    va_list arguments;
    va_start(arguments, format);
    format_text_v(line + length, sizeof(line) - (size_t)length, format, arguments);
    va_end(arguments);

    spin_lock(&log_state.lock);
    ring_append(line, strlen(line) + 1);
    spin_unlock(&log_state.lock);
    if (log_state.sink && level <= log_state.threshold)
        log_state.sink(level, line);
}

void log_set_sink(void (*sink)(enum log_level level, const char *line))
{
    log_state.sink = sink;
}

void log_set_clock(u64 (*microseconds)(void))
{
    log_state.clock = microseconds;
}

void log_set_threshold(enum log_level level)
{
    log_state.threshold = level;
}

// Copy the line at *position, or the oldest one if that is gone, and step over it. False: no more
// lines before `end`.
static bool ring_read(u64 *position, u64 end, char line[LOG_LINE_MAX])
{
    spin_lock(&log_state.lock);
    *position = MAX(*position, log_state.oldest);
    bool found = *position < end;
    if (found)
        while ((*line++ = *ring_at((*position)++)))
            ;
    spin_unlock(&log_state.lock);
    return found;
}

void log_for_each(void (*visit)(void *context, const char *text), void *context)
{
    char line[LOG_LINE_MAX];
    u64 position = 0, end = __atomic_load_n(&log_state.next, __ATOMIC_ACQUIRE);
    while (ring_read(&position, end, line))
        visit(context, line);
}
