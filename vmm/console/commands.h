// SPDX-License-Identifier: MIT
// The shell's commands: one table, and what the commands' files share.
#pragma once

#include "vmm/lib/types.h"

struct vm;

#define COMMAND_WORDS_MAX 8

struct command {
    const char *name;
    const char *arguments;         // as help shows them
    const char *help;              // one line
    unsigned words_min, words_max; // how many words the line may have, name and options included
    bool completes_vm;             // the first argument is a VM
    void (*run)(unsigned count, char **words); // words[0] is the command's name
};

extern const struct command commands[];
extern const unsigned command_count;

const struct command *command_find(const char *name); // null if there is none
void command_run(const struct command *command, unsigned count, char **words);

// --- for commands ---
// Take an option such as "-c" out of the words. Was it there?
bool command_option(unsigned *count, char **words, const char *option);
struct vm *command_vm(const char *name); // null: no such VM, which has been said
// A number from 1 to max; false: it is none, which has been said.
bool command_number(const char *word, u64 max, unsigned *number);

// --- vmm/console/commands.c ---
void command_help(unsigned count, char **words);
// --- vmm/console/commands_vm.c ---
void command_list(unsigned count, char **words);
void command_info(unsigned count, char **words);
void command_start(unsigned count, char **words);
void command_stop(unsigned count, char **words);
void command_reset(unsigned count, char **words);
void command_pause(unsigned count, char **words);
void command_resume(unsigned count, char **words);
void command_destroy(unsigned count, char **words);
void command_console(unsigned count, char **words);
void command_log(unsigned count, char **words);
// --- vmm/debug/gdb_port.c ---
void command_gdb(unsigned count, char **words);
// --- vmm/console/commands_trace.c ---
void command_stats(unsigned count, char **words);
void command_trace(unsigned count, char **words);
// --- vmm/console/commands_top.c ---
void command_top(unsigned count, char **words);
// --- vmm/console/commands_host.c ---
void command_mem(unsigned count, char **words);
void command_cpus(unsigned count, char **words);
void command_dmesg(unsigned count, char **words);
void command_version(unsigned count, char **words);
void command_reboot(unsigned count, char **words);
void command_poweroff(unsigned count, char **words);
