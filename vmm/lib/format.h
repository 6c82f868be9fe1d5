// SPDX-License-Identifier: MIT
// printf-like formatting into a buffer: %d %i %u %x %X %o %c %s %p %% with flags - 0 # + space,
// width and precision (also *), and the lengths hh h l ll z t. No floating point.
#pragma once

#include "vmm/lib/types.h"
#include <stdarg.h>

// As snprintf: writes at most size - 1 characters and a terminator; returns the length that the
// whole text has.
int format_text(char *to, size_t size, const char *format, ...) PRINTF(3, 4);
int format_text_v(char *to, size_t size, const char *format, va_list arguments);
