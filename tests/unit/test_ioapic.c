// SPDX-License-Identifier: MIT
// Routing of ISA interrupts: which input and polarity a route gets, and every way that it is
// refused. The fake IOAPIC is plain memory, so it shows the last register that was written.
#include "tests/unit/test.h"
#include "arch/x86_64/ioapic.c"

static u32 page[PAGE_SIZE / sizeof(u32)] ALIGNED(4096);
static bool no_memory;
static u8 registered_vector;
struct percpu percpus[CPU_MAX];

void *host_map_device(hpa_t hpa, u64 size, enum host_cache cache)
{
    (void)hpa;
    (void)size;
    (void)cache;
    return no_memory ? NULL : page;
}

void interrupt_register(u8 vector, interrupt_handler handler, void *context)
{
    (void)handler;
    (void)context;
    registered_vector = vector;
}

void log_line(enum log_level level, const char *format, ...)
{
    (void)level;
    (void)format;
}

// A machine with one IOAPIC of 24 inputs, as after power-up.
static struct boot_info *machine(void)
{
    static struct boot_info boot;
    memset(&boot, 0, sizeof(boot));
    memset(page, 0, sizeof(page));
    memset(irq_routed, 0, sizeof(irq_routed));
    page[IOAPIC_WINDOW / sizeof(u32)] = 23u << IOAPIC_LAST_INPUT_SHIFT;
    for (u32 i = 0; i < BOOT_IRQ_ISA; i++)
        boot.isa_irqs[i].gsi = i;
    ioapic_count = vectors_used = 0;
    no_memory = false;
    percpus[0].apic_id = 3;
    return &boot;
}

static u32 last_register(void)
{
    return page[IOAPIC_SELECT];
}

static u32 last_value(void)
{
    return page[IOAPIC_WINDOW / sizeof(u32)];
}

TEST(identity_route_is_edge_and_active_high)
{
    CHECK_EQ(interrupt_route_isa(machine(), 4, NULL, NULL), OK);
    CHECK_EQ(ioapics[0].inputs, 24);
    CHECK_EQ(last_register(), IOAPIC_REDIRECTION + 2 * 4);
    CHECK_EQ(last_value(), HOST_VECTOR_DEVICE);
    CHECK_EQ(registered_vector, HOST_VECTOR_DEVICE);
}

TEST(override_moves_the_input_and_its_polarity)
{
    struct boot_info *boot = machine();
    boot->isa_irqs[9] = (struct boot_irq){.gsi = 23, .active_low = 1, .level = 1};
    CHECK_EQ(interrupt_route_isa(boot, 9, NULL, NULL), OK);
    CHECK_EQ(last_register(), IOAPIC_REDIRECTION + 2 * 23);
    CHECK_EQ(last_value(), HOST_VECTOR_DEVICE | BIT(13) | BIT(15));
}

TEST(every_route_has_its_own_vector)
{
    struct boot_info *boot = machine();
    CHECK_EQ(interrupt_route_isa(boot, 1, NULL, NULL), OK);
    CHECK_EQ(interrupt_route_isa(boot, 4, NULL, NULL), OK);
    CHECK_EQ(registered_vector, HOST_VECTOR_DEVICE + 1);
}

TEST(refusals)
{
    struct boot_info *boot = machine();
    CHECK_EQ(interrupt_route_isa(boot, BOOT_IRQ_ISA, NULL, NULL), ERR_RANGE);
    CHECK_EQ(interrupt_route_isa(boot, ~0u, NULL, NULL), ERR_RANGE);
    boot->isa_irqs[5].gsi = 24; // one past the last input
    CHECK_EQ(interrupt_route_isa(boot, 5, NULL, NULL), ERR_NOT_FOUND);
    CHECK_EQ(interrupt_route_isa(boot, 4, NULL, NULL), OK);
    CHECK_EQ(interrupt_route_isa(boot, 4, NULL, NULL), ERR_EXISTS);
    percpus[0].apic_id = REDIRECTION_APIC_ID_LAST + 1;
    CHECK_EQ(interrupt_route_isa(boot, 6, NULL, NULL), ERR_UNSUPPORTED);
    vectors_used = HOST_VECTOR_DEVICES;
    CHECK_EQ(interrupt_route_isa(boot, 7, NULL, NULL), ERR_NO_MEMORY);
}

TEST(no_memory_for_the_registers)
{
    struct boot_info *boot = machine();
    no_memory = true;
    CHECK_EQ(interrupt_route_isa(boot, 4, NULL, NULL), ERR_NOT_FOUND);
}

TEST(second_ioapic_takes_its_own_interrupts)
{
    struct boot_info *boot = machine();
    boot->ioapic_count = 2;
    boot->ioapics[0] = (struct boot_ioapic){.base = 0xfec00000, .gsi_base = 24};
    boot->ioapics[1] = (struct boot_ioapic){.base = 0xfec01000, .gsi_base = 0};
    CHECK_EQ(interrupt_route_isa(boot, 0, NULL, NULL), OK);
    CHECK_EQ(ioapic_count, 2);
    CHECK(ioapic_of(0) == &ioapics[1]);
}
