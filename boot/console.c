// SPDX-License-Identifier: MIT
// What the loader says when it gives up.

#include "boot/loader.h"

#define KEY_WAIT_SECONDS  10
#define POLLS_PER_SECOND  10
#define POLL_MICROSECONDS (1000000 / POLLS_PER_SECOND)

static void wait_for_key(void)
{
    EFI_INPUT_KEY key;
    Print(L"Press a key to go back to the firmware.\r\n");
    ST->ConIn->Reset(ST->ConIn, FALSE);
    for (unsigned i = 0; i < KEY_WAIT_SECONDS * POLLS_PER_SECOND; i++) {
        if (ST->ConIn->ReadKeyStroke(ST->ConIn, &key) == EFI_SUCCESS)
            return;
        BS->Stall(POLL_MICROSECONDS);
    }
}

EFI_STATUS loader_fail(const char *what, const char *wrong, const char *remedy, EFI_STATUS status)
{
    Print(L"Plinth cannot start: %a %a; %a.\r\n", what, wrong, remedy);
    wait_for_key();
    return status;
}
