// SPDX-License-Identifier: MIT
// "Did you mean": the nearest of some known words to one that was mistyped, by the count of
// inserted, dropped, changed and swapped letters.
#pragma once

#include "vmm/lib/types.h"

struct suggestion {
    const char *word;
    const char *best; // null: nothing is near enough
    unsigned distance;
};

void suggest_start(struct suggestion *suggestion, const char *word);
void suggest_offer(struct suggestion *suggestion, const char *candidate);
