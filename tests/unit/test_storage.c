// SPDX-License-Identifier: MIT
// vmm/storage.c: from the names in a VM's configuration to drives on an adapter, with files that
// are made here and a heap that can run out.

#include "tests/unit/chip.h"
#include "vmm/lib/format.c"

#include "io/bus.c"
#include "io/dma.c"
#include "io/pci.c"
#include "io/pci_msi.c"
#include "io/disk_image.c"
#include "io/ata.c"
#include "io/ata_identify.c"
#include "io/atapi.c"
#include "io/ahci.c"
#include "io/ahci_command.c"
#include "vmm/storage.c"

#define FILE_SIZE (5 * MIB)
#define DEVFN     PCI_DEVFN(0x1f, 2)
#define PORT(n)   (HBA_PORTS + (n)*0x80u)

static struct vm vm;
static struct pci_host host;
static char why[CONFIG_ERROR_MAX];
static u8 file_bytes[FILE_SIZE];
static u64 file_size;
static const char *file_missing;
static unsigned allocated, allocations_left, freed_at_once, freed_most, yields;

void *heap_alloc(size_t size)
{
    if (!allocations_left)
        return NULL;
    allocations_left--;
    allocated++;
    return calloc(1, size);
}

void heap_free(void *object)
{
    allocated -= object != NULL;
    freed_at_once += object != NULL;
    freed_most = MAX(freed_most, freed_at_once);
    free(object);
}

void thread_yield(void)
{
    CHECK(!vm.disks); // whoever runs now finds them gone, not half gone
    freed_at_once = 0;
    yields++;
}

void apic_bus_msi(struct apic_bus *bus UNUSED, u64 address UNUSED, u32 data UNUSED)
{
    CHECK(false);
}

void *machine_dma_map(void *context UNUSED, u64 gpa UNUSED, bool write UNUSED, u64 *length UNUSED)
{
    return NULL;
}

const void *boot_file_bytes(const char *what, const char *name, unsigned line, u64 *size,
                            char *text)
{
    if (file_missing && strcmp(name, file_missing) == 0) {
        format_text(text, CONFIG_ERROR_MAX, "%s %s %u", what, name, line);
        return NULL;
    }
    *size = file_size;
    return file_bytes;
}

static void configure(const char *first, const char *second, const char *cd)
{
    const char *const names[] = {first, second, cd};
    memset(&vm, 0, sizeof(vm));
    memset(why, 0, sizeof(why));
    CHECK(snprintf(vm.config.name, sizeof(vm.config.name), "one") > 0);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        struct config_file *file = i == 2 ? &vm.config.cdrom : &vm.config.disk[i];
        CHECK(snprintf(file->name, sizeof(file->name), "%s", names[i]) >= 0);
        file->line = 10 + i;
    }
    file_size = FILE_SIZE;
    file_missing = NULL;
    allocations_left = ~0u;
    allocated = freed_at_once = freed_most = yields = 0;
}

static void write_disk(unsigned index, u64 from, u64 to)
{
    for (u64 at = from; at < to; at += PAGE_SIZE) {
        u64 length = 1;
        CHECK(disk_image_write(&vm.disks->images[index], at, &length) != NULL);
    }
}

TEST(a_vm_without_disks_has_nothing)
{
    struct storage *storage = NULL;
    char order[STORAGE_BOOT_ORDER_SIZE] = "?";
    const struct config_file *file;
    u64 size, written;
    configure("", "", "");
    CHECK_EQ(storage_open(&vm, why), OK);
    CHECK(!vm.disks);
    CHECK_EQ(storage_create(&vm, &host, DEVFN, &storage), OK);
    CHECK(!storage);
    storage_boot_order(&vm, order);
    CHECK_STR(order, "");
    CHECK(!storage_describe(&vm, 0, &file, &size, &written));
    storage_destroy(storage);
    storage_close(&vm);
    CHECK_EQ(allocated, 0);
}

TEST(each_name_is_a_drive_on_its_own_port)
{
    struct storage *storage = NULL;
    struct io_bus ports, mmio;
    configure("", "\\two", "\\disc");
    chip_clock_start();
    io_clock_init(&vm.clock, CHIP_HZ, chip_clock_now);
    io_bus_init(&ports, "port", 0x10000);
    io_bus_init(&mmio, "memory", 1ull << 46);
    pci_host_init(&host, &ports, &mmio, chip_line(16));
    CHECK_EQ(storage_open(&vm, why), OK);
    CHECK_EQ(storage_create(&vm, &host, DEVFN, &storage), OK);
    CHECK_EQ(chip_read(&storage->ahci.registers, HBA_PI, 4), 6);
    for (unsigned i = 1; i <= 2; i++) // the drives say what they are
        storage->ahci.registers.ops->write(&storage->ahci.registers, PORT(i) + PORT_CMD, 4,
                                           PORT_CMD_FIS_ENABLE);
    CHECK_EQ(chip_read(&storage->ahci.registers, PORT(1) + PORT_SIG, 4), 0x00000101);
    CHECK_EQ(chip_read(&storage->ahci.registers, PORT(2) + PORT_SIG, 4), 0xeb140101);
    CHECK_EQ(pci_config_get(host.functions[DEVFN], PCI_CLASS, 3), 0x010601);
    struct storage *again = NULL;
    CHECK_EQ(storage_create(&vm, &host, DEVFN, &again), ERR_EXISTS);
    storage_destroy(again);
    storage_destroy(storage);
    storage_close(&vm);
    io_bus_destroy(&ports);
    io_bus_destroy(&mmio);
    CHECK_EQ(allocated, 0);
}

