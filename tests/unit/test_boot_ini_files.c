// SPDX-License-Identifier: MIT
// The loader's scan of plinth.ini for file names.
#include "tests/unit/test.h"
#include "boot/ini_files.c"

// Names joined by '|'; too long ones have '!' behind them. The text is copied so that reading past
// its end is seen.
static char joined[4096];
static const char *scan(const char *text, size_t size)
{
    char *copy = malloc(size ? size : 1), name[BOOT_NAME_MAX];
    for (size_t i = 0; i < size; i++)
        copy[i] = text[i];
    struct ini_scan s;
    enum ini_found found;
    size_t at = 0;
    ini_scan_start(&s, copy, size);
    while ((found = ini_scan_next(&s, name)) != INI_END)
        at += (size_t)snprintf(joined + at, sizeof(joined) - at, "%s%s%s", at ? "|" : "", name,
                               found == INI_TOO_LONG ? "!" : "");
    joined[at] = '\0';
    free(copy);
    return joined;
}
#define SCAN(text) scan(text, sizeof(text) - 1)

TEST(finds_values_that_are_paths)
{
    CHECK_STR(SCAN("[vm a]\nkernel = \\guests\\vmlinuz\ninitrd=\\i.gz"),
              "\\guests\\vmlinuz|\\i.gz");
    CHECK_STR(SCAN("kernel = \\a b \t\r\n"), "\\a b");
}

TEST(finds_paths_behind_the_last_colon)
{
    CHECK_STR(SCAN("disk = virtio:ram:\\guests\\root.img\n"), "\\guests\\root.img");
    CHECK_STR(SCAN("disk = virtio:\\a:b\n"), "");
    CHECK_STR(SCAN("disk = \\a:\\b\n"), "\\a:\\b");
}

TEST(a_modules_path_ends_at_a_blank)
{
    CHECK_STR(SCAN("module = \\m a=\\b c\n module=\\n\tx\r\nmodule =\\o\nmodule = x \\y\n"),
              "\\m|\\n|\\o");
    CHECK_STR(SCAN("modules = \\m a\nmodul = \\n b\n"), "\\m a|\\n b");
}

TEST(passes_over_what_is_no_path)
{
    CHECK_STR(SCAN(""), "");
    CHECK_STR(SCAN("\n\n=\n = \nkernel\n\\alone\nkernel = vmlinuz\nx =\n:=:\n"), "");
}

TEST(passes_over_comments)
{
    CHECK_STR(SCAN("; k = \\a\n# k = \\b\nk = \\c ; \\d\nk = ;\\e\nk # = \\f\n"), "\\c");
    CHECK_STR(SCAN("k = \\a;b#c #d\n"), "\\a;b#c");
}

TEST(keeps_repeated_names)
{
    CHECK_STR(SCAN("a=\\x\nb=\\x\n"), "\\x|\\x");
}

TEST(accepts_any_bytes)
{
    CHECK_STR(scan("\xef\xbb\xbf[a]\n\0=\0\nk=\\z", 15), "\\z");
    CHECK_STR(SCAN("module\0\0 = \\m x"), "\\m x");
}

TEST(cuts_long_names_and_says_so)
{
    char line[2 + BOOT_NAME_MAX + 1] = "k=\\";
    for (unsigned i = 3; i < sizeof(line); i++)
        line[i] = 'x';
    scan(line, 2 + BOOT_NAME_MAX - 1);
    CHECK_EQ(strlen(joined), BOOT_NAME_MAX - 1);
    scan(line, 2 + BOOT_NAME_MAX);
    CHECK_EQ(strlen(joined), BOOT_NAME_MAX);
    CHECK_EQ(joined[BOOT_NAME_MAX - 1], '!');
}
