// SPDX-License-Identifier: MIT
// The files that the loader read from the boot volume.
#pragma once

#include "boot/boot_info.h"
#include "vmm/lib/types.h"

void boot_files_init(const struct boot_info *boot); // copies the list; after the heap
// By the name in the configuration. Null: not there. The status may be other than BOOT_FILE_OK.
const struct boot_file *boot_file_find(const char *name);
// The bytes of a file for use by a guest loader; null and one line in `why` (CONFIG_ERROR_MAX) that
// says what is wrong with the file and where it was asked for.
const void *boot_file_bytes(const char *what, const char *name, unsigned config_line, u64 *size,
                            char *why);
