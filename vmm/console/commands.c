// SPDX-License-Identifier: MIT
// The table of the shell's commands, help, and how arguments are read.

#include "vmm/console/commands.h"
#include "vmm/console/console.h"
#include "vmm/vm.h"
#include "vmm/lib/format.h"
#include "vmm/lib/parse.h"
#include "vmm/lib/string.h"
#include "vmm/lib/suggest.h"

const struct command commands[] = {
    {"help", "[command]", "list the commands, or explain one", 1, 2, false, command_help},
    {"list", "", "list the VMs", 1, 1, false, command_list},
    {"info", "[vm]", "show all about a VM, or about the host", 1, 2, true, command_info},
    {"start", "vm [-c]", "start a VM; -c: attach its console", 2, 3, true, command_start},
    {"stop", "vm", "pull a VM's plug", 2, 2, true, command_stop},
    {"reset", "vm", "press a VM's reset button", 2, 2, true, command_reset},
    {"pause", "vm", "stop a VM's vCPUs and its time", 2, 2, true, command_pause},
    {"resume", "vm", "let a paused VM go on", 2, 2, true, command_resume},
    {"destroy", "vm", "stop a VM and forget it until the next boot", 2, 2, true, command_destroy},
    {"console", "vm", "attach a VM's console; Ctrl-] detaches", 2, 2, true, command_console},
    {"log", "vm [lines]", "show the end of what a VM wrote (40 lines)", 2, 3, true, command_log},
    {"stats", "vm [-h|hot]", "count and cost of exits; -h: histograms; hot: where", 2, 3, true,
     command_stats},
    {"trace", "vm [what]", "the last exits (20, all, json); kind=, rip=, port=", 2,
     COMMAND_WORDS_MAX, true, command_trace},
    {"gdb", "[vm|off]", "let a GDB at the second serial port debug a VM", 1, 2, true, command_gdb},
    {"mem", "", "show who has the host's memory", 1, 1, false, command_mem},
    {"cpus", "[-t]", "list the host's CPUs; -t: the threads", 1, 2, false, command_cpus},
    {"top", "", "show who uses the CPUs, until a key is typed", 1, 1, false, command_top},
    {"dmesg", "", "show the hypervisor's log", 1, 1, false, command_dmesg},
    {"version", "", "show versions, CPU, engines", 1, 1, false, command_version},
    {"reboot", "[-f]", "restart the machine; -f: even if VMs run", 1, 2, false, command_reboot},
    {"poweroff", "[-f]", "switch the machine off; -f: even if VMs run", 1, 2, false,
     command_poweroff},
};
const unsigned command_count = ARRAY_SIZE(commands);

const struct command *command_find(const char *name)
{
    for (unsigned i = 0; i < command_count; i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

static void print_usage(const struct command *command)
{
    host_print("usage: %s%s%s\n", command->name, command->arguments[0] ? " " : "",
               command->arguments);
}

void command_run(const struct command *command, unsigned count, char **words)
{
    if (count < command->words_min || count > command->words_max)
        print_usage(command);
    else
        command->run(count, words);
}

void command_help(unsigned count, char **words)
{
    if (count == 1) {
        for (unsigned i = 0; i < command_count; i++)
            host_print("  %-9s %-11s  %s\n", commands[i].name, commands[i].arguments,
                       commands[i].help);
        host_print("Tab completes; the arrow keys edit and go through the lines typed before.\n");
        return;
    }
    const struct command *command = command_find(words[1]);
    if (!command) {
        host_print("there is no command '%.40s'\n", words[1]);
        return;
    }
    host_print("%s: %s\n", command->name, command->help);
    print_usage(command);
}

bool command_option(unsigned *count, char **words, const char *option)
{
    for (unsigned i = 1; i < *count; i++) {
        if (strcmp(words[i], option) != 0)
            continue;
        memmove(&words[i], &words[i + 1], (*count - i - 1) * sizeof(*words));
        (*count)--;
        return true;
    }
    return false;
}

struct vm *command_vm(const char *name)
{
    struct vm *vm = vm_find(name);
    if (vm)
        return vm;
    struct suggestion near;
    suggest_start(&near, name);
    for (unsigned i = 0; (vm = vm_at(i)); i++)
        suggest_offer(&near, vm->config.name);
    if (near.best)
        host_print("there is no VM '%.40s'; did you mean '%s'?\n", name, near.best);
    else
        host_print("there is no VM '%.40s'; list shows all\n", name);
    return NULL;
}

bool command_number(const char *word, u64 max, unsigned *number)
{
    u64 n;
    if (!parse_number(word, &n) || n < 1 || n > max) {
        host_print("'%.40s' is not a number from 1 to %llu\n", word, (unsigned long long)max);
        return false;
    }
    *number = (unsigned)n;
    return true;
}
