// SPDX-License-Identifier: MIT
// Guest virtual (linear) to guest physical addresses, through the guest's own page tables, as the
// CPU's paging unit does it: every paging mode, permissions, accessed and dirty bits (Intel SDM
// volume 3, chapter "Paging"). There is no cache in between: each walk reads the tables. Protection
// keys are not offered to guests.
#pragma once

#include "arch/x86_64/page_table.h"
#include "vmm/vm.h"

// With an access of enum page_access: the CPU's own access to a descriptor table or TSS, supervisor
// at any CPL.
#define GUEST_WALK_SYSTEM BIT(8)

#define GUEST_WALK_LEVELS 5

// The registers that decide how addresses are translated; good for as long as the guest does not
// run.
struct guest_paging {
    struct vcpu *vcpu;
    bool code64;   // 64-bit mode: EFER.LMA and CS.L
    u8 code_bits;  // default operand size of the code segment: 16, 32, 64
    bool complete; // what follows is there as well
    u8 levels;     // 0 paging is off, 2 32-bit, 3 PAE, 4, 5
    bool user;     // CPL 3
    u16 selector;  // of CS
    u64 code_base; // of CS; 0 in 64-bit mode
    u64 cr0, cr4, efer;
    u64 root;     // CR3's address
    u64 reserved; // bits of any entry
};

// Where a translation came from: as long as the entries hold the same, it is the same.
struct guest_path {
    void *entries[GUEST_WALK_LEVELS]; // host addresses: good as long as guest_memory.generation
    u64 values[GUEST_WALK_LEVELS];
    unsigned count;
};

struct guest_page_fault {
    gva_t gva;
    u32 error; // the #PF error code
};

// The mode only: code64, code_bits, code_base. Then the rest, if it is needed.
void guest_paging_begin(struct vcpu *vcpu, struct guest_paging *paging);
void guest_paging_complete(struct guest_paging *paging);
// Both.
void guest_paging_read(struct vcpu *vcpu, struct guest_paging *paging);
// Translate; sets accessed and dirty bits. access: PAGE_READ, PAGE_WRITE, PAGE_EXECUTE. False: a
// #PF with this error code.
MUST_CHECK bool guest_paging_walk(const struct guest_paging *paging, gva_t gva, unsigned access,
                                  gpa_t *gpa, u32 *error);
// The entries that translate an address now, without a look at permissions; 4- and 5-level paging
// only.
MUST_CHECK bool guest_paging_path(const struct guest_paging *paging, gva_t gva,
                                  struct guest_path *path);
static inline bool guest_path_holds(const struct guest_path *path)
{
    for (unsigned i = 0; i < path->count; i++)
        if (*(volatile const u64 *)path->entries[i] != path->values[i])
            return false;
    return true;
}
// As guest_paging_walk, for a single translation.
MUST_CHECK bool guest_walk(struct vcpu *vcpu, gva_t gva, unsigned access, gpa_t *gpa, u32 *error);
// For reports: present or not, whatever the permissions; changes nothing in the guest.
MUST_CHECK bool guest_walk_peek(struct vcpu *vcpu, gva_t gva, gpa_t *gpa, u32 *error);
// A canonical address for this mode of paging?
bool guest_canonical(const struct guest_paging *paging, gva_t gva);

// RAM at a guest physical address (for reading also ROM); *length as guest_memory_hva. Null: a
// device, a hole, or ROM.
void *guest_ram(struct vcpu *vcpu, gpa_t gpa, unsigned access, u64 *length);
// Copy from or to guest virtual memory, across pages. What is not RAM (ROM) reads as all ones and
// drops writes. False: a #PF; what came before it is done.
MUST_CHECK bool guest_read_virtual(const struct guest_paging *paging, gva_t gva, void *to, u64 size,
                                   struct guest_page_fault *fault);
MUST_CHECK bool guest_write_virtual(const struct guest_paging *paging, gva_t gva, const void *from,
                                    u64 size, struct guest_page_fault *fault);
