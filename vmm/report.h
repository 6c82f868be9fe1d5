// SPDX-License-Identifier: MIT
// What a guest that dies leaves behind, in the log.
#pragma once

struct vm;

// Why (vm->why), and of the vCPU in this CPU if it is the VM's: registers, the bytes at RIP
// decoded, the last exits, and for a refused entry the fields that are wrong.
void report_crash(struct vm *vm);
