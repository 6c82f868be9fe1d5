// SPDX-License-Identifier: MIT
// The multiboot 2 loader: headers with each kind of tag, what the kernel is told, and a refusal for
// each thing that can be wrong.

#define LOADER load_multiboot2
#include "tests/unit/kernel_image.h"
#include "vmm/load/load_multiboot2.c"

#define ALL_OF_HEADER 16

static u32 header_end; // where the next tag goes

static struct multiboot2_header *header(void)
{
    return (struct multiboot2_header *)(image + HEADER_OFFSET);
}

// The end tag, and the header's length and sum; more tags may follow.
static void header_close(void)
{
    const u32 end[] = {0, 8};
    memcpy(image + HEADER_OFFSET + header_end, end, sizeof(end));
    *header() = (struct multiboot2_header){.magic = 0xe85250d6,
                                           .header_length = header_end + 8,
                                           .checksum = 0 - 0xe85250d6 - (header_end + 8)};
}

static void tag(u16 type, u16 flags, const u32 *words, unsigned count)
{
    const struct header_tag head = {type, flags, (u32)(sizeof(head) + count * 4)};
    memcpy(image + HEADER_OFFSET + header_end, &head, sizeof(head));
    memcpy(image + HEADER_OFFSET + header_end + sizeof(head), words, count * 4);
    header_end = ALIGN_UP(header_end + head.size, 8u);
    header_close();
}
#define TAG(type, flags, ...)                                                                      \
    tag(type, flags, (const u32[]){__VA_ARGS__}, sizeof((const u32[]){__VA_ARGS__}) / 4)

static u8 rsdp[ACPI_RSDP_SIZE];

static void start(void)
{
    start_elf32();
    header_end = ALL_OF_HEADER;
    header_close();
    for (unsigned i = 0; i < sizeof(rsdp); i++)
        rsdp[i] = (u8)(i + 1);
    in.rsdp = 0x9000; // anywhere in RAM
    CHECK_EQ(guest_memory_write(&gm, in.rsdp, rsdp, sizeof(rsdp)), OK);
}

static void start_addresses(void)
{
    start();
    image[0] = 0; // no ELF file
    TAG(2, 0, MIB + HEADER_OFFSET - 16, MIB, MIB + CODE_BYTES, MIB + 3 * PAGE_SIZE + 1);
    TAG(3, 0, MIB + 64);
}

// The nth tag of this type of the information; its size comes back too. All is read through once.
static const u8 *info(u32 type, unsigned nth, u32 *size)
{
    static u8 bytes[PAGE_SIZE];
    u32 total;
    CHECK_EQ(out.rax, 0x36d76289);
    CHECK_EQ(out.rbx % 8, 0);
    CHECK_EQ(guest_memory_read(&gm, out.rbx, &total, sizeof(total)), OK);
    CHECK(total <= sizeof(bytes));
    CHECK_EQ(guest_memory_read(&gm, out.rbx, bytes, total), OK);
    const u8 *found = NULL;
    u32 at = 8;
    for (struct info_tag t = {1, 8}; t.type;) {
        memcpy(&t, bytes + at, sizeof(t));
        CHECK(t.size >= 8 && at + t.size <= total);
        if (t.type == type && nth-- == 0) {
            found = bytes + at;
            *size = t.size;
        }
        at += ALIGN_UP(t.size, 8u);
    }
    CHECK_EQ(at, total);
    return found;
}

static void info_is(u32 type, unsigned nth, const void *bytes, u32 size)
{
    u32 found_size = 0;
    const u8 *found = info(type, nth, &found_size);
    CHECK(found);
    CHECK_EQ(found_size, 8 + size);
    CHECK(found && memcmp(found + 8, bytes, size) == 0);
}

static bool info_has(u32 type, unsigned nth)
{
    u32 size;
    return info(type, nth, &size);
}

