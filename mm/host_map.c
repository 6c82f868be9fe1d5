// SPDX-License-Identifier: MIT
// The host's address space, by level-4 entries of 512 GiB each:
// - DIRECT_MAP_BASE: RAM, 1 TiB at most; read-write, the core's image read-only, nothing
//   executable, no page 0;
// - DEVICE_BASE: device registers, handed out upwards with an unmapped page after each;
// - STACK_BASE: stacks in slots of 64 KiB, each at the top of its slot, so what lies below is never
//   mapped;
// - the top 2 GiB: the core's image; text read-execute, constants read-only, the rest read-write.
//
// Mappings are added but never changed or removed while CPUs run, so no translation is ever
// flushed: a stack that is given back keeps its frames and waits for the next user of the same
// size.

#include "mm/host_map.h"
#include "mm/frame.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/core_sections.h"
#include "arch/x86_64/page_table.h"
#include "boot/boot_info.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/error.h"
#include "vmm/lib/spinlock.h"
#include "vmm/lib/string.h"

#define DIRECT_MAP_SIZE (1024 * GIB)
#define DEVICE_BASE     0xffffc00000000000ull
#define DEVICE_SIZE     (512 * GIB)
#define STACK_BASE      0xffffd00000000000ull
#define STACK_SLOT      (64 * KIB)
#define STACK_SLOTS     4096
#define STACK_MAX       (STACK_SLOT - PAGE_SIZE)

#define CR3_BELOW       (4 * GIB) // CPUs load these roots while they are still in 32-bit mode
#define ROOT_UPPER_HALF 256       // first level-4 entry of the addresses that the core uses
#define ROOT_ENTRIES    512
#define FIRMWARE_SIZE   (512 * GIB)

// CPUID 80000001H, EDX.
#define CPUID_EXTENDED_FEATURES 0x80000001u
#define CPUID_EDX_PAGE_1G       BIT(26)

#define READ_ONLY    PAGE_READ
#define READ_WRITE   (PAGE_READ | PAGE_WRITE)
#define READ_EXECUTE (PAGE_READ | PAGE_EXECUTE)

enum stack_state { STACK_UNUSED, STACK_LIVE, STACK_WAITING };

struct stack_slot {
    u8 state; // enum stack_state
    u8 pages;
};

static struct spinlock lock;
static struct page_table host, firmware;
static u64 device_next = DEVICE_BASE;
static struct stack_slot stacks[STACK_SLOTS];
static unsigned stacks_used; // slots from here on were never used
static u64 ram_end;

// --- tables ---

static u64 table_alloc(void *context)
{
    (void)context;
    return frame_alloc_zero(FRAME_ORDER_4K, FRAME_CORE);
}

// The root comes from low memory.
static u64 root_alloc(void *context)
{
    (void)context;
    hpa_t hpa = frame_alloc_below(FRAME_ORDER_4K, FRAME_CORE, CR3_BELOW);
    if (hpa != HPA_NONE)
        memset(frame_hva(hpa), 0, PAGE_SIZE);
    return hpa;
}

static void table_free(void *context, u64 hpa)
{
    (void)context;
    frame_free(hpa, FRAME_ORDER_4K);
}

static u64 *table_hva(u64 hpa)
{
    return frame_hva(hpa);
}

static int table_start(struct page_table *pt)
{
    bool has_1g = cpuid(CPUID_EXTENDED_FEATURES, 0).edx & CPUID_EDX_PAGE_1G;
    pt->format = &page_format_host;
    pt->env = (struct page_table_env){root_alloc, table_free, table_hva, NULL};
    pt->max_leaf = has_1g ? 3 : 2;
    int error = page_table_init(pt);
    pt->env.alloc = table_alloc;
    return error;
}

// At boot there is either enough memory for this, or no point in going on.
static void map_or_panic(u64 hva, hpa_t hpa, u64 size, unsigned access)
{
    if (size && page_table_map(&host, hva, hpa, size, access, PAGE_WB) != OK)
        panic("too little memory for the core's page tables");
}

// --- the direct map ---

// How the direct map shows a range; 0: not at all.
static unsigned range_access(const struct boot_memory_range *range)
{
    static const u8 access[] = {
        [BOOT_MEMORY_FREE] = READ_WRITE,     [BOOT_MEMORY_LOADER] = READ_WRITE,
        [BOOT_MEMORY_CORE] = READ_ONLY,      [BOOT_MEMORY_FILE] = READ_WRITE,
        [BOOT_MEMORY_FIRMWARE] = READ_WRITE, [BOOT_MEMORY_ACPI] = READ_WRITE,
        [BOOT_MEMORY_RESERVED] = 0,
    };
    return range->type < ARRAY_SIZE(access) ? access[range->type] : 0;
}

