// SPDX-License-Identifier: MIT
// The debug console of Bochs and QEMU: bytes written to its port are output; a read says that it is
// there. The same device may have several ports.
#pragma once

#include "io/device.h"

#define DEBUGCON_PORT       0xe9  // Bochs', and what a read gives
#define DEBUGCON_PORT_OTHER 0x402 // where firmware built for QEMU writes

struct debugcon {
    struct io_device port;
    void (*output)(void *context, const u8 *bytes, unsigned n);
    void *context;
};

void debugcon_init(struct debugcon *d, void (*output)(void *context, const u8 *bytes, unsigned n),
                   void *context);
