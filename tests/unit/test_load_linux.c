// SPDX-License-Identifier: MIT
// The Linux loader with a made-up bzImage: where everything lands, and a refusal for each thing
// that can be wrong.

#include <string.h>
#include "tests/unit/arena.h"
#define lock heap_lock
#include "mm/heap.c"
#undef lock
#include "arch/x86_64/page_table.c"
#include "mm/guest_memory.c"
#include "vmm/lib/format.c"
#include "vmm/layout.c"
#include "vmm/load/guest_image.c"
#include "vmm/load/load_linux.c"

#define SETUP_SECTS 3
#define SETUP_BYTES ((SETUP_SECTS + 1) * 512)
#define IMAGE_BYTES (64 * KIB)

void thread_yield(void)
{
}

static struct guest_memory gm;
static u8 image[SETUP_BYTES + IMAGE_BYTES + 100]; // a signature may follow
static u8 initrd[3 * PAGE_SIZE + 17];
static struct e820_entry e820[LAYOUT_E820_MAX];
static struct guest_image in;
static struct guest_entry out;
static char why[CONFIG_ERROR_MAX];

static struct setup_header *header(void)
{
    return (struct setup_header *)(image + HEADER_OFFSET);
}

static void start(u64 memory)
{
    memset(roomy, 0, sizeof(roomy));
    arena_start(64 * MIB);
    CHECK_EQ(guest_memory_init(&gm, &page_format_ept, 2, GUEST_PAGES_4K), OK);
    CHECK_EQ(guest_memory_add(&gm, 0, LAYOUT_LOW_SIZE, GUEST_SLOT_RAM), OK);
    CHECK_EQ(
        guest_memory_add(&gm, LAYOUT_HIGH, layout_below_4g(memory) - LAYOUT_HIGH, GUEST_SLOT_RAM),
        OK);
    for (unsigned i = 0; i < sizeof(image); i++)
        image[i] = (u8)(i * 31 + (i >> 8));
    for (unsigned i = 0; i < sizeof(initrd); i++)
        initrd[i] = (u8)(i * 17 + 3);
    *header() = (struct setup_header){.setup_sects = SETUP_SECTS,
                                      .syssize = IMAGE_BYTES / 16,
                                      .boot_flag = 0xaa55,
                                      .jump = 0xeb,
                                      .jump_offset = 0x6a,
                                      .header = 0x53726448,
                                      .version = 0x20f,
                                      .loadflags = 1,
                                      .initrd_addr_max = 0x7fffffff,
                                      .kernel_alignment = 2 * MIB,
                                      .relocatable_kernel = 1,
                                      .xloadflags = 0x3f,
                                      .cmdline_size = 2047,
                                      .pref_address = 16 * MIB,
                                      .init_size = 8 * MIB};
    in = (struct guest_image){.kernel_name = "\\guests\\vmlinuz",
                              .kernel = image,
                              .kernel_size = sizeof(image),
                              .modules = {{"\\guests\\initrd", "", initrd, sizeof(initrd)}},
                              .module_count = 1,
                              .cmdline = "console=ttyS0",
                              .memory = memory,
                              .e820 = e820,
                              .e820_count = layout_e820(memory, e820),
                              .rsdp = LAYOUT_RSDP,
                              .why = why};
    why[0] = 0;
}

static int load(void)
{
    int error = load_linux(&gm, &in, &out);
    CHECK_EQ(error != OK, why[0] != 0);
    return error;
}

static bool guest_has(gpa_t gpa, const void *bytes, u64 size)
{
    u8 *read = malloc(size);
    bool same = guest_memory_read(&gm, gpa, read, size) == OK && memcmp(read, bytes, size) == 0;
    free(read);
    return same;
}

static struct boot_params params(void)
{
    struct boot_params p;
    CHECK_EQ(guest_memory_read(&gm, out.rsi, &p, sizeof(p)), OK);
    return p;
}

TEST(everything_is_where_the_protocol_has_it)
{
    start(128 * MIB);
    CHECK_EQ(load(), OK);
    CHECK(guest_has(16 * MIB, image + SETUP_BYTES, IMAGE_BYTES));
    CHECK_EQ(out.rip, 16 * MIB + 0x200);
    CHECK_EQ(out.rsi, LINUX_BOOT_PARAMS);
    struct boot_params p = params();
    CHECK_EQ(p.hdr.header, 0x53726448);
    CHECK_EQ(p.hdr.type_of_loader, 0xff);
    CHECK_EQ(p.hdr.ramdisk_size, sizeof(initrd));
    CHECK_EQ(p.hdr.ramdisk_image, ALIGN_DOWN(128 * MIB - sizeof(initrd), PAGE_SIZE));
    CHECK(guest_has(p.hdr.ramdisk_image, initrd, sizeof(initrd)));
    CHECK(guest_has(p.hdr.cmd_line_ptr, "console=ttyS0", 14));
    CHECK_EQ(p.acpi_rsdp_addr, LAYOUT_RSDP);
    CHECK_EQ(p.e820_entries, 5);
    CHECK_EQ(p.e820_table[3].base, MIB);
    CHECK_EQ(p.e820_table[3].size, 127 * MIB);
    CHECK_EQ(p.screen_info[0], 0);
    CHECK_EQ(out.mode, GUEST_MODE_LONG);
    CHECK(load_linux_recognises(&in));
    u64 code;
    CHECK_EQ(guest_memory_read(&gm, BOOT_GDT + BOOT_CS, &code, 8), OK);
    CHECK_EQ(code, 0x00af9b000000ffff);
}

