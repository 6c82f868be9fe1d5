// SPDX-License-Identifier: MIT
// A VM's disks: which files are on them, and the host adapter that they hang on.
#pragma once

#include "vmm/lib/types.h"

struct vm;
struct pci_host;
struct storage;

// Find the files that the configuration names, once; what the VM writes to them is kept until it is
// destroyed. One line in `why` (CONFIG_ERROR_MAX) if a file cannot be a disk.
MUST_CHECK int storage_open(struct vm *vm, char *why);
void storage_close(struct vm *vm); // lets other threads run
// The adapter with its drives, for one run of the VM; null in *out if it has no disk.
MUST_CHECK int storage_create(struct vm *vm, struct pci_host *host, u8 devfn, struct storage **out);
void storage_destroy(struct storage *storage); // null is fine
// The size of the VM's disk, and how much of it the VM has written; false: there is none. Disks are
// counted as vmm/config.h has them, the CD-ROM last.
struct config_file;
bool storage_describe(const struct vm *vm, unsigned index, const struct config_file **file,
                      u64 *size, u64 *written);

// Bytes that the VM can still write for the first time, a frame of the host for each page.
u64 storage_left(const struct vm *vm);

// Which to boot from, the disks and then the CD-ROM: a line each, by their Open Firmware paths, as
// PC firmware reads it. Empty without any.
#define STORAGE_BOOT_ORDER_SIZE 192
void storage_boot_order(const struct vm *vm, char text[STORAGE_BOOT_ORDER_SIZE]);
