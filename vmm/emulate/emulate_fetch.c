// SPDX-License-Identifier: MIT
// From CS:RIP to a decoded instruction. The bytes are read through the guest's page tables every
// time; only decoding them is spared if the same bytes at the same address were decoded before.
#include "vmm/emulate/emulation.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/string.h"
#include "mm/heap.h"

#define CACHE_ENTRIES 64
#define TEXT_MAX      96

// An instruction's bytes as two words; those after its end are 0.
union code {
    u64 words[2];
    u8 bytes[16];
};

struct cache_entry {
    gva_t gva;
    union code code, mask;
    struct insn insn;
    // How it was reached; hva null: not by 4- or 5-level paging, or not within one page.
    const u8 *hva;
    u64 cr3, generation;
    struct guest_path path;
};

static struct cache_entry *cache_slot(struct vcpu *vcpu, gva_t gva)
{
    if (unlikely(!vcpu->decode_cache))
        vcpu->decode_cache = heap_alloc(CACHE_ENTRIES * sizeof(struct cache_entry));
    struct cache_entry *cache = vcpu->decode_cache;
    return likely(cache != NULL) ? &cache[(gva ^ (gva >> 6)) % CACHE_ENTRIES] : NULL;
}

void emulate_destroy(struct vcpu *vcpu)
{
    heap_free(vcpu->decode_cache);
    vcpu->decode_cache = NULL;
}

static bool same_code(const struct cache_entry *c, const union code *code)
{
    return !((code->words[0] ^ c->code.words[0]) & c->mask.words[0]) &&
           !((code->words[1] ^ c->code.words[1]) & c->mask.words[1]);
}

static bool same_place(const struct emulation *e, const struct cache_entry *c, gva_t gva)
{
    return c->gva == gva && c->insn.mode_bits == e->paging.code_bits;
}

// The same instruction, reached over the same entries with the same CR3. That the fetch is
// permitted, the hardware saw.
static bool cache_hit(const struct emulation *e, const struct cache_entry *c, gva_t gva)
{
    union code code;
    if (!same_place(e, c, gva) || !c->hva || c->generation != e->vcpu->vm->memory.generation ||
        c->cr3 != vcpu_reg(e->vcpu, REG_CR3) || !guest_path_holds(&c->path))
        return false;
    __builtin_memcpy(&code, c->hva, sizeof(code));
    return same_code(c, &code);
}

static void cache_fill(struct emulation *e, struct cache_entry *c, gva_t gva,
                       const union code *code)
{
    c->gva = gva;
    c->insn = e->decoded;
    c->code = *code;
    memset(&c->mask, 0, sizeof(c->mask));
    memset(c->mask.bytes, -1, e->decoded.length);
}

static void cache_place(struct emulation *e, struct cache_entry *c, const u8 *hva)
{
    c->hva = guest_paging_path(&e->paging, c->gva, &c->path) ? hva : NULL;
    c->cr3 = vcpu_reg(e->vcpu, REG_CR3);
    c->generation = e->vcpu->vm->memory.generation;
}

// Code that lies on one page: at *hva, which is null if the page is no RAM.
static bool fetch_page(struct emulation *e, gva_t gva, u8 *to, unsigned *count, const u8 **hva)
{
    gpa_t gpa;
    u32 error;
    if (!guest_paging_walk(&e->paging, gva, PAGE_EXECUTE, &gpa, &error))
        return emulation_page_fault(e->exit, gva, error);
    u64 length = MIN((u64)*count, PAGE_SIZE - (gva & PAGE_MASK));
    *hva = guest_memory_hva(&e->vcpu->vm->memory, gpa, &length);
    *count = *hva ? (unsigned)MIN((u64)*count, length) : 0;
    if (*hva)
        memcpy(to, *hva, *count);
    return true;
}

static gva_t code_address(const struct emulation *e)
{
    u64 rip = e->exit->rip;
    return e->paging.code64 ? rip : (u32)(e->paging.code_base + rip);
}

