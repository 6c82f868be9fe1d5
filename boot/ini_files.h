// SPDX-License-Identifier: MIT
// Which files a plinth.ini names. Pure text: the core checks what the lines mean, the loader only
// fetches.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "boot/boot_info.h"

struct ini_scan {
    const char *next, *end;
};

enum ini_found {
    INI_END,      // no further name
    INI_FILE,     // a name
    INI_TOO_LONG, // a name that does not fit; `name` holds its beginning
};

// The text need not be terminated and may hold anything.
void ini_scan_start(struct ini_scan *scan, const char *text, size_t size);

// The next file name: a value that begins with a backslash, or what follows its last colon if that
// does.
enum ini_found ini_scan_next(struct ini_scan *scan, char name[BOOT_NAME_MAX]);
