// SPDX-License-Identifier: MIT
// Hardware task switches, which VT-x leaves to software: CALL, JMP and IRET to a TSS or through a
// task gate, and events through a task gate. SDM volume 3, "Task Management".
#pragma once

#include "vmm/exit.h"

// EXIT_TASK_SWITCH. Takes vcpu->event in, if it came through a task gate.
enum exit_action task_switch(struct vcpu *vcpu, struct vm_exit *exit);