TEST(an_elf_kernel_is_where_its_segments_say)
{
    start();
    CHECK(load_multiboot2_recognises(&in));
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.mode, GUEST_MODE_PROTECTED);
    CHECK_EQ(out.rip, 2 * MIB + 0x10);
    CHECK(guest_has(2 * MIB, image + CODE_OFFSET, CODE_BYTES));
    start();
    TAG(3, 0, 2 * MIB + 20); // an entry address goes before ELF's
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.rip, 2 * MIB + 20);
}

TEST(the_kernel_is_told_what_there_is)
{
    start();
    CHECK_EQ(load(), OK);
    info_is(INFO_CMDLINE, 0, "\\k a=b c", 9);
    info_is(INFO_BOOT_LOADER_NAME, 0, "Plinth", 7);
    info_is(INFO_BASIC_MEMINFO, 0, (u32[]){639, 31 * KIB}, 8);
    info_is(INFO_ACPI_OLD, 0, rsdp, 20);
    info_is(INFO_ACPI_NEW, 0, rsdp, 36);
    CHECK(!info_has(INFO_LOAD_BASE_ADDR, 0));
    struct {
        u32 start, end;
        char text[12];
    } PACKED module_info = {2 * MIB + 2 * PAGE_SIZE, 2 * MIB + 3 * PAGE_SIZE + 5, "\\module x y"};
    info_is(INFO_MODULE, 0, &module_info, sizeof(module_info));
    CHECK(guest_has(module_info.start, module, sizeof(module)));
    CHECK(info_has(INFO_MODULE, 1));
    CHECK(!info_has(INFO_MODULE, 2));
    struct {
        u32 entry_size, entry_version;
        struct {
            struct e820_entry e;
            u32 zero;
        } PACKED entries[LAYOUT_E820_MAX];
    } PACKED map = {.entry_size = 24};
    for (unsigned i = 0; i < in.e820_count; i++)
        map.entries[i].e = e820[i];
    info_is(INFO_MMAP, 0, &map, 8 + in.e820_count * 24);
}

TEST(without_acpi_and_modules)
{
    start();
    in.rsdp = 0;
    in.module_count = 0;
    in.cmdline = "";
    CHECK_EQ(load(), OK);
    info_is(INFO_CMDLINE, 0, "\\k", 3);
    CHECK(!info_has(INFO_ACPI_OLD, 0));
    CHECK(!info_has(INFO_MODULE, 0));
}

TEST(addresses_in_the_header)
{
    start_addresses();
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.rip, MIB + 64);
    CHECK(guest_has(MIB, image + 16, CODE_BYTES));
    start();
    image[0] = 0;
    TAG(2, 0, 2 * MIB + HEADER_OFFSET, ~0u, 0, 0); // all of the file
    TAG(3, 0, 2 * MIB + 4);
    CHECK_EQ(load(), OK);
    CHECK(guest_has(2 * MIB, image, sizeof(image)));
}

TEST(what_a_kernel_may_ask_for)
{
    start();
    TAG(1, 0, 1, 2, 3, 4, 6, 14, 15, 21);
    TAG(1, 1, 5, 8, 9, 1000); // optional
    TAG(4, 0, 2);             // it can do EGA text
    TAG(4, 1, 1);
    TAG(5, 0, 80, 25, 0);
    TAG(6, 0);
    TAG(7, 0);
    TAG(9, 0, 1);
    TAG(99, 1, 1, 2, 3);
    CHECK_EQ(load(), OK);
}

TEST(a_kernel_is_moved_if_its_place_is_no_good)
{
    start();
    TAG(10, 0, MIB, ~0u, MIB, 2); // Xen's
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.rip, 2 * MIB + 0x10);
    info_is(INFO_LOAD_BASE_ADDR, 0, (u32[]){2 * MIB}, 4);
    start();
    segment()->p_paddr = 256 * MIB;
    TAG(10, 0, MIB, ~0u, 4 * MIB, 0);
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.rip, 4 * MIB + 0x10);
    CHECK(guest_has(4 * MIB, image + CODE_OFFSET, CODE_BYTES));
    info_is(INFO_LOAD_BASE_ADDR, 0, (u32[]){4 * MIB}, 4);
    start();
    TAG(10, 0, 3 * MIB, ~0u, PAGE_SIZE, 0); // its own place is too low
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.rip, 3 * MIB + 0x10);
    start();
    TAG(10, 0, MIB, 2 * MIB + PAGE_SIZE, PAGE_SIZE, 0); // or ends too high
    CHECK_EQ(load(), OK);
    CHECK_EQ(out.rip, MIB + 0x10);
}

