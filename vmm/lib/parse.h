// SPDX-License-Identifier: MIT
// Numbers as people write them in configuration and commands.
#pragma once

#include "vmm/lib/types.h"

// Decimal or 0x-hexadecimal; the whole text must be the number. False on anything else or overflow.
MUST_CHECK bool parse_number(const char *text, u64 *value);
// As parse_number with an optional suffix K, M, G or T (powers of 1024, either case). In bytes.
MUST_CHECK bool parse_size(const char *text, u64 *bytes);
