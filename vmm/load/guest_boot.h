// SPDX-License-Identifier: MIT
// Fills a stopped VM's memory with what its configuration names, and sets its first vCPU to the
// entry point.
#pragma once

struct vm;

// An error code and one line in `why` (CONFIG_ERROR_MAX).
int guest_boot(struct vm *vm, char *why);
