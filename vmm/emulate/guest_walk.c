// SPDX-License-Identifier: MIT
// The walk. While going down it gathers the AND and the OR of all entries: permissions and the
// accessed bits are then one test each, and entries are written only if a bit is missing.
#include "vmm/emulate/guest_walk.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/string.h"

// SDM volume 3, "Hierarchical Paging Structures: an Overview": the entries of all modes share
// these.
#define PTE_PRESENT      BIT(0)
#define PTE_WRITABLE     BIT(1)
#define PTE_USER         BIT(2)
#define PTE_ACCESSED     BIT(5)
#define PTE_DIRTY        BIT(6)
#define PTE_LARGE        BIT(7)
#define PTE_NO_EXECUTE   BIT(63)
#define PTE_ADDRESS      0x000ffffffffff000ull
#define PTE_PAE_HIGH     0x7ff0000000000000ull // reserved in PAE paging
#define PDE_2M_OFFSETS   0x00000000001fe000ull // reserved in a leaf of 2 MiB
#define PDPTE_1G_OFFSETS 0x000000003fffe000ull

// 32-bit paging with 4 MiB pages (PSE-36): bits 39:32 of the address are in bits 20:13.
#define PDE32_ADDRESS        0xffc00000ull
#define PDE32_HIGH_SHIFT     13
#define PDE32_HIGH_MASK      0xffull
#define PDE32_RESERVED       BIT(21)
#define CR3_ADDRESS_32       0xfffff000ull
#define TABLE_INDEX_BITS     9
#define TABLE32_INDEX_BITS   10
#define PDPT_REGISTERS_SHIFT 30
#define WALK_ATTEMPTS        8
#define SEGMENT_DPL_SHIFT    5
#define SEGMENT_DPL_MASK     3
#define CPL_USER             3

struct walk {
    u64 all, any; // AND and OR of the entries that were used
    u64 leaf;     // the last of them
    gpa_t gpa;
    struct guest_path *path; // to be noted down, if not null
};

enum walk_result { WALK_OK, WALK_NOT_PRESENT, WALK_RESERVED };

// An entry never crosses a page, so it is contiguous. Null: no RAM.
static inline void *entry_hva(const struct guest_paging *p, gpa_t at)
{
    u64 length = sizeof(u64);
    return guest_memory_hva(&p->vcpu->vm->memory, at, &length);
}

static inline void walk_note(struct walk *w, void *entry, u64 value)
{
    w->all &= value;
    w->any |= value;
    w->leaf = value;
    if (unlikely(w->path != NULL)) {
        w->path->entries[w->path->count] = entry;
        w->path->values[w->path->count++] = value;
    }
}

// Reserved in an entry with PTE_LARGE, by level.
static const u64 large_reserved[GUEST_WALK_LEVELS + 1] = {
    [2] = PDE_2M_OFFSETS, [3] = PDPTE_1G_OFFSETS, [4] = PTE_LARGE, [5] = PTE_LARGE};

// From `level` downwards, entries of 8 bytes.
static enum walk_result walk_wide(const struct guest_paging *p, struct walk *w, gva_t gva,
                                  u64 table, unsigned level)
{
    for (;; level--) {
        unsigned shift = PAGE_SHIFT + (level - 1) * TABLE_INDEX_BITS;
        u64 index = bits_get(gva, shift, TABLE_INDEX_BITS);
        u64 *entry = entry_hva(p, table + index * sizeof(u64));
        if (unlikely(!entry))
            return WALK_RESERVED; // a hole reads as all ones
        u64 value = __atomic_load_n(entry, __ATOMIC_RELAXED);
        if (!(value & PTE_PRESENT))
            return WALK_NOT_PRESENT;
        if (unlikely(value & p->reserved))
            return WALK_RESERVED;
        walk_note(w, entry, value);
        table = value & PTE_ADDRESS;
        bool large = level > 1 && (value & PTE_LARGE);
        if (unlikely(large && (value & large_reserved[level])))
            return WALK_RESERVED;
        if (level == 1 || large) {
            w->gpa = (table & ~(BIT(shift) - 1)) | (gva & (BIT(shift) - 1));
            return WALK_OK;
        }
    }
}

