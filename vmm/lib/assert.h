// SPDX-License-Identifier: MIT
// What to do when one of our own invariants broke. A guest's or a user's mistake never comes here.
#pragma once

#include "vmm/lib/types.h"

// Print the reason, registers, a backtrace and the VMs' states on every console, then stop the
// machine. A panic within a panic goes on with the next stage. The host's unit tests supply their
// own.
NORETURN void panic(const char *format, ...) PRINTF(1, 2);

#define assert(condition)                                                                          \
    do {                                                                                           \
        if (unlikely(!(condition)))                                                                \
            panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #condition);                  \
    } while (0)

#define assert_static(condition) _Static_assert(condition, #condition)
