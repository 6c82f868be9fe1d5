// SPDX-License-Identifier: MIT
// The parser of plinth.ini: lines, sections, and a table of keys for each kind of section. The
// first error ends it. A comment starts with ; or # at a line's start or after a blank. The loader
// scans the same text for file names (boot/ini_files.c) and knows less: file names are therefore
// kept plain here.

#include "vmm/config.h"
#include "vmm/thread.h"
#include "arch/x86_64/percpu.h"
#include "vmm/lib/format.h"
#include "vmm/lib/log.h"
#include "vmm/lib/parse.h"
#include "vmm/lib/string.h"
#include "vmm/lib/suggest.h"
#include <stdarg.h>

#define CONFIG_LINE_MAX (CONFIG_CMDLINE_MAX + 128)

#define CPUS_MIN       1u
#define CPUS_MAX       ((unsigned)CONFIG_CPUS_MAX)
#define CPUS_DEFAULT   1u
#define MEMORY_MIN     (1 * MIB)
#define MEMORY_MAX     (1024 * GIB)
#define MEMORY_DEFAULT (256 * MIB)

#define FLAT_LOAD_DEFAULT 0x7c00 // where a PC's firmware puts a boot sector

static const u8 utf8_bom[] = {0xef, 0xbb, 0xbf};

struct parser {
    const char *text;
    u64 size, at;
    unsigned line_number;
    char line[CONFIG_LINE_MAX];
    const struct section_kind *kind; // of the section that is being read; null: none yet
    void *target;                    // the struct that its keys fill
    u64 keys_seen;                   // one bit a key of the section
    bool plinth_seen;
    struct config_vm *storage;
    struct config *config;
    char *error;
};

struct key {
    const char *name;
    bool (*set)(struct parser *p, const struct key *key, const char *value, void *field);
    size_t offset, size; // of the field
    size_t line_offset;  // where the line's number is kept as well; 0: nowhere
    const char *const *choices;
};

struct section_kind {
    const char *name;
    const struct key *keys;
    size_t key_count;
    bool (*open)(struct parser *p, const char *name);
};

// --- errors ---

static bool fail_at(struct parser *p, unsigned line, const char *format, va_list arguments)
{
    int length = format_text(p->error, CONFIG_ERROR_MAX, "plinth.ini:%u: ", line);
    format_text_v(p->error + length, CONFIG_ERROR_MAX - (size_t)length, format, arguments);
    return false;
}

// Always false, so that a caller can return it.
PRINTF(2, 3) static bool fail(struct parser *p, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fail_at(p, p->line_number, format, arguments);
    va_end(arguments);
    return false;
}

PRINTF(3, 4) static bool fail_line(struct parser *p, unsigned line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fail_at(p, line, format, arguments);
    va_end(arguments);
    return false;
}

static bool fail_unknown(struct parser *p, const char *what, const struct suggestion *near)
{
    if (near->best)
        return fail(p, "unknown %s '%.32s'; did you mean '%s'?", what, near->word, near->best);
    return fail(p, "unknown %s '%.32s'", what, near->word);
}

// --- values ---

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

// Cuts blanks off both ends, the last in place.
static char *trim(char *s)
{
    while (is_blank(*s))
        s++;
    size_t length = strlen(s);
    while (length && is_blank(s[length - 1]))
        length--;
    s[length] = 0;
    return s;
}

static bool set_size(struct parser *p, const struct key *key, const char *value, void *field)
{
    u64 bytes;
    if (!parse_size(value, &bytes))
        return fail(p, "%s: '%.32s' is not a size; write a number with K, M or G", key->name,
                    value);
    if (bytes < MEMORY_MIN || bytes > MEMORY_MAX)
        return fail(p, "%s: '%.32s' is out of range; 1M to 1T", key->name, value);
    if (!IS_ALIGNED(bytes, PAGE_SIZE))
        return fail(p, "%s: '%.32s' is not a multiple of 4K", key->name, value);
    *(u64 *)field = bytes;
    return true;
}

static bool take_number(struct parser *p, const struct key *key, const char *value, unsigned min,
                        unsigned max, unsigned *number)
{
    u64 n;
    if (!parse_number(value, &n))
        return fail(p, "%s: '%.32s' is not a number", key->name, value);
    if (n < min || n > max)
        return fail(p, "%s: '%.32s' is out of range; %u to %u", key->name, value, min, max);
    *number = (unsigned)n;
    return true;
}

