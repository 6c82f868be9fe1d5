// SPDX-License-Identifier: MIT
// What the CPU says of its state components, taken with care: the totals in CPUID leaf 0DH are not
// used, since some emulators have them wrong; a component that does not fit the others is not
// offered; the compacted format is tried, since one emulator loses registers by it.
#include "arch/x86_64/xstate.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/string.h"

#define CPUID_XSTATE      0x0d
#define COMPACTED_ALIGNED BIT(1) // ECX of a component's sub-leaf
#define XSAVEC            BIT(1) // EAX of sub-leaf 1
#define COMPACTED_ALIGN   64
#define FIRST_EXTENDED    2 // x87 and SSE are in the legacy area
#define AREA_START        (XSTATE_LEGACY_SIZE + XSTATE_HEADER_SIZE)
#define AREA_END          PAGE_SIZE

static struct xstate_component components[XSTATE_COMPONENTS];
static bool has_xsave, compacts;
static u64 offered;

static bool overlaps_others(const struct xstate_component *c)
{
    for (unsigned i = FIRST_EXTENDED; i < XSTATE_COMPONENTS; i++) {
        const struct xstate_component *o = &components[i];
        if (o->size && c->offset < o->offset + o->size && o->offset < c->offset + c->size)
            return true;
    }
    return false;
}

static void component_probe(unsigned index)
{
    struct cpuid leaf = cpuid(CPUID_XSTATE, index);
    struct xstate_component c = {
        .size = leaf.eax, .offset = leaf.ebx, .aligned = leaf.ecx & COMPACTED_ALIGNED};
    if (!c.size || c.offset < AREA_START || c.offset >= AREA_END || c.size > AREA_END - c.offset ||
        overlaps_others(&c))
        return;
    components[index] = c;
    offered |= BIT(index);
}

// A state in which the last component is the only one in use goes through the compacted format and
// back. The host has no state of its own to lose.
static bool compaction_try(unsigned last)
{
    const u64 mark = 0x706c696e7468ull;
    static u64 area[PAGE_SIZE / sizeof(u64)] __attribute__((aligned(COMPACTED_ALIGN)));
    u64 *const header = &area[XSTATE_LEGACY_SIZE / sizeof(u64)];
    u64 *const plain = &area[components[last].offset / sizeof(u64)];
    u64 *const compacted =
        &area[(xstate_compacted_size(offered) - components[last].size) / sizeof(u64)];
    xsetbv(0, offered);
    *header = BIT(last);
    *plain = mark;
    xrstor64(area, offered);
    memset(area, 0, sizeof(area));
    xsavec64(area, offered);
    bool right = *compacted == mark;
    xrstor64(area, offered);
    memset(area, 0, sizeof(area));
    xsave64(area, offered);
    return right && *plain == mark;
}

static bool compaction_probe(void)
{
    if (!(cpuid(CPUID_XSTATE, 1).eax & XSAVEC) || !(offered & XCR0_AVX))
        return false;
    return compaction_try((unsigned)bit_highest(offered));
}

void xstate_init(void)
{
    compacts = false;
    has_xsave = cpuid(CPUID_FEATURES, 0).ecx & CPUID_1_ECX_XSAVE;
    offered = XCR0_X87 | XCR0_SSE;
    for (unsigned i = 0; i < XSTATE_COMPONENTS; i++)
        components[i] = (struct xstate_component){0};
    if (!has_xsave)
        return;
    u64 wanted = cpuid(CPUID_XSTATE, 0).eax & (XCR0_AVX | XCR0_AVX512);
    for (unsigned i = FIRST_EXTENDED; i < XSTATE_COMPONENTS; i++)
        if (wanted & BIT(i))
            component_probe(i);
    if (!(offered & XCR0_AVX) || (offered & XCR0_AVX512) != XCR0_AVX512)
        offered &= ~XCR0_AVX512;
    compacts = compaction_probe();
}

bool xstate_compacts(void)
{
    return compacts;
}

bool xstate_has_xsave(void)
{
    return has_xsave;
}

u64 xstate_offered(void)
{
    return offered;
}

const struct xstate_component *xstate_component(unsigned index)
{
    static const struct xstate_component none;
    return index < XSTATE_COMPONENTS && (offered & BIT(index)) ? &components[index] : &none;
}

u32 xstate_size(u64 of)
{
    u32 size = AREA_START;
    for (unsigned i = FIRST_EXTENDED; i < XSTATE_COMPONENTS; i++)
        if (of & BIT(i))
            size = MAX(size, components[i].offset + components[i].size);
    return size;
}

u32 xstate_compacted_size(u64 of)
{
    u32 size = AREA_START;
    for (unsigned i = FIRST_EXTENDED; i < XSTATE_COMPONENTS; i++) {
        if (!(of & BIT(i)))
            continue;
        if (components[i].aligned)
            size = ALIGN_UP(size, COMPACTED_ALIGN);
        size += components[i].size;
    }
    return size;
}

// SDM volume 2, XSETBV; volume 1, "Enabling the XSAVE Feature Set and XSAVE-Enabled Features".
bool xstate_valid(u64 xcr0)
{
    if (!has_xsave || (xcr0 & ~offered) || !(xcr0 & XCR0_X87))
        return false;
    if ((xcr0 & XCR0_AVX) && !(xcr0 & XCR0_SSE))
        return false;
    u64 avx512 = xcr0 & XCR0_AVX512;
    return !avx512 || (avx512 == XCR0_AVX512 && (xcr0 & XCR0_AVX));
}
