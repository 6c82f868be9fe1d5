// SPDX-License-Identifier: MIT
// vmm/console/line_edit.c: bytes go in; the buffer and what a small model of a terminal shows are
// looked at.

#include "tests/unit/test.h"
#include "vmm/lib/format.c"
#include "vmm/console/line_edit.c"
#include <string.h>

bool string_copy(char *to, size_t size, const char *from)
{
    int length = snprintf(to, size, "%s", from);
    return length >= 0 && (size_t)length < size;
}

// --- one line of a terminal ---

static char screen[TERMINAL_WIDTH + 1];
static unsigned column, listed;
static char list[4096];

static void terminal_sequence(const char *s)
{
    unsigned n = (unsigned)atoi(s);
    switch (s[strspn(s, "0123456789;")]) {
    case 'K':
        memset(screen + column, ' ', TERMINAL_WIDTH - column);
        break;
    case 'C':
        column += n ? n : 1;
        break;
    default:
        break;
    }
}

static void terminal_write(void *context, const char *text, size_t size)
{
    (void)context;
    for (const char *s = text; s < text + size; s++) {
        if (*s == '\r') {
            column = 0;
        } else if (*s == '\n') {
            CHECK(listed + TERMINAL_WIDTH + 2 < sizeof(list));
            listed += (unsigned)snprintf(list + listed, sizeof(list) - listed, "%.*s|",
                                         (int)TERMINAL_WIDTH, screen);
            memset(screen, ' ', TERMINAL_WIDTH);
            column = 0;
        } else if (*s == '\033') {
            s += 2;
            terminal_sequence(s);
            s += strspn(s, "0123456789;");
        } else {
            CHECK(column < TERMINAL_WIDTH);
            screen[column++] = *s;
        }
    }
    CHECK(column < TERMINAL_WIDTH); // else the terminal may wrap
}

static const char *shown(void)
{
    static char text[TERMINAL_WIDTH + 1];
    snprintf(text, sizeof(text), "%s", screen);
    for (size_t i = strlen(text); i && text[i - 1] == ' '; i--)
        text[i - 1] = 0;
    return text;
}

static const char *const words[] = {"list", "log", "start", "stop", "status", NULL};
static const char *const names[] = {"debian", NULL};

static const char *candidate(void *context, const char *line, unsigned word, unsigned index)
{
    (void)context;
    (void)line;
    const char *const *table = word ? names : words;
    for (unsigned i = 0; i < index; i++)
        if (!table[i])
            return NULL;
    return table[index];
}

static const struct line_edit_ops ops = {terminal_write, candidate};
static struct line_edit edit;

static void start(void)
{
    memset(screen, ' ', TERMINAL_WIDTH);
    column = listed = 0;
    list[0] = 0;
    line_edit_start(&edit, "> ");
}

static void setup(void)
{
    line_edit_init(&edit, &ops, NULL);
    start();
}

static enum line_edit_result type(const char *bytes)
{
    enum line_edit_result result = LINE_EDIT_MORE;
    for (; *bytes; bytes++)
        result = line_edit_byte(&edit, (u8)*bytes);
    return result;
}

static void enter(const char *line)
{
    CHECK_EQ(type(line), LINE_EDIT_MORE);
    CHECK_EQ(type("\r"), LINE_EDIT_DONE);
    start();
}

TEST(typing_and_return)
{
    setup();
    CHECK_EQ(type("list vms"), LINE_EDIT_MORE);
    CHECK_STR(shown(), "> list vms");
    CHECK_EQ(type("\r"), LINE_EDIT_DONE);
    CHECK_STR(edit.text, "list vms");
    start();
    CHECK_EQ(type("\n"), LINE_EDIT_MORE); // of the same key
    CHECK_EQ(type("\n"), LINE_EDIT_DONE);
    CHECK_STR(edit.text, "");
}

TEST(moving_and_inserting)
{
    setup();
    type("bd\033[Dc\033[Ha\033[Fe");
    CHECK_STR(edit.text, "abcde");
    CHECK_STR(shown(), "> abcde");
    type("\001X\005Y\002\002\006Z");
    CHECK_STR(edit.text, "XabcdeZY");
    CHECK_STR(shown(), "> XabcdeZY");
    CHECK_EQ(column, 2 + 7);
    type("\033[D\033[D\033[D\033[D\033[D\033[D\033[D\033[D\033[D\033[D\033OC");
    CHECK_EQ(edit.cursor, 1);
    CHECK_EQ(column, 3);
    CHECK_EQ(type("\r"), LINE_EDIT_DONE);
}

