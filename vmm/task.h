// SPDX-License-Identifier: MIT
// Private to vmm/task_*.c: one task switch on its way. A function that returns false has put the
// fault into task->exit. SDM volume 3, "Segment Descriptors", "Segment Selectors".
#pragma once

#include "vmm/emulation.h"

// In struct segment's access.
#define ACCESS_TYPE_MASK 0x1fu // the type, and S
#define ACCESS_PRESENT   BIT(7)
#define ACCESS_ACCESSED  BIT(0)

#define SELECTOR_RPL 3u
#define SELECTOR_TI  4u

struct task {
    struct vcpu *vcpu;
    struct vm_exit *exit;
    struct guest_paging paging; // for the CPU's own accesses: supervisor
    struct segment from, to;    // the two TSSs
    u32 external;               // EXT of error codes
};

bool task_fault(struct task *task, u8 vector, u16 selector);
MUST_CHECK bool task_read(struct task *task, gva_t gva, void *to, u64 size);
MUST_CHECK bool task_write(struct task *task, gva_t gva, const void *from, u64 size);
// The descriptor's linear address; false, without a fault: it is outside of its table.
MUST_CHECK bool task_descriptor(struct task *task, u16 selector, gva_t *gva);
// Read it; `vector` if it is outside of its table.
MUST_CHECK bool task_descriptor_read(struct task *task, u16 selector, u8 vector,
                                     struct segment *segment);
// Set or clear bits of its first access byte.
MUST_CHECK bool task_descriptor_mark(struct task *task, u16 selector, u8 set, u8 clear);

// The new task's LDTR and segment registers, `selectors` in the order of enum vcpu_segment. After a
// fault those that are left hold their selectors and can be used for nothing.
MUST_CHECK bool task_segments_load(struct task *task, u16 ldt, const u16 *selectors, bool v86);
