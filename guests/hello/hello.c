// SPDX-License-Identifier: MIT
// A UEFI application: says who runs it, when it began by the TSC, and that it ran.
#include <efi.h>

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system);

static void print(EFI_SYSTEM_TABLE *system, const CHAR16 *text)
{
    system->ConOut->OutputString(system->ConOut, (CHAR16 *)text);
}

static void print_number(EFI_SYSTEM_TABLE *system, UINT64 value)
{
    CHAR16 digits[21], *first = &digits[20]; // of 64 bits, and the end
    *first = 0;
    do {
        *--first = (CHAR16)(L'0' + value % 10);
        value /= 10;
    } while (value);
    print(system, first);
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    UINT64 tsc = __builtin_ia32_rdtsc();
    (void)image;
    print(system, L"hello: started by ");
    print(system, system->FirmwareVendor);
    print(system, L"\r\nhello: tsc ");
    print_number(system, tsc);
    print(system, L"\r\nhello: ok\r\n");
    return EFI_SUCCESS;
}