static bool set_cpus(struct parser *p, const struct key *key, const char *value, void *field)
{
    return take_number(p, key, value, CPUS_MIN, CPUS_MAX, field);
}

static bool set_weight(struct parser *p, const struct key *key, const char *value, void *field)
{
    return take_number(p, key, value, THREAD_WEIGHT_MIN, THREAD_WEIGHT_MAX, field);
}

// Numbers of CPUs, divided by commas.
static bool set_pin(struct parser *p, const struct key *key, const char *value, void *field)
{
    struct config_vm *vm = container_of(field, struct config_vm, pin);
    for (;;) {
        char word[16];
        size_t length = 0;
        unsigned cpu = 0;
        while (is_blank(*value))
            value++;
        for (; *value && *value != ',' && length < sizeof(word) - 1; value++)
            word[length++] = *value;
        word[length] = 0;
        if (!take_number(p, key, trim(word), 0, CPU_MAX - 1, &cpu))
            return false;
        if (vm->pin_count == CONFIG_CPUS_MAX)
            return fail(p, "%s: too many CPUs; at most %d", key->name, CONFIG_CPUS_MAX);
        vm->pin[vm->pin_count++] = (u8)cpu;
        if (!*value)
            return true;
        if (*value++ != ',')
            return fail(p, "%s: '%.32s' is not a number", key->name, word);
    }
}

// The choice's index, or -1 with an error that lists them all.
static int choose(struct parser *p, const struct key *key, const char *value)
{
    char list[64] = "";
    size_t length = 0;
    for (int i = 0; key->choices[i]; i++) {
        if (string_equal_nocase(value, key->choices[i]))
            return i;
        length += (size_t)format_text(list + length, sizeof(list) - length, " %s", key->choices[i]);
        length = MIN(length, sizeof(list) - 1);
    }
    fail(p, "%s: '%.32s' is not one of:%s", key->name, value, list);
    return -1;
}

static bool set_choice_name(struct parser *p, const struct key *key, const char *value, void *field)
{
    int index = choose(p, key, value);
    return index >= 0 && string_copy(field, key->size, key->choices[index]);
}

static bool set_choice_number(struct parser *p, const struct key *key, const char *value,
                              void *field)
{
    int index = choose(p, key, value);
    if (index >= 0)
        *(unsigned *)field = (unsigned)index;
    return index >= 0;
}

static bool set_flag(struct parser *p, const struct key *key, const char *value, void *field)
{
    int index = choose(p, key, value);
    if (index >= 0)
        *(bool *)field = index % 2; // the choices alternate: no, yes
    return index >= 0;
}

// Words with commas between them; each choice is a bit.
static bool set_list(struct parser *p, const struct key *key, const char *value, void *field)
{
    char word[32];
    u32 bits = 0;
    while (true) {
        const char *end = strchr(value, ',');
        size_t length = end ? (size_t)(end - value) : strlen(value);
        if (length >= sizeof(word))
            return fail(p, "%s: '%.32s' is too long for a name", key->name, value);
        memcpy(word, value, length);
        word[length] = 0;
        int index = choose(p, key, trim(word));
        if (index < 0)
            return false;
        bits |= 1u << index;
        if (!end)
            break;
        value = end + 1;
    }
    *(u32 *)field = bits;
    return true;
}

static bool set_text(struct parser *p, const struct key *key, const char *value, void *field)
{
    if (!string_copy(field, key->size, value))
        return fail(p, "%s is too long; at most %zu characters", key->name, key->size - 1);
    return true;
}

static bool set_address(struct parser *p, const struct key *key, const char *value, void *field)
{
    if (!parse_number(value, field))
        return fail(p, "%s: '%.32s' is not an address", key->name, value);
    return true;
}

static bool set_file(struct parser *p, const struct key *key, const char *value, void *field)
{
    if (value[0] != '\\')
        return fail(p, "%s: '%.32s' must be a path from the volume's root: \\folder\\file",
                    key->name, value);
    for (const char *c = value; *c; c++)
        if (strchr(";#/:", *c))
            return fail(p, "%s: a path cannot hold '%c'; folders are divided by '\\'", key->name,
                        *c);
    return set_text(p, key, value, field);
}

