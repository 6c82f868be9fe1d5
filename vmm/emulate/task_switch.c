// SPDX-License-Identifier: MIT
// The steps of SDM volume 3, "Task Switching", in its order. Up to the commit nothing has changed
// and a fault belongs to the old task; after it, to the new one. The CPU has made the privilege
// checks; what it read from memory is read and checked again, since it may have changed.
#include "vmm/emulate/task_switch.h"
#include "vmm/emulate/task.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/string.h"

enum task_source { TASK_CALL, TASK_IRET, TASK_JMP, TASK_GATE };

#define TSS_LINK     0
#define TSS_CR3      0x1c // of the 32-bit form, as is the next
#define TSS_TRAP     0x64
#define TSS_TRAP_T   BIT(0)
#define TSS_SIZE_MAX 104
#define DR7_LOCAL    0x155ull // L0 to L3, LE

// Between EIP and the LDT's selector both forms hold the same fields, each `width` bytes wide; the
// 16-bit form has no FS and GS. SDM: "Task-State Segment (TSS)", "16-Bit Task-State Segment".
enum tss_field { TSS_IP, TSS_FLAGS, TSS_GPRS, TSS_SEGMENTS = TSS_GPRS + 8 };
static const struct tss_form {
    u8 size, state, width, segments;
} tss_forms[] = {{44, 0x0e, 2, 4}, {TSS_SIZE_MAX, 0x20, 4, 6}};

static const struct tss_form *form_of(const struct segment *tss)
{
    return &tss_forms[!!(tss->access & TSS_32)];
}

bool task_fault(struct task *task, u8 vector, u16 selector)
{
    exit_fault_error(task->exit, vector, (selector & ~SELECTOR_RPL) | task->external);
    return false;
}

// Tables may lie in a device, too, or in flash.
static bool map_piece(struct task *task, gva_t gva, u64 size, unsigned access,
                      struct emulation_operand *m)
{
    u32 error;
    m->size = m->first = (unsigned)MIN(size, PAGE_SIZE - (gva & PAGE_MASK));
    m->device_read = m->device_write = false;
    return guest_paging_walk(&task->paging, gva, access | GUEST_WALK_SYSTEM, &m->gpa[0], &error) ||
           emulation_page_fault(task->exit, gva, error);
}

bool task_read(struct task *task, gva_t gva, void *to, u64 size)
{
    struct emulation e = {.vcpu = task->vcpu};
    struct emulation_operand m;
    for (u64 done = 0; done < size; done += m.size) {
        if (!map_piece(task, gva + done, size - done, PAGE_READ, &m))
            return false;
        emulation_read_bytes(&e, &m, (u8 *)to + done);
    }
    return true;
}

bool task_write(struct task *task, gva_t gva, const void *from, u64 size)
{
    struct emulation e = {.vcpu = task->vcpu};
    struct emulation_operand m;
    for (u64 done = 0; done < size; done += m.size) {
        if (!map_piece(task, gva + done, size - done, PAGE_WRITE, &m))
            return false;
        emulation_write_bytes(&e, &m, (const u8 *)from + done);
    }
    return true;
}

void task_paging(struct task *task)
{
    guest_paging_read(task->vcpu, &task->paging);
    task->paging.user = false;
}

static bool is_nesting(const struct task *task)
{
    return task->exit->task.source == TASK_CALL || task->exit->task.source == TASK_GATE;
}

static bool is_software(const struct vcpu_event *event)
{
    return event->type >= EVENT_SOFT_INTERRUPT;
}

static struct vcpu_event *gate_event(const struct task *task)
{
    struct vcpu_event *event = &task->vcpu->event;
    return task->exit->task.source == TASK_GATE && event->valid ? event : NULL;
}

// --- before the commit ---

static bool new_task_find(struct task *task)
{
    bool back = task->exit->task.source == TASK_IRET;
    u16 selector = task->exit->task.selector;
    u8 wrong = back ? VECTOR_TS : VECTOR_GP;
    u32 wanted = back ? TSS_AVAILABLE | TSS_BUSY : TSS_AVAILABLE;
    if ((selector & SELECTOR_TI) || !(selector & ~SELECTOR_RPL))
        return task_fault(task, wrong, selector);
    if (!task_descriptor_read(task, selector, wrong, &task->to))
        return false;
    if ((task->to.access & ACCESS_TYPE_MASK & ~TSS_32) != wanted)
        return task_fault(task, wrong, selector);
    if (!(task->to.access & ACCESS_PRESENT))
        return task_fault(task, VECTOR_NP, selector);
    return task->to.limit >= form_of(&task->to)->size - 1u || task_fault(task, VECTOR_TS, selector);
}

