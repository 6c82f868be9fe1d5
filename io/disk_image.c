// SPDX-License-Identifier: MIT
// Copy on write, a page at a time. The pages hang on a table of two levels that grows with what is
// written, so an image that is only read costs nothing but a pointer for each 2 MiB.
#include "io/disk_image.h"
#include "mm/heap.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"

#define CHUNK_SIZE  PAGE_2M
#define CHUNK_PAGES (CHUNK_SIZE / PAGE_SIZE)

static u64 chunk_count(const struct disk_image *image)
{
    return (image->size + CHUNK_SIZE - 1) / CHUNK_SIZE;
}

int disk_image_init(struct disk_image *image, const void *file, u64 size, bool writable)
{
    *image = (struct disk_image){.file = file, .size = size, .writable = writable};
    if (!writable)
        return OK;
    image->chunks = heap_alloc(chunk_count(image) * sizeof(*image->chunks));
    return image->chunks ? OK : ERR_NO_MEMORY;
}

static void chunk_destroy(u8 **chunk)
{
    for (u64 i = 0; chunk && i < CHUNK_PAGES; i++)
        heap_free(chunk[i]);
    heap_free(chunk);
}

// From its end on: what is left is an image of the chunks before.
bool disk_image_destroy(struct disk_image *image)
{
    while (image->chunks && image->size) {
        u64 last = chunk_count(image) - 1;
        u8 **chunk = image->chunks[last];
        image->size = last * CHUNK_SIZE;
        if (!chunk)
            continue;
        chunk_destroy(chunk);
        return false;
    }
    heap_free(image->chunks);
    *image = (struct disk_image){0};
    return true;
}

const void *disk_image_read(const struct disk_image *image, u64 offset, u64 *length)
{
    u8 *const *chunk = image->chunks ? image->chunks[offset / CHUNK_SIZE] : NULL;
    u64 unit = chunk ? PAGE_SIZE : CHUNK_SIZE;
    u64 contiguous = MIN(unit - offset % unit, image->size - offset);
    *length = MIN(*length, contiguous);
    const u8 *page = chunk ? chunk[offset % CHUNK_SIZE / PAGE_SIZE] : NULL;
    return page ? page + offset % PAGE_SIZE : image->file + offset;
}

static u8 *page_copy(struct disk_image *image, u64 offset)
{
    u8 *page = heap_alloc(PAGE_SIZE);
    if (!page)
        return NULL;
    memcpy(page, image->file + offset, MIN(PAGE_SIZE, image->size - offset));
    image->written += PAGE_SIZE;
    return page;
}

void *disk_image_write(struct disk_image *image, u64 offset, u64 *length)
{
    if (!image->writable)
        return NULL;
    u8 ***chunk = &image->chunks[offset / CHUNK_SIZE];
    if (!*chunk)
        *chunk = heap_alloc(CHUNK_PAGES * sizeof(**chunk));
    if (!*chunk)
        return NULL;
    u8 **page = &(*chunk)[offset % CHUNK_SIZE / PAGE_SIZE];
    if (!*page)
        *page = page_copy(image, ALIGN_DOWN(offset, PAGE_SIZE));
    if (!*page)
        return NULL;
    u64 contiguous = MIN(PAGE_SIZE - offset % PAGE_SIZE, image->size - offset);
    *length = MIN(*length, contiguous);
    return *page + offset % PAGE_SIZE;
}

u64 disk_image_left(const struct disk_image *image)
{
    return image->writable ? ALIGN_UP(image->size, PAGE_SIZE) - image->written : 0;
}