// May be given again for each further module. The path ends at the first blank.
static bool set_module(struct parser *p, const struct key *key, const char *value, void *field)
{
    struct config_vm *vm = container_of(field, struct config_vm, modules);
    char path[BOOT_NAME_MAX];
    size_t length = 0;
    while (value[length] && !is_blank(value[length]))
        length++;
    if (length >= sizeof(path))
        return fail(p, "%s: the path is too long; at most %zu characters", key->name,
                    sizeof(path) - 1);
    if (vm->module_count == CONFIG_MODULES_MAX)
        return fail(p, "too many modules; at most %d", CONFIG_MODULES_MAX);
    struct config_module *module = &vm->modules[vm->module_count++];
    memcpy(path, value, length);
    path[length] = 0;
    module->line = p->line_number;
    const struct key name = {.name = key->name, .size = sizeof(module->name)};
    const struct key arguments = {.name = "the text behind module",
                                  .size = sizeof(module->arguments)};
    while (is_blank(value[length]))
        length++;
    return set_file(p, &name, path, module->name) &&
           set_text(p, &arguments, value + length, module->arguments);
}

static const char *const engine_names[] = {"auto", "vmx", "svm", "bt", NULL};
static const char *const mmu_names[] = {"auto", "ept", "npt", "shadow", NULL};
static const char *const flag_names[] = {"no", "yes", "off", "on", "false", "true", NULL};
static const char *const pages_names[] = {[GUEST_PAGES_AUTO] = "auto",
                                          [GUEST_PAGES_4K] = "4K",
                                          [GUEST_PAGES_2M] = "2M",
                                          [GUEST_PAGES_1G] = "1G",
                                          NULL};
static const char *const boot_names[] = {[GUEST_BOOT_AUTO] = "auto",
                                         [GUEST_BOOT_LINUX] = "linux",
                                         [GUEST_BOOT_MULTIBOOT2] = "multiboot2",
                                         [GUEST_BOOT_MULTIBOOT] = "multiboot",
                                         [GUEST_BOOT_PVH] = "pvh",
                                         [GUEST_BOOT_FLAT] = "flat",
                                         NULL};
static const char *const mode_names[] = {[GUEST_MODE_REAL] = "real",
                                         [GUEST_MODE_PROTECTED] = "protected",
                                         [GUEST_MODE_LONG] = "long",
                                         NULL};
static const char *const device_names[] = {"debug-exit", "debugcon", "testdev",
                                           "fwcfg",      "hpet",     NULL};
static const char *const gdb_names[] = {
    [CONFIG_GDB_NO] = "no", [CONFIG_GDB_YES] = "yes", [CONFIG_GDB_WAIT] = "wait", NULL};
static const char *const triple_fault_names[] = {
    [CONFIG_TRIPLE_FAULT_STOP] = "stop", [CONFIG_TRIPLE_FAULT_RESET] = "reset", NULL};
static const char *const apic_names[] = {[CONFIG_APIC_AUTO] = "auto",
                                         [CONFIG_APIC_HARDWARE] = "hardware",
                                         [CONFIG_APIC_SOFT] = "soft",
                                         NULL};
static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug", NULL};

const char *config_apic_name(enum config_apic apic)
{
    return apic_names[apic];
}

#define FIELD(type, member) offsetof(type, member), sizeof(((type *)0)->member)
#define FILE_FIELD(member)                                                                         \
    FIELD(struct config_vm, member.name), offsetof(struct config_vm, member.line), NULL

static const struct key vm_keys[] = {
    {"engine", set_choice_name, FIELD(struct config_vm, engine), 0, engine_names},
    {"mmu", set_choice_name, FIELD(struct config_vm, mmu), 0, mmu_names},
    {"cpus", set_cpus, FIELD(struct config_vm, cpus), 0, NULL},
    {"weight", set_weight, FIELD(struct config_vm, weight), 0, NULL},
    {"pin", set_pin, FIELD(struct config_vm, pin), offsetof(struct config_vm, pin_line), NULL},
    {"memory", set_size, FIELD(struct config_vm, memory), 0, NULL},
    {"pages", set_choice_number, FIELD(struct config_vm, pages), 0, pages_names},
    {"kernel", set_file, FIELD(struct config_vm, kernel), offsetof(struct config_vm, kernel_line),
     NULL},
    {"initrd", set_file, FIELD(struct config_vm, initrd), offsetof(struct config_vm, initrd_line),
     NULL},
    {"firmware", set_file, FIELD(struct config_vm, firmware),
     offsetof(struct config_vm, firmware_line), NULL},
    {"nvram", set_file, FIELD(struct config_vm, nvram), offsetof(struct config_vm, nvram_line),
     NULL},
    {"module", set_module, FIELD(struct config_vm, modules), 0, NULL},
    {"disk", set_file, FILE_FIELD(disk[0])},
    {"disk2", set_file, FILE_FIELD(disk[1])},
    {"cdrom", set_file, FILE_FIELD(cdrom)},
    {"cmdline", set_text, FIELD(struct config_vm, cmdline), 0, NULL},
    {"autostart", set_flag, FIELD(struct config_vm, autostart), 0, flag_names},
    {"apic", set_choice_number, FIELD(struct config_vm, apic),
     offsetof(struct config_vm, apic_line), apic_names},
    {"devices", set_list, FIELD(struct config_vm, devices), 0, device_names},
    {"boot", set_choice_number, FIELD(struct config_vm, boot), 0, boot_names},
    {"load", set_address, FIELD(struct config_vm, load), 0, NULL},
    {"mode", set_choice_number, FIELD(struct config_vm, mode), 0, mode_names},
    {"gdb", set_choice_number, FIELD(struct config_vm, gdb), 0, gdb_names},
    {"triple-fault", set_choice_number, FIELD(struct config_vm, triple_fault), 0,
     triple_fault_names},
};

