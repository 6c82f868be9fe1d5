// SPDX-License-Identifier: MIT
// The scan code decoder of drivers/ps2_keyboard.c.

#include "tests/unit/test.h"
#include "drivers/ps2_keyboard.c"

static struct ps2_decoder d;
static char typed[256];

static const char *type(const u8 *codes, size_t count)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += ps2_decode(&d, codes[i], typed + length);
    typed[length] = 0;
    return typed;
}

#define TYPE(...) type((const u8[]){__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__}))

TEST(letters_with_shift_and_caps_lock)
{
    d = (struct ps2_decoder){0};
    CHECK_STR(TYPE(0x1e, 0x9e, 0x02, 0x82), "a1");
    CHECK_STR(TYPE(0x2a, 0x1e, 0x9e, 0x02, 0xaa, 0x1e), "A!a");
    CHECK_STR(TYPE(0x36, 0x1e, 0xb6, 0x1e), "Aa");
    CHECK_STR(TYPE(0x3a, 0xba, 0x1e, 0x02, 0x2a, 0x1e, 0x02, 0xaa), "A1a!");
    CHECK_STR(TYPE(0x3a, 0xba, 0x1e), "a");
}

TEST(control_makes_control_characters)
{
    d = (struct ps2_decoder){0};
    CHECK_STR(TYPE(0x1d, 0x1e, 0x1b, 0x2e, 0x9d, 0x2e), "\001\035\003c");
    CHECK_STR(TYPE(0xe0, 0x1d, 0x1e, 0xe0, 0x9d, 0x1e), "\001a");
    CHECK_STR(TYPE(0x3a, 0x1d, 0x1e, 0x3a, 0x9d), "\001"); // caps lock does not matter
}

TEST(enter_backspace_tab_escape_space)
{
    d = (struct ps2_decoder){0};
    CHECK_STR(TYPE(0x1c, 0xe0, 0x1c, 0x0e, 0x0f, 0x01, 0x39), "\r\r\177\t\033 ");
}

TEST(arrows_and_friends_are_sequences)
{
    d = (struct ps2_decoder){0};
    CHECK_STR(TYPE(0xe0, 0x48, 0xe0, 0xc8, 0xe0, 0x4b), "\033[A\033[D");
    CHECK_STR(TYPE(0xe0, 0x53, 0x47, 0x4f), "\033[3~\033[H\033[F");
    CHECK_STR(TYPE(0xe0, 0x35, 0x35), "//");
    CHECK_STR(TYPE(0xe0, 0x2a, 0xe0, 0x48, 0x1e), "\033[Aa"); // with a made-up shift around it
}

TEST(pause_and_unknown_codes_make_nothing)
{
    d = (struct ps2_decoder){0};
    CHECK_STR(TYPE(0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5, 0x1e), "a");
    for (unsigned code = 0; code < 256; code++)
        CHECK(ps2_decode(&d, (u8)code, typed) <= PS2_SEQUENCE_MAX);
    for (unsigned code = 0; code < 512; code++)
        CHECK(ps2_decode(&d, (u8)(code & 1 ? code / 2 : CODE_EXTENDED), typed) <= PS2_SEQUENCE_MAX);
}