// PAE: the top level is four registers, loaded when CR3 was; they have neither permissions nor
// accessed bits.
static enum walk_result walk_pae(const struct guest_paging *p, struct walk *w, gva_t gva)
{
    unsigned index = (unsigned)bits_get(gva, PDPT_REGISTERS_SHIFT, 2);
    u64 pdpte = vcpu_reg(p->vcpu, (enum vcpu_reg)(REG_PDPTE0 + index));
    if (!(pdpte & PTE_PRESENT))
        return WALK_NOT_PRESENT;
    return walk_wide(p, w, gva, pdpte & PTE_ADDRESS, 2);
}

static enum walk_result walk_32(const struct guest_paging *p, struct walk *w, gva_t gva)
{
    u64 table = p->root & CR3_ADDRESS_32;
    for (unsigned level = 2;; level--) {
        unsigned shift = PAGE_SHIFT + (level - 1) * TABLE32_INDEX_BITS;
        u64 index = bits_get(gva, shift, TABLE32_INDEX_BITS);
        u32 *entry = entry_hva(p, table + index * sizeof(u32));
        if (!entry)
            return WALK_RESERVED;
        u64 value = __atomic_load_n(entry, __ATOMIC_RELAXED);
        if (!(value & PTE_PRESENT))
            return WALK_NOT_PRESENT;
        walk_note(w, entry, value);
        if (level == 2 && (value & PTE_LARGE) && (p->cr4 & CR4_PSE)) {
            u64 high = (value >> PDE32_HIGH_SHIFT) & PDE32_HIGH_MASK;
            w->gpa = (value & PDE32_ADDRESS) | high << 32 | (gva & (BIT(shift) - 1));
            bool bad = (value & PDE32_RESERVED) || (w->gpa & p->vcpu->gpa_reserved);
            return bad ? WALK_RESERVED : WALK_OK;
        }
        table = value & CR3_ADDRESS_32;
        if (level == 1) {
            w->gpa = table | (gva & PAGE_MASK);
            return WALK_OK;
        }
    }
}

static enum walk_result walk_tables(const struct guest_paging *p, struct walk *w, gva_t gva,
                                    struct guest_path *path)
{
    *w = (struct walk){.all = ~0ull, .path = path};
    if (path)
        path->count = 0;
    if (likely(p->levels > 3))
        return walk_wide(p, w, gva, p->root & PTE_ADDRESS, p->levels);
    return p->levels == 3 ? walk_pae(p, w, gva) : walk_32(p, w, gva);
}

// SDM volume 3, "Determination of Access Rights".
static bool walk_allowed(const struct guest_paging *p, const struct walk *w, unsigned access)
{
    bool user = p->user && !(access & GUEST_WALK_SYSTEM);
    bool user_page = w->all & PTE_USER;
    if (user && !user_page)
        return false;
    if ((access & PAGE_WRITE) && !(w->all & PTE_WRITABLE) && (user || (p->cr0 & CR0_WP)))
        return false;
    if (access & PAGE_EXECUTE)
        return !(w->any & PTE_NO_EXECUTE) && (user || !user_page || !(p->cr4 & CR4_SMEP));
    if (likely(user || !user_page || !(p->cr4 & CR4_SMAP)))
        return true;
    return !(access & GUEST_WALK_SYSTEM) && (vcpu_reg(p->vcpu, REG_RFLAGS) & RFLAGS_AC);
}

static u32 error_code(const struct guest_paging *p, unsigned access, enum walk_result result,
                      bool present)
{
    u64 error = present ? PF_PRESENT : 0;
    if (result == WALK_RESERVED)
        error |= PF_RESERVED;
    if (access & PAGE_WRITE)
        error |= PF_WRITE;
    if (p->user && !(access & GUEST_WALK_SYSTEM))
        error |= PF_USER;
    bool no_execute = (p->efer & EFER_NXE) && p->levels > 2;
    if ((access & PAGE_EXECUTE) && (no_execute || (p->cr4 & CR4_SMEP)))
        error |= PF_FETCH;
    return (u32)error;
}

