// SPDX-License-Identifier: MIT
// Descriptors, and the segment registers of a new task, one after the other, with the checks and
// error codes of SDM volume 3, "Exception Conditions Checked During a Task Switch".
#include "vmm/emulate/task.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/bits.h"

#define DESCRIPTOR_ACCESS  0xf0ffu // what of its second word is in struct segment
#define DESCRIPTOR_BYTE    5       // type, S, DPL, P
#define LIMIT_GRANULE      12
#define ACCESS_GRANULARITY BIT(15)
#define ACCESS_V86         0xf3u
#define ACCESS_CODE_EMPTY  (0x9bu | (u32)SEGMENT_DB)
#define LIMIT_V86          0xffffu
#define V86_BASE_SHIFT     4

bool task_descriptor(struct task *task, u16 selector, gva_t *gva)
{
    bool local = selector & SELECTOR_TI;
    struct segment table;
    task->vcpu->ops->segment_read(task->vcpu, local ? SEG_LDTR : SEG_GDTR, &table);
    if ((local && (table.access & SEGMENT_UNUSABLE)) ||
        (selector | (TASK_DESCRIPTOR_SIZE - 1u)) > table.limit)
        return false;
    *gva = table.base + (selector & ~(TASK_DESCRIPTOR_SIZE - 1u));
    if (!(task->paging.efer & EFER_LMA))
        *gva = (u32)*gva;
    return true;
}

bool task_descriptor_read(struct task *task, u16 selector, u8 vector, struct segment *segment)
{
    u64 raw;
    gva_t gva;
    if (!task_descriptor(task, selector, &gva))
        return task_fault(task, vector, selector);
    if (!task_read(task, gva, &raw, sizeof(raw)))
        return false;
    u64 limit = bits_get(raw, 0, 16) | bits_get(raw, 48, 4) << 16;
    u32 access = (u32)bits_get(raw, 40, 16) & DESCRIPTOR_ACCESS;
    if (access & ACCESS_GRANULARITY)
        limit = limit << LIMIT_GRANULE | (BIT(LIMIT_GRANULE) - 1);
    *segment = (struct segment){.selector = selector,
                                .access = access,
                                .limit = (u32)limit,
                                .base = bits_get(raw, 16, 24) | bits_get(raw, 56, 8) << 24};
    return true;
}

bool task_descriptor_mark(struct task *task, u16 selector, u8 set, u8 clear)
{
    u8 byte;
    gva_t gva;
    if (!task_descriptor(task, selector, &gva))
        return true; // the guest moved its table meanwhile: there is nothing to mark
    gva += DESCRIPTOR_BYTE;
    if (!task_read(task, gva, &byte, sizeof(byte)))
        return false;
    byte = (u8)((byte | set) & ~clear);
    return task_write(task, gva, &byte, sizeof(byte));
}

static void set(struct task *task, enum vcpu_segment which, const struct segment *s)
{
    task->vcpu->ops->segment_write(task->vcpu, which, s);
}

bool task_segment_use(struct task *task, enum vcpu_segment which, const struct segment *s)
{
    struct segment loaded = *s;
    if (!(s->access & ACCESS_ACCESSED) &&
        !task_descriptor_mark(task, s->selector, ACCESS_ACCESSED, 0))
        return false;
    loaded.access |= ACCESS_ACCESSED; // also in the register: the CPU insists on it
    set(task, which, &loaded);
    return true;
}

static bool load_ldt(struct task *task, u16 selector)
{
    struct segment s = {.selector = selector, .access = SEGMENT_UNUSABLE};
    set(task, SEG_LDTR, &s);
    if (task_is_null(selector))
        return true;
    if (selector & SELECTOR_TI)
        return task_fault(task, task->invalid, selector);
    if (!task_descriptor_read(task, selector, task->invalid, &s))
        return false;
    if ((s.access & ACCESS_TYPE_MASK) != ACCESS_LDT || !(s.access & ACCESS_PRESENT))
        return task_fault(task, task->invalid, selector);
    set(task, SEG_LDTR, &s);
    return true;
}

