// SPDX-License-Identifier: MIT
// The entry checks on segments: SDM volume 3, "Checks on Guest Segment Registers", "Checks on Guest
// Descriptor-Table Registers". The engine always runs with unrestricted guest, so the rules are
// those for it.
#include "arch/x86_64/vmx/explain.h"
#include "arch/x86_64/vmx/vmx.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/bits.h"

#define ACCESS_TYPE_MASK  0xfull
#define ACCESS_S          BIT(4)
#define ACCESS_DPL_SHIFT  5
#define ACCESS_DPL_WIDTH  2
#define ACCESS_P          BIT(7)
#define ACCESS_G          BIT(15)
#define ACCESS_RESERVED   (~0xffffffffull | 0xfffe0f00ull)
#define SELECTOR_RPL_MASK 3u
#define SELECTOR_TI       BIT(2)

#define TYPE_ACCESSED            BIT(0)
#define TYPE_WRITABLE            BIT(1) // of data
#define TYPE_READABLE            BIT(1) // of code
#define TYPE_CODE                BIT(3)
#define TYPE_DATA_ACCESSED       3
#define TYPE_LDT                 2
#define TYPE_TSS16_BUSY          3
#define TYPE_TSS_BUSY            11
// Code segments: accessed, conforming or not, readable or not.
#define TYPES_CODE               (BIT(9) | BIT(11) | BIT(13) | BIT(15))
#define TYPES_CODE_NONCONFORMING (BIT(9) | BIT(11))
#define TYPES_CODE_CONFORMING    (BIT(13) | BIT(15))
#define TYPES_STACK              (BIT(3) | BIT(7))

#define VM86_LIMIT  0xffffu
#define VM86_ACCESS 0xf3u
#define PAGE_LIMIT  0xfffu
#define TABLE_LIMIT 0xffffu

struct checked {
    struct segment s;
    u64 type, dpl, rpl;
    u32 selector_field, base_field, limit_field, access_field;
};

static struct checked segment_checked(enum vcpu_segment which)
{
    u32 offset = which * VMCS_SEGMENT_STRIDE;
    struct checked c = {
        .selector_field = VMCS_GUEST_ES_SELECTOR + offset,
        .base_field = VMCS_GUEST_ES_BASE + offset,
        .limit_field = VMCS_GUEST_ES_LIMIT + offset,
        .access_field = VMCS_GUEST_ES_ACCESS_RIGHTS + offset,
    };
    c.s = (struct segment){
        .selector = (u16)vmread(c.selector_field),
        .base = vmread(c.base_field),
        .limit = (u32)vmread(c.limit_field),
        .access = (u32)vmread(c.access_field),
    };
    c.type = c.s.access & ACCESS_TYPE_MASK;
    c.dpl = bits_get(c.s.access, ACCESS_DPL_SHIFT, ACCESS_DPL_WIDTH);
    c.rpl = c.s.selector & SELECTOR_RPL_MASK;
    return c;
}

static bool usable(const struct checked *c)
{
    return !(c->s.access & SEGMENT_UNUSABLE);
}

static bool ia32e_guest(void)
{
    return vmread(VMCS_ENTRY_CONTROLS) & ENTRY_CONTROL_IA32E_MODE_GUEST;
}

// Rules that every usable segment keeps.
static void explain_common(struct explanation *e, const struct checked *c)
{
    u32 limit = c->s.limit;
    bool pages = c->s.access & ACCESS_G;
    explain_rule(e, c->s.access & ACCESS_P, c->access_field, "must be present");
    explain_rule(e, !(c->s.access & ACCESS_RESERVED), c->access_field, "a reserved bit is set");
    explain_rule(e, (limit & PAGE_LIMIT) == PAGE_LIMIT || !pages, c->limit_field,
                 "with G set the low 12 bits must be ones");
    explain_rule(e, !(limit >> 20) || pages, c->limit_field, "a limit from 1 MiB on needs G");
}

// In virtual-8086 mode the six registers have one shape.
static void explain_vm86(struct explanation *e)
{
    for (enum vcpu_segment i = SEG_ES; i <= SEG_GS; i++) {
        struct checked c = segment_checked(i);
        explain_rule(e, c.s.base == (u64)c.s.selector << 4, c.base_field,
                     "virtual-8086 mode: must be selector * 16");
        explain_rule(e, c.s.limit == VM86_LIMIT, c.limit_field,
                     "virtual-8086 mode: must be 0xffff");
        explain_rule(e, c.s.access == VM86_ACCESS, c.access_field,
                     "virtual-8086 mode: must be 0xf3");
    }
}

static bool cs_dpl_fits(const struct checked *cs, const struct checked *ss)
{
    if (cs->type == TYPE_DATA_ACCESSED)
        return cs->dpl == 0;
    if (TYPES_CODE_NONCONFORMING & BIT(cs->type))
        return cs->dpl == ss->dpl;
    return !(TYPES_CODE_CONFORMING & BIT(cs->type)) || cs->dpl <= ss->dpl;
}

