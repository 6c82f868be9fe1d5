// SPDX-License-Identifier: MIT
// What is left of a guest's output when only text may come through: it was written for a terminal,
// by somebody who is not to have this one.
#pragma once

#include "vmm/lib/types.h"

enum text_state {
    TEXT_SHOWN,
    TEXT_ESCAPE,       // after ESC,
    TEXT_INTERMEDIATE, // and after bytes between it and its last one
    TEXT_SEQUENCE,     // after CSI
    TEXT_STRING,       // after OSC and its like
};

// All zeros to begin with.
struct text_filter {
    enum text_state state;
    u8 lead, tail; // of a character in UTF-8: its first byte, and how many are to come
};

// What to show for the next byte: printable ASCII, a newline, a tab; 0: nothing.
char text_filter(struct text_filter *filter, u8 byte);
