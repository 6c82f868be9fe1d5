// SPDX-License-Identifier: MIT
// vmm/lib/format.c, parse.c and error.c. Formats are compared with what the host's snprintf makes
// of them.

#include "tests/unit/test.h"
#include "vmm/lib/format.c"
#include "vmm/lib/parse.c"
#include "vmm/lib/error.c"
#include <limits.h>

#define CHECK_FORMAT(...)                                                                          \
    do {                                                                                           \
        char got[128], want[128];                                                                  \
        int got_length = format_text(got, sizeof(got), __VA_ARGS__);                               \
        int want_length = snprintf(want, sizeof(want), __VA_ARGS__);                               \
        CHECK_STR(got, want);                                                                      \
        CHECK_EQ(got_length, want_length);                                                         \
    } while (0)

#pragma GCC diagnostic ignored "-Wformat"

TEST(integers_of_every_length)
{
    CHECK_FORMAT("%d %i %u %x %X %o", -5, 7, 8u, 0xbeefu, 0xbeefu, 8u);
    CHECK_FORMAT("%d %d", INT_MIN, INT_MAX);
    CHECK_FORMAT("%lld %lld %llu", LLONG_MIN, LLONG_MAX, ULLONG_MAX);
    CHECK_FORMAT("%ld %lu %lx %llo", LONG_MIN, ULONG_MAX, ULONG_MAX, ULLONG_MAX);
    CHECK_FORMAT("%hhd %hhu %hd %hu", 300, 300u, 70000, 70000u);
    CHECK_FORMAT("%zu %zx %td", (size_t)-1, (size_t)77, (ptrdiff_t)-3);
    CHECK_FORMAT("%d %x %o %u", 0, 0, 0, 0);
}

TEST(flags_width_and_precision)
{
    CHECK_FORMAT("[%5d][%-5d][%05d][%+d][% d][%+5d]", 42, 42, 42, 42, 42, 42);
    CHECK_FORMAT("[%05d][%+05d][% 05d][%-05d]", -42, 42, 42, 42);
    CHECK_FORMAT("[%#x][%#X][%#o][%#x][%#o]", 255, 255, 8, 0, 0);
    CHECK_FORMAT("[%#010x][%#10x][%-#10x][%016llx]", 255, 255, 255, 0x1234ull);
    CHECK_FORMAT("[%.3d][%8.3d][%-8.3d][%08.3d]", 5, 5, 5, 5);
    CHECK_FORMAT("[%.0d][%.0x][%5.0d][%#.0o]", 0, 0, 0, 0);
    CHECK_FORMAT("[%.3o][%#.3o][%#.1o]", 8, 8, 8);
    CHECK_FORMAT("[%*d][%-*d][%*d][%.*d][%.*d]", 6, 1, 6, 2, -6, 3, 4, 4, -1, 5);
}

TEST(text_characters_pointers)
{
    CHECK_FORMAT("[%s][%10s][%-10s][%.2s][%.0s]", "abc", "abc", "abc", "abc", "abc");
    CHECK_FORMAT("[%*s][%.*s]", 5, "x", 2, "xyz");
    CHECK_FORMAT("[%c][%3c][%-3c]", 'a', 'b', 'c');
    CHECK_FORMAT("%p %%", (void *)0xabc0);
    char *volatile nothing = NULL;
    char to[16], unterminated[3] = {'a', 'b', 'c'};
    format_text(to, sizeof(to), "%.3s", unterminated);
    CHECK_STR(to, "abc");
    format_text(to, sizeof(to), "%s", nothing);
    CHECK_STR(to, "(null)");
    format_text(to, sizeof(to), "%p", NULL);
    CHECK_STR(to, "0x0");
}

TEST(what_is_not_known_is_shown)
{
    char to[16];
    CHECK_EQ(format_text(to, sizeof(to), "%q %5"), 5);
    CHECK_STR(to, "%q %5");
    CHECK_EQ(format_text(to, sizeof(to), "50%"), 3);
    CHECK_STR(to, "50%");
}

TEST(short_buffers_are_cut_and_the_whole_length_told)
{
    char to[4] = "zzz";
    CHECK_EQ(format_text(to, 4, "%s", "abcdef"), 6);
    CHECK_STR(to, "abc");
    CHECK_EQ(format_text(to, 1, "%d", 12345), 5);
    CHECK_STR(to, "");
    CHECK_EQ(format_text(NULL, 0, "%d", 12345), 5);
    CHECK_EQ(format_text(to, 4, "%999999999d", 1), FIELD_MAX);
}

TEST(numbers_are_whole_texts)
{
    u64 n = 9;
    CHECK(parse_number("0", &n) && n == 0);
    CHECK(parse_number("18446744073709551615", &n) && n == ~0ull);
    CHECK(parse_number("0xffffFFFFffffFFFF", &n) && n == ~0ull);
    CHECK(parse_number("0X1a", &n) && n == 26);
    n = 9;
    CHECK(!parse_number("18446744073709551616", &n));
    CHECK(!parse_number("0x10000000000000000", &n));
    CHECK(!parse_number("", &n));
    CHECK(!parse_number("0x", &n));
    CHECK(!parse_number("-1", &n));
    CHECK(!parse_number("1 ", &n));
    CHECK(!parse_number(" 1", &n));
    CHECK(!parse_number("1a", &n));
    CHECK(!parse_number("1K", &n));
    CHECK_EQ(n, 9);
}

TEST(sizes_have_one_suffix)
{
    u64 n = 9;
    CHECK(parse_size("512", &n) && n == 512);
    CHECK(parse_size("4k", &n) && n == 4096);
    CHECK(parse_size("512M", &n) && n == 512 * MIB);
    CHECK(parse_size("0x10g", &n) && n == 16 * GIB);
    CHECK(parse_size("2T", &n) && n == 2048 * GIB);
    CHECK(parse_size("0M", &n) && n == 0);
    n = 9;
    CHECK(!parse_size("M", &n));
    CHECK(!parse_size("", &n));
    CHECK(!parse_size("1MB", &n));
    CHECK(!parse_size("1KK", &n));
    CHECK(!parse_size("1P", &n));
    CHECK(!parse_size("16777216T", &n));
    CHECK(!parse_size("1.5G", &n));
    CHECK_EQ(n, 9);
}

TEST(errors_have_words)
{
    CHECK_STR(error_text(OK), "ok");
    CHECK_STR(error_text(ERR_BUSY), "busy");
    CHECK_STR(error_text(-99), "unknown error");
}
