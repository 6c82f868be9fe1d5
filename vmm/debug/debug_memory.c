// SPDX-License-Identifier: MIT
// A guest's memory as its debugger sees it, and breakpoints in it: INT3 in place of an
// instruction's first byte. They are kept by guest physical address, so they do not show under any
// of their linear ones, and stop whoever comes along.
#include "vmm/debug/debug.h"
#include "vmm/emulate/guest_walk.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"

#define INT3 0xcc

struct breakpoint {
    bool set;
    u8 saved; // what the guest has there
    gpa_t gpa;
    gva_t gva; // as it was set
};

static struct breakpoint breakpoints[DEBUG_BREAKPOINTS];

static struct breakpoint *find(gpa_t gpa)
{
    for (unsigned i = 0; i < DEBUG_BREAKPOINTS; i++)
        if (breakpoints[i].set && breakpoints[i].gpa == gpa)
            return &breakpoints[i];
    return NULL;
}

static u8 *guest_byte(gpa_t gpa)
{
    u64 one = 1;
    return guest_memory_hva(&debug.vm->memory, gpa, &one);
}

// The part of a range that lies on one page: its host address, and how long it is. Null: no memory.
static u8 *memory_piece(struct vcpu *vcpu, gva_t gva, u64 *length, gpa_t *gpa)
{
    u32 error;
    *length = MIN(*length, PAGE_SIZE - (gva & PAGE_MASK));
    if (!guest_walk_peek(vcpu, gva, gpa, &error))
        return NULL;
    u64 contiguous = *length;
    u8 *hva = guest_memory_hva(&vcpu->vm->memory, *gpa, &contiguous);
    *length = MIN(*length, contiguous);
    return hva;
}

unsigned debug_read(struct vcpu *vcpu, gva_t gva, u8 *to, unsigned size)
{
    unsigned done = 0;
    while (done < size) {
        u64 length = size - done;
        gpa_t gpa;
        const u8 *hva = memory_piece(vcpu, gva + done, &length, &gpa);
        if (!hva)
            break;
        memcpy(to + done, hva, length);
        for (unsigned i = 0; i < DEBUG_BREAKPOINTS; i++)
            if (breakpoints[i].set && breakpoints[i].gpa - gpa < length)
                to[done + (breakpoints[i].gpa - gpa)] = breakpoints[i].saved;
        done += (unsigned)length;
    }
    return done;
}

unsigned debug_write(struct vcpu *vcpu, gva_t gva, const u8 *from, unsigned size)
{
    unsigned done = 0;
    while (done < size) {
        u64 length = size - done;
        gpa_t gpa;
        u8 *hva = memory_piece(vcpu, gva + done, &length, &gpa);
        if (!hva)
            break;
        for (u64 i = 0; i < length; i++) {
            struct breakpoint *b = find(gpa + i);
            *(b ? &b->saved : hva + i) = from[done + i];
        }
        done += (unsigned)length;
    }
    return done;
}

// --- breakpoints ---

static void breakpoint_remove(struct breakpoint *b)
{
    u8 *byte = guest_byte(b->gpa);
    if (byte && *byte == INT3) // else the guest has put something else there
        *byte = b->saved;
    b->set = false;
}

int debug_breakpoint_set(struct vcpu *vcpu, gva_t gva)
{
    u64 one = 1;
    gpa_t gpa;
    u8 *byte = memory_piece(vcpu, gva, &one, &gpa);
    if (!byte)
        return ERR_FAULT;
    if (find(gpa))
        return OK;
    for (unsigned i = 0; i < DEBUG_BREAKPOINTS; i++) {
        if (breakpoints[i].set)
            continue;
        breakpoints[i] = (struct breakpoint){.set = true, .saved = *byte, .gpa = gpa, .gva = gva};
        *byte = INT3;
        return OK;
    }
    return ERR_RANGE;
}

// The guest may have other page tables now than when it was set.
static struct breakpoint *find_linear(struct vcpu *vcpu, gva_t gva)
{
    u32 error;
    gpa_t gpa;
    struct breakpoint *b = guest_walk_peek(vcpu, gva, &gpa, &error) ? find(gpa) : NULL;
    for (unsigned i = 0; i < DEBUG_BREAKPOINTS && !b; i++)
        if (breakpoints[i].set && breakpoints[i].gva == gva)
            b = &breakpoints[i];
    return b;
}

int debug_breakpoint_clear(struct vcpu *vcpu, gva_t gva)
{
    struct breakpoint *b = find_linear(vcpu, gva);
    if (!b)
        return ERR_FAULT;
    breakpoint_remove(b);
    return OK;
}

bool debug_breakpoint_at(struct vcpu *vcpu, gva_t gva)
{
    u32 error;
    gpa_t gpa;
    return guest_walk_peek(vcpu, gva, &gpa, &error) && find(gpa);
}

void debug_breakpoints_clear(bool restore)
{
    for (unsigned i = 0; i < DEBUG_BREAKPOINTS; i++) {
        if (breakpoints[i].set && restore)
            breakpoint_remove(&breakpoints[i]);
        breakpoints[i].set = false;
    }
}
