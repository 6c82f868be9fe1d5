// SPDX-License-Identifier: MIT
// The whole PC: accesses of any width to every register of every chip, through the buses, while
// time passes in steps of any size, keys are typed, and two CPUs take their interrupts.
#include "tests/fuzz/fuzz.h"
#include "vmm/machine.c"
#include "vmm/storage.c"
#define flush firmware_flush
#include "vmm/load/firmware.c"
#undef flush
#include "vmm/test_devices.c"
#include "vmm/load/acpi_loader.c"
#include "vmm/load/fw_config.c"

#define CPUS          2
#define CLOCK_HZ      1000000000ull
#define STEP_BITS_MAX 36 // of a step of time: about a minute
#define MSR_X2APIC    0x800u
#define MSR_DEADLINE  0x6e0u
#define MSR_BASE      0x1bu
#define RAM_SIZE      0x10000u
#define DISK_SIZE     0x10000u
#define VECTOR_MIN    16
#define VECTOR_MAX    255

static struct vm vm;
static struct console console;
static struct lapic lapics[CPUS];
static u64 now;
static u8 ram[RAM_SIZE];
static u8 disk[DISK_SIZE];

void *heap_alloc(size_t size)
{
    return calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

// The guest's memory is small, and repeats up to 4 GiB.
void *guest_memory_hva(struct guest_memory *gm, gpa_t gpa, u64 *length)
{
    CHECK(gm == &vm.memory && *length);
    u64 rest = PAGE_SIZE - gpa % PAGE_SIZE;
    *length = MIN(*length, rest);
    return gpa < 4 * GIB ? ram + gpa % RAM_SIZE : NULL;
}

const void *boot_file_bytes(const char *what UNUSED, const char *name UNUSED, unsigned line UNUSED,
                            u64 *size, char *why UNUSED)
{
    *size = DISK_SIZE;
    return disk;
}

int format_text(char *buffer, size_t size, const char *format UNUSED, ...)
{
    memset(buffer, 0, size);
    return 0;
}

void thread_yield(void)
{
}

u64 rtc_wall_clock_ns(void)
{
    return 1709208000ull * CLOCK_HZ;
}

void vm_request_stop(struct vm *asked, enum vm_stop_reason reason)
{
    CHECK(reason == VM_STOP_RESET || reason == VM_STOP_POWEROFF);
    asked->stop_reason = reason;
}

int acpi_tables_make(struct acpi_tables *t, unsigned cpus UNUSED, bool hpet UNUSED,
                     gpa_t base UNUSED)
{
    t->size = sizeof(t->bytes);
    return OK;
}

void smbios_make(struct smbios *s, const struct smbios_machine *m UNUSED, u32 address UNUSED)
{
    s->size = sizeof(s->tables);
}

// The firmware is one file, its variables another.
#define FLASH_BASE (4 * GIB - 2 * DISK_SIZE)
int guest_memory_add(struct guest_memory *gm UNUSED, gpa_t base UNUSED, u64 size UNUSED,
                     enum guest_slot_kind kind UNUSED)
{
    return OK;
}

bool guest_memory_set_kind(struct guest_memory *gm, gpa_t base, enum guest_slot_kind kind)
{
    CHECK(gm == &vm.memory && IS_ALIGNED(base, PAGE_SIZE));
    CHECK(base == FLASH_BASE
              ? kind != GUEST_SLOT_RAM
              : base >= LAYOUT_ROMS && base < LAYOUT_HIGH && kind != GUEST_SLOT_DEVICE);
    return true;
}

int guest_memory_write(struct guest_memory *gm, gpa_t gpa, const void *from, u64 size)
{
    CHECK(gm == &vm.memory && from && gpa >= FLASH_BASE && size <= DISK_SIZE);
    CHECK(gpa - FLASH_BASE <= DISK_SIZE - size);
    return OK;
}

// Nothing is loaded here.
int guest_memory_fill(struct guest_memory *gm UNUSED, gpa_t gpa UNUSED, int byte UNUSED,
                      u64 size UNUSED)
{
    CHECK(false);
    return OK;
}

void vm_debug_exit(struct vm *asked, u32 code)
{
    CHECK(asked == &vm && code & 1);
}

void vcpu_request(struct vcpu *vcpu UNUSED, u32 requests)
{
    CHECK(requests == VCPU_REQUEST_FLUSH);
}

void console_output(struct console *to, const u8 *bytes, unsigned count)
{
    CHECK(to == &console && bytes && count);
}

static u64 clock_now(struct io_clock *clock UNUSED)
{
    return now;
}

static void nothing(struct lapic *l UNUSED)
{
}

static void startup(struct lapic *l UNUSED, u8 page UNUSED)
{
}

static const struct lapic_ops lapic_ops = {nothing, nothing, lapic_init_signal, startup, nothing,
                                           nothing, nothing};

static void start(void)
{
    now = 0;
    memset(&vm, 0, sizeof(vm));
    vm.console = &console;
    vm.config.memory = 4 * GIB;
    vm.config.devices =
        CONFIG_DEBUG_EXIT | CONFIG_DEBUGCON | CONFIG_TESTDEV | CONFIG_FW_CFG | CONFIG_HPET;
    io_bus_init(&vm.ports, "port", LAYOUT_PORT_SPACE);
    io_bus_init(&vm.mmio, "memory", LAYOUT_MEMORY_SPACE);
    io_clock_init(&vm.clock, CLOCK_HZ, clock_now);
    for (unsigned i = 0; i < CPUS; i++) {
        lapic_init(&lapics[i], i, i == 0, &vm.apics, &vm.clock, &lapic_ops);
        lapic_reset(&lapics[i]);
    }
    lapic_virtual_wire(&lapics[0]);
    char why[CONFIG_ERROR_MAX];
    vm.config.disk[0].name[0] = vm.config.cdrom.name[0] = '\\';
    memset(ram, 0, sizeof(ram));
    vm.config.firmware[0] = vm.config.nvram[0] = '\\';
    CHECK_EQ(storage_open(&vm, why), OK);
    CHECK_EQ(firmware_prepare(&vm, why), OK);
    CHECK_EQ(machine_create(&vm), OK);
}

static void finish(void)
{
    machine_destroy(&vm);
    storage_close(&vm);
    firmware_destroy(&vm);
    io_bus_destroy(&vm.ports);
    io_bus_destroy(&vm.mmio);
}

static void bus_access(struct fuzz *f, struct io_bus *bus)
{
    const struct io_region *region = &bus->regions[fuzz_below(f, bus->count)];
    u64 offset = fuzz_number(f, region->size > 256 && fuzz_below(f, 2) ? 4 : 1), value = 0;
    unsigned op = fuzz_below(f, 16), size = 1u << (op & 3);
    // Now and then a little outside of it.
    u64 address = region->base + (op & 8 ? offset : offset % region->size);
    if (op & 4) {
        io_bus_write(bus, address, size, fuzz_number(f, size));
    } else {
        io_bus_read(bus, address, size, &value);
        CHECK((value & ~bytes_mask(size)) == 0);
    }
}

// Registers behind an index register: the IOAPIC's, PCI configuration space, CMOS.
#define PCI_ENABLE 0x80000000ull
static void indexed_access(struct fuzz *f)
{
    static const struct {
        struct io_bus *bus;
        u64 index, data, enable;
        unsigned index_bytes, data_bytes;
    } pairs[] = {{&vm.mmio, LAYOUT_IOAPIC, LAYOUT_IOAPIC + 0x10, 0, 1, 4},
                 {&vm.ports, 0xcf8, 0xcfc, PCI_ENABLE, 4, 4},
                 {&vm.ports, 0x70, 0x71, 0, 1, 1}};
    unsigned i = fuzz_below(f, ARRAY_SIZE(pairs)), size = pairs[i].data_bytes;
    u64 index = pairs[i].enable | fuzz_number(f, MIN(pairs[i].index_bytes, 2u)), value;
    io_bus_write(pairs[i].bus, pairs[i].index, pairs[i].index_bytes, index);
    if (fuzz_below(f, 2))
        io_bus_write(pairs[i].bus, pairs[i].data, size, fuzz_number(f, size));
    else
        io_bus_read(pairs[i].bus, pairs[i].data, size, &value);
}

static void lapic_page_access(struct fuzz *f, struct lapic *lapic)
{
    u64 offset = fuzz_number(f, 2) % 0x1000;
    unsigned size = fuzz_below(f, 4) ? 4 : 1u << fuzz_below(f, 4);
    offset = offset & ~(u64)(size - 1);
    if (fuzz_below(f, 2))
        lapic->mmio.ops->write(&lapic->mmio, offset, size, fuzz_number(f, size));
    else
        lapic->mmio.ops->read(&lapic->mmio, offset, size);
}

static void lapic_msr_access(struct fuzz *f, struct lapic *lapic)
{
    unsigned kind = fuzz_below(f, 8);
    u64 value;
    u32 msr = kind == 0 ? MSR_BASE : kind == 1 ? MSR_DEADLINE : MSR_X2APIC + fuzz_below(f, 256);
    if (fuzz_below(f, 2)) {
        bool ok = lapic_msr_write(lapic, msr, fuzz_number(f, fuzz_below(f, 2) ? 4 : 8));
        (void)ok;
    } else {
        bool ok = lapic_msr_read(lapic, msr, &value);
        (void)ok;
    }
}

static void pass_time(struct fuzz *f)
{
    now += fuzz_number(f, 5) & (BIT(fuzz_below(f, STEP_BITS_MAX)) - 1);
    io_clock_run(&vm.clock, now);
    CHECK(vm.clock.next > now);
}

static void take_interrupt(struct fuzz *f, struct lapic *lapic)
{
    int vector = lapic_pending(lapic);
    CHECK(vector == -1 || (vector >= VECTOR_MIN && vector <= VECTOR_MAX));
    if (vector >= 0)
        lapic_accept(lapic, (u8)vector);
    if (fuzz_below(f, 4))
        lapic_eoi(lapic);
    if (machine_pic_pending(&vm) && fuzz_below(f, 2))
        machine_pic_acknowledge(&vm);
}

static void type_keys(struct fuzz *f)
{
    u8 keys[20];
    unsigned count = fuzz_below(f, sizeof(keys)) + 1;
    fuzz_bytes(f, keys, count);
    CHECK(console.input(console.context, keys, count) <= count);
}

static void signals(struct fuzz *f, struct lapic *lapic)
{
    switch (fuzz_below(f, 4)) {
    case 0:
        machine_power_button(&vm);
        break;
    case 1:
        lapic_cr8_write(lapic, fuzz_below(f, 16));
        CHECK(lapic_cr8_read(lapic) < 16);
        break;
    case 2:
        apic_bus_msi(&vm.apics, 0xfee00000ull | fuzz_number(f, 3), (u32)fuzz_number(f, 4));
        break;
    default:
        lapic_set_tsc_adjust(lapic, fuzz_number(f, 8));
    }
}

// The disks' host adapter: somewhere it can be found, and lists of commands of many shapes.
#define AHCI_BASE    0xc0000000ull
#define AHCI_CONFIG  (LAYOUT_ECAM + (STORAGE_DEVFN << 12))
#define AHCI_LIST    0x1000u
#define AHCI_TABLE   0x2000u
#define AHCI_PORT    0x100u
#define AHCI_CDROM   (AHCI_PORT + CDROM * 0x80u)
#define AHCI_STARTED 0x11u
static void adapter_enable(void)
{
    static const u32 ports[] = {AHCI_PORT, AHCI_CDROM};
    io_bus_write(&vm.mmio, AHCI_CONFIG + PCI_BAR0 + 20, 4, AHCI_BASE);
    io_bus_write(&vm.mmio, AHCI_CONFIG + PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    for (unsigned i = 0; i < ARRAY_SIZE(ports); i++) {
        io_bus_write(&vm.mmio, AHCI_BASE + ports[i], 4, AHCI_LIST);
        io_bus_write(&vm.mmio, AHCI_BASE + ports[i] + 0x18, 4, 0);
        io_bus_write(&vm.mmio, AHCI_BASE + ports[i] + 0x18, 4, AHCI_STARTED);
    }
}

// Most of them near to what is right.
static void command_fis(struct fuzz *f, u8 *table, bool cdrom)
{
    static const u8 commands[] = {0x20, 0x25, 0x29, 0x2f, 0x35, 0x40, 0x47, 0x60,
                                  0x61, 0x90, 0xc6, 0xc8, 0xca, 0xe5, 0xec, 0xef};
    static const u8 packets[] = {0x00, 0x03, 0x12, 0x1b, 0x25, 0x28, 0x43,
                                 0x46, 0x4a, 0x51, 0x5a, 0xa8, 0xbd, 0xff};
    fuzz_bytes(f, table, 0x10);
    fuzz_bytes(f, table + 0x40, ATA_PACKET_SIZE);
    unsigned shape = fuzz_below(f, 16);
    if (!shape)
        return;
    table[0] = 0x27;
    table[1] = shape == 1 ? 0 : 0x80;
    table[2] = cdrom ? (shape == 2 ? 0xa1 : 0xa0) : commands[table[2] % ARRAY_SIZE(commands)];
    table[5] = table[6] = table[8] = table[9] = table[10] = 0;
    table[7] |= 0x40;
    table[0x40] = packets[table[0x40] % ARRAY_SIZE(packets)];
    table[0x42] = table[0x43] = 0;
}

static void disk_command(struct fuzz *f)
{
    unsigned op = fuzz_below(f, 16), slot = op & 3;
    bool cdrom = op & 8;
    struct {
        u32 flags, moved;
        u64 table, reserved[2];
    } header = {.flags = 0x50000u | (cdrom ? 0x25u : 5u), .table = AHCI_TABLE + slot * 0x100};
    if (op & 4)
        header.flags ^= (u32)fuzz_number(f, 3);
    memcpy(ram + AHCI_LIST + slot * sizeof(header), &header, sizeof(header));
    u8 *table = ram + header.table;
    command_fis(f, table, cdrom);
    for (unsigned i = 0; i < 5; i++) {
        u32 prd[4] = {(u32)fuzz_number(f, 2), op & 4 ? (u32)fuzz_number(f, 1) : 0, 0,
                      (u32)fuzz_number(f, 2)};
        memcpy(table + 0x80 + i * sizeof(prd), prd, sizeof(prd));
    }
    adapter_enable();
    u32 port = cdrom ? AHCI_CDROM : AHCI_PORT;
    io_bus_write(&vm.mmio, AHCI_BASE + port + 0x34, 4, table[2] >> 1 == 0x30 ? 1u << slot : 0);
    io_bus_write(&vm.mmio, AHCI_BASE + port + 0x38, 4, 1u << slot);
}

// A request for a DMA transfer, where the ports then point to.
#define FW_CFG_REQUEST 0x3000u
static void firmware_request(struct fuzz *f)
{
    u32 request[4] = {(u32)fuzz_number(f, 1) << 24 | (u32)fuzz_number(f, 1) << 8,
                      __builtin_bswap32((u32)fuzz_number(f, 3)), (u32)fuzz_number(f, 1) & 1,
                      (u32)fuzz_number(f, 4)};
    memcpy(ram + FW_CFG_REQUEST, request, sizeof(request));
    io_bus_write(&vm.ports, FW_CFG_DMA_PORT + 4, 4, __builtin_bswap32(FW_CFG_REQUEST));
    memcpy(request, ram + FW_CFG_REQUEST, sizeof(request[0]));
    CHECK((__builtin_bswap32(request[0]) & ~1u) == 0);
}

// A command and its data, then a look at what it did.
static void flash_command(struct fuzz *f)
{
    static const u8 commands[] = {0x40, 0x10, 0x20, 0xe8, 0x60, 0xd0, 0x90, 0x98, 0x70, 0x50, 0xff};
    u64 address = FLASH_BASE + fuzz_number(f, 2), value;
    unsigned size = 1u << fuzz_below(f, 4), count = fuzz_below(f, 4);
    address -= address % size;
    io_bus_write(&vm.mmio, address, 1, commands[fuzz_below(f, ARRAY_SIZE(commands))]);
    for (unsigned i = 0; i < count; i++)
        io_bus_write(&vm.mmio, address, size, fuzz_below(f, 2) ? 0xd0 : fuzz_number(f, size));
    io_bus_read(&vm.mmio, address, size, &value);
    CHECK((value & ~bytes_mask(size)) == 0);
}

static void step(struct fuzz *f)
{
    struct lapic *lapic = &lapics[fuzz_below(f, CPUS)];
    switch (fuzz_below(f, 16)) {
    case 0:
        pass_time(f);
        break;
    case 1:
        take_interrupt(f, lapic);
        break;
    case 2:
        type_keys(f);
        break;
    case 3:
        signals(f, lapic);
        break;
    case 4:
        lapic_msr_access(f, lapic);
        break;
    case 5:
        lapic_page_access(f, lapic);
        break;
    case 6:
        bus_access(f, &vm.mmio);
        break;
    case 12:
    case 13:
        disk_command(f);
        break;
    case 14:
        firmware_request(f);
        break;
    case 15:
        flash_command(f);
        break;
    case 7:
    case 8:
        indexed_access(f);
        break;
    default:
        bus_access(f, &vm.ports);
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz f = {data, size};
    start();
    while (f.left)
        step(&f);
    machine_reset(&vm);
    finish();
    fuzz_verdict();
    return 0;
}