static void map_direct(hpa_t base, hpa_t end, unsigned access)
{
    base = MAX(base, PAGE_SIZE); // page 0 is nobody's: a null physical address shall fault, too
    end = MIN(end, DIRECT_MAP_SIZE);
    if (!access || base >= end)
        return;
    map_or_panic(DIRECT_MAP_BASE + base, base, end - base, access);
    ram_end = MAX(ram_end, end);
}

// Neighbouring ranges of equal access as one: they may share a large page.
static void map_all_ram(const struct boot_info *boot)
{
    const struct boot_memory_range *ranges = frame_hva((u64)boot->memory);
    hpa_t base = 0, end = 0;
    unsigned access = 0;
    for (u32 i = 0; i < boot->memory_count; i++) {
        if (ranges[i].base != end || range_access(&ranges[i]) != access) {
            map_direct(base, end, access);
            base = ranges[i].base;
            access = range_access(&ranges[i]);
        }
        end = ranges[i].base + ranges[i].size;
    }
    map_direct(base, end, access);
}

// --- the core's image ---

struct section {
    const u8 *start, *end;
    unsigned access;
    const char *name;
};

static const struct section sections[] = {
    {core_text_start, core_text_end, READ_EXECUTE, "core text"},
    {core_rodata_start, core_rodata_end, READ_ONLY, "core constants"},
    {core_data_start, core_boot_stack_guard, READ_WRITE, "core data"},
    {core_boot_stack, core_boot_stack_top, READ_WRITE, "boot stack"},
    {core_boot_stack_top, core_end, READ_WRITE, "core data"},
};

static void map_core(const struct boot_info *boot)
{
    for (unsigned i = 0; i < ARRAY_SIZE(sections); i++) {
        u64 hva = (u64)sections[i].start;
        map_or_panic(hva, hva - boot->core_link_base + boot->core_base, (u64)sections[i].end - hva,
                     sections[i].access);
    }
}

// --- switching to it ---

void host_map_init(const struct boot_info *boot)
{
    if (table_start(&host) != OK)
        panic("too little memory for the core's page tables");
    map_all_ram(boot);
    map_core(boot);
    write_cr3(host.root);
    frame_use_direct_map();
}

u64 host_map_cr3(void)
{
    return host.root;
}

// One to one: 512 GiB where that is one table of 1 GiB pages; else what has RAM or lies below 4
// GiB.
static int map_identity(void)
{
    u64 size = firmware.max_leaf == 3 ? FIRMWARE_SIZE : MAX(ALIGN_UP(ram_end, PAGE_1G), 4 * GIB);
    return page_table_map(&firmware, 0, 0, size, READ_WRITE | PAGE_EXECUTE, PAGE_WB);
}

u64 host_map_firmware_cr3(void)
{
    u64 cr3 = 0;
    spin_lock(&lock);
    if (!firmware.tables && (table_start(&firmware) != OK || map_identity() != OK)) {
        page_table_destroy(&firmware);
    } else {
        // The core goes on running: its half is the host's, as it is now.
        const u64 *from = table_hva(host.root);
        u64 *to = table_hva(firmware.root);
        for (unsigned i = ROOT_UPPER_HALF; i < ROOT_ENTRIES; i++)
            to[i] = from[i];
        cr3 = firmware.root;
    }
    spin_unlock(&lock);
    return cr3;
}

// --- devices ---

// Where the next device goes: in step with its physical address if it is worth a large page.
static u64 device_place(hpa_t hpa, u64 size)
{
    if (size < PAGE_2M)
        return device_next;
    return ALIGN_UP(device_next, PAGE_2M) + (hpa & (PAGE_2M - 1));
}

void *host_map_device(hpa_t hpa, u64 size, enum host_cache cache)
{
    static const enum page_memory_type types[] = {
        [HOST_UNCACHED] = PAGE_UC, [HOST_WRITE_COMBINING] = PAGE_WC};
    u64 offset = hpa & PAGE_MASK;
    if (!size || size > DEVICE_SIZE / 2 || hpa >= BIT(52) - size)
        return NULL;
    size = ALIGN_UP(offset + size, PAGE_SIZE);
    spin_lock(&lock);
    u64 hva = device_place(hpa - offset, size);
    int error = ERR_RANGE;
    if (hva + size < DEVICE_BASE + DEVICE_SIZE) {
        error = page_table_map(&host, hva, hpa - offset, size, READ_WRITE, types[cache]);
        device_next = hva + size + PAGE_SIZE; // after an error, too: a part is mapped
    }
    spin_unlock(&lock);
    return error ? NULL : (void *)(hva + offset);
}

