// SPDX-License-Identifier: MIT
#include "tests/unit/test.h"
#include "io/disk_image.c"

#define SIZE (2 * MIB + 5 * PAGE_SIZE + 512)

static unsigned allocated, allowed;

void *heap_alloc(size_t size)
{
    if (allocated == allowed)
        return NULL;
    allocated++;
    return calloc(1, size);
}

void heap_free(void *object)
{
    allocated -= object != NULL;
    free(object);
}

static u8 *file;

static void start(struct disk_image *image, bool writable)
{
    allowed = ~0u;
    file = malloc(SIZE);
    for (u64 i = 0; i < SIZE; i++)
        file[i] = (u8)(i / 512);
    CHECK_EQ(disk_image_init(image, file, SIZE, writable), OK);
}

static void finish(struct disk_image *image)
{
    while (!disk_image_destroy(image))
        ;
    CHECK_EQ(allocated, 0);
    free(file);
}

static u64 write_at(struct disk_image *image, u64 offset, u8 byte)
{
    u64 length = SIZE;
    u8 *to = disk_image_write(image, offset, &length);
    CHECK(to != NULL);
    *to = byte;
    return length;
}

static u8 read_at(const struct disk_image *image, u64 offset, u64 *length)
{
    *length = SIZE;
    return *(const u8 *)disk_image_read(image, offset, length);
}

TEST(unwritten_bytes_are_the_files)
{
    struct disk_image image;
    u64 length;
    start(&image, true);
    CHECK_EQ(read_at(&image, 513, &length), 1);
    CHECK_EQ(length, 2 * MIB - 513);
    CHECK_EQ(read_at(&image, SIZE - 1, &length), (u8)((SIZE - 1) / 512));
    CHECK_EQ(length, 1);
    CHECK_EQ(allocated, 1); // the table of chunks
    finish(&image);
}

TEST(a_write_changes_the_disk_and_not_the_file)
{
    struct disk_image image;
    u64 length;
    start(&image, true);
    CHECK_EQ(write_at(&image, PAGE_SIZE + 600, 0xee), PAGE_SIZE - 600);
    CHECK_EQ(read_at(&image, PAGE_SIZE + 600, &length), 0xee);
    CHECK_EQ(read_at(&image, PAGE_SIZE + 601, &length), (PAGE_SIZE + 601) / 512);
    CHECK_EQ(read_at(&image, 2 * PAGE_SIZE, &length), 2 * PAGE_SIZE / 512);
    CHECK_EQ(length, PAGE_SIZE);
    CHECK_EQ(file[PAGE_SIZE + 600], (PAGE_SIZE + 600) / 512);
    CHECK_EQ(image.written, PAGE_SIZE);
    finish(&image);
}

TEST(the_last_page_may_be_a_part)
{
    struct disk_image image;
    u64 length;
    start(&image, true);
    CHECK_EQ(write_at(&image, SIZE - 512, 0x77), 512);
    CHECK_EQ(read_at(&image, SIZE - 512, &length), 0x77);
    CHECK_EQ(length, 512);
    finish(&image);
}

TEST(without_memory_a_write_fails_and_the_disk_stays_readable)
{
    struct disk_image image;
    u64 length = 1;
    start(&image, true);
    allowed = allocated;
    CHECK(disk_image_write(&image, 0, &length) == NULL);
    allowed = allocated + 1; // the chunk's table, not its page
    CHECK(disk_image_write(&image, 0, &length) == NULL);
    CHECK_EQ(read_at(&image, 512, &length), 1);
    finish(&image);
}

TEST(a_disc_takes_no_writes)
{
    struct disk_image image;
    u64 length = 1;
    start(&image, false);
    CHECK(disk_image_write(&image, 0, &length) == NULL);
    CHECK_EQ(allocated, 0);
    finish(&image);
}

TEST(an_image_is_given_back_in_parts)
{
    struct disk_image image;
    start(&image, true);
    for (u64 at = 0; at < SIZE; at += PAGE_SIZE)
        write_at(&image, at, 1);
    unsigned before = allocated;
    CHECK(!disk_image_destroy(&image));
    CHECK_EQ(before - allocated, 1 + 6); // of the last chunk
    before = allocated;
    CHECK(!disk_image_destroy(&image));
    CHECK_EQ(before - allocated, 1 + CHUNK_PAGES);
    CHECK(disk_image_destroy(&image));
    CHECK_EQ(image.size, 0);
    CHECK(disk_image_destroy(&image)); // harmless
    finish(&image);
}
