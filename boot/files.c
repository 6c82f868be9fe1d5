// SPDX-License-Identifier: MIT
// The configuration and the files that it names. Only the configuration itself must be there: what
// lacks its kernel is one VM, and the core says so when it is asked to start it.

#include "boot/ini_files.h"
#include "boot/loader.h"

#define CONFIGURATION_NAME "\\plinth.ini"
#define CONFIGURATION_MAX  (1024 * 1024)

static bool name_equal(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static void name_set(struct boot_file *file, const char *name)
{
    unsigned i = 0;
    for (; name[i] && i < BOOT_NAME_MAX - 1; i++)
        file->name[i] = name[i];
    file->name[i] = '\0';
}

static bool is_listed(const struct loader *loader, const char *name)
{
    for (uint32_t i = 0; i < loader->file_count; i++)
        if (name_equal(loader->files[i].name, name))
            return true;
    return false;
}

static uint32_t count_names(const struct boot_file *configuration)
{
    struct ini_scan scan;
    char name[BOOT_NAME_MAX];
    uint32_t count = 0;
    ini_scan_start(&scan, (const char *)configuration->base, configuration->size);
    while (ini_scan_next(&scan, name) != INI_END)
        count++;
    return count;
}

static void load_named(struct loader *loader)
{
    struct ini_scan scan;
    char name[BOOT_NAME_MAX];
    enum ini_found found;
    const struct boot_file *configuration = &loader->files[0];
    ini_scan_start(&scan, (const char *)configuration->base, configuration->size);
    while ((found = ini_scan_next(&scan, name)) != INI_END) {
        if (found == INI_TOO_LONG) {
            Print(L"  %a...  is too long a name (at most %d characters)\r\n", name,
                  BOOT_NAME_MAX - 1);
            continue;
        }
        if (is_listed(loader, name))
            continue;
        struct boot_file *file = &loader->files[loader->file_count++];
        name_set(file, name);
        volume_read(loader->volume, file);
    }
}

static EFI_STATUS fail(const char *wrong)
{
    return loader_fail(CONFIGURATION_NAME, wrong,
                       "put the plinth.ini of the image onto the volume's top folder again",
                       EFI_LOAD_ERROR);
}

EFI_STATUS files_load(struct loader *loader)
{
    struct boot_file configuration = {0};
    name_set(&configuration, CONFIGURATION_NAME);
    volume_read(loader->volume, &configuration);
    if (configuration.status != BOOT_FILE_OK)
        return fail(volume_status_text(configuration.status));
    if (configuration.size > CONFIGURATION_MAX)
        return fail("is larger than 1 MiB");
    uint64_t size = (count_names(&configuration) + 1) * sizeof(struct boot_file);
    loader->files = (void *)memory_allocate(size, MEMORY_ANYWHERE);
    if (!loader->files)
        return loader_fail("the list of files", volume_status_text(BOOT_FILE_NO_MEMORY),
                           "give the machine more memory", EFI_OUT_OF_RESOURCES);
    __builtin_memset(loader->files, 0, size);
    loader->files[0] = configuration;
    loader->file_count = 1;
    load_named(loader);
    return EFI_SUCCESS;
}