// --- stacks ---

static u64 stack_top(unsigned slot)
{
    return STACK_BASE + (slot + 1ull) * STACK_SLOT;
}

static bool stack_map(u64 top, u64 size)
{
    for (u64 hva = top - size; hva < top; hva += PAGE_SIZE) {
        hpa_t hpa = frame_alloc(FRAME_ORDER_4K, FRAME_CORE);
        if (hpa == HPA_NONE)
            return false;
        if (page_table_map_leaf(&host, hva, hpa, 1, READ_WRITE, PAGE_WB) != OK) {
            frame_free(hpa, FRAME_ORDER_4K);
            return false;
        }
    }
    return true;
}

// A part that was mapped and never used: no CPU has a translation of it.
static void stack_unmap(u64 top, u64 size)
{
    for (u64 hva = top - size; hva < top; hva += PAGE_SIZE) {
        struct page_mapping mapping;
        if (!page_table_lookup(&host, hva, &mapping))
            return;
        if (page_table_unmap(&host, hva, PAGE_SIZE) != OK)
            panic("cannot unmap a stack page at 0x%llx", (unsigned long long)hva);
        frame_free(mapping.physical, FRAME_ORDER_4K);
    }
}

// A slot that waits with as many pages, else a new one, else none.
static unsigned stack_find(u64 pages)
{
    for (unsigned i = 0; i < stacks_used; i++)
        if (stacks[i].state == STACK_WAITING && stacks[i].pages == pages)
            return i;
    return stacks_used;
}

void *host_stack_alloc(u64 size)
{
    if (!size || size > STACK_MAX || !IS_ALIGNED(size, PAGE_SIZE))
        return NULL;
    void *top = NULL;
    spin_lock(&lock);
    unsigned slot = stack_find(size >> PAGE_SHIFT);
    if (slot < STACK_SLOTS) {
        top = (void *)stack_top(slot);
        if (slot == stacks_used && !stack_map((u64)top, size)) {
            stack_unmap((u64)top, size);
            top = NULL;
        } else {
            stacks[slot] = (struct stack_slot){STACK_LIVE, (u8)(size >> PAGE_SHIFT)};
            stacks_used = MAX(stacks_used, slot + 1);
        }
    }
    spin_unlock(&lock);
    return top;
}

void host_stack_free(void *top, u64 size)
{
    if (!top)
        return;
    u64 slot = ((u64)top - STACK_BASE) / STACK_SLOT - 1;
    spin_lock(&lock);
    assert(slot < stacks_used && stack_top((unsigned)slot) == (u64)top);
    assert(stacks[slot].state == STACK_LIVE && stacks[slot].pages == size >> PAGE_SHIFT);
    stacks[slot].state = STACK_WAITING;
    spin_unlock(&lock);
}

// --- for panic reports: no locks ---

static const char *describe_mapped(u64 hva, const char *mapped, const char *not_mapped)
{
    struct page_mapping mapping;
    return page_table_lookup(&host, hva, &mapping) ? mapped : not_mapped;
}

const char *host_map_describe(u64 hva)
{
    for (unsigned i = 0; i < ARRAY_SIZE(sections); i++)
        if (hva >= (u64)sections[i].start && hva < (u64)sections[i].end)
            return sections[i].name;
    if (hva - (u64)core_boot_stack_guard < PAGE_SIZE)
        return "guard page of the boot stack";
    if (hva < PAGE_SIZE)
        return "null page";
    if (hva - DIRECT_MAP_BASE < PAGE_SIZE)
        return "page 0 of the direct map";
    if (hva - DIRECT_MAP_BASE < DIRECT_MAP_SIZE)
        return describe_mapped(hva, "direct map", "hole in the direct map");
    if (hva - DEVICE_BASE < DEVICE_SIZE)
        return describe_mapped(hva, "device registers", "after a device's registers");
    if (hva - STACK_BASE < STACK_SLOTS * STACK_SLOT)
        return describe_mapped(hva, "stack", "guard page of a stack");
    return "nothing";
}
