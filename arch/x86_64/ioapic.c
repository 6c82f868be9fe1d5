// SPDX-License-Identifier: MIT
// IOAPICs, as far as the host needs them: ISA interrupts to the booting CPU. Registers are
// reached through an index and a window (82093AA data sheet, "Memory Mapped Registers for Accessing
// IOAPIC Registers").
#include "boot/boot_info.h"
#include "arch/x86_64/cpu.h"
#include "mm/host_map.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/error.h"
#include "vmm/lib/log.h"

#define IOAPIC_DEFAULT_BASE 0xfec00000
#define IOAPIC_SELECT       0x00
#define IOAPIC_WINDOW       0x10
#define IOAPIC_VERSION      0x01
#define IOAPIC_REDIRECTION  0x10 // two registers an input

#define IOAPIC_LAST_INPUT_SHIFT  16
#define IOAPIC_LAST_INPUT_WIDTH  8
#define REDIRECTION_ACTIVE_LOW   BIT(13)
#define REDIRECTION_LEVEL        BIT(15)
#define REDIRECTION_MASKED       BIT(16)
#define REDIRECTION_DESTINATION  24   // shift, in the high register
#define REDIRECTION_APIC_ID_LAST 0xff // a destination has 8 bits

struct ioapic {
    volatile u8 *registers;
    u32 gsi_base, inputs;
};

static struct ioapic ioapics[BOOT_IOAPIC_MAX];
static unsigned ioapic_count;
static bool irq_routed[BOOT_IRQ_ISA];
static unsigned vectors_used;

static u32 ioapic_read(const struct ioapic *io, u32 index)
{
    *(volatile u32 *)(io->registers + IOAPIC_SELECT) = index;
    return *(volatile u32 *)(io->registers + IOAPIC_WINDOW);
}

static void ioapic_write(const struct ioapic *io, u32 index, u32 value)
{
    *(volatile u32 *)(io->registers + IOAPIC_SELECT) = index;
    *(volatile u32 *)(io->registers + IOAPIC_WINDOW) = value;
}

static void redirection_write(const struct ioapic *io, u32 input, u32 high, u32 low)
{
    u32 index = IOAPIC_REDIRECTION + 2 * input;
    ioapic_write(io, index, REDIRECTION_MASKED); // never live while half written
    ioapic_write(io, index + 1, high);
    ioapic_write(io, index, low);
}

// Maps it and masks every input: what the firmware left on has no handler here.
static void ioapic_add(u64 base, u32 gsi_base)
{
    u64 page = ALIGN_DOWN(base, PAGE_SIZE);
    u8 *mapped = host_map_device(page, PAGE_SIZE, HOST_UNCACHED);
    if (!mapped) {
        log_error("no memory to map the IOAPIC at 0x%llx", (unsigned long long)base);
        return;
    }
    struct ioapic *io = &ioapics[ioapic_count++];
    io->registers = mapped + (base - page);
    io->gsi_base = gsi_base;
    io->inputs = (u32)bits_get(ioapic_read(io, IOAPIC_VERSION), IOAPIC_LAST_INPUT_SHIFT,
                               IOAPIC_LAST_INPUT_WIDTH) +
                 1;
    for (u32 input = 0; input < io->inputs; input++)
        redirection_write(io, input, 0, REDIRECTION_MASKED);
}

static void ioapics_find(const struct boot_info *boot)
{
    for (u32 i = 0; i < MIN(boot->ioapic_count, BOOT_IOAPIC_MAX); i++)
        ioapic_add(boot->ioapics[i].base, boot->ioapics[i].gsi_base);
    if (!boot->ioapic_count)
        ioapic_add(IOAPIC_DEFAULT_BASE, 0);
}

static const struct ioapic *ioapic_of(u32 gsi)
{
    for (unsigned i = 0; i < ioapic_count; i++)
        if (gsi >= ioapics[i].gsi_base && gsi - ioapics[i].gsi_base < ioapics[i].inputs)
            return &ioapics[i];
    return NULL;
}

int interrupt_route_isa(const struct boot_info *boot, unsigned irq, interrupt_handler handler,
                        void *context)
{
    if (irq >= BOOT_IRQ_ISA)
        return ERR_RANGE;
    if (irq_routed[irq])
        return ERR_EXISTS;
    if (vectors_used == HOST_VECTOR_DEVICES)
        return ERR_NO_MEMORY;
    if (!ioapic_count)
        ioapics_find(boot);
    const struct boot_irq *wire = &boot->isa_irqs[irq];
    const struct ioapic *io = ioapic_of(wire->gsi);
    if (!io)
        return ERR_NOT_FOUND;
    if (percpus[0].apic_id > REDIRECTION_APIC_ID_LAST)
        return ERR_UNSUPPORTED;
    u8 vector = (u8)(HOST_VECTOR_DEVICE + vectors_used++);
    irq_routed[irq] = true;
    interrupt_register(vector, handler, context);
    redirection_write(io, wire->gsi - io->gsi_base, percpus[0].apic_id << REDIRECTION_DESTINATION,
                      vector | (u32)(wire->active_low ? REDIRECTION_ACTIVE_LOW : 0) |
                          (u32)(wire->level ? REDIRECTION_LEVEL : 0));
    return OK;
}
