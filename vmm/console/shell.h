// SPDX-License-Identifier: MIT
// The user's console: a thread that reads lines and runs the commands of vmm/console/commands.h.
#pragma once

void shell_thread(void *unused);