// Walk the guest's own tables as its CPU would.
TEST(the_low_4_gib_are_mapped_one_to_one)
{
    start(128 * MIB);
    CHECK_EQ(load(), OK);
    static const u64 places[] = {0,   0x7000,      16 * MIB,    GIB - 1,
                                 GIB, 3 * GIB + 5, 4 * GIB - 1, 4 * GIB};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        u64 at = BOOT_PML4, entry = 0, level;
        for (level = 4; level >= 2; level--) {
            u64 index = (places[i] >> (12 + 9 * (level - 1))) & 511;
            CHECK_EQ(guest_memory_read(&gm, at + index * 8, &entry, 8), OK);
            if ((entry & 1) == 0 || (entry & 0x80))
                break;
            at = entry & ~0xfffull;
        }
        if (places[i] >= 4 * GIB)
            CHECK_EQ(entry & 1, 0);
        else
            CHECK_EQ(entry, ALIGN_DOWN(places[i], PAGE_2M) | 0x83);
    }
}

TEST(a_small_machine_gets_the_kernel_lower)
{
    start(16 * MIB);
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.rip, 2 * MIB + 0x200);
    start(16 * MIB);
    header()->relocatable_kernel = 0;
    CHECK_EQ(load(), ERR_RANGE);
    CHECK_STR(why,
              "kernel \\guests\\vmlinuz: needs 8 MiB of memory at 0x1000000, the VM has 16 MiB: "
              "raise 'memory'");
    start(8 * MIB);
    CHECK_EQ(load(), ERR_RANGE);
}

TEST(no_initrd_and_an_empty_command_line)
{
    start(64 * MIB);
    in.modules[0] = (struct guest_module){0};
    in.module_count = 0;
    in.cmdline = "";
    CHECK_EQ(load(), OK);
    CHECK_EQ(params().hdr.ramdisk_image, 0);
    CHECK_EQ(params().hdr.ramdisk_size, 0);
    CHECK(guest_has(LINUX_CMDLINE, "", 1));
}

TEST(the_initrd_obeys_its_limits)
{
    start(128 * MIB);
    header()->initrd_addr_max = 64 * MIB - 1;
    CHECK_EQ(load(), OK);
    CHECK_EQ(params().hdr.ramdisk_image, ALIGN_DOWN(64 * MIB - sizeof(initrd), PAGE_SIZE));
    start(128 * MIB);
    header()->initrd_addr_max = 24 * MIB + PAGE_SIZE;
    CHECK_EQ(load(), ERR_RANGE);
    CHECK_STR(why, "kernel \\guests\\vmlinuz: initrd \\guests\\initrd: 1 MiB do not fit between "
                   "0x1800000 and 0x1801001: raise 'memory'");
    start(128 * MIB);
    in.modules[0].size = ~0ull;
    CHECK_EQ(load(), ERR_RANGE);
}

TEST(a_header_shorter_than_ours_is_not_read_past_its_end)
{
    start(128 * MIB);
    header()->jump_offset = 0x264 - 0x202;
    header()->kernel_info_offset = 0x1234;
    CHECK_EQ(load(), OK);
    CHECK_EQ(params().hdr.init_size, 8 * MIB);
    CHECK_EQ(params().hdr.kernel_info_offset, 0);
}

TEST(truncated_files)
{
    start(128 * MIB);
    in.kernel_size = 4096;
    CHECK_EQ(load(), ERR_FORMAT);
    CHECK_STR(
        why, "kernel \\guests\\vmlinuz: truncated: the header says 67584 bytes, the file has 4096");
    for (u64 size = 0; size < SETUP_BYTES + IMAGE_BYTES; size += 61) {
        u8 *exact = malloc(size + 1); // the sanitizer watches its end
        memcpy(exact, image, size);
        in.kernel = exact;
        in.kernel_size = size;
        CHECK_EQ(load(), ERR_FORMAT);
        free(exact);
    }
}

