// SPDX-License-Identifier: MIT
// One CPU made fit for the core: its GDT, TSS and trap stacks, GS, and the control registers.
// Nothing of the firmware's state is kept: every register that matters is written whole.
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/descriptors.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/regs.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/string.h"

// Descriptors, SDM volume 3, "Segment Descriptors" and "System Descriptor Types".
#define GDT_CODE64 0x00af9b000000ffffull // present, ring 0, execute-read, accessed, long mode
#define GDT_DATA   0x00cf93000000ffffull // present, ring 0, read-write, accessed
#define GDT_TSS    0x0000890000000000ull // present, available 64-bit TSS
#define GDT_BYTES  40                    // null, code, data, and the TSS in two entries

// PA4 is write-combining; the others stay as after power-up (SDM volume 3, "Programming the PAT").
#define PAT_HOST 0x0007040100070406ull

#define CR0_HOST (CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG)
#define CR4_HOST (CR4_DE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT)

#define PIC_MASTER_COMMAND 0x20
#define PIC_MASTER_DATA    0x21
#define PIC_SLAVE_COMMAND  0xa0
#define PIC_SLAVE_DATA     0xa1
#define PIC_ICW1           0x11 // edge, cascaded, ICW4 follows
#define PIC_ICW2_MASTER    0x20 // vectors
#define PIC_ICW2_SLAVE     0x28
#define PIC_ICW3_MASTER    0x04 // the slave is on input 2
#define PIC_ICW3_SLAVE     0x02
#define PIC_ICW4           0x01 // 8086 mode
#define PIC_MASK_ALL       0xff

struct PACKED table_register {
    u16 limit;
    u64 base;
};

struct cpu_tables {
    u64 gdt[GDT_BYTES / sizeof(u64)] ALIGNED(16);
    struct task_state tss ALIGNED(16);
};

struct percpu percpus[CPU_MAX];
u32 cpu_count = 1;

static struct cpu_tables tables[CPU_MAX];
static struct idt_gate idt[256] ALIGNED(16);
static u8 first_ist_stacks[IST_COUNT][IST_STACK_SIZE] ALIGNED(16);

const struct task_state *cpu_task_state(const struct percpu *cpu)
{
    return &tables[cpu->index].tss;
}

const u64 *cpu_gdt(const struct percpu *cpu)
{
    return tables[cpu->index].gdt;
}

const struct idt_gate *cpu_idt(void)
{
    return idt;
}

static void tables_fill(struct cpu_tables *t, void *const ist_tops[IST_COUNT])
{
    u64 tss = (u64)&t->tss;
    memset(t, 0, sizeof(*t));
    t->tss.io_map_base = sizeof(t->tss); // beyond the limit: no bitmap
    for (unsigned i = 0; i < IST_COUNT; i++)
        t->tss.ist[i] = (u64)ist_tops[i];
    t->gdt[HOST_CODE_SELECTOR / sizeof(u64)] = GDT_CODE64;
    t->gdt[HOST_DATA_SELECTOR / sizeof(u64)] = GDT_DATA;
    t->gdt[HOST_TSS_SELECTOR / sizeof(u64)] =
        GDT_TSS | (sizeof(t->tss) - 1) | bits_get(tss, 0, 24) << 16 | bits_get(tss, 24, 8) << 56;
    t->gdt[HOST_TSS_SELECTOR / sizeof(u64) + 1] = tss >> 32;
}

static void segments_load(const struct cpu_tables *t)
{
    struct table_register gdtr = {sizeof(t->gdt) - 1, (u64)t->gdt};
    struct table_register idtr = {sizeof(idt) - 1, (u64)idt};
    __asm__ volatile("lgdt %[gdtr]\n\t"
                     "pushq %[code]\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "movl %[data], %%eax\n\t"
                     "movl %%eax, %%ss\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "xorl %%eax, %%eax\n\t"
                     "movl %%eax, %%fs\n\t"
                     "movl %%eax, %%gs\n\t"
                     "lldt %%ax\n\t"
                     "lidt %[idtr]\n\t"
                     "movl %[tss], %%eax\n\t"
                     "ltr %%ax"
                     :
                     : [gdtr] "m"(gdtr), [idtr] "m"(idtr), [code] "i"(HOST_CODE_SELECTOR),
                       [data] "i"(HOST_DATA_SELECTOR), [tss] "i"(HOST_TSS_SELECTOR)
                     : "rax", "memory");
}

