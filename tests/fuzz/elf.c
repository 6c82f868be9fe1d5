// SPDX-License-Identifier: MIT
// The boot loader's reader of ELF files: what it accepts it can load into a block of the size that
// it asked for.
#include "tests/fuzz/fuzz.h"
#include "boot/elf.h"

#define BLOCK_MAX 0x1000000

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct elf_layout layout = {0};
    void *file = fuzz_copy(data, size);
    if (!elf_check(file, size, &layout)) {
        CHECK(layout.size > 0 && layout.size <= CORE_SIZE_MAX);
        CHECK(layout.entry - layout.link_base < layout.size);
        if (layout.size <= BLOCK_MAX) {
            void *block = malloc(layout.size);
            elf_load(file, &layout, block);
            free(block);
        }
    }
    free(file);
    fuzz_verdict();
    return 0;
}