// A user's program must not end the VM: it takes #UD. For a kernel there is no honest answer.
static COLD enum exit_action give_up(struct emulation *e, const char *text)
{
    unsigned long long rip = e->exit->rip, gpa = e->exit->memory.gpa;
    guest_paging_complete(&e->paging);
    if (e->paging.user) {
        vm_odd_access(e->vcpu->vm, "not emulated: %s at 0x%llx, on device address 0x%llx", text,
                      rip, gpa);
        return exit_fault(e->exit, VECTOR_UD);
    }
    vm_kill(e->vcpu->vm, "cannot emulate: %s at 0x%llx, on device address 0x%llx", text, rip, gpa);
    return ACTION_STOP;
}

// The CPU would not have come as far as to the access: the code has changed since. But one of
// AVX-512 may be what it saw.
static enum exit_action undecodable(struct emulation *e, const union code *code)
{
    if (!insn_is_evex(code->bytes, sizeof(*code)))
        return exit_fault(e->exit, VECTOR_UD);
    return give_up(e, "an AVX-512 instruction");
}

// The page after is looked at only if the instruction reaches into it.
static bool decode(struct emulation *e, gva_t gva, union code *code, unsigned count,
                   enum exit_action *action)
{
    unsigned mode = e->paging.code_bits, more = sizeof(*code) - count;
    const u8 *hva;
    if (insn_decode(code->bytes, count, mode, &e->decoded))
        return true;
    if (more) {
        gva_t next = e->paging.code64 ? gva + count : (u32)(gva + count);
        if (!fetch_page(e, next, code->bytes + count, &more, &hva)) {
            *action = ACTION_FAULT;
            return false;
        }
        if (insn_decode(code->bytes, count + more, mode, &e->decoded))
            return true;
    }
    *action = undecodable(e, code);
    return false;
}

static COLD bool fetch(struct emulation *e, struct cache_entry *slot, gva_t gva,
                       enum exit_action *action)
{
    union code code = {{0, 0}};
    unsigned count = sizeof(code);
    const u8 *hva;
    guest_paging_complete(&e->paging);
    if (!fetch_page(e, gva, code.bytes, &count, &hva)) {
        *action = ACTION_FAULT;
        return false;
    }
    if (slot && same_place(e, slot, gva) && same_code(slot, &code) && slot->insn.length <= count) {
        e->insn = &slot->insn;
    } else {
        if (!decode(e, gva, &code, count, action))
            return false;
        e->insn = &e->decoded;
        if (slot)
            cache_fill(e, slot, gva, &code);
    }
    if (slot)
        cache_place(e, slot, count == sizeof(code) ? hva : NULL);
    return true;
}

bool emulation_begin(struct emulation *e, struct vcpu *vcpu, struct vm_exit *exit,
                     enum exit_action *action)
{
    e->vcpu = vcpu;
    e->exit = exit;
    guest_paging_begin(vcpu, &e->paging);
    e->memos[0].page = e->memos[1].page = EMULATION_NOWHERE;
    bool reported = exit->kind == EXIT_MEMORY && exit->memory.gva_valid && !exit->memory.walk;
    e->reported = reported ? exit->memory.gva : EMULATION_NOWHERE;
    gva_t gva = code_address(e);
    struct cache_entry *slot = cache_slot(vcpu, gva);
    if (likely(slot && cache_hit(e, slot, gva)))
        e->insn = &slot->insn;
    else if (!fetch(e, slot, gva, action))
        return false;
    exit->length = e->insn->length;
    return true;
}

bool emulation_code(struct emulation *e, u8 *bytes)
{
    struct guest_page_fault fault;
    guest_paging_complete(&e->paging);
    return guest_read_virtual(&e->paging, code_address(e), bytes, e->insn->length, &fault);
}

enum exit_action emulation_cannot(struct emulation *e)
{
    union code code = {{0, 0}};
    char text[TEXT_MAX] = "?";
    if (emulation_code(e, code.bytes))
        insn_format(code.bytes, e->insn->length, e->paging.code_bits, e->exit->rip, text,
                    sizeof(text));
    return give_up(e, text);
}