static bool has_nx(void)
{
    return cpuid(CPUID_EXTENDED, 0).eax >= CPUID_EXTENDED_FEATURES &&
           cpuid(CPUID_EXTENDED_FEATURES, 0).edx & CPUID_80000001_EDX_NX;
}

static void control_registers_load(void)
{
    u64 cr4 = CR4_HOST;
    if (cpuid(CPUID_FEATURES, 0).ecx & CPUID_1_ECX_XSAVE)
        cr4 |= CR4_OSXSAVE; // guests' state is switched by XSAVE
    if (read_cr4() & CR4_LA57)
        panic("the firmware left 5-level paging on: switch it off in the firmware's setup");
    if (!has_nx())
        panic("this CPU shows no execute-disable: switch it on in the firmware's setup");
    write_cr0(CR0_HOST);
    write_cr4(cr4);
    wrmsr(MSR_IA32_EFER, EFER_LME | EFER_LMA | EFER_NXE);
    wrmsr(MSR_IA32_PAT, PAT_HOST);
    write_cr3(read_cr3()); // so that no translation keeps a type of the old PAT
}

static void cpu_init(struct percpu *cpu, void *const ist_tops[IST_COUNT])
{
    struct cpu_tables *t = &tables[cpu->index];
    cpu->self = cpu;
    cpu->arch = t;
    cpu->timer_deadline = ~0ull;
    tables_fill(t, ist_tops);
    segments_load(t);
    wrmsr(MSR_IA32_GS_BASE, (u64)cpu); // after the selector, whose load clears it
    control_registers_load();
}

// Both chips masked, and away from the exceptions' vectors: a spurious interrupt comes even from a
// masked chip.
static void pic_silence(void)
{
    static const struct {
        u16 port;
        u8 value;
    } steps[] = {
        {PIC_MASTER_COMMAND, PIC_ICW1},     {PIC_SLAVE_COMMAND, PIC_ICW1},
        {PIC_MASTER_DATA, PIC_ICW2_MASTER}, {PIC_SLAVE_DATA, PIC_ICW2_SLAVE},
        {PIC_MASTER_DATA, PIC_ICW3_MASTER}, {PIC_SLAVE_DATA, PIC_ICW3_SLAVE},
        {PIC_MASTER_DATA, PIC_ICW4},        {PIC_SLAVE_DATA, PIC_ICW4},
        {PIC_MASTER_DATA, PIC_MASK_ALL},    {PIC_SLAVE_DATA, PIC_MASK_ALL},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++)
        out8(steps[i].port, steps[i].value);
}

void cpu_init_first(void)
{
    void *tops[IST_COUNT];
    tsc_boot = rdtsc();
    for (unsigned i = 0; i < IST_COUNT; i++)
        tops[i] = first_ist_stacks[i] + IST_STACK_SIZE;
    idt_init(idt);
    cpu_init(&percpus[0], tops);
    pic_silence();
    percpus[0].online = true;
}

void cpu_init_other(struct percpu *cpu, void *const ist_tops[IST_COUNT])
{
    cpu_init(cpu, ist_tops);
}

void cpu_brand(char *to, size_t size)
{
    enum { LEAVES = CPUID_BRAND_LAST - CPUID_BRAND_FIRST + 1 };
    struct cpuid leaves[LEAVES + 1] = {0}; // the spare one ends the text
    struct cpuid vendor = cpuid(CPUID_VENDOR, 0);
    if (cpuid(CPUID_EXTENDED, 0).eax >= CPUID_BRAND_LAST) {
        for (u32 i = 0; i < LEAVES; i++)
            leaves[i] = cpuid(CPUID_BRAND_FIRST + i, 0);
    } else {
        leaves[0] = (struct cpuid){vendor.ebx, vendor.edx, vendor.ecx, 0};
    }
    const char *text = (const char *)leaves;
    while (*text == ' ')
        text++;
    string_copy(to, size, text);
}
