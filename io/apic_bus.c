// SPDX-License-Identifier: MIT
// Interrupt messages between the local APICs, IOAPICs and MSI writers of a VM: which APICs a
// destination means, and the arbitration of lowest priority. Intel SDM volume 3, "Determining IPI
// Destination", "Message Signalled Interrupts", "Issuing Interprocessor Interrupts".
#include "io/lapic_regs.h"
#include "vmm/lib/bits.h"

#define XAPIC_BROADCAST  0xffu
#define X2APIC_BROADCAST 0xffffffffu

#define X2APIC_CLUSTER_SHIFT 16
#define X2APIC_MEMBERS       0xffffu
#define XAPIC_CLUSTER_SHIFT  4
#define XAPIC_MEMBERS        0xfu

#define MSI_ADDRESS_SHIFT     20
#define MSI_ADDRESS           0xfeeu
#define MSI_DESTINATION_SHIFT 12
#define MSI_REDIRECTION_HINT  BIT(3)
#define MSI_LOGICAL           BIT(2)
#define MSI_VECTOR            0xffu
#define MSI_DELIVERY_SHIFT    8
#define MSI_ASSERT            (1u << 14)
#define MSI_LEVEL             (1u << 15)

#define DELIVERY_BIT(d) (1u << (d))

static bool matches_physical(const struct lapic *lapic, const struct apic_message *m)
{
    return m->destination == lapic->id;
}

static bool matches_x2apic_logical(const struct lapic *lapic, const struct apic_message *m)
{
    u32 ldr = lapic_x2apic_ldr(lapic);
    return m->destination >> X2APIC_CLUSTER_SHIFT == ldr >> X2APIC_CLUSTER_SHIFT &&
           (m->destination & ldr & X2APIC_MEMBERS);
}

static bool matches_xapic_logical(const struct lapic *lapic, const struct apic_message *m)
{
    u32 logical_id = lapic->ldr >> LAPIC_ID_SHIFT;
    if (m->destination > XAPIC_BROADCAST)
        return false;
    switch (lapic->dfr >> LAPIC_MODEL_SHIFT) {
    case LAPIC_MODEL_FLAT:
        return m->destination & logical_id;
    case LAPIC_MODEL_CLUSTER:
        return m->destination >> XAPIC_CLUSTER_SHIFT == logical_id >> XAPIC_CLUSTER_SHIFT &&
               (m->destination & logical_id & XAPIC_MEMBERS);
    default:
        return false;
    }
}

static bool is_broadcast(const struct apic_message *m)
{
    return m->destination == (m->x2apic_format ? X2APIC_BROADCAST : XAPIC_BROADCAST);
}

static bool matches(const struct lapic *lapic, const struct apic_message *m)
{
    if (!lapic_is_enabled(lapic))
        return false;
    if (is_broadcast(m))
        return true;
    if (!m->logical)
        return matches_physical(lapic, m);
    return lapic_is_x2apic(lapic) ? matches_x2apic_logical(lapic, m)
                                  : matches_xapic_logical(lapic, m);
}

// The lowest task priority wins; among equals the one that comes first after the last winner.
static void deliver_lowest(struct apic_bus *bus, const struct apic_message *m,
                           const struct lapic *except)
{
    struct lapic *winner = NULL;
    unsigned winner_index = 0;
    for (unsigned i = 0; i < bus->count; i++) {
        unsigned index = (bus->lowest_next + i) % bus->count;
        struct lapic *lapic = bus->lapics[index];
        if (lapic == except || !lapic_is_software_enabled(lapic) || !matches(lapic, m))
            continue;
        if (!winner || lapic_tpr(lapic) < lapic_tpr(winner)) {
            winner = lapic;
            winner_index = index;
        }
    }
    if (!winner)
        return;
    bus->lowest_next = winner_index + 1;
    lapic_receive(winner, APIC_FIXED, m->vector, m->level);
}

static void deliver(struct apic_bus *bus, const struct apic_message *m, const struct lapic *except)
{
    if (m->delivery == APIC_LOWEST) {
        deliver_lowest(bus, m, except);
        return;
    }
    for (unsigned i = 0; i < bus->count; i++) {
        struct lapic *lapic = bus->lapics[i];
        if (lapic != except && matches(lapic, m))
            lapic_receive(lapic, m->delivery, m->vector, m->level);
    }
}

