// SPDX-License-Identifier: MIT
// The vector registers of the guest whose state is in this CPU.
#pragma once

#include "vmm/lib/types.h"

#define VECTOR_BYTES_MAX 32

// How it is moved, which says what a load does to the bits above: SSE leaves them, VEX clears them.
enum vector_form { VECTOR_SSE, VECTOR_VEX_128, VECTOR_VEX_256, VECTOR_MMX };

// 16 bytes; 32 with VECTOR_VEX_256; 8 with VECTOR_MMX, number 0 to 7. VEX: only if the guest has
// just used it here, for its XCR0. MMX: only if it does not fault (x87_faults).
void vector_read(unsigned number, void *to, enum vector_form form);
void vector_write(unsigned number, const void *from, enum vector_form form);