static bool load_code(struct task *task, u16 selector)
{
    struct segment s;
    unsigned rpl = selector & SELECTOR_RPL;
    if (task_is_null(selector))
        return task_fault(task, task->invalid, selector);
    if (!task_descriptor_read(task, selector, task->invalid, &s))
        return false;
    bool conforming = s.access & ACCESS_CONFORMING;
    if (!(s.access & ACCESS_S) || !(s.access & ACCESS_CODE) ||
        (conforming ? task_dpl(&s) > rpl : task_dpl(&s) != rpl))
        return task_fault(task, task->invalid, selector);
    if (!(s.access & ACCESS_PRESENT))
        return task_fault(task, VECTOR_NP, selector);
    return task_segment_use(task, SEG_CS, &s);
}

bool task_load_stack(struct task *task, u16 selector, unsigned cpl)
{
    struct segment s;
    if (task_is_null(selector))
        return task_fault(task, task->invalid, selector);
    if (!task_descriptor_read(task, selector, task->invalid, &s))
        return false;
    if (!(s.access & ACCESS_S) || (s.access & ACCESS_CODE) || !(s.access & ACCESS_RW) ||
        task_dpl(&s) != cpl || (selector & SELECTOR_RPL) != cpl)
        return task_fault(task, task->invalid, selector);
    if (!(s.access & ACCESS_PRESENT))
        return task_fault(task, VECTOR_SS, selector);
    return task_segment_use(task, SEG_SS, &s);
}

bool task_load_data(struct task *task, enum vcpu_segment which, u16 selector, unsigned cpl)
{
    struct segment s;
    if (task_is_null(selector))
        return true;
    if (!task_descriptor_read(task, selector, task->invalid, &s))
        return false;
    bool code = s.access & ACCESS_CODE;
    bool any_level = code && (s.access & ACCESS_CONFORMING);
    if (!(s.access & ACCESS_S) || (code && !(s.access & ACCESS_RW)) ||
        (!any_level && task_dpl(&s) < MAX(cpl, selector & SELECTOR_RPL)))
        return task_fault(task, task->invalid, selector);
    if (!(s.access & ACCESS_PRESENT))
        return task_fault(task, VECTOR_NP, selector);
    return task_segment_use(task, which, &s);
}

// What the registers hold until their descriptors are there: a fault meanwhile is delivered in the
// new task, at its privilege level, from a state that the CPU accepts.
static void set_empty(struct task *task, const u16 *selectors)
{
    u32 level = (selectors[SEG_CS] & SELECTOR_RPL) << ACCESS_DPL_SHIFT;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        struct segment s = {.selector = selectors[i],
                            .access =
                                level | (i == SEG_CS ? ACCESS_CODE_EMPTY : (u32)SEGMENT_UNUSABLE)};
        set(task, (enum vcpu_segment)i, &s);
    }
}

static void set_v86(struct task *task, const u16 *selectors)
{
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        struct segment s = {.selector = selectors[i],
                            .access = ACCESS_V86,
                            .limit = LIMIT_V86,
                            .base = (u64)selectors[i] << V86_BASE_SHIFT};
        set(task, (enum vcpu_segment)i, &s);
    }
}

bool task_segments_load(struct task *task, u16 ldt, const u16 *selectors, bool v86)
{
    static const u8 data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    unsigned cpl = selectors[SEG_CS] & SELECTOR_RPL;
    if (v86)
        set_v86(task, selectors);
    else
        set_empty(task, selectors);
    if (!load_ldt(task, ldt))
        return false;
    if (v86)
        return true;
    if (!load_code(task, selectors[SEG_CS]) || !task_load_stack(task, selectors[SEG_SS], cpl))
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
        if (!task_load_data(task, (enum vcpu_segment)data[i], selectors[data[i]], cpl))
            return false;
    return true;
}
