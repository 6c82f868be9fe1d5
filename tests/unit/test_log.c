// SPDX-License-Identifier: MIT
// vmm/lib/log.c: what is kept, what is handed on, and that lines stay whole when the ring wraps.

#include "tests/unit/test.h"
#include "vmm/lib/format.c"
#include "vmm/lib/log.c"
#include <string.h>

static char sunk[LOG_LINE_MAX];
static unsigned sunk_count;

static void sink(enum log_level level, const char *line)
{
    (void)level;
    format_text(sunk, sizeof(sunk), "%s", line);
    sunk_count++;
}

static u64 fake_clock(void)
{
    return 12345678;
}

static unsigned seen, seen_bad, seen_last;

static void visit(void *context, const char *text)
{
    (void)context;
    const char *number = strstr(text, "line ");
    seen++;
    if (!number || sscanf(number, "line %u end", &seen_last) != 1 || !strstr(text, " end"))
        seen_bad++;
}

static void count_lines(void)
{
    seen = seen_bad = 0;
    log_for_each(visit, NULL);
}

TEST(nothing_kept_at_first)
{
    count_lines();
    CHECK_EQ(seen, 0);
}

TEST(lines_carry_time_and_level_and_pass_the_threshold)
{
    log_set_sink(sink);
    log_set_clock(fake_clock);
    log_warn("line %u end", 1);
    CHECK_STR(sunk, "[   12.345678] warning: line 1 end");
    log_info("line %u end", 2);
    CHECK_STR(sunk, "[   12.345678] line 2 end");
    log_debug("line %u end", 3);
    CHECK_EQ(sunk_count, 2);
    log_set_threshold(LOG_DEBUG);
    log_debug("line %u end", 4);
    CHECK_EQ(sunk_count, 3);
    log_set_threshold(LOG_ERROR);
    log_warn("line %u end", 5);
    CHECK_EQ(sunk_count, 3);
    count_lines();
    CHECK_EQ(seen, 5);
    CHECK_EQ(seen_bad, 0);
    CHECK_EQ(seen_last, 5);
}

TEST(old_lines_go_and_the_others_stay_whole)
{
    for (unsigned i = 0; i < 10000; i++)
        log_error("%*s line %u end", (int)(i % 90), "", i);
    count_lines();
    CHECK(seen > 500 && seen < 5000);
    CHECK_EQ(seen_bad, 0);
    CHECK_EQ(seen_last, 9999);
}

TEST(long_lines_are_cut)
{
    log_error("%0300d", 7);
    CHECK_EQ(strlen(sunk), LOG_LINE_MAX - 1);
}
