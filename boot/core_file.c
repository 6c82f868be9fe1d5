// SPDX-License-Identifier: MIT
// The core: read, checked whole, and laid out in a block of its own.

#include "boot/loader.h"

static struct boot_file core_file = {.name = "\\plinth\\core.elf"};

static EFI_STATUS fail(const char *wrong)
{
    return loader_fail(core_file.name, wrong, "write the image to the stick again", EFI_LOAD_ERROR);
}

static EFI_STATUS place(struct loader *loader)
{
    loader->core_base =
        memory_allocate_aligned(loader->core.size, CORE_LINK_ALIGN, MEMORY_BELOW_4G);
    if (!loader->core_base)
        return loader_fail(core_file.name, "finds no free block below 4 GiB",
                           "give the machine more memory", EFI_OUT_OF_RESOURCES);
    elf_load((const void *)core_file.base, &loader->core, (void *)loader->core_base);
    memory_free(core_file.base, core_file.size);
    Print(L"  core: %ld KiB at 0x%lx, entry 0x%lx\r\n", loader->core.size / 1024, loader->core_base,
          loader->core.entry);
    return EFI_SUCCESS;
}

EFI_STATUS core_load(struct loader *loader)
{
    volume_read(loader->volume, &core_file);
    if (core_file.status != BOOT_FILE_OK)
        return fail(volume_status_text(core_file.status));
    const char *wrong = elf_check((const void *)core_file.base, core_file.size, &loader->core);
    return wrong ? fail(wrong) : place(loader);
}
