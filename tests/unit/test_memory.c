// SPDX-License-Identifier: MIT
// vmm/lib/memory.c and string.c against the host's C library: every small size, offset and overlap.

#include "tests/unit/test.h"

#define memcpy  own_memcpy
#define memmove own_memmove
#define memset  own_memset
#define memcmp  own_memcmp
#define strlen  own_strlen
#define strcmp  own_strcmp
#define strncmp own_strncmp
#define strchr  own_strchr
#define strrchr own_strrchr
void *own_memcpy(void *restrict to, const void *restrict from, size_t size);
void *own_memset(void *to, int byte, size_t size);
size_t own_strlen(const char *s);
#include "vmm/lib/memory.c"
#include "vmm/lib/string.c"
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef strlen
#undef strcmp
#undef strncmp
#undef strchr
#undef strrchr

#define ROOM 160

static void fill_pattern(u8 *p)
{
    for (unsigned i = 0; i < ROOM; i++)
        p[i] = (u8)(i * 7 + 1);
}

TEST(memcpy_copies_every_size_and_nothing_more)
{
    u8 from[ROOM], to[ROOM], want[ROOM];
    fill_pattern(from);
    for (size_t size = 0; size <= 100; size++) {
        for (size_t offset = 0; offset < 9; offset++) {
            memset(to, 0xee, ROOM);
            memset(want, 0xee, ROOM);
            memcpy(want + offset, from + 3, size);
            CHECK(own_memcpy(to + offset, from + 3, size) == to + offset);
            CHECK(memcmp(to, want, ROOM) == 0);
        }
    }
}

TEST(memmove_handles_every_overlap)
{
    u8 got[ROOM], want[ROOM];
    for (size_t size = 0; size <= 64; size++) {
        for (size_t from = 0; from < 40; from++) {
            for (size_t to = 0; to < 40; to += 3) {
                fill_pattern(got);
                fill_pattern(want);
                memmove(want + to, want + from, size);
                CHECK(own_memmove(got + to, got + from, size) == got + to);
                CHECK(memcmp(got, want, ROOM) == 0);
            }
        }
    }
}

TEST(memset_sets_every_size_and_nothing_more)
{
    u8 got[ROOM], want[ROOM];
    for (size_t size = 0; size <= 100; size++) {
        fill_pattern(got);
        fill_pattern(want);
        memset(want + 5, 0x1a5, size);
        CHECK(own_memset(got + 5, 0x1a5, size) == got + 5);
        CHECK(memcmp(got, want, ROOM) == 0);
    }
}

TEST(memcmp_finds_the_first_difference)
{
    u8 a[ROOM], b[ROOM];
    fill_pattern(a);
    CHECK(own_memcmp(a, b, 0) == 0);
    for (size_t at = 0; at < 40; at++) {
        fill_pattern(b);
        b[at] = (u8)(a[at] + 1);
        b[at + 1] = (u8)(a[at + 1] - 1);
        CHECK(own_memcmp(a, b, at) == 0);
        CHECK(own_memcmp(a, b, at + 1) < 0);
        CHECK(own_memcmp(a, b, 60) < 0);
        CHECK(own_memcmp(b, a, 60) > 0);
    }
    a[0] = 0x80; // bytes are unsigned
    b[0] = 0x7f;
    CHECK(own_memcmp(a, b, 1) > 0);
}

TEST(strings_compare_as_the_standard_says)
{
    CHECK_EQ(own_strlen(""), 0);
    CHECK_EQ(own_strlen("abc"), 3);
    CHECK(own_strcmp("abc", "abc") == 0);
    CHECK(own_strcmp("ab", "abc") < 0);
    CHECK(own_strcmp("abd", "abc") > 0);
    CHECK(own_strcmp("\x80", "\x7f") > 0);
    CHECK(own_strncmp("abc", "abd", 2) == 0);
    CHECK(own_strncmp("abc", "abd", 3) < 0);
    CHECK(own_strncmp("ab", "ab", 9) == 0);
    CHECK(own_strncmp("x", "y", 0) == 0);
}

TEST(characters_are_found_from_either_end)
{
    const char *s = "a.b.c";
    CHECK(own_strchr(s, '.') == s + 1);
    CHECK(own_strrchr(s, '.') == s + 3);
    CHECK(own_strchr(s, 'x') == NULL);
    CHECK(own_strrchr(s, 'x') == NULL);
    CHECK(own_strchr(s, 0) == s + 5);
    CHECK(own_strrchr(s, 0) == s + 5);
    CHECK(own_strrchr("", 'a') == NULL);
}

TEST(string_copy_terminates_and_tells_of_a_cut)
{
    char to[4] = "zzz";
    CHECK(string_copy(to, sizeof(to), "abc"));
    CHECK_STR(to, "abc");
    CHECK(!string_copy(to, sizeof(to), "abcd"));
    CHECK_STR(to, "abc");
    CHECK(!string_copy(to, 1, "a"));
    CHECK_STR(to, "");
    CHECK(string_copy(to, 1, ""));
    CHECK(!string_copy(to, 0, ""));
}

TEST(string_comparisons_of_our_own)
{
    CHECK(string_equal_nocase("AbC9", "aBc9"));
    CHECK(!string_equal_nocase("abc", "abcd"));
    CHECK(!string_equal_nocase("@", "`"));
    CHECK(string_starts("abc", ""));
    CHECK(string_starts("abc", "abc"));
    CHECK(!string_starts("ab", "abc"));
}
