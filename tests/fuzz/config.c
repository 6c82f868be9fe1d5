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

static void check_vm(const struct config_vm *vm)
{
    CHECK(vm->name[0] && strnlen(vm->name, sizeof(vm->name)) < sizeof(vm->name));
    CHECK(strnlen(vm->kernel, sizeof(vm->kernel)) < sizeof(vm->kernel));
    CHECK(strnlen(vm->initrd, sizeof(vm->initrd)) < sizeof(vm->initrd));
    CHECK(strnlen(vm->cmdline, sizeof(vm->cmdline)) < sizeof(vm->cmdline));
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
    scan_files(text, size);
    free(text);
    fuzz_verdict();
    return 0;
}