TEST(a_file_may_end_within_its_last_paragraph)
{
    start(128 * MIB);
    in.kernel_size = SETUP_BYTES + IMAGE_BYTES - 15;
    CHECK_EQ(load(), OK);
    CHECK(guest_has(16 * MIB, image + SETUP_BYTES, IMAGE_BYTES - 15));
    CHECK(guest_has(16 * MIB + IMAGE_BYTES - 15, (u8[15]){0}, 15));
    in.kernel_size--;
    CHECK_EQ(load(), ERR_FORMAT);
}

TEST(a_kernel_without_64_bit_entry_is_entered_in_32_bit_mode)
{
    for (unsigned way = 0; way < 2; way++) {
        start(128 * MIB);
        if (way == 0)
            header()->xloadflags &= (u16)~1;
        else
            header()->version = 0x20a; // it has no xloadflags
        CHECK_EQ(load(), OK);
        CHECK_EQ(out.mode, GUEST_MODE_PROTECTED);
        CHECK_EQ(out.rip, 16 * MIB);
        CHECK_EQ(out.rsi, LINUX_BOOT_PARAMS);
        u64 code;
        CHECK_EQ(guest_memory_read(&gm, BOOT_GDT + 0x10, &code, 8), OK);
        CHECK_EQ(code, 0x00cf9b000000ffff);
    }
}

static void refused(int error, const char *part)
{
    CHECK_EQ(load(), error);
    if (!strstr(why, part))
        CHECK_STR(why, part);
    start(128 * MIB);
}

TEST(each_wrong_field_is_refused)
{
    start(128 * MIB);
    header()->boot_flag = 0;
    CHECK(!load_linux_recognises(&in));
    refused(ERR_FORMAT, "not a Linux kernel");
    header()->header = 0x12345678;
    refused(ERR_FORMAT, "magic 0x12345678 instead of 0xaa55, 0x53726448");
    header()->version = 0x209;
    refused(ERR_UNSUPPORTED, "boot protocol 2.09 is too old");
    header()->loadflags = 0;
    refused(ERR_UNSUPPORTED, "loadflags 0x0");
    header()->syssize = 0;
    refused(ERR_FORMAT, "0 bytes of code");
    header()->syssize = ~0u;
    refused(ERR_FORMAT, "truncated: the header says 68719478768 bytes");
    header()->kernel_alignment = 0;
    refused(ERR_FORMAT, "kernel_alignment is 0x0");
    header()->kernel_alignment = 3 * MIB;
    refused(ERR_FORMAT, "kernel_alignment is 0x300000");
    header()->kernel_alignment = BIT(31);
    refused(ERR_FORMAT, "kernel_alignment");
    header()->init_size = ~0u;
    refused(ERR_RANGE, "needs 4096 MiB of memory at 0x200000, the VM has 128 MiB");
    header()->relocatable_kernel = 0;
    header()->pref_address = ~0ull;
    refused(ERR_RANGE, "at 0xffffffffffffffff");
    header()->relocatable_kernel = 0;
    header()->pref_address = 0x1000; // over our own tables
    refused(ERR_RANGE, "at 0x1000,");
    header()->cmdline_size = 5;
    refused(ERR_RANGE, "the command line has 13 characters, this kernel takes 5");
    in.module_count = 2;
    refused(ERR_UNSUPPORTED, "a Linux kernel takes one initrd, and no modules");
    in.e820_count = 200;
    refused(ERR_RANGE, "200 e820 entries");
    header()->pref_address = ~0ull; // relocatable: only a wish
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.rip, 2 * MIB + 0x200);
}

TEST(a_host_without_memory_says_so)
{
    for (u64 left = 0; left < 12; left += 3) {
        start(128 * MIB);
        arena_exhaust(left);
        CHECK_EQ(load(), ERR_NO_MEMORY);
        CHECK_STR(why, "kernel \\guests\\vmlinuz: the host ran out of memory while loading it");
    }
}

TEST(random_headers_do_no_harm)
{
    srand(1);
    start(64 * MIB);
    for (unsigned round = 0; round < 3000; round++) {
        start(64 * MIB);
        for (unsigned i = 0; i < 1 + round % 4; i++)
            image[HEADER_OFFSET + 0x11 + (unsigned)rand() % 0x6a] = (u8)rand();
        if (load() == OK)
            CHECK(out.rip >= MIB && out.rip < 64 * MIB);
    }
}

TEST(the_map_of_a_large_machine_goes_on_above_4_gib)
{
    struct e820_entry map[LAYOUT_E820_MAX];
    CHECK_EQ(layout_e820(2 * MIB, map), 5);
    unsigned count = layout_e820(5 * GIB, map);
    CHECK_EQ(count, 6);
    CHECK_EQ(map[3].base + map[3].size, LAYOUT_PCI_HOLE);
    CHECK_EQ(map[5].base, 4 * GIB);
    CHECK_EQ(map[5].size, 5 * GIB - LAYOUT_PCI_HOLE);
    for (unsigned i = 1; i < count; i++)
        CHECK(map[i - 1].base + map[i - 1].size <= map[i].base);
}