// At most two pages.
static bool reachable(struct task *task, const struct segment *tss, unsigned access)
{
    gpa_t gpa;
    u32 error;
    gva_t ends[] = {(u32)tss->base, (u32)(tss->base + form_of(tss)->size - 1)};
    for (unsigned i = 0; i < ARRAY_SIZE(ends); i++)
        if (!guest_paging_walk(&task->paging, ends[i], access | GUEST_WALK_SYSTEM, &gpa, &error))
            return emulation_page_fault(task->exit, ends[i], error);
    return true;
}

static bool both_usable(struct task *task)
{
    if (task->from.limit < form_of(&task->from)->size - 1u)
        return task_fault(task, VECTOR_TS, task->to.selector);
    return reachable(task, &task->from, PAGE_WRITE) &&
           reachable(task, &task->to, is_nesting(task) ? PAGE_WRITE : PAGE_READ);
}

static u64 return_address(const struct task *task)
{
    const struct vcpu_event *event = gate_event(task);
    u64 length = task->exit->length;
    if (task->exit->task.source == TASK_GATE)
        length = event && is_software(event) ? event->length : 0;
    return task->exit->rip + length;
}

static bool field_write(struct task *task, unsigned index, u64 value, unsigned size)
{
    const struct tss_form *form = form_of(&task->from);
    gva_t gva = (u32)(task->from.base + form->state + index * form->width);
    return task_write(task, gva, &value, size);
}

static bool old_task_save(struct task *task)
{
    struct vcpu *vcpu = task->vcpu;
    const struct tss_form *form = form_of(&task->from);
    u64 flags = vcpu_reg(vcpu, REG_RFLAGS);
    if (task->exit->task.source == TASK_IRET)
        flags &= ~RFLAGS_NT;
    if (!field_write(task, TSS_IP, return_address(task), form->width) ||
        !field_write(task, TSS_FLAGS, flags, form->width))
        return false;
    for (unsigned i = GPR_RAX; i <= GPR_RDI; i++)
        if (!field_write(task, TSS_GPRS + i, vcpu_gpr_read(vcpu, i), form->width))
            return false;
    for (unsigned i = 0; i < form->segments; i++) {
        struct segment s;
        vcpu->ops->segment_read(vcpu, (enum vcpu_segment)i, &s);
        if (!field_write(task, TSS_SEGMENTS + i, s.selector, sizeof(s.selector)))
            return false;
    }
    return true;
}

// Busy bits and the link back.
static bool tasks_mark(struct task *task)
{
    u16 from = task->from.selector, to = task->to.selector;
    if (!is_nesting(task) && !task_descriptor_mark(task, from, 0, TSS_BUSY))
        return false;
    if (is_nesting(task) && !task_write(task, task->to.base + TSS_LINK, &from, sizeof(from)))
        return false;
    return task->exit->task.source == TASK_IRET || task_descriptor_mark(task, to, TSS_BUSY, 0);
}

// --- the commit, and after it ---

static u64 blocking_after(const struct task *task)
{
    const struct vcpu_event *event = gate_event(task);
    if (task->exit->task.source == TASK_IRET)
        return 0;
    if (event && event->type == EVENT_NMI)
        return BLOCKED_NMI;
    return vcpu_reg(task->vcpu, REG_INTERRUPTIBILITY) & BLOCKED_NMI;
}

static u32 field(const struct task *task, const u8 *image, unsigned index)
{
    const struct tss_form *form = form_of(&task->to);
    u32 value = 0;
    memcpy(&value, image + form->state + index * form->width, form->width);
    return value;
}

static void registers_load(struct task *task, const u8 *image)
{
    struct vcpu *vcpu = task->vcpu;
    const struct cpu_ops *ops = vcpu->ops;
    u64 flags = field(task, image, TSS_FLAGS) | (is_nesting(task) ? RFLAGS_NT : 0);
    u64 cr0 = vcpu_reg(vcpu, REG_CR0);
    task->to.access |= TSS_BUSY;
    ops->segment_write(vcpu, SEG_TR, &task->to);
    ops->reg_write(vcpu, REG_INTERRUPTIBILITY, blocking_after(task));
    ops->reg_write(vcpu, REG_CR0, cr0 | CR0_TS);
    if ((task->to.access & TSS_32) && (cr0 & CR0_PG)) {
        u32 cr3;
        memcpy(&cr3, image + TSS_CR3, sizeof(cr3));
        ops->reg_write(vcpu, REG_CR3, cr3);
    }
    ops->reg_write(vcpu, REG_DR7, vcpu_reg(vcpu, REG_DR7) & ~DR7_LOCAL);
    ops->reg_write(vcpu, REG_RFLAGS, flags);
    ops->reg_write(vcpu, REG_RIP, field(task, image, TSS_IP));
    for (unsigned i = GPR_RAX; i <= GPR_RDI; i++)
        vcpu_gpr_write(vcpu, i, field(task, image, TSS_GPRS + i));
}

