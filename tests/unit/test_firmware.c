// SPDX-License-Identifier: MIT
// Firmware images on the real guest memory: where the parts lie, what is protected, what is kept.
#include <string.h>
#include "tests/unit/arena.h"
#define lock heap_lock
#include "mm/heap.c"
#undef lock
#include "arch/x86_64/page_table.c"
#include "mm/guest_memory.c"
#include "io/bus.c"
#include "io/flash.c"
#include "vmm/lib/format.c"
#include "vmm/load/firmware.c"

#define NV_SIZE  (2 * FLASH_BLOCK_SIZE)
#define ROM_SIZE (256 * KIB)

static struct vm vm;
static struct vcpu vcpus[2];
static u8 image[NV_SIZE + ROM_SIZE];
static u8 variables[64 * KIB];
static u64 image_size, variables_file_size;
static unsigned flushes;
static char why[CONFIG_ERROR_MAX];

const void *boot_file_bytes(const char *what, const char *name, unsigned line UNUSED, u64 *size,
                            char *reason UNUSED)
{
    bool is_image = strcmp(what, "firmware") == 0;
    CHECK_STR(name, is_image ? "\\fw" : "\\nv");
    *size = is_image ? image_size : variables_file_size;
    return is_image ? image : variables;
}

void vcpu_request(struct vcpu *vcpu UNUSED, u32 requests)
{
    flushes += requests == VCPU_REQUEST_FLUSH;
}

static void volume_write(u8 *to, u64 length)
{
    struct volume_header h = {.file_system = {0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9,
                                              0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50},
                              .length = length,
                              .signature = {'_', 'F', 'V', 'H'}};
    memcpy(to, &h, sizeof(h));
}

// ROM only, until a test says otherwise.
static void start(void)
{
    memset(roomy, 0, sizeof(roomy));
    arena_start(64 * MIB);
    memset(&vm, 0, sizeof(vm));
    vm.vcpus = vcpus;
    vm.vcpu_count = 2;
    strcpy(vm.config.firmware, "\\fw");
    vm.config.firmware_line = 7;
    for (unsigned i = 0; i < sizeof(image); i++)
        image[i] = (u8)(i * 31 + (i >> 8));
    memset(variables, 0xff, sizeof(variables));
    image_size = ROM_SIZE;
    variables_file_size = 0;
    flushes = 0;
}

static void power_on(void)
{
    io_bus_init(&vm.mmio, "memory", BIT(52));
    CHECK_EQ(guest_memory_init(&vm.memory, &page_format_ept, 2, GUEST_PAGES_AUTO), OK);
    CHECK_EQ(firmware_prepare(&vm, why), OK);
    CHECK_EQ(firmware_memory_add(&vm), OK);
    CHECK_EQ(firmware_map(&vm), OK);
    firmware_power_on(&vm);
    CHECK_EQ(firmware_load(&vm), OK);
}

static void stop(void)
{
    io_bus_destroy(&vm.mmio);
    guest_memory_destroy(&vm.memory);
}

static void end(void)
{
    stop();
    firmware_destroy(&vm);
    firmware_destroy(&vm); // harmless
}

static u8 byte_at(gpa_t gpa)
{
    u8 byte = 0;
    CHECK_EQ(guest_memory_read(&vm.memory, gpa, &byte, 1), OK);
    return byte;
}

static bool writable(gpa_t gpa)
{
    return guest_memory_fault(&vm.memory, gpa, PAGE_WRITE) == GUEST_FAULT_MAPPED;
}

TEST(the_image_ends_at_4_gib_and_below_1_mib)
{
    start();
    power_on();
    CHECK_EQ(byte_at(0xfffffff0), image[ROM_SIZE - 16]);
    CHECK_EQ(byte_at(0x100000000ull - ROM_SIZE), image[0]);
    CHECK_EQ(byte_at(0xffff0), image[ROM_SIZE - 16]);
    CHECK_EQ(byte_at(0xe0000), image[ROM_SIZE - LEGACY_SIZE]);
    CHECK(!writable(0xfffffff0));
    CHECK_EQ(vm.mmio.count, 0);
    end();
}

TEST(pam_lets_writes_through_by_segment)
{
    start();
    power_on();
    u8 pam[FIRMWARE_PAM_SIZE] = {0};
    firmware_shadow(&vm, pam);
    for (gpa_t gpa = 0xc0000; gpa < 0x100000; gpa += 0x4000)
        CHECK(!writable(gpa));
    flushes = 0;
    pam[0] = 0x30; // F0000
    pam[2] = 0x03; // C8000
    pam[6] = 0x20; // EC000
    firmware_shadow(&vm, pam);
    CHECK_EQ(flushes, 2);
    firmware_shadow(&vm, pam);
    CHECK_EQ(flushes, 2);
    for (gpa_t gpa = 0xc0000; gpa < 0x100000; gpa += 0x4000)
        CHECK_EQ(writable(gpa), gpa >= 0xec000 || (gpa & ~0x3fffull) == 0xc8000);
    CHECK_EQ(byte_at(0xffff0), image[ROM_SIZE - 16]);
    end();
}

