// SPDX-License-Identifier: MIT
// BOOTX64.EFI: reads plinth.ini, the core and every file that plinth.ini names, finds out what the
// machine is, leaves the firmware's boot services and enters the core. Whatever keeps it from that
// is said in one line on the firmware's console, and the firmware goes on with its next boot
// option.

#include "boot/loader.h"

static EFI_STATUS info_allocate(struct loader *loader)
{
    loader->info = (void *)memory_allocate(sizeof(*loader->info), MEMORY_BELOW_4G);
    if (!loader->info)
        return loader_fail("this machine", "has too little memory", "give it more",
                           EFI_OUT_OF_RESOURCES);
    __builtin_memset(loader->info, 0, sizeof(*loader->info));
    loader->info->magic = BOOT_INFO_MAGIC;
    loader->info->version = BOOT_INFO_VERSION;
    loader->info->size = sizeof(*loader->info);
    return EFI_SUCCESS;
}

// GNU-EFI's start-up code calls it.
EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system);

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    InitializeLib(image, system);
    // The firmware would otherwise reset the machine after five minutes: a slow stick may need
    // longer.
    BS->SetWatchdogTimer(0, 0, 0, NULL);
    Print(L"\r\nPlinth loader\r\n");

    struct loader loader = {.image = image};
    EFI_STATUS status = volume_open(image, &loader.volume);
    if (EFI_ERROR(status))
        return loader_fail("the volume that the loader came from", "cannot be read",
                           "start it from a FAT volume", status);
    status = core_load(&loader);
    if (!EFI_ERROR(status))
        status = files_load(&loader);
    if (!EFI_ERROR(status))
        status = info_allocate(&loader);
    if (EFI_ERROR(status))
        return status;
    platform_collect(loader.info);
    return handover(&loader);
}
