// SPDX-License-Identifier: MIT
// vmm/console/shell.c and commands.c: from typed lines to the commands that run, with the commands
// themselves faked.

#include "tests/unit/test.h"
#include "vmm/lib/format.c"
#include "vmm/lib/parse.c"
#include "vmm/lib/suggest.c"
#include "vmm/console/line_edit.c"
#include "vmm/console/commands.c"
#include "vmm/console/shell.c"
#include <string.h>

bool string_copy(char *to, size_t size, const char *from)
{
    int length = snprintf(to, size, "%s", from);
    return length >= 0 && (size_t)length < size;
}

static char printed[16384];
static size_t printed_length;

void host_console_write(const char *text, size_t size)
{
    CHECK(printed_length + size < sizeof(printed));
    memcpy(printed + printed_length, text, size);
    printed_length += size;
    printed[printed_length] = 0;
}

void host_print(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    host_console_write(text, strlen(text));
}

void host_console_set_mode(enum host_console_mode mode)
{
    (void)mode;
}

static bool redraw;

bool host_console_take_redraw(void)
{
    bool wanted = redraw;
    redraw = false;
    return wanted;
}

static const char *keys;

int host_console_read_until(u64 tsc)
{
    (void)tsc;
    CHECK(*keys);
    return *keys ? (u8)*keys++ : '\r';
}

static struct vm vms[2] = {{.config.name = "debian"}, {.config.name = "linux"}};

struct vm *vm_at(unsigned index)
{
    return index < ARRAY_SIZE(vms) ? &vms[index] : NULL;
}

struct vm *vm_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(vms); i++)
        if (strcmp(vms[i].config.name, name) == 0)
            return &vms[i];
    return NULL;
}

// A command's run leaves its words here.
static char ran[512];

static void record(unsigned count, char **words)
{
    ran[0] = 0;
    for (unsigned i = 0; i < count; i++)
        snprintf(ran + strlen(ran), sizeof(ran) - strlen(ran), "%s%s", i ? "," : "", words[i]);
}

#define FAKE(name)                                                                                 \
    void command_##name(unsigned count, char **words)                                              \
    {                                                                                              \
        record(count, words);                                                                      \
    }
FAKE(list)
FAKE(info)
FAKE(start)
FAKE(stop)
FAKE(reset)
FAKE(pause)
FAKE(gdb)
FAKE(resume)
FAKE(top)
FAKE(destroy)
FAKE(console)
FAKE(log)
FAKE(stats)
FAKE(trace)
FAKE(mem)
FAKE(cpus)
FAKE(dmesg)
FAKE(version)
FAKE(reboot)
FAKE(poweroff)

static void run(const char *typed)
{
    static bool ready;
    if (!ready)
        line_edit_init(&edit, &edit_ops, NULL);
    ready = true;
    keys = typed;
    ran[0] = printed[0] = 0;
    printed_length = 0;
    if (read_line())
        run_line(edit.text);
}

TEST(words_reach_their_command)
{
    run("start debian -c\r");
    CHECK_STR(ran, "start,debian,-c");
    run("   list   \r");
    CHECK_STR(ran, "list");
    run("\r");
    CHECK_STR(ran, "");
    run("list\003");
    CHECK_STR(ran, "");
}

TEST(too_few_or_too_many_words_show_the_usage)
{
    run("start\r");
    CHECK_STR(ran, "");
    CHECK(strstr(printed, "usage: start vm [-c]\n"));
    run("list a\r");
    CHECK(strstr(printed, "usage: list\n"));
    run("start 1 2 3 4 5 6 7 8 9 10 11 12\r");
    CHECK(strstr(printed, "usage: start"));
}

TEST(unknown_commands_get_a_suggestion)
{
    run("strat debian\r");
    CHECK(strstr(printed, "unknown command 'strat'; did you mean 'start'?\n"));
    run("xyzzy\r");
    CHECK(strstr(printed, "unknown command 'xyzzy'; help lists all\n"));
}

TEST(tab_completes_commands_and_vms)
{
    run("cons\tdeb\t\r");
    CHECK_STR(ran, "console,debian");
    run("  info li\t\r");
    CHECK_STR(ran, "info,linux");
    run("log debian 9 li\t\r"); // only the first argument is a VM
    CHECK_STR(ran, "");
    run("log debian li\t\r");
    CHECK_STR(ran, "log,debian,li");
    run("help li\t\r");
    CHECK(strstr(printed, "no command 'li'"));
    run("nonsense li\t\r");
    CHECK(strstr(printed, "unknown command 'nonsense'"));
}

TEST(the_line_is_drawn_anew_when_the_log_wrote)
{
    redraw = true;
    run("list\r");
    CHECK(strstr(printed, "\rplinth> "));
    CHECK_STR(ran, "list");
}

TEST(help_fits_the_screen)
{
    run("help\r");
    for (char *line = strtok(strchr(printed, '\n'), "\n"); line; line = strtok(NULL, "\n"))
        CHECK(strlen(line) < 80);
    run("help stats\r");
    CHECK(strstr(printed, "usage: stats vm [-h|hot]\n"));
}

TEST(arguments)
{
    char a[] = "x", b[] = "-f", c[] = "y";
    char *words[] = {a, b, c};
    unsigned count = 3, n = 0;
    CHECK(command_option(&count, words, "-f"));
    CHECK_EQ(count, 2);
    CHECK_STR(words[1], "y");
    CHECK(!command_option(&count, words, "-f"));
    CHECK(!command_option(&count, words, "x")); // the command itself is none
    CHECK(command_number("0x10", 16, &n) && n == 16);
    CHECK(!command_number("17", 16, &n));
    CHECK(!command_number("0", 16, &n));
    CHECK(command_vm("debian") == &vms[0]);
    printed_length = 0;
    CHECK(!command_vm("debain"));
    CHECK_STR(printed, "there is no VM 'debain'; did you mean 'debian'?\n");
}