// The usual case first: one CPU by its id, which is its place on the bus too.
void apic_bus_deliver(struct apic_bus *bus, const struct apic_message *message)
{
    u32 id = message->destination;
    if (!message->logical && message->delivery != APIC_LOWEST && id < bus->count &&
        bus->lapics[id]->id == id) {
        if (lapic_is_enabled(bus->lapics[id]))
            lapic_receive(bus->lapics[id], message->delivery, message->vector, message->level);
        return;
    }
    deliver(bus, message, NULL);
}

void apic_bus_msi(struct apic_bus *bus, u64 address, u32 data)
{
    if (address >> MSI_ADDRESS_SHIFT != MSI_ADDRESS)
        return;
    if ((data & MSI_LEVEL) && !(data & MSI_ASSERT))
        return;
    struct apic_message m = {
        .destination = (u8)(address >> MSI_DESTINATION_SHIFT),
        .logical = address & MSI_LOGICAL,
        .level = data & MSI_LEVEL,
        .delivery = (enum apic_delivery)bits_get(data, MSI_DELIVERY_SHIFT, 3),
        .vector = (u8)(data & MSI_VECTOR),
    };
    if ((address & MSI_REDIRECTION_HINT) && m.delivery == APIC_FIXED)
        m.delivery = APIC_LOWEST;
    apic_bus_deliver(bus, &m);
}

// "Valid Combinations for the Pentium 4 and Intel Xeon Processors' Local xAPIC Interrupt Command
// Register".
#define DELIVERY_ANY                                                                               \
    (DELIVERY_BIT(APIC_FIXED) | DELIVERY_BIT(APIC_LOWEST) | DELIVERY_BIT(APIC_SMI) |               \
     DELIVERY_BIT(APIC_NMI) | DELIVERY_BIT(APIC_INIT) | DELIVERY_BIT(APIC_STARTUP))
static const u8 shorthand_deliveries[] = {
    [SHORTHAND_NONE] = DELIVERY_ANY,
    [SHORTHAND_SELF] = DELIVERY_BIT(APIC_FIXED),
    [SHORTHAND_ALL] = DELIVERY_BIT(APIC_FIXED),
    [SHORTHAND_OTHERS] = DELIVERY_ANY,
};

static bool ipi_is_valid(struct lapic *from, u32 icr, unsigned shorthand, unsigned delivery)
{
    if (!(shorthand_deliveries[shorthand] & DELIVERY_BIT(delivery)))
        return false;
    // INIT level de-assert did something before the Pentium 4 only.
    if (delivery == APIC_INIT && (icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
        return false;
    bool has_vector = delivery == APIC_FIXED || delivery == APIC_LOWEST;
    if (has_vector && (icr & ICR_VECTOR) < LAPIC_VECTOR_FIRST) {
        lapic_error(from, ESR_SEND_ILLEGAL_VECTOR);
        return false;
    }
    return true;
}

// The trigger mode counts for INIT alone; all other IPIs are edges.
void apic_bus_ipi(struct lapic *from, u32 icr, u32 destination, bool x2apic_format)
{
    unsigned shorthand = (icr & ICR_SHORTHAND) >> ICR_SHORTHAND_SHIFT;
    unsigned delivery = (icr & ICR_DELIVERY) >> ICR_DELIVERY_SHIFT;
    if (!ipi_is_valid(from, icr, shorthand, delivery))
        return;
    struct apic_message m = {
        .destination = destination,
        .logical = icr & ICR_LOGICAL,
        .x2apic_format = x2apic_format,
        .delivery = (enum apic_delivery)delivery,
        .vector = (u8)(icr & ICR_VECTOR),
    };
    if (shorthand == SHORTHAND_NONE) {
        apic_bus_deliver(from->bus, &m);
        return;
    }
    if (shorthand == SHORTHAND_SELF) {
        lapic_receive(from, APIC_FIXED, m.vector, false);
        return;
    }
    m.destination = X2APIC_BROADCAST;
    m.x2apic_format = true;
    deliver(from->bus, &m, shorthand == SHORTHAND_OTHERS ? from : NULL);
}