TEST(each_wrong_header_is_refused)
{
    start();
    header()->checksum++;
    CHECK(!load_multiboot2_recognises(&in));
    refused(ERR_FORMAT, "not a multiboot 2 kernel: no header in the first 32768 bytes", start);
    header()->architecture = 4;
    header()->checksum -= 4;
    CHECK(!load_multiboot2_recognises(&in));
    refused(ERR_UNSUPPORTED, "for architecture 4, not i386", start);
    header()->header_length = IMAGE_BYTES;
    header()->checksum = 0 - 0xe85250d6 - IMAGE_BYTES;
    refused(ERR_FORMAT, "no header", start);
    TAG(1, 0, 9);
    refused(ERR_UNSUPPORTED, "(multiboot 2 information of type 9)", start);
    TAG(1, 0, 1, 0x80000001);
    refused(ERR_UNSUPPORTED, "of type 2147483649)", start);
    TAG(4, 0, 1);
    refused(ERR_UNSUPPORTED, "demands a screen", start);
    TAG(11, 0, 1, 2);
    refused(ERR_UNSUPPORTED, "(multiboot 2 tag 11 of 16 bytes)", start);
    TAG(10, 1, 1, 2);
    refused(ERR_UNSUPPORTED, "(multiboot 2 tag 10 of 16 bytes)", start);
    TAG(10, 0, MIB, ~0u, 3, 0);
    refused(ERR_FORMAT, "malformed: relocatable on 0x3 bytes", start);
    ((struct header_tag *)(image + HEADER_OFFSET + 16))->type = 6; // where the end was
    refused(ERR_FORMAT, "have no end", start);
    TAG(6, 0);
    ((struct header_tag *)(image + HEADER_OFFSET + 16))->size = 7;
    refused(ERR_FORMAT, "have no end", start);
    TAG(6, 0);
    ((struct header_tag *)(image + HEADER_OFFSET + 16))->size = ~0u;
    refused(ERR_FORMAT, "have no end", start);
    image[0] = 0;
    refused(ERR_FORMAT, "without addresses, and not an ELF file", start);
    TAG(10, 0, 64 * MIB, ~0u, MIB, 0);
    refused(ERR_RANGE, "on 0x100000 bytes from 0x4000000 to 0xffffffff", start);
    TAG(10, 0, 8 * MIB, 8 * MIB + 0x1000, MIB, 0); // shorter than the kernel
    refused(ERR_RANGE, "does not fit where it may be", start);
    TAG(3, 0, 5 * MIB);
    refused(ERR_FORMAT, "the entry 0x500000 is not in what is loaded", start);
}

TEST(each_wrong_address_is_refused)
{
    start();
    TAG(2, 0, MIB, MIB, 0, 0);
    refused(ERR_FORMAT, "with addresses, without entry", start);
    TAG(2, 0, MIB, MIB + 1, 0, 0);
    refused(ERR_FORMAT, "malformed: header_addr 0x100000, load_addr 0x100001", start);
    TAG(2, 0, 16, ~0u, 0, 0); // the file would begin below 0
    TAG(3, 0, 0);
    refused(ERR_RANGE, "at 0x0;", start);
    TAG(2, 0, MIB, MIB, MIB - 1, 0);
    refused(ERR_FORMAT, "truncated", start);
}

TEST(a_host_without_memory_says_so)
{
    for (u64 left = 0; left < 8; left += 2) {
        start();
        arena_exhaust(left);
        CHECK_EQ(load(), ERR_NO_MEMORY);
    }
}