static const struct key plinth_keys[] = {
    {"debug-exit", set_flag, FIELD(struct config, debug_exit), 0, flag_names},
    {"log-level", set_choice_number, FIELD(struct config, log_level), 0, level_names},
};

// --- sections ---

static bool name_is_valid(const char *name)
{
    for (const char *c = name; *c; c++) {
        bool alphanumeric =
            (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9');
        if (!alphanumeric && *c != '_' && *c != '.' && *c != '-')
            return false;
    }
    return *name;
}

static bool open_plinth(struct parser *p, const char *name)
{
    if (*name)
        return fail(p, "[plinth] takes no name");
    if (p->plinth_seen)
        return fail(p, "section [plinth] is given twice");
    p->plinth_seen = true;
    p->target = p->config;
    return true;
}

static bool check_vm_name(struct parser *p, const char *name)
{
    if (!*name)
        return fail(p, "a VM needs a name: [vm NAME]");
    if (!name_is_valid(name))
        return fail(p, "VM name '%.32s' may hold letters, digits, '_', '.' and '-' only", name);
    if (strlen(name) >= CONFIG_NAME_MAX)
        return fail(p, "VM name '%.32s...' is too long; at most %d characters", name,
                    CONFIG_NAME_MAX - 1);
    for (unsigned i = 0; i < p->config->vm_count; i++)
        if (strcmp(p->storage[i].name, name) == 0)
            return fail(p, "VM '%s' is defined already in line %u", name, p->storage[i].line);
    if (p->config->vm_count == CONFIG_VM_MAX)
        return fail(p, "too many VMs; at most %d", CONFIG_VM_MAX);
    return true;
}

static bool open_vm(struct parser *p, const char *name)
{
    if (!check_vm_name(p, name))
        return false;
    struct config_vm *vm = &p->storage[p->config->vm_count++];
    *vm = (struct config_vm){
        .line = p->line_number,
        .engine = "auto",
        .mmu = "auto",
        .cpus = CPUS_DEFAULT,
        .weight = THREAD_WEIGHT_DEFAULT,
        .memory = MEMORY_DEFAULT,
        .pages = GUEST_PAGES_AUTO,
        .load = FLAT_LOAD_DEFAULT,
    };
    p->target = vm;
    return string_copy(vm->name, sizeof(vm->name), name);
}

static const struct section_kind section_kinds[] = {
    {"plinth", plinth_keys, ARRAY_SIZE(plinth_keys), open_plinth},
    {"vm", vm_keys, ARRAY_SIZE(vm_keys), open_vm},
};

// --- lines ---

static void cut_comment(char *s)
{
    for (char *c = s; *c; c++) {
        if ((*c == ';' || *c == '#') && (c == s || is_blank(c[-1]))) {
            *c = 0;
            return;
        }
    }
}

static bool parse_section(struct parser *p, char *line)
{
    size_t length = strlen(line);
    if (line[length - 1] != ']')
        return fail(p, "a section header ends with ']'");
    line[length - 1] = 0;
    char *kind = trim(line + 1);
    char *name = kind;
    while (*name && !is_blank(*name))
        name++;
    if (*name)
        *name++ = 0;
    struct suggestion near;
    suggest_start(&near, kind);
    for (size_t i = 0; i < ARRAY_SIZE(section_kinds); i++) {
        if (strcmp(kind, section_kinds[i].name) == 0) {
            p->kind = &section_kinds[i];
            p->keys_seen = 0;
            return p->kind->open(p, trim(name));
        }
        suggest_offer(&near, section_kinds[i].name);
    }
    return fail_unknown(p, "section", &near);
}

static bool set_key(struct parser *p, size_t index, const char *value)
{
    const struct key *key = &p->kind->keys[index];
    if (p->keys_seen & BIT(index) && key->set != set_module)
        return fail(p, "%s is given twice in this section", key->name);
    p->keys_seen |= BIT(index);
    if (!*value)
        return fail(p, "%s has no value", key->name);
    if (key->line_offset)
        *(unsigned *)((char *)p->target + key->line_offset) = p->line_number;
    return key->set(p, key, value, (char *)p->target + key->offset);
}

static bool parse_key(struct parser *p, char *line)
{
    char *equals = strchr(line, '=');
    if (!equals)
        return fail(p, "'%.32s' is neither [section] nor key = value", line);
    *equals = 0;
    char *name = trim(line), *value = trim(equals + 1);
    if (!p->kind)
        return fail(p, "'%.32s' stands before any section; begin with [vm NAME]", name);
    struct suggestion near;
    suggest_start(&near, name);
    for (size_t i = 0; i < p->kind->key_count; i++) {
        if (strcmp(name, p->kind->keys[i].name) == 0)
            return set_key(p, i, value);
        suggest_offer(&near, p->kind->keys[i].name);
    }
    return fail_unknown(p, "key", &near);
}

static bool parse_line(struct parser *p)
{
    cut_comment(p->line);
    char *line = trim(p->line);
    if (!*line)
        return true;
    return *line == '[' ? parse_section(p, line) : parse_key(p, line);
}

static bool is_text(char c)
{
    return (u8)c >= ' ' || c == '\t';
}

// The next line into p->line, without its end.
static bool read_line(struct parser *p)
{
    size_t length = 0;
    p->line_number++;
    for (; p->at < p->size && p->text[p->at] != '\n'; p->at++) {
        char c = p->text[p->at];
        if (c == '\r' && (p->at + 1 == p->size || p->text[p->at + 1] == '\n'))
            continue;
        if (!is_text(c))
            return fail(p, "byte 0x%02x is not text; save the file as plain text", (u8)c);
        if (length == sizeof(p->line) - 1)
            return fail(p, "line too long; at most %zu characters", sizeof(p->line) - 1);
        p->line[length++] = c;
    }
    p->line[length] = 0;
    p->at++;
    return true;
}

// One of the two, and what belongs to it only.
static bool check_what_runs(struct parser *p, const struct config_vm *vm)
{
    if (!vm->kernel[0] && !vm->firmware[0])
        return fail_line(p, vm->line,
                         "VM '%s' has no kernel; add kernel = \\path\\file, or firmware", vm->name);
    if (vm->kernel[0] && vm->firmware[0])
        return fail_line(p, vm->firmware_line, "VM '%s' has a kernel too; give one of the two",
                         vm->name);
    if (vm->nvram[0] && !vm->firmware[0])
        return fail_line(p, vm->nvram_line, "nvram is for firmware, and VM '%s' has a kernel",
                         vm->name);
    if (vm->firmware[0] && (vm->initrd[0] || vm->cmdline[0]))
        return fail_line(p, vm->firmware_line,
                         "initrd and cmdline are for a kernel, and VM '%s' has firmware", vm->name);
    return true;
}

static bool check_vms(struct parser *p)
{
    for (unsigned i = 0; i < p->config->vm_count; i++) {
        const struct config_vm *vm = &p->storage[i];
        if (!check_what_runs(p, vm))
            return false;
        if (vm->pin_count > vm->cpus)
            return fail_line(p, vm->pin_line, "pin: %u CPUs are listed, VM '%s' has only %u",
                             vm->pin_count, vm->name, vm->cpus);
    }
    return true;
}

bool config_parse(const char *text, u64 size, struct config_vm *storage, struct config *config,
                  char error[CONFIG_ERROR_MAX])
{
    // Static: the line is large for a thread's stack. The configuration is read by one CPU, once.
    static struct parser parser;
    struct parser *p = &parser;
    *p = (struct parser){
        .text = text, .size = size, .storage = storage, .config = config, .error = error};
    *config = (struct config){.vms = storage, .log_level = LOG_INFO};
    error[0] = 0;
    if (size >= sizeof(utf8_bom) && memcmp(text, utf8_bom, sizeof(utf8_bom)) == 0)
        p->at = sizeof(utf8_bom);
    while (p->at < p->size)
        if (!read_line(p) || !parse_line(p))
            return false;
    return check_vms(p);
}
