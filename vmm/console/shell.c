// SPDX-License-Identifier: MIT
// The shell: prompt, line, words, command. Words are divided by blanks; there is no quoting.

#include "vmm/console/shell.h"
#include "vmm/console/commands.h"
#include "vmm/console/console.h"
#include "vmm/console/line_edit.h"
#include "vmm/version.h"
#include "vmm/vm.h"
#include "vmm/lib/string.h"
#include "vmm/lib/suggest.h"

#define PROMPT "plinth> "

static struct line_edit edit;

static void write_output(void *context, const char *text, size_t size)
{
    (void)context;
    host_console_write(text, size);
}

// --- completion ---

// Is `word` where the line's command takes a VM: right behind its name?
static bool word_is_vm(const char *line, unsigned word)
{
    char name[LINE_EDIT_MAX];
    unsigned from = 0, to;
    while (line[from] == ' ')
        from++;
    for (to = from; line[to] && line[to] != ' '; to++)
        ;
    unsigned next = to;
    while (line[next] == ' ')
        next++;
    string_copy(name, MIN(to - from + 1, sizeof(name)), line + from);
    const struct command *command = command_find(name);
    return command && command->completes_vm && word > to && word <= next;
}

static const char *candidate(void *context, const char *line, unsigned word, unsigned index)
{
    (void)context;
    bool first = true;
    for (unsigned i = 0; i < word; i++)
        first &= line[i] == ' ';
    if (first)
        return index < command_count ? commands[index].name : NULL;
    struct vm *vm = word_is_vm(line, word) ? vm_at(index) : NULL;
    return vm ? vm->config.name : NULL;
}

static const struct line_edit_ops edit_ops = {write_output, candidate};

// --- a line ---

// False: Ctrl-C.
static bool read_line(void)
{
    enum line_edit_result result = LINE_EDIT_MORE;
    // Before the prompt: a log line of another CPU that falls between the two would stand behind
    // the prompt.
    host_console_set_mode(HOST_CONSOLE_LINE);
    line_edit_start(&edit, PROMPT);
    while (result == LINE_EDIT_MORE) {
        if (host_console_take_redraw())
            line_edit_redraw(&edit);
        int byte = host_console_read_until(~0ull);
        if (host_console_take_redraw())
            line_edit_redraw(&edit);
        if (byte >= 0)
            result = line_edit_byte(&edit, (u8)byte);
    }
    host_console_set_mode(HOST_CONSOLE_PLAIN);
    return result == LINE_EDIT_DONE;
}

// Divides the line in place. Words past the last that fits are dropped; no command takes so many.
static unsigned split(char *line, char *words[COMMAND_WORDS_MAX])
{
    unsigned count = 0;
    while (count < COMMAND_WORDS_MAX) {
        while (*line == ' ')
            line++;
        if (!*line)
            break;
        words[count++] = line;
        while (*line && *line != ' ')
            line++;
        if (*line)
            *line++ = 0;
    }
    return count;
}

static void say_unknown(const char *name)
{
    struct suggestion near;
    suggest_start(&near, name);
    for (unsigned i = 0; i < command_count; i++)
        suggest_offer(&near, commands[i].name);
    if (near.best)
        host_print("unknown command '%.40s'; did you mean '%s'?\n", name, near.best);
    else
        host_print("unknown command '%.40s'; help lists all\n", name);
}

static void run_line(char *line)
{
    char *words[COMMAND_WORDS_MAX];
    unsigned count = split(line, words);
    if (!count)
        return;
    const struct command *command = command_find(words[0]);
    if (command)
        command_run(command, count, words);
    else
        say_unknown(words[0]);
}

void shell_thread(void *unused)
{
    (void)unused;
    line_edit_init(&edit, &edit_ops, NULL);
    host_print("\nPlinth " PLINTH_VERSION ". Type help for help.\n");
    for (;;)
        if (read_line())
            run_line(edit.text);
}
