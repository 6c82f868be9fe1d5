// SPDX-License-Identifier: MIT
// Kernel files with any header: the loader writes inside of the guest's RAM only, reads inside of
// the file only, and gives a reason when it refuses.
#include "tests/fuzz/guest_ram.h"
#include "vmm/lib/format.c"
#include "vmm/layout.c"
#include "vmm/load/guest_image.c"
#include "vmm/load/load_linux.c"

#define TAIL_MAX   0x20000
#define INITRD_MAX 0x100000

// The input: sizes, then the header, then a part of the file that begins anywhere.
static u8 *make_file(struct fuzz *f, size_t *size)
{
    *size = (size_t)fuzz_number(f, 3) % TAIL_MAX;
    u8 *file = calloc(1, MAX(*size, (size_t)1));
    struct setup_header header;
    fuzz_bytes(f, &header, sizeof(header));
    if (*size > HEADER_OFFSET)
        memcpy(file + HEADER_OFFSET, &header, MIN(sizeof(header), *size - HEADER_OFFSET));
    return file;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz f = {data, size};
    size_t kernel_size, cmdline_size = (size_t)fuzz_number(&f, 2) % 5000;
    size_t initrd_size = (size_t)fuzz_number(&f, 3) % INITRD_MAX;
    memory_size = LAYOUT_MEMORY_MIN + fuzz_number(&f, 1) % 31 * MIB;
    u8 *kernel = make_file(&f, &kernel_size);
    u8 *initrd = calloc(1, MAX(initrd_size, (size_t)1));
    char *cmdline = calloc(1, cmdline_size + 1), why[CONFIG_ERROR_MAX] = "";
    memset(cmdline, 'x', cmdline_size);
    struct e820_entry e820[LAYOUT_E820_MAX];
    struct guest_image in = {.kernel_name = "\\kernel",
                             .kernel = kernel,
                             .kernel_size = kernel_size,
                             .modules = {{"\\initrd", "", initrd, initrd_size}},
                             .module_count = initrd_size != 0,
                             .cmdline = cmdline,
                             .memory = memory_size,
                             .e820 = e820,
                             .e820_count = layout_e820(memory_size, e820),
                             .rsdp = LAYOUT_RSDP,
                             .why = why};
    struct guest_memory gm = {0};
    struct guest_entry out = {0};
    int error = load_linux(&gm, &in, &out);
    CHECK((error != OK) == (why[0] != 0));
    CHECK(error != OK || (is_ram(out.rip, 1) && is_ram(out.rsp - PAGE_SIZE, PAGE_SIZE)));
    free(kernel);
    free(initrd);
    free(cmdline);
    fuzz_verdict();
    return 0;
}
