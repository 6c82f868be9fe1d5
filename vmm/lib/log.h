// SPDX-License-Identifier: MIT
// The log: every line has a level and a time, is kept in RAM (a ring of 64 KiB; `dmesg` shows it)
// and is handed to the sink (the consoles) if its level is at or above the threshold. Callable from
// any CPU and at any time; lines are whole.
#pragma once

#include "vmm/lib/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_line(enum log_level level, const char *format, ...) PRINTF(2, 3);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

// Where whole lines (without a newline) go besides the RAM ring; null for nowhere.
void log_set_sink(void (*sink)(enum log_level level, const char *line));
// Where a line's time comes from, in microseconds since boot; until set, lines carry 0.
void log_set_clock(u64 (*microseconds)(void));
void log_set_threshold(enum log_level level);
// Call `line` for every line kept, oldest first. Lines that are logged meanwhile may be left out.
void log_for_each(void (*line)(void *context, const char *text), void *context);
