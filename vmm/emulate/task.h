// SPDX-License-Identifier: MIT
// Private to vmm/task_*.c and vmm/emulate/emulate_system.c: one task switch on its way, or a load
// of a segment register. A function that returns false has put the fault into task->exit. SDM
// volume 3, "Segment Descriptors", "Segment Selectors".
#pragma once

#include "vmm/emulate/emulation.h"

// In struct segment's access.
#define ACCESS_TYPE_MASK  0x1fu // the type, and S
#define ACCESS_PRESENT    BIT(7)
#define ACCESS_S          BIT(4)
#define ACCESS_CODE       BIT(3)
#define ACCESS_CONFORMING BIT(2) // of code
#define ACCESS_RW         BIT(1) // code: readable; data: writable
#define ACCESS_ACCESSED   BIT(0)
#define ACCESS_DPL_SHIFT  5
#define ACCESS_LDT        0x2u
#define TSS_AVAILABLE     0x1u // of ACCESS_TYPE_MASK, without TSS_32
#define TSS_BUSY          0x2u
#define TSS_32            0x8u

#define TASK_DESCRIPTOR_SIZE 8u

#define SELECTOR_RPL 3u
#define SELECTOR_TI  4u

struct task {
    struct vcpu *vcpu;
    struct vm_exit *exit;
    struct guest_paging paging; // for the CPU's own accesses: supervisor
    struct segment from, to;    // the two TSSs
    u32 external;               // EXT of error codes
    u8 invalid;                 // vector for a selector or descriptor that is wrong
};

static inline unsigned task_dpl(const struct segment *s)
{
    return (unsigned)((s->access & SEGMENT_DPL) >> ACCESS_DPL_SHIFT);
}

static inline bool task_is_null(u16 selector)
{
    return !(selector & ~SELECTOR_RPL);
}

bool task_fault(struct task *task, u8 vector, u16 selector);
// Ready for accesses to descriptors and task segments, with the registers as they are.
void task_paging(struct task *task);
MUST_CHECK bool task_read(struct task *task, gva_t gva, void *to, u64 size);
MUST_CHECK bool task_write(struct task *task, gva_t gva, const void *from, u64 size);
// The descriptor's linear address; false, without a fault: it is outside of its table.
MUST_CHECK bool task_descriptor(struct task *task, u16 selector, gva_t *gva);
// Read it; `vector` if it is outside of its table.
MUST_CHECK bool task_descriptor_read(struct task *task, u16 selector, u8 vector,
                                     struct segment *segment);
// Set or clear bits of its first access byte.
MUST_CHECK bool task_descriptor_mark(struct task *task, u16 selector, u8 set, u8 clear);

// A descriptor that passed its checks goes into the register, and is marked accessed.
MUST_CHECK bool task_segment_use(struct task *task, enum vcpu_segment which,
                                 const struct segment *s);
// Load SS, or ES, DS, FS, GS, at privilege level `cpl`; a null selector is refused, or nothing
// done.
MUST_CHECK bool task_load_stack(struct task *task, u16 selector, unsigned cpl);
MUST_CHECK bool task_load_data(struct task *task, enum vcpu_segment which, u16 selector,
                               unsigned cpl);

// The new task's LDTR and segment registers, `selectors` in the order of enum vcpu_segment. After a
// fault those that are left hold their selectors and can be used for nothing.
MUST_CHECK bool task_segments_load(struct task *task, u16 ldt, const u16 *selectors, bool v86);
