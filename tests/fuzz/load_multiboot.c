// SPDX-License-Identifier: MIT
// Multiboot kernels of both kinds, PVH kernels and flat images with any contents; as load_linux.c.
#include "tests/fuzz/guest_ram.h"
#include "vmm/config.h"
#include "vmm/load/load_flat.h"
#include "vmm/load/load_multiboot.h"
#include "vmm/load/load_multiboot2.h"
#include "vmm/load/load_pvh.h"

#define MODULE_MAX 0x10000

static bool always(const struct guest_image *in UNUSED)
{
    return true;
}

static const struct loader {
    bool (*recognises)(const struct guest_image *in);
    int (*load)(struct guest_memory *gm, const struct guest_image *in, struct guest_entry *out);
} loaders[] = {
    {load_multiboot_recognises, load_multiboot},
    {load_multiboot2_recognises, load_multiboot2},
    {load_pvh_recognises, load_pvh},
    {always, load_flat},
};

// Whether it knows the file or not, each loader must live with it.
static void try(const struct loader *loader, struct guest_image *in)
{
    struct guest_memory gm = {0};
    struct guest_entry out = {0};
    bool known = loader->recognises(in);
    in->why[0] = 0;
    int error = loader->load(&gm, in, &out);
    CHECK((error != OK) == (in->why[0] != 0));
    CHECK(error != OK || (known && is_ram(out.rip, 1)));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz f = {data, size};
    struct e820_entry e820[LAYOUT_E820_MAX];
    char why[CONFIG_ERROR_MAX] = "";
    const struct loader *loader = &loaders[fuzz_below(&f, ARRAY_SIZE(loaders))];
    memory_size = LAYOUT_MEMORY_MIN + fuzz_number(&f, 1) % 31 * MIB;
    u64 module_size = fuzz_number(&f, 2) % MODULE_MAX;
    u8 *module = calloc(1, module_size + 1);
    struct guest_image in = {.kernel_name = "\\kernel",
                             .cmdline = "a b",
                             .module_count = fuzz_below(&f, GUEST_MODULES_MAX + 1),
                             .memory = memory_size,
                             .e820 = e820,
                             .e820_count = layout_e820(memory_size, e820),
                             .rsdp = BOOT_PML4, // anywhere in RAM
                             .load = fuzz_number(&f, fuzz_below(&f, 8) ? 3 : 8),
                             .load_mode = (enum guest_mode)fuzz_below(&f, 3),
                             .why = why};
    for (unsigned i = 0; i < in.module_count; i++)
        in.modules[i] = (struct guest_module){"\\module", "c d", module, module_size};
    void *kernel = fuzz_copy(f.at, f.left);
    in.kernel = kernel;
    in.kernel_size = f.left;
    try(loader, &in);
    free(kernel);
    free(module);
    fuzz_verdict();
    return 0;
}
