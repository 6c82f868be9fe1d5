// SPDX-License-Identifier: MIT
// Two lives: what is on a disk (struct disks) stays with the VM from its first start to its end,
// over resets and stops, as on a disk that is left in its machine; adapter and drives (struct
// storage) are chips. Disks are on the first ports, the CD-ROM is behind them.
#include "vmm/storage.h"
#include "io/ahci.h"
#include "mm/heap.h"
#include "vmm/load/boot_files.h"
#include "vmm/machine.h"
#include "vmm/thread.h"
#include "vmm/vm.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"

#define DRIVES    (CONFIG_DISKS_MAX + 1)
#define CDROM     CONFIG_DISKS_MAX // the last
#define CD_SECTOR 2048u

struct disks {
    struct disk_image images[DRIVES]; // size 0: none
};

struct storage {
    struct ahci ahci;
    struct ata_drive drives[DRIVES];
};

static const struct config_file *file_of(const struct config_vm *c, unsigned index)
{
    return index == CDROM ? &c->cdrom : &c->disk[index];
}

// --- what is on them ---

static int image_open(const struct config_file *file, bool cd, struct disk_image *image, char *why)
{
    u64 size = 0, sector = cd ? CD_SECTOR : ATA_SECTOR;
    const char *what = cd ? "cdrom" : "disk";
    const void *bytes = boot_file_bytes(what, file->name, file->line, &size, why);
    if (!bytes)
        return ERR_NOT_FOUND;
    if (!size || size % sector) {
        format_text(why, CONFIG_ERROR_MAX,
                    "plinth.ini:%u: %s %s has %llu bytes: an image is whole sectors of %llu bytes, "
                    "one at least",
                    file->line, what, file->name, (unsigned long long)size,
                    (unsigned long long)sector);
        return ERR_FORMAT;
    }
    format_text(why, CONFIG_ERROR_MAX, "plinth.ini:%u: %s: the host is out of memory", file->line,
                what);
    return disk_image_init(image, bytes, size, !cd);
}

static bool is_wanted(const struct config_vm *c)
{
    bool wanted = false;
    for (unsigned i = 0; i < DRIVES; i++)
        wanted |= file_of(c, i)->name[0];
    return wanted;
}

int storage_open(struct vm *vm, char *why)
{
    if (vm->disks || !is_wanted(&vm->config))
        return OK;
    format_text(why, CONFIG_ERROR_MAX, "VM %s: the host is out of memory", vm->config.name);
    vm->disks = heap_alloc(sizeof(*vm->disks));
    int error = vm->disks ? OK : ERR_NO_MEMORY;
    for (unsigned i = 0; error == OK && i < DRIVES; i++) {
        const struct config_file *file = file_of(&vm->config, i);
        if (file->name[0])
            error = image_open(file, i == CDROM, &vm->disks->images[i], why);
    }
    if (error != OK)
        storage_close(vm);
    return error;
}

// A disk may have millions of pages: others run in between, and find the VM without disks.
void storage_close(struct vm *vm)
{
    struct disks *disks = vm->disks;
    vm->disks = NULL;
    for (unsigned i = 0; disks && i < DRIVES; i++)
        while (!disk_image_destroy(&disks->images[i]))
            thread_yield();
    heap_free(disks);
}

bool storage_describe(const struct vm *vm, unsigned index, const struct config_file **file,
                      u64 *size, u64 *written)
{
    if (index >= DRIVES || !vm->disks)
        return false;
    *file = file_of(&vm->config, index);
    *size = vm->disks->images[index].size;
    *written = vm->disks->images[index].written;
    return true;
}

u64 storage_left(const struct vm *vm)
{
    u64 left = 0;
    for (unsigned i = 0; vm->disks && i < DRIVES; i++)
        left += disk_image_left(&vm->disks->images[i]);
    return left;
}

// Bridge and adapter as the machine has them; a drive is the adapter's port.
void storage_boot_order(const struct vm *vm, char text[STORAGE_BOOT_ORDER_SIZE])
{
    size_t used = 0;
    text[0] = 0;
    for (unsigned i = 0; vm->disks && i < DRIVES; i++)
        if (vm->disks->images[i].size)
            used += (size_t)format_text(text + used, STORAGE_BOOT_ORDER_SIZE - used,
                                        "%s/pci@i0cf8/pci8086,2922@1f,2/drive@%u/disk@0",
                                        used ? "\n" : "", i);
}

// --- the adapter ---

int storage_create(struct vm *vm, struct pci_host *host, u8 devfn, struct storage **out)
{
    if (!vm->disks)
        return OK;
    struct storage *s = *out = heap_alloc(sizeof(*s));
    if (!s)
        return ERR_NO_MEMORY;
    ahci_init(&s->ahci, &vm->clock, (struct io_dma){machine_dma_map, vm}, &vm->apics);
    for (unsigned i = 0; i < DRIVES; i++) {
        struct disk_image *image = &vm->disks->images[i];
        if (!image->size)
            continue;
        ata_drive_init(&s->drives[i], image, i == CDROM, i);
        ahci_attach(&s->ahci, i, &s->drives[i]);
    }
    return pci_host_add(host, &s->ahci.pci, devfn);
}

void storage_destroy(struct storage *storage)
{
    if (storage)
        ahci_destroy(&storage->ahci);
    heap_free(storage);
}
