// SPDX-License-Identifier: MIT
// Multiboot kernels and flat images with any contents; as load_linux.c.
#include "tests/fuzz/guest_ram.h"
#include "vmm/lib/format.c"
#include "vmm/layout.c"
#include "vmm/guest_image.c"
#include "vmm/elf_image.c"
#include "vmm/load_multiboot.c"
#include "vmm/load_flat.c"

#define INITRD_MAX 0x10000

static void check_entry(const struct guest_image *in, int error, const struct guest_entry *out)
{
    CHECK((error != OK) == (in->why[0] != 0));
    CHECK(error != OK || is_ram(out->rip, 1));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz f = {data, size};
    struct e820_entry e820[LAYOUT_E820_MAX];
    char why[CONFIG_ERROR_MAX] = "";
    bool flat = fuzz_below(&f, 8) == 0;
    memory_size = LAYOUT_MEMORY_MIN + fuzz_number(&f, 1) % 31 * MIB;
    struct guest_image in = {.kernel_name = "\\kernel",
                             .initrd_name = "\\initrd",
                             .initrd_size = fuzz_number(&f, 2) % INITRD_MAX,
                             .cmdline = "a b",
                             .memory = memory_size,
                             .e820 = e820,
                             .e820_count = layout_e820(memory_size, e820),
                             .rsdp = LAYOUT_RSDP,
                             .load = fuzz_number(&f, fuzz_below(&f, 8) ? 3 : 8),
                             .load_mode = (enum guest_mode)fuzz_below(&f, 3),
                             .why = why};
    void *kernel = fuzz_copy(f.at, f.left), *initrd = calloc(1, in.initrd_size + 1);
    struct guest_memory gm = {0};
    struct guest_entry out = {0};
    in.kernel = kernel;
    in.kernel_size = f.left;
    in.initrd = initrd;
    if (flat)
        check_entry(&in, load_flat(&gm, &in, &out), &out);
    else if (load_multiboot_recognises(&in))
        check_entry(&in, load_multiboot(&gm, &in, &out), &out);
    free(kernel);
    free(initrd);
    fuzz_verdict();
    return 0;
}
