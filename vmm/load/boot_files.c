// SPDX-License-Identifier: MIT
// Looking up the loader's files, and saying in one line why one cannot be used.
#include "vmm/load/boot_files.h"
#include "vmm/config.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/format.h"
#include "vmm/lib/string.h"
#include "mm/frame.h"
#include "mm/heap.h"

static struct boot_file *files;
static u32 file_count;

void boot_files_init(const struct boot_info *boot)
{
    u64 size = boot->file_count * sizeof(*files);
    files = heap_alloc(size);
    if (!files)
        panic("no memory for the list of %u boot files", boot->file_count);
    memcpy(files, hpa_to_hva((hpa_t)boot->files), size);
    file_count = boot->file_count;
}

const struct boot_file *boot_file_find(const char *name)
{
    for (u32 i = 0; i < file_count; i++)
        if (string_equal_nocase(files[i].name, name))
            return &files[i];
    return NULL;
}

static const char *status_text(const struct boot_file *file)
{
    static const char *const texts[] = {
        [BOOT_FILE_MISSING] = "is not on the boot volume: copy it there, or correct the name",
        [BOOT_FILE_UNREADABLE] =
            "could not be read: the firmware reported an error; check the volume",
        [BOOT_FILE_NO_MEMORY] = "did not fit into this machine's memory",
    };
    if (!file)
        return texts[BOOT_FILE_MISSING];
    return file->status < ARRAY_SIZE(texts) ? texts[file->status] : "has an unknown status";
}

const void *boot_file_bytes(const char *what, const char *name, unsigned config_line, u64 *size,
                            char *why)
{
    const struct boot_file *file = boot_file_find(name);
    if (!file || file->status != BOOT_FILE_OK) {
        format_text(why, CONFIG_ERROR_MAX, "plinth.ini:%u: %s %s %s", config_line, what, name,
                    status_text(file));
        return NULL;
    }
    *size = file->size;
    return hpa_to_hva(file->base);
}
