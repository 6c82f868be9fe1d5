// SPDX-License-Identifier: MIT
// The I/O APIC. An edge is delivered when it comes and lost while the pin is masked; a level is
// delivered once, then held by Remote IRR until the EOI of its vector, and again if the line is
// still up then. The polarity bit is kept for the guest to read, without effect: a line says
// "asserted" here, not "high". Intel 82093AA datasheet, "IOREDTBL"; Intel ICH datasheet, "APIC
// Memory-Mapped Registers".
#include "io/ioapic.h"
#include "vmm/lib/bits.h"

// Memory-mapped.
#define IOREGSEL  0x00
#define IOWIN     0x10
#define IOAPICEOI 0x40

// Behind IOREGSEL.
#define IOAPICID       0x00
#define IOAPICVER      0x01
#define IOAPICARB      0x02
#define IOREDTBL_FIRST 0x10
#define IOREDTBL_LAST  (IOREDTBL_FIRST + 2 * IOAPIC_PINS - 1)

#define IOAPICID_WRITABLE 0x0f000000u
#define IOAPICVER_VALUE   (0x20u | (IOAPIC_PINS - 1) << 16)

#define ENTRY_VECTOR            0xffull
#define ENTRY_DELIVERY_SHIFT    8
#define ENTRY_DELIVERY_WIDTH    3
#define ENTRY_LOGICAL           BIT(11)
#define ENTRY_STATUS            BIT(12)
#define ENTRY_POLARITY          BIT(13)
#define ENTRY_REMOTE_IRR        BIT(14)
#define ENTRY_LEVEL             BIT(15)
#define ENTRY_MASKED            BIT(16)
#define ENTRY_DESTINATION_SHIFT 56
#define ENTRY_WRITABLE_LOW      (0x1ffffull & ~(ENTRY_STATUS | ENTRY_REMOTE_IRR))
#define ENTRY_WRITABLE_HIGH     0xff000000ull
#define ENTRY_LOW               0xffffffffull

static void pin_send(struct ioapic *ioapic, unsigned pin)
{
    u64 entry = ioapic->entries[pin];
    struct apic_message m = {
        .destination = (u32)(entry >> ENTRY_DESTINATION_SHIFT),
        .logical = entry & ENTRY_LOGICAL,
        .level = entry & ENTRY_LEVEL,
        .delivery = (enum apic_delivery)bits_get(entry, ENTRY_DELIVERY_SHIFT, ENTRY_DELIVERY_WIDTH),
        .vector = (u8)(entry & ENTRY_VECTOR),
    };
    apic_bus_deliver(ioapic->bus, &m);
}

// The delivery modes other than fixed and lowest priority are edges whatever the trigger bit says.
static bool entry_is_level(u64 entry)
{
    u64 delivery = bits_get(entry, ENTRY_DELIVERY_SHIFT, ENTRY_DELIVERY_WIDTH);
    return (entry & ENTRY_LEVEL) && (delivery == APIC_FIXED || delivery == APIC_LOWEST);
}

// Send a level that is up, unmasked and not yet sent. Remote IRR first: what is called may come
// back here.
static void level_update(struct ioapic *ioapic, unsigned pin)
{
    u64 *entry = &ioapic->entries[pin];
    if (!(ioapic->lines & BIT(pin)) || !entry_is_level(*entry) ||
        (*entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)))
        return;
    *entry |= ENTRY_REMOTE_IRR;
    pin_send(ioapic, pin);
}

void ioapic_set_irq(void *context, unsigned pin, bool level)
{
    struct ioapic *ioapic = context;
    if (pin >= IOAPIC_PINS)
        return;
    u32 bit = 1u << pin;
    bool rose = level && !(ioapic->lines & bit);
    ioapic->lines = level ? ioapic->lines | bit : ioapic->lines & ~bit;
    if (!rose)
        return;
    u64 entry = ioapic->entries[pin];
    if (entry_is_level(entry))
        level_update(ioapic, pin);
    else if (!(entry & ENTRY_MASKED))
        pin_send(ioapic, pin);
}

void ioapic_eoi(void *context, u8 vector)
{
    struct ioapic *ioapic = context;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        u64 *entry = &ioapic->entries[pin];
        if (!(*entry & ENTRY_REMOTE_IRR) || (*entry & ENTRY_VECTOR) != vector)
            continue;
        *entry &= ~ENTRY_REMOTE_IRR;
        level_update(ioapic, pin);
    }
}

// --- registers ---

// An entry that turns to edges forgets Remote IRR: that is how software frees a stuck one.
static void entry_write(struct ioapic *ioapic, unsigned half, u32 value)
{
    unsigned pin = half / 2;
    u64 *entry = &ioapic->entries[pin];
    if (half % 2) {
        *entry = (*entry & ENTRY_LOW) | (value & ENTRY_WRITABLE_HIGH) << 32;
        return;
    }
    *entry = (*entry & ~ENTRY_WRITABLE_LOW) | (value & ENTRY_WRITABLE_LOW);
    if (!entry_is_level(*entry))
        *entry &= ~ENTRY_REMOTE_IRR;
    level_update(ioapic, pin);
}

static u32 window_read(const struct ioapic *ioapic)
{
    u8 reg = ioapic->select;
    if (reg >= IOREDTBL_FIRST && reg <= IOREDTBL_LAST) {
        unsigned half = reg - IOREDTBL_FIRST;
        return (u32)(ioapic->entries[half / 2] >> half % 2 * 32);
    }
    if (reg == IOAPICVER)
        return IOAPICVER_VALUE;
    return reg == IOAPICID || reg == IOAPICARB ? ioapic->id : 0;
}

static void window_write(struct ioapic *ioapic, u32 value)
{
    u8 reg = ioapic->select;
    if (reg >= IOREDTBL_FIRST && reg <= IOREDTBL_LAST)
        entry_write(ioapic, reg - IOREDTBL_FIRST, value);
    else if (reg == IOAPICID)
        ioapic->id = value & IOAPICID_WRITABLE;
}

// The window takes whole registers only; what does not exist reads 0.
static u64 ioapic_read(struct io_device *device, u64 offset, unsigned size)
{
    struct ioapic *ioapic = container_of(device, struct ioapic, mmio);
    if (offset == IOREGSEL)
        return ioapic->select;
    return offset == IOWIN && size == sizeof(u32) ? window_read(ioapic) : 0;
}

static void ioapic_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct ioapic *ioapic = container_of(device, struct ioapic, mmio);
    if (offset == IOREGSEL)
        ioapic->select = (u8)value;
    else if (offset == IOWIN && size == sizeof(u32))
        window_write(ioapic, (u32)value);
    else if (offset == IOAPICEOI)
        ioapic_eoi(ioapic, (u8)value);
}

static const struct io_device_ops ioapic_ops = {"ioapic", ioapic_read, ioapic_write};

void ioapic_reset(struct ioapic *ioapic)
{
    ioapic->id = 0;
    ioapic->select = 0;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        ioapic->entries[pin] = ENTRY_MASKED;
}

void ioapic_init(struct ioapic *ioapic, struct apic_bus *bus)
{
    *ioapic = (struct ioapic){.mmio = {&ioapic_ops}, .bus = bus};
    ioapic_reset(ioapic);
    bus->eoi = ioapic_eoi;
    bus->context = ioapic;
}
