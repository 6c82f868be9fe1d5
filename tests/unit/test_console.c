// SPDX-License-Identifier: MIT
// vmm/console/console.c: what the ring keeps, and an attached terminal with scripted input in the
// place of the host's consoles.

#include "tests/unit/test.h"
#include "vmm/console/console.c"
#include "vmm/lib/format.c"
#include <string.h>

bool string_copy(char *to, size_t size, const char *from)
{
    int length = snprintf(to, size, "%s", from);
    return length >= 0 && (size_t)length < size;
}

u64 tsc_hz = 1000000;

void *heap_alloc(size_t size)
{
    return calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

static struct thread *const shell = (struct thread *)&tsc_hz;
static unsigned wakes, waits;

struct thread *thread_self(void)
{
    return shell;
}

void thread_wake(struct thread *thread)
{
    CHECK(thread == shell);
    wakes++;
}

void thread_yield(void)
{
}

static struct console console;
static unsigned sleeps;

// The shell leaves meanwhile.
void thread_sleep_us(u64 us)
{
    CHECK(us > 0);
    sleeps++;
    console.attached = NULL;
}

static char shown[2 * CONSOLE_RING + 1];
static size_t shown_length;
static const char *keys;
static enum host_console_mode mode;
static void (*waiting)(void); // what happens while the shell waits
static void (*showing)(void); // what happens while something is shown, once

void host_console_write_raw(const char *bytes, size_t size)
{
    CHECK(shown_length + size < sizeof(shown));
    memcpy(shown + shown_length, bytes, size);
    shown_length += size;
    shown[shown_length] = 0;
    void (*happens)(void) = showing;
    showing = NULL;
    if (happens)
        happens();
}

static unsigned late; // times that the line has not caught up

bool host_console_keeps_up(void)
{
    if (late)
        late--;
    return !late;
}

int host_console_take(void)
{
    return *keys ? (u8)*keys++ : -1;
}

void host_console_set_mode(enum host_console_mode m)
{
    mode = m;
}

void host_console_wait(u64 tsc)
{
    CHECK_EQ(mode, HOST_CONSOLE_ATTACHED);
    (void)tsc;
    if (++waits > 1000)
        keys = "\035"; // the test would hang
    else if (waiting)
        waiting();
}

static char taken[256];
static unsigned taken_length, taken_at_once;

static unsigned input(void *context, const u8 *bytes, unsigned count)
{
    CHECK(context == &console);
    CHECK(console.open);
    count = MIN(count, taken_at_once);
    CHECK(taken_length + count < sizeof(taken));
    memcpy(taken + taken_length, bytes, count);
    taken_length += count;
    taken[taken_length] = 0;
    return count;
}

static void setup(void)
{
    console_destroy(&console);
    CHECK_EQ(console_init(&console, "a"), OK);
    console.input = input;
    console.context = &console;
    console_open(&console);
    keys = "";
    waiting = NULL;
    shown_length = taken_length = wakes = waits = late = 0;
    shown[0] = taken[0] = 0;
    taken_at_once = 16;
}

static void guest_writes(const char *text)
{
    console_output(&console, (const u8 *)text, (unsigned)strlen(text));
}

TEST(the_ring_keeps_the_newest)
{
    setup();
    char to[16];
    u64 position = 0;
    CHECK_EQ(console_read(&console, &position, to, sizeof(to)), 0);
    for (unsigned i = 0; i < CONSOLE_RING; i++)
        guest_writes("a");
    guest_writes("bcd");
    position = 0;
    CHECK_EQ(console_read(&console, &position, to, 2), 2);
    CHECK_EQ(position, 5);
    position = CONSOLE_RING;
    CHECK_EQ(console_read(&console, &position, to, sizeof(to)), 3);
    CHECK(memcmp(to, "bcd", 3) == 0);
    CHECK_EQ(console_read(&console, &position, to, sizeof(to)), 0);
}

TEST(tails_begin_at_a_line)
{
    setup();
    CHECK_EQ(console_tail(&console, 3, 100), 0);
    guest_writes("one\ntwo\nthree\nfour");
    CHECK_EQ(console_tail(&console, 1, 100), 14);
    CHECK_EQ(console_tail(&console, 2, 100), 8);
    CHECK_EQ(console_tail(&console, 4, 100), 0);
    CHECK_EQ(console_tail(&console, 99, 100), 0);
    CHECK_EQ(console_tail(&console, 99, 5), 13);
    guest_writes("\n");
    CHECK_EQ(console_tail(&console, 1, 100), 14);
    CHECK_EQ(console_tail(&console, 2, 100), 8);
}

TEST(typed_bytes_go_to_the_guest_until_the_detach_key)
{
    setup();
    guest_writes("login: ");
    keys = "root\r\035not this";
    CHECK(console_attach(&console));
    CHECK_STR(shown, ""); // the detach key was there before the first look
    keys = "";
    waiting = NULL;
}

static void step_type(void)
{
    keys = waits == 1 ? "root\r" : "\035";
}

TEST(output_and_input_pass_both_ways)
{
    setup();
    guest_writes("login: ");
    waiting = step_type;
    CHECK(console_attach(&console));
    CHECK_STR(shown, "login: ");
    CHECK_STR(taken, "root\r");
    CHECK_EQ(mode, HOST_CONSOLE_PLAIN);
    CHECK_EQ(wakes, 0);
    guest_writes("x");
    CHECK_EQ(wakes, 0); // nobody shows it
}

static void step_slow(void)
{
    if (waits == 1)
        keys = "0123456789";
    else if (waits > 20)
        keys = "\035";
}

TEST(a_slow_guest_gets_all_bytes)
{
    setup();
    taken_at_once = 1;
    waiting = step_slow;
    CHECK(console_attach(&console));
    CHECK_STR(taken, "0123456789");
}

static void step_flood(void)
{
    static char flood[1000];
    memset(flood, 'x', sizeof(flood) - 1);
    keys = waits == 1 ? flood : "\035";
}

TEST(a_deaf_guest_cannot_keep_the_user)
{
    setup();
    taken_at_once = 0;
    waiting = step_flood;
    CHECK(console_attach(&console));
    CHECK_EQ(waits, 2);
}

static void step_end(void)
{
    guest_writes("bye\n");
    CHECK(wakes > 0);
    sleeps = 0;
    console_close(&console);
    CHECK_EQ(sleeps, 1); // until it had left
    keys = "ignored";
}

TEST(the_last_words_are_shown_when_the_vm_ends)
{
    setup();
    waiting = step_end;
    CHECK(!console_attach(&console));
    CHECK_STR(shown, "bye\n");
    CHECK_STR(taken, "");
    CHECK(!console_attach(&console)); // a closed line shows its tail and returns
    CHECK_STR(shown, "bye\nbye\n");
}

static void write_too_much(void)
{
    for (unsigned i = 0; i < CONSOLE_RING; i++)
        guest_writes("a");
    guest_writes("the end");
    keys = "";
    waiting = step_end;
}

TEST(a_slow_viewer_is_told_what_it_missed)
{
    setup();
    guest_writes("begin");
    showing = write_too_much;
    CHECK(!console_attach(&console));
    size_t missing = CONSOLE_RING + strlen("the end") - CONSOLE_RING / 2;
    char expected[64];
    snprintf(expected, sizeof(expected), "begin\r\n[%zu bytes not shown]\r\naaa", missing);
    CHECK(strncmp(shown, expected, strlen(expected)) == 0);
    const char *after = strrchr(shown, ']') + strlen("]\r\n");
    CHECK_EQ(strlen(after), CONSOLE_RING / 2 + strlen("bye\n"));
    CHECK_STR(after + CONSOLE_RING / 2 - strlen("the end"), "the endbye\n");
}

static unsigned waits_before_shown;

static void type_detach_when_shown(void)
{
    if (shown_length)
        keys = "\035";
    else
        waits_before_shown = waits;
}

// Keys are passed on all the same.
TEST(a_slow_line_is_waited_for)
{
    setup();
    guest_writes("abc");
    late = 4;
    keys = "x";
    waiting = type_detach_when_shown;
    CHECK(console_attach(&console));
    CHECK_EQ(waits_before_shown, 3);
    CHECK_STR(taken, "x");
    CHECK_STR(shown, "abc");
}

TEST(an_earlier_run_is_not_shown_again)
{
    setup();
    guest_writes("old\n");
    sleeps = 0;
    console_close(&console);
    console_open(&console);
    guest_writes("new\n");
    console_close(&console);
    CHECK_EQ(sleeps, 0); // nobody is attached
    CHECK(!console_attach(&console));
    CHECK_STR(shown, "new\n");
}