static void explain_cs(struct explanation *e)
{
    struct checked cs = segment_checked(SEG_CS), ss = segment_checked(SEG_SS);
    explain_rule(e, usable(&cs), cs.access_field, "CS must be usable");
    explain_rule(e, (TYPES_CODE & BIT(cs.type)) || cs.type == TYPE_DATA_ACCESSED, cs.access_field,
                 "CS must be accessed code, or read/write data (type 3)");
    explain_rule(e, cs.s.access & ACCESS_S, cs.access_field, "S must be set");
    explain_rule(e, cs_dpl_fits(&cs, &ss), cs.access_field, "DPL does not fit the type and SS.DPL");
    explain_rule(e, !ia32e_guest() || !(cs.s.access & SEGMENT_L) || !(cs.s.access & SEGMENT_DB),
                 cs.access_field, "L and D/B at once in an IA-32e mode guest");
    explain_rule(e, !(cs.s.base >> 32), cs.base_field, "bits 63:32 must be 0");
    explain_common(e, &cs);
}

static void explain_ss(struct explanation *e)
{
    struct checked cs = segment_checked(SEG_CS), ss = segment_checked(SEG_SS);
    bool real = !(vmread(VMCS_GUEST_CR0) & CR0_PE) || cs.type == TYPE_DATA_ACCESSED;
    explain_rule(e, !real || ss.dpl == 0, ss.access_field,
                 "DPL must be 0 in real mode or if CS has type 3");
    if (!usable(&ss))
        return;
    explain_rule(e, TYPES_STACK & BIT(ss.type), ss.access_field,
                 "SS must be accessed, writable data");
    explain_rule(e, ss.s.access & ACCESS_S, ss.access_field, "S must be set");
    explain_rule(e, !(ss.s.base >> 32), ss.base_field, "bits 63:32 must be 0");
    explain_common(e, &ss);
}

static void explain_data(struct explanation *e, enum vcpu_segment which)
{
    struct checked c = segment_checked(which);
    bool wide_base = which == SEG_FS || which == SEG_GS;
    explain_rule(e, !wide_base || canonical(c.s.base), c.base_field, "not canonical");
    if (!usable(&c))
        return;
    explain_rule(e, c.type & TYPE_ACCESSED, c.access_field, "must be marked accessed");
    explain_rule(e, !(c.type & TYPE_CODE) || (c.type & TYPE_READABLE), c.access_field,
                 "code must be readable");
    explain_rule(e, c.s.access & ACCESS_S, c.access_field, "S must be set");
    explain_rule(e, wide_base || !(c.s.base >> 32), c.base_field, "bits 63:32 must be 0");
    explain_common(e, &c);
}

static void explain_system(struct explanation *e)
{
    struct checked tr = segment_checked(SEG_TR), ldtr = segment_checked(SEG_LDTR);
    bool tss16 = tr.type == TYPE_TSS16_BUSY && !ia32e_guest();
    explain_rule(e, usable(&tr), tr.access_field, "TR must be usable");
    explain_rule(e, tr.type == TYPE_TSS_BUSY || tss16, tr.access_field,
                 "TR must be a busy TSS (of 64 bits in an IA-32e mode guest)");
    explain_rule(e, !(tr.s.access & ACCESS_S), tr.access_field, "S must be clear");
    explain_rule(e, !(tr.s.selector & SELECTOR_TI), tr.selector_field, "TI must be clear");
    explain_rule(e, canonical(tr.s.base), tr.base_field, "not canonical");
    explain_common(e, &tr);
    if (!usable(&ldtr))
        return;
    explain_rule(e, ldtr.type == TYPE_LDT, ldtr.access_field, "LDTR must be an LDT");
    explain_rule(e, !(ldtr.s.access & ACCESS_S), ldtr.access_field, "S must be clear");
    explain_rule(e, !(ldtr.s.selector & SELECTOR_TI), ldtr.selector_field, "TI must be clear");
    explain_rule(e, canonical(ldtr.s.base), ldtr.base_field, "not canonical");
    explain_common(e, &ldtr);
}

static void explain_tables(struct explanation *e)
{
    for (enum vcpu_segment i = SEG_GDTR; i <= SEG_IDTR; i++) {
        u32 offset = i * VMCS_SEGMENT_STRIDE;
        u32 base = VMCS_GUEST_ES_BASE + offset, limit = VMCS_GUEST_ES_LIMIT + offset;
        explain_rule(e, canonical(vmread(base)), base, "not canonical");
        explain_rule(e, vmread(limit) <= TABLE_LIMIT, limit, "bits 31:16 must be 0");
    }
}

void explain_segments(struct explanation *e)
{
    if (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_VM) {
        explain_vm86(e);
    } else {
        static const enum vcpu_segment data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
        explain_cs(e);
        explain_ss(e);
        for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
            explain_data(e, data[i]);
    }
    explain_system(e);
    explain_tables(e);
}