TEST(what_was_written_outlives_the_adapter_and_is_counted)
{
    const struct config_file *file;
    u64 size, written;
    configure("\\one", "", "\\disc");
    CHECK_EQ(storage_open(&vm, why), OK);
    write_disk(0, 0, 3 * PAGE_SIZE);
    struct disks *disks = vm.disks;
    CHECK_EQ(storage_open(&vm, why), OK); // the next start
    CHECK(vm.disks == disks);
    CHECK(storage_describe(&vm, 0, &file, &size, &written));
    CHECK(file == &vm.config.disk[0]);
    CHECK_EQ(size, FILE_SIZE);
    CHECK_EQ(written, 3 * PAGE_SIZE);
    CHECK_EQ(storage_left(&vm), FILE_SIZE - 3 * PAGE_SIZE); // nothing is written to the CD
    CHECK(storage_describe(&vm, 1, &file, &size, &written));
    CHECK_EQ(size, 0);
    CHECK(storage_describe(&vm, 2, &file, &size, &written));
    CHECK(file == &vm.config.cdrom);
    CHECK_EQ(written, 0);
    CHECK(!storage_describe(&vm, 3, &file, &size, &written));
    u64 length = 1;
    CHECK(!disk_image_write(&vm.disks->images[CDROM], 0, &length));
    storage_close(&vm);
    CHECK_EQ(allocated, 0);
}

TEST(the_longest_boot_order_has_room)
{
    char order[STORAGE_BOOT_ORDER_SIZE];
    configure("\\one", "\\two", "\\disc");
    CHECK_EQ(storage_open(&vm, why), OK);
    storage_boot_order(&vm, order);
    CHECK_STR(order, "/pci@i0cf8/pci8086,2922@1f,2/drive@0/disk@0\n"
                     "/pci@i0cf8/pci8086,2922@1f,2/drive@1/disk@0\n"
                     "/pci@i0cf8/pci8086,2922@1f,2/drive@2/disk@0");
    storage_close(&vm);
}

TEST(a_file_that_cannot_be_a_disk_is_refused_with_its_line)
{
    configure("\\one", "\\two", "");
    file_missing = "\\two";
    CHECK_EQ(storage_open(&vm, why), ERR_NOT_FOUND);
    CHECK_STR(why, "disk \\two 11");
    CHECK(!vm.disks);
    configure("\\one", "", "");
    file_size = 513;
    CHECK_EQ(storage_open(&vm, why), ERR_FORMAT);
    CHECK_STR(why, "plinth.ini:10: disk \\one has 513 bytes: an image is whole sectors of 512 "
                   "bytes, one at least");
    file_size = 0;
    CHECK_EQ(storage_open(&vm, why), ERR_FORMAT);
    configure("", "", "\\disc");
    file_size = 512;
    CHECK_EQ(storage_open(&vm, why), ERR_FORMAT);
    file_size = 2048;
    CHECK_EQ(storage_open(&vm, why), OK);
    storage_close(&vm);
    CHECK_EQ(allocated, 0);
}

TEST(a_heap_that_runs_out_leaves_nothing_behind)
{
    for (unsigned left = 0; left < 3; left++) {
        configure("\\one", "\\two", "\\disc");
        allocations_left = left;
        CHECK_EQ(storage_open(&vm, why), ERR_NO_MEMORY);
        CHECK_STR(why, left == 0   ? "VM one: the host is out of memory"
                       : left == 1 ? "plinth.ini:10: disk: the host is out of memory"
                                   : "plinth.ini:11: disk: the host is out of memory");
        CHECK(!vm.disks);
        CHECK_EQ(allocated, 0);
    }
    configure("\\one", "", "");
    CHECK_EQ(storage_open(&vm, why), OK);
    allocations_left = 0;
    struct storage *storage = NULL;
    CHECK_EQ(storage_create(&vm, &host, DEVFN, &storage), ERR_NO_MEMORY);
    storage_destroy(storage);
    storage_close(&vm);
    CHECK_EQ(allocated, 0);
}

TEST(others_run_while_a_disk_is_given_back)
{
    configure("\\one", "\\two", "");
    CHECK_EQ(storage_open(&vm, why), OK);
    write_disk(0, 0, FILE_SIZE);
    write_disk(1, 0, PAGE_SIZE);
    freed_at_once = freed_most = 0;
    storage_close(&vm);
    CHECK_EQ(yields, 3 + 1);                      // one for each 2 MiB that was written to
    CHECK(freed_most <= PAGE_2M / PAGE_SIZE + 3); // and the tables
    CHECK_EQ(allocated, 0);
}