TEST(a_reset_brings_the_image_back_and_leaves_the_rest)
{
    static const gpa_t places[] = {0xffff0, 0xe0000, 0xdffff, 0xc0000};
    start();
    power_on();
    CHECK_EQ(guest_memory_add(&vm.memory, 0x100000, MIB, GUEST_SLOT_RAM), OK);
    CHECK_EQ(guest_memory_fill(&vm.memory, 0x100000, 0x55, PAGE_SIZE), OK);
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
        CHECK_EQ(guest_memory_fill(&vm.memory, places[i], 0x55, 1), OK);
    CHECK_EQ(firmware_load(&vm), OK);
    CHECK_EQ(byte_at(0xffff0), image[ROM_SIZE - 16]);
    CHECK_EQ(byte_at(0xe0000), image[ROM_SIZE - LEGACY_SIZE]);
    CHECK_EQ(byte_at(0xdffff), 0);
    CHECK_EQ(byte_at(0xc0000), 0);
    CHECK_EQ(byte_at(0x100fff), 0x55);
    end();
}

static void flash_out(gpa_t gpa, u8 value)
{
    CHECK(io_bus_write(&vm.mmio, gpa, 1, value));
}

static void check_variables_are_kept(gpa_t base)
{
    CHECK_EQ(guest_memory_fault(&vm.memory, base, PAGE_READ), GUEST_FAULT_MAPPED);
    CHECK_EQ(guest_memory_fault(&vm.memory, base, PAGE_WRITE), GUEST_FAULT_DEVICE);
    flash_out(base + 0x100, PROGRAM_OTHER);
    CHECK_EQ(guest_memory_fault(&vm.memory, base, PAGE_READ), GUEST_FAULT_DEVICE);
    flash_out(base + 0x100, 0x42);
    CHECK_EQ(guest_memory_fault(&vm.memory, base, PAGE_READ), GUEST_FAULT_DEVICE);
    flash_out(base + 0x100, READ_ARRAY);
    CHECK_EQ(guest_memory_fault(&vm.memory, base, PAGE_READ), GUEST_FAULT_MAPPED);
    CHECK_EQ(byte_at(base + 0x100), 0x42);
    stop();
    power_on();
    CHECK_EQ(byte_at(base + 0x100), 0x42);
    CHECK_EQ(byte_at(0xfffffff0), image[image_size - 16]);
    end();
}

TEST(variables_in_the_image_are_flash_and_outlive_a_stop)
{
    start();
    image_size = sizeof(image);
    memset(image, 0xff, NV_SIZE);
    volume_write(image, NV_SIZE);
    power_on();
    CHECK_EQ(byte_at(0x100000000ull - ROM_SIZE), image[NV_SIZE]);
    check_variables_are_kept(0x100000000ull - sizeof(image));
    CHECK_EQ(image[0x100], 0xff); // the boot volume's file is as it was
}

TEST(variables_of_a_file_lie_below_the_image)
{
    start();
    strcpy(vm.config.nvram, "\\nv");
    variables_file_size = FLASH_BLOCK_SIZE;
    CHECK_EQ(firmware_prepare(&vm, why), ERR_NOT_FOUND);
    CHECK(strstr(why, "nvram \\nv has 4096 bytes"));
    CHECK(!vm.firmware);
    variables_file_size = sizeof(variables);
    power_on();
    check_variables_are_kept(0x100000000ull - ROM_SIZE - sizeof(variables));
}

TEST(an_image_with_variables_stays_whole_beside_a_file_of_them)
{
    start();
    image_size = sizeof(image);
    memset(image, 0xff, NV_SIZE);
    volume_write(image, NV_SIZE);
    strcpy(vm.config.nvram, "\\nv");
    variables_file_size = sizeof(variables);
    power_on();
    CHECK_EQ(byte_at(0x100000000ull - sizeof(image) + 40), image[40]);
    check_variables_are_kept(0x100000000ull - sizeof(image) - sizeof(variables));
}

TEST(a_wrong_size_is_refused_in_one_line)
{
    start();
    static const u64 sizes[] = {0, PAGE_SIZE, ROM_SIZE + 1, 16 * MIB};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        image_size = sizes[i];
        CHECK_EQ(firmware_prepare(&vm, why), ERR_NOT_FOUND);
        CHECK(strncmp(why, "plinth.ini:7: firmware \\fw has ", 31) == 0);
        CHECK(!vm.firmware);
    }
}

TEST(a_volume_longer_than_its_image_is_none)
{
    start();
    static const u64 lengths[] = {0, 100, ROM_SIZE, ~0ull, ROM_SIZE + FLASH_BLOCK_SIZE};
    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
        volume_write(image, lengths[i]);
        CHECK_EQ(variables_size(image, ROM_SIZE), 0);
    }
    volume_write(image, ROM_SIZE - FLASH_BLOCK_SIZE);
    CHECK_EQ(variables_size(image, ROM_SIZE), ROM_SIZE - FLASH_BLOCK_SIZE);
}