TEST(deleting)
{
    setup();
    type("abcdef\177\b\033[D\033[3~");
    CHECK_STR(edit.text, "abc");
    type("\033[H\177\177\004");
    CHECK_STR(edit.text, "bc");
    type("\033[F\004\033[3~");
    CHECK_STR(edit.text, "bc");
    CHECK_STR(shown(), "> bc");
    type(" one two  three\033[1;5D\013");
    CHECK_STR(edit.text, "bc one two  ");
    type("\027");
    CHECK_STR(edit.text, "bc one ");
    type("\033b\025");
    CHECK_STR(edit.text, "one ");
    CHECK_EQ(edit.cursor, 0);
    CHECK_STR(shown(), "> one");
    type("\033f!");
    CHECK_STR(edit.text, "one! ");
    type("\005\027\027\027\025\013");
    CHECK_STR(edit.text, "");
    CHECK_STR(shown(), ">");
}

TEST(history_goes_up_and_down)
{
    setup();
    enter("one");
    enter("two");
    enter("two");
    enter("");
    type("dra");
    type("\033[A");
    CHECK_STR(edit.text, "two");
    type("\020");
    CHECK_STR(edit.text, "one");
    type("\033[A\033[A");
    CHECK_STR(edit.text, "one");
    CHECK_STR(shown(), "> one");
    type("\033[B\016");
    CHECK_STR(edit.text, "dra");
    type("\033[B\033[B");
    CHECK_STR(edit.text, "dra");
}

TEST(history_forgets_the_oldest)
{
    setup();
    for (int i = 0; i < 100; i++) {
        char line[24];
        snprintf(line, sizeof(line), "line %d", i);
        enter(line);
    }
    for (int i = 0; i < 200; i++)
        type("\033[A");
    CHECK_STR(edit.text, "line 68");
    for (int i = 0; i < 31; i++)
        type("\033[B");
    CHECK_STR(edit.text, "line 99");
}

TEST(completion)
{
    setup();
    type("li\t");
    CHECK_STR(edit.text, "list ");
    CHECK_STR(shown(), "> list");
    type("d\t");
    CHECK_STR(edit.text, "list debian ");
    type("x\t");
    CHECK_STR(edit.text, "list debian x");
    type("\025st\t");
    CHECK_STR(edit.text, "st");
    CHECK(strstr(list, "start  stop  status  "));
    CHECK_STR(shown(), "> st");
    type("a\t\t");
    CHECK_STR(edit.text, "sta");
    type("r\t");
    CHECK_STR(edit.text, "start ");
    type("\025\t");
    CHECK_STR(edit.text, "");
}

TEST(long_lines_scroll_sideways_and_end)
{
    setup();
    for (int i = 0; i < 400; i++)
        line_edit_byte(&edit, (u8)('a' + i % 26));
    CHECK_EQ(edit.length, LINE_EDIT_MAX - 1);
    CHECK_EQ(strlen(edit.text), LINE_EDIT_MAX - 1);
    type("\001");
    CHECK(strncmp(shown(), "> abcdefghij", 12) == 0);
    CHECK_EQ(column, 2);
    type("\005");
    CHECK(shown()[strlen(shown()) - 1] == edit.text[edit.length - 1]);
    type("\t\001\tx");
    CHECK_EQ(edit.length, LINE_EDIT_MAX - 1);
}

TEST(giving_up_and_drawing_anew)
{
    setup();
    type("abc\033[D");
    memset(screen, ' ', TERMINAL_WIDTH);
    column = 0;
    line_edit_redraw(&edit);
    CHECK_STR(shown(), "> abc");
    CHECK_EQ(column, 4);
    CHECK_EQ(type("\003"), LINE_EDIT_CANCELLED);
    CHECK(strstr(list, "> abc^C"));
}

TEST(other_keys_do_nothing)
{
    setup();
    type("a\033[5~\033[6~\033[24~\033[1;2;3;4;5;6;7;8A\033x\033[\003");
    CHECK_STR(edit.text, "a");
    setup();
    type("a\xc3\xa9\001\033");
    CHECK_STR(edit.text, "a");
    type("[Cb");
    CHECK_STR(edit.text, "ab");
}

TEST(any_bytes_are_harmless)
{
    setup();
    srand(1);
    for (int i = 0; i < 100000; i++) {
        static const char likely_bytes[] = "\033\033[[ABCD35~;\t\001\005 ab\177";
        u8 byte =
            (u8)(rand() % 3 ? likely_bytes[rand() % (int)(sizeof(likely_bytes) - 1)] : rand());
        listed = 0;
        if (line_edit_byte(&edit, byte) != LINE_EDIT_MORE)
            start();
        CHECK(edit.cursor <= edit.length && edit.length < LINE_EDIT_MAX);
        CHECK_EQ(strlen(edit.text), edit.length);
    }
}