// False: the entry is no longer what was walked.
static bool entry_set(const struct guest_paging *p, void *entry, u64 value, u64 bits)
{
    if ((value & bits) == bits)
        return true;
    if (p->levels == 2) {
        u32 old = (u32)value;
        return __atomic_compare_exchange_n((u32 *)entry, &old, old | (u32)bits, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    return __atomic_compare_exchange_n((u64 *)entry, &value, value | bits, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

static bool path_mark(const struct guest_paging *p, const struct guest_path *path, bool write)
{
    for (unsigned i = 0; i < path->count; i++) {
        u64 bits = PTE_ACCESSED | (write && i == path->count - 1 ? PTE_DIRTY : 0);
        if (!entry_set(p, path->entries[i], path->values[i], bits))
            return false;
    }
    return true;
}

static bool marked(const struct walk *w, bool write)
{
    return (w->all & PTE_ACCESSED) && (!write || (w->leaf & PTE_DIRTY));
}

bool guest_canonical(const struct guest_paging *p, gva_t gva)
{
    if (!p->code64)
        return gva >> 32 == 0;
    unsigned unused = 64u - (PAGE_SHIFT + p->levels * (unsigned)TABLE_INDEX_BITS);
    return (u64)((s64)(gva << unused) >> unused) == gva;
}

static bool walk_checked(const struct guest_paging *p, struct walk *w, gva_t gva, unsigned access,
                         struct guest_path *path, u32 *error)
{
    enum walk_result result = walk_tables(p, w, gva, path);
    if (likely(result == WALK_OK && walk_allowed(p, w, access)))
        return true;
    *error = error_code(p, access, result, result != WALK_NOT_PRESENT);
    return false;
}

// Another of the guest's CPUs may change the tables meanwhile: then look again, but not for ever.
static COLD bool walk_and_mark(const struct guest_paging *p, struct walk *w, gva_t gva,
                               unsigned access, u32 *error)
{
    struct guest_path path;
    for (unsigned i = 0; i < WALK_ATTEMPTS; i++) {
        if (!walk_checked(p, w, gva, access, &path, error))
            return false;
        if (path_mark(p, &path, access & PAGE_WRITE))
            break;
    }
    return true;
}

bool guest_paging_walk(const struct guest_paging *p, gva_t gva, unsigned access, gpa_t *gpa,
                       u32 *error)
{
    struct walk w;
    if (p->levels == 0) {
        *gpa = gva & (u32)~0u;
        return true;
    }
    if (unlikely(!walk_checked(p, &w, gva, access, NULL, error)))
        return false;
    if (unlikely(!marked(&w, access & PAGE_WRITE)) && !walk_and_mark(p, &w, gva, access, error))
        return false;
    *gpa = w.gpa;
    return true;
}

bool guest_paging_path(const struct guest_paging *p, gva_t gva, struct guest_path *path)
{
    struct walk w;
    return p->levels > 3 && walk_tables(p, &w, gva, path) == WALK_OK;
}

static unsigned paging_levels(u64 cr0, u64 cr4, u64 efer)
{
    if (!(cr0 & CR0_PG))
        return 0;
    if (efer & EFER_LMA)
        return cr4 & CR4_LA57 ? 5 : 4;
    return cr4 & CR4_PAE ? 3 : 2;
}

// CPL is SS's DPL. In 64-bit mode CS's RPL is the same and already at hand; elsewhere, real-mode
// selectors are in the way.
static bool cpl_is_user(const struct guest_paging *p)
{
    if (likely(p->code64))
        return (p->selector & SEGMENT_DPL_MASK) == CPL_USER;
    struct segment ss;
    p->vcpu->ops->segment_read(p->vcpu, SEG_SS, &ss);
    return ((ss.access >> SEGMENT_DPL_SHIFT) & SEGMENT_DPL_MASK) == CPL_USER;
}

void guest_paging_begin(struct vcpu *vcpu, struct guest_paging *p)
{
    struct segment cs;
    vcpu->ops->segment_read(vcpu, SEG_CS, &cs);
    p->vcpu = vcpu;
    p->complete = false;
    p->efer = vcpu_reg(vcpu, REG_EFER);
    p->selector = cs.selector;
    p->code64 = (p->efer & EFER_LMA) && (cs.access & SEGMENT_L);
    p->code_bits = p->code64 ? 64 : cs.access & SEGMENT_DB ? 32 : 16;
    p->code_base = p->code64 ? 0 : cs.base;
}

void guest_paging_complete(struct guest_paging *p)
{
    struct vcpu *vcpu = p->vcpu;
    if (p->complete)
        return;
    p->complete = true;
    p->cr0 = vcpu_reg(vcpu, REG_CR0);
    p->cr4 = vcpu_reg(vcpu, REG_CR4);
    p->levels = (u8)paging_levels(p->cr0, p->cr4, p->efer);
    p->root = p->levels ? vcpu_reg(vcpu, REG_CR3) : 0;
    p->reserved = vcpu->gpa_reserved;
    if (!(p->efer & EFER_NXE))
        p->reserved |= PTE_NO_EXECUTE;
    if (p->levels == 3)
        p->reserved |= PTE_PAE_HIGH;
    p->user = cpl_is_user(p);
}

void guest_paging_read(struct vcpu *vcpu, struct guest_paging *p)
{
    guest_paging_begin(vcpu, p);
    guest_paging_complete(p);
}

bool guest_walk(struct vcpu *vcpu, gva_t gva, unsigned access, gpa_t *gpa, u32 *error)
{
    struct guest_paging p;
    guest_paging_read(vcpu, &p);
    return guest_paging_walk(&p, gva, access, gpa, error);
}

bool guest_walk_peek(struct vcpu *vcpu, gva_t gva, gpa_t *gpa, u32 *error)
{
    struct guest_paging p;
    struct walk w;
    guest_paging_read(vcpu, &p);
    if (p.levels == 0) {
        *gpa = gva & (u32)~0u;
        return true;
    }
    enum walk_result result = walk_tables(&p, &w, gva, NULL);
    *error = error_code(&p, PAGE_READ, result, result != WALK_NOT_PRESENT);
    *gpa = w.gpa;
    return result == WALK_OK;
}

void *guest_ram(struct vcpu *vcpu, gpa_t gpa, unsigned access, u64 *length)
{
    struct guest_memory *gm = &vcpu->vm->memory;
    if (unlikely(gm->other_kinds) && guest_memory_is_device(gm, gpa, access))
        return NULL;
    return guest_memory_hva(gm, gpa, length);
}

// One piece of a copy: within one guest page. hva null: not RAM.
static bool piece(const struct guest_paging *p, gva_t gva, unsigned access, void **hva, u64 *length,
                  struct guest_page_fault *fault)
{
    gpa_t gpa;
    *length = MIN(*length, PAGE_SIZE - (gva & PAGE_MASK));
    fault->gva = gva;
    if (!guest_paging_walk(p, gva, access, &gpa, &fault->error))
        return false;
    u64 contiguous = *length;
    *hva = guest_ram(p->vcpu, gpa, access, &contiguous);
    if (*hva)
        *length = MIN(*length, contiguous);
    return true;
}

bool guest_read_virtual(const struct guest_paging *p, gva_t gva, void *to, u64 size,
                        struct guest_page_fault *fault)
{
    for (u64 done = 0, length; done < size; done += length) {
        void *hva;
        length = size - done;
        if (!piece(p, gva + done, PAGE_READ, &hva, &length, fault))
            return false;
        if (hva)
            memcpy((u8 *)to + done, hva, length);
        else
            memset((u8 *)to + done, -1, length);
    }
    return true;
}

bool guest_write_virtual(const struct guest_paging *p, gva_t gva, const void *from, u64 size,
                         struct guest_page_fault *fault)
{
    for (u64 done = 0, length; done < size; done += length) {
        void *hva;
        length = size - done;
        if (!piece(p, gva + done, PAGE_WRITE, &hva, &length, fault))
            return false;
        if (hva)
            memcpy(hva, (const u8 *)from + done, length);
    }
    return true;
}