static bool new_segments_load(struct task *task, const u8 *image)
{
    const struct tss_form *form = form_of(&task->to);
    u16 selectors[SEG_GS + 1] = {0};
    for (unsigned i = 0; i < form->segments; i++)
        selectors[i] = (u16)field(task, image, TSS_SEGMENTS + i);
    u16 ldt = (u16)field(task, image, TSS_SEGMENTS + form->segments);
    task_paging(task); // CR3 is another
    return task_segments_load(task, ldt, selectors, vcpu_reg(task->vcpu, REG_RFLAGS) & RFLAGS_VM);
}

static bool starts_within_code(struct task *task)
{
    struct segment cs;
    task->vcpu->ops->segment_read(task->vcpu, SEG_CS, &cs);
    return vcpu_reg(task->vcpu, REG_RIP) <= cs.limit || task_fault(task, VECTOR_GP, 0);
}

// An exception's error code goes onto the new task's stack, as wide as its TSS is.
static bool error_code_push(struct task *task, u32 error)
{
    struct vcpu *vcpu = task->vcpu;
    struct emulation e = {.vcpu = vcpu, .exit = task->exit, .reported = EMULATION_NOWHERE};
    struct emulation_operand slot;
    struct segment ss;
    u64 rsp = vcpu_reg(vcpu, REG_RSP), width = form_of(&task->to)->width;
    vcpu->ops->segment_read(vcpu, SEG_SS, &ss);
    u64 mask = bytes_mask(ss.access & SEGMENT_DB ? sizeof(u32) : sizeof(u16));
    u64 top = (rsp - width) & mask;
    e.memos[0].page = e.memos[1].page = EMULATION_NOWHERE;
    guest_paging_begin(vcpu, &e.paging);
    if (!emulation_map(&e, SEG_SS, top, (unsigned)width, PAGE_WRITE, 0, &slot)) {
        if (task->exit->fault.vector == VECTOR_SS)
            task->exit->fault.error |= task->external;
        return false;
    }
    emulation_write(&e, &slot, error);
    vcpu->ops->reg_write(vcpu, REG_RSP, (rsp & ~mask) | top);
    return true;
}

// The event has been delivered, but for an exception whose handler cannot start: the fault then
// comes within its delivery.
static bool new_task_start(struct task *task, const u8 *image)
{
    struct vcpu_event event = {0}, *pending = gate_event(task);
    if (pending) {
        event = *pending;
        pending->valid = event.type == EVENT_EXCEPTION;
    }
    if (!new_segments_load(task, image) || !starts_within_code(task) ||
        (event.valid && event.has_error && !error_code_push(task, event.error)))
        return false;
    task->vcpu->event.valid = false;
    return true;
}

static bool traps(const struct task *task, const u8 *image)
{
    return (task->to.access & TSS_32) && (image[TSS_TRAP] & TSS_TRAP_T);
}

enum exit_action task_switch(struct vcpu *vcpu, struct vm_exit *exit)
{
    struct task task = {.vcpu = vcpu, .exit = exit, .invalid = VECTOR_TS};
    u8 image[TSS_SIZE_MAX] = {0};
    const struct vcpu_event *event = gate_event(&task);
    task.external = event && !is_software(event);
    task_paging(&task);
    vcpu->ops->segment_read(vcpu, SEG_TR, &task.from);
    if (!new_task_find(&task) || !both_usable(&task) || !old_task_save(&task) ||
        !tasks_mark(&task) || !task_read(&task, task.to.base, image, form_of(&task.to)->size))
        return ACTION_FAULT;
    registers_load(&task, image);
    if (!new_task_start(&task, image))
        return ACTION_FAULT;
    if (!traps(&task, image))
        return ACTION_RETRY;
    vcpu->ops->reg_write(vcpu, REG_DR6, vcpu_reg(vcpu, REG_DR6) | DR6_BT);
    return exit_fault(exit, VECTOR_DB);
}
