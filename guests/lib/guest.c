// SPDX-License-Identifier: MIT
// Printing on COM1, the command line, and the way out (ACPI S5; a reset if that did nothing).
#include "guests/lib/guest.h"
#include "io/acpi_pm.h"

#define COM1          0x3f8
#define COM1_LSR      (COM1 + 5)
#define LSR_THR_EMPTY BIT(5)

static void print_char(char c)
{
    while (!(in8(COM1_LSR) & LSR_THR_EMPTY))
        cpu_pause();
    out8(COM1, (u8)c);
}

void guest_print(const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            print_char('\r');
        print_char(*text);
    }
}

void guest_print_number(u64 value)
{
    char digits[24];
    unsigned n = sizeof(digits);
    digits[--n] = '\0';
    do
        digits[--n] = (char)('0' + value % 10);
    while (value /= 10);
    guest_print(digits + n);
}

void guest_print_hex(u64 value)
{
    guest_print("0x");
    for (int shift = 60; shift >= 0; shift -= 4)
        print_char("0123456789abcdef"[value >> shift & 15]);
}

bool guest_has_word(const u8 *boot_params, const char *word)
{
    const char *line = (const char *)(u64)boot_params_u32(boot_params, BOOT_PARAMS_CMDLINE_PTR);
    while (*line) {
        const char *w = word;
        while (*line == ' ')
            line++;
        while (*w && *line == *w)
            line++, w++;
        if (!*w && (!*line || *line == ' '))
            return true;
        while (*line && *line != ' ')
            line++;
    }
    return false;
}

void guest_finish(bool ok, const char *why)
{
    guest_print(ok ? "guest: ok\n" : "guest: FAIL ");
    if (!ok) {
        guest_print(why);
        guest_print("\n");
    }
    out16(ACPI_PM1_CONTROL_PORT, ACPI_PM1_S5);
    halt_forever();
}
