// SPDX-License-Identifier: MIT
// From CS:RIP to a decoded instruction. The bytes are read through the guest's page tables every
// time; only decoding them is spared if the same bytes at the same address were decoded before.
#include "vmm/emulation.h"
#include "vmm/lib/string.h"
#include "mm/heap.h"

#define CACHE_ENTRIES 64
#define MEMO_EMPTY    1
#define TEXT_MAX      96

// An instruction's bytes as two words; those after its end are 0.
union code {
    u64 words[2];
    u8 bytes[16];
};

struct cache_entry {
    gva_t gva;
    union code code, mask;
    struct insn insn; // length 0: empty
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

static bool cache_hit(const struct cache_entry *c, gva_t gva, unsigned mode, const union code *code,
                      unsigned count)
{
    u64 differs = ((code->words[0] ^ c->code.words[0]) & c->mask.words[0]) |
                  ((code->words[1] ^ c->code.words[1]) & c->mask.words[1]);
    return c->gva == gva && c->insn.mode_bits == mode && !differs && c->insn.length <= count;
}

static void cache_fill(struct cache_entry *c, gva_t gva, const union code *code,
                       const struct insn *insn)
{
    c->gva = gva;
    c->insn = *insn;
    memset(&c->mask, 0, sizeof(c->mask));
    memset(c->mask.bytes, -1, insn->length);
    c->code = *code;
}

// Code that lies on one page; 0 bytes if the page is no RAM.
static bool fetch_page(struct emulation *e, gva_t gva, u8 *to, unsigned *count)
{
    gpa_t gpa;
    u32 error;
    if (unlikely(!guest_paging_walk(&e->paging, gva, PAGE_EXECUTE, &gpa, &error)))
        return emulation_page_fault(e->exit, gva, error);
    u64 length = MIN((u64)*count, PAGE_SIZE - (gva & PAGE_MASK));
    const void *hva = guest_memory_hva(&e->vcpu->vm->memory, gpa, &length);
    *count = hva ? (unsigned)MIN((u64)*count, length) : 0;
    if (likely(*count == sizeof(union code)))
        __builtin_memcpy(to, hva, sizeof(union code));
    else if (hva)
        memcpy(to, hva, *count);
    return true;
}

static gva_t code_address(const struct emulation *e)
{
    u64 rip = e->exit->rip;
    return e->paging.code64 ? rip : (u32)(e->paging.code_base + rip);
}

// The page after is looked at only if the instruction reaches into it.
static bool decode(struct emulation *e, gva_t gva, union code *code, unsigned count,
                   enum exit_action *action)
{
    unsigned mode = e->paging.code_bits, more = sizeof(*code) - count;
    if (insn_decode(code->bytes, count, mode, &e->decoded))
        return true;
    if (more) {
        if (!fetch_page(e, gva + count, code->bytes + count, &more)) {
            *action = ACTION_FAULT;
            return false;
        }
        if (insn_decode(code->bytes, count + more, mode, &e->decoded))
            return true;
    }
    vm_kill(e->vcpu->vm, "cannot emulate: unknown instruction at 0x%llx",
            (unsigned long long)e->exit->rip);
    *action = ACTION_STOP;
    return false;
}

// The exit's own translation holds for this instruction: the hardware just made it.
static void memos_init(struct emulation *e)
{
    const struct vm_exit *exit = e->exit;
    e->memos[0].page = e->memos[1].page = MEMO_EMPTY;
    if (exit->kind != EXIT_MEMORY || !exit->memory.gva_valid || exit->memory.walk)
        return;
    unsigned access = exit->memory.access;
    if (access & PAGE_WRITE)
        access |= PAGE_READ;
    e->memos[0] = (struct emulation_memo){.page = exit->memory.gva & ~PAGE_MASK,
                                          .gpa = exit->memory.gpa & ~PAGE_MASK,
                                          .access = access};
}

bool emulation_begin(struct emulation *e, struct vcpu *vcpu, struct vm_exit *exit,
                     enum exit_action *action)
{
    union code code = {{0, 0}};
    unsigned count = sizeof(code);
    e->vcpu = vcpu;
    e->exit = exit;
    guest_paging_read(vcpu, &e->paging);
    memos_init(e);
    gva_t gva = code_address(e);
    if (unlikely(!fetch_page(e, gva, code.bytes, &count))) {
        *action = ACTION_FAULT;
        return false;
    }
    struct cache_entry *slot = cache_slot(vcpu, gva);
    if (likely(slot && cache_hit(slot, gva, e->paging.code_bits, &code, count))) {
        e->insn = &slot->insn;
    } else {
        if (!decode(e, gva, &code, count, action))
            return false;
        e->insn = &e->decoded;
        if (slot)
            cache_fill(slot, gva, &code, e->insn);
    }
    exit->length = e->insn->length;
    return true;
}

enum exit_action emulation_cannot(struct emulation *e)
{
    union code code = {{0, 0}};
    char text[TEXT_MAX] = "?";
    struct guest_page_fault fault;
    unsigned long long rip = e->exit->rip;
    if (guest_read_virtual(&e->paging, code_address(e), code.bytes, e->insn->length, &fault))
        insn_format(code.bytes, e->insn->length, e->paging.code_bits, rip, text, sizeof(text));
    vm_kill(e->vcpu->vm, "cannot emulate: %s at 0x%llx, on device address 0x%llx", text, rip,
            (unsigned long long)e->exit->memory.gpa);
    return ACTION_STOP;
}
