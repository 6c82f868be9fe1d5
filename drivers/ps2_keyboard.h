// SPDX-License-Identifier: MIT
// A PS/2 keyboard behind the i8042: scan code set 1 (the controller translates), US layout. Keys
// become the bytes that a terminal would send, arrows and the like as ANSI sequences.
#pragma once

#include "vmm/lib/types.h"

#define PS2_KEYBOARD_IRQ 1
#define PS2_SEQUENCE_MAX 4 // bytes of the longest key

struct ps2_decoder {
    bool shift, control, caps_lock;
    bool extended;       // the last code was E0
    unsigned pause_left; // codes of the Pause key still to come
};

// One scan code; returns how many bytes it makes (0 to PS2_SEQUENCE_MAX).
unsigned ps2_decode(struct ps2_decoder *decoder, u8 code, char bytes[PS2_SEQUENCE_MAX]);

// Find the controller, switch on the keyboard and its interrupt. False: none, or it does not answer
// (bounded).
bool ps2_keyboard_init(void (*received)(u8 byte));
// Hand over what has been typed. Called from the interrupt.
void ps2_keyboard_receive(void);
