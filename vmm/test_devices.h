// SPDX-License-Identifier: MIT
// The devices that a VM has only if its configuration lists them: what test programs expect.
#pragma once

#include "io/device.h"

struct vm;
struct test_devices;

// *out stays null if none is configured. ERR_NO_MEMORY, ERR_EXISTS. `lines` moves the machine's
// lines; after an error the buses may hold devices, and test_devices_destroy() still has to come.
MUST_CHECK int test_devices_create(struct vm *vm, struct irq_line lines, struct test_devices **out);
void test_devices_destroy(struct test_devices *t); // null is harmless
void test_devices_reset(struct test_devices *t);
