// SPDX-License-Identifier: MIT
// A UEFI application: says who runs it, and that it ran.
#include <efi.h>

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system);

static void print(EFI_SYSTEM_TABLE *system, const CHAR16 *text)
{
    system->ConOut->OutputString(system->ConOut, (CHAR16 *)text);
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    (void)image;
    print(system, L"hello: started by ");
    print(system, system->FirmwareVendor);
    print(system, L"\r\nhello: ok\r\n");
    return EFI_SUCCESS;
}
