// SPDX-License-Identifier: MIT
// Figures of a test guest, as tests/emulated/exit_costs.py reads them.
#pragma once

#include "vmm/lib/types.h"

// Prints "bench: NAME MEDIAN MIN MAX". The samples are sorted by it.
void samples_report(const char *name, u32 *samples, unsigned count);
