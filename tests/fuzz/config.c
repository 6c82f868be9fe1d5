// SPDX-License-Identifier: MIT
// plinth.ini with any contents: the core's parser, and the loader's search for file names.
#include "tests/fuzz/fuzz.h"
#include "vmm/lib/format.c"
#include "vmm/lib/parse.c"
#include "vmm/lib/suggest.c"
#include "vmm/config.c"
#include "boot/ini_files.h"
#include <string.h>

bool string_copy(char *to, size_t size, const char *from)
{
    return (size_t)snprintf(to, size, "%s", from) < size;
}

int strcasecmp(const char *a, const char *b);
bool string_equal_nocase(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0;
}

static struct config_vm vms[CONFIG_VM_MAX];

// The loader must have fetched each file that the core wants.
static bool scan_finds(const char *text, size_t size, const char *wanted)
{
    struct ini_scan scan;
    char name[BOOT_NAME_MAX];
    ini_scan_start(&scan, text, size);
    while (ini_scan_next(&scan, name) != INI_END)
        if (strcmp(name, wanted) == 0)
            return true;
    return false;
}

static void check_files(const struct config_vm *vm, const char *text, size_t size)
{
    CHECK(scan_finds(text, size, vm->kernel));
    CHECK(!vm->initrd[0] || scan_finds(text, size, vm->initrd));
    for (unsigned i = 0; i < vm->module_count; i++)
        CHECK(scan_finds(text, size, vm->modules[i].name));
}

static void check_vm(const struct config_vm *vm)
{
    CHECK(vm->name[0] && strnlen(vm->name, sizeof(vm->name)) < sizeof(vm->name));
    CHECK(strnlen(vm->kernel, sizeof(vm->kernel)) < sizeof(vm->kernel));
    CHECK(strnlen(vm->initrd, sizeof(vm->initrd)) < sizeof(vm->initrd));
    CHECK(strnlen(vm->cmdline, sizeof(vm->cmdline)) < sizeof(vm->cmdline));
    CHECK(vm->module_count <= CONFIG_MODULES_MAX);
    for (unsigned i = 0; i < vm->module_count; i++) {
        const struct config_module *m = &vm->modules[i];
        CHECK(m->name[0] == '\\' && strnlen(m->name, sizeof(m->name)) < sizeof(m->name));
        CHECK(strnlen(m->arguments, sizeof(m->arguments)) < sizeof(m->arguments));
    }
    CHECK(vm->cpus > 0 && vm->memory > 0);
}

static void scan_files(const char *text, size_t size)
{
    struct ini_scan scan;
    char name[BOOT_NAME_MAX];
    ini_scan_start(&scan, text, size);
    for (size_t found = 0; ini_scan_next(&scan, name) != INI_END; found++) {
        CHECK(found <= size); // it comes to an end
        CHECK(strnlen(name, sizeof(name)) < sizeof(name));
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    char *text = fuzz_copy(data, size);
    char error[CONFIG_ERROR_MAX] = "";
    struct config config = {0};
    bool good = config_parse(text, size, vms, &config, error);
    CHECK(good == !error[0]);
    CHECK(strnlen(error, sizeof(error)) < sizeof(error));
    for (unsigned i = 0; good && i < config.vm_count; i++)
        check_vm(&vms[i]);
    for (unsigned i = 0; good && i < config.vm_count; i++)
        check_files(&vms[i], text, size);
    scan_files(text, size);
    free(text);
    fuzz_verdict();
    return 0;
}
