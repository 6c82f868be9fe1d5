// SPDX-License-Identifier: MIT
// vmm/console/text_filter.c: what a hostile guest wrote, and what a person's terminal gets of it.

#include "tests/unit/test.h"
#include "vmm/console/text_filter.c"
#include <string.h>

static const char *filtered(const char *text)
{
    static char shown[256];
    struct text_filter filter = {0};
    size_t n = 0;
    for (; *text; text++) {
        char c = text_filter(&filter, (u8)*text);
        if (c)
            shown[n++] = c;
    }
    shown[n] = '\0';
    return shown;
}

TEST(text_comes_through)
{
    CHECK_STR(filtered("[ 0.0] ok (1)\t2\n~"), "[ 0.0] ok (1)\t2\n~");
    CHECK_STR(filtered("a\r\b\a\x7f\x0e\x0f\x05z"), "az");
}

TEST(escape_sequences_go_whole)
{
    CHECK_STR(filtered("a\033cb\0337c\033=d"), "abcd");
    CHECK_STR(filtered("a\033(Bb\033#8c\033%Gd\033 Fe\033$(Cf"), "abcdef");
    CHECK_STR(filtered("a\033([0mb"), "a0mb"); // the last byte of an escape sequence, no CSI
    CHECK_STR(filtered("a\033\033[0mb"), "ab");
}

TEST(control_sequences_go_whole)
{
    CHECK_STR(filtered("a\033[0;1mb\033[Hc\033[2~d"), "abcd");
    CHECK_STR(filtered("a\033[?2004hb\033[>0;1cc\033[<0;1;1Md\033[=1he"), "abcde");
    CHECK_STR(filtered("a\033[0 qb\033[!pc\033[4:3md\033[1$}e"), "abcde");
    CHECK_STR(filtered("a\033[1\r2mb\t"), "ab\t"); // a control code within, as a terminal has it
}

TEST(strings_go_whole)
{
    CHECK_STR(filtered("a\033]0;rm -rf\ab\033]52;c;AA==\033\\c"), "abc");
    CHECK_STR(filtered("a\033Pq#0\033\\b\033_x\033\\c\033^x\033\\d\033Xx\033\\e"), "abcde");
    CHECK_STR(filtered("a\033]0;t\xe2\x80\x9ct\xe2\x80\x9d\ab"), "ab"); // no ST in the quotes
    CHECK_STR(filtered("a\033]0;x\x18"
                       "b\033]0;x\x1a"
                       "c"),
              "abc");
}

TEST(c1_codes_do_the_same)
{
    CHECK_STR(filtered("a\x9b"
                       "31mb\x9d"
                       "0;t\x9c"
                       "c\x90q\x9c"
                       "d\x84"
                       "e"),
              "abcde");
    CHECK_STR(filtered("a\xc2\x9b"
                       "31mb\xc2\x9d"
                       "0;t\xc2\x9c"
                       "c"),
              "abc");
}

TEST(what_is_not_ascii_shows_that_it_was_there)
{
    CHECK_STR(filtered("a\xc3\x9b"
                       "b\xe2\x80\x9b"
                       "c\xf0\x9f\x9b\x9b"
                       "d\xb5"
                       "e"),
              "a?b?c?d?e");
    CHECK_STR(filtered("a\xe2\x9b"
                       "b\xc3\033[0mc\xf0\x9b\nd"),
              "abc\nd");
}

TEST(a_newline_ends_what_was_begun)
{
    CHECK_STR(filtered("a\033]0;x\nb\033[1\nc\033(\nd\033\ne"), "a\nb\nc\nd\ne");
}

TEST(nothing_but_text_whatever_comes)
{
    struct text_filter filter = {0};
    u32 random = 1;
    for (unsigned i = 0; i < 1000000; i++) {
        random = random * 1664525 + 1013904223;
        char c = text_filter(&filter, (u8)(random >> 24));
        CHECK(c == 0 || c == '\n' || c == '\t' || (c >= ' ' && c <= '~'));
    }
}
