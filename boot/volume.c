// SPDX-License-Identifier: MIT
// Files on the volume that the loader came from. UEFI 2.9: 9.1 "EFI Loaded Image Protocol", 13.4
// "Simple File System Protocol", 13.5 "File Protocol".

#include "boot/loader.h"

#define MIB              (1024ull * 1024)
#define CHUNK_SIZE       MIB
#define PROGRESS_MINIMUM (4 * MIB) // smaller files are there before one can read of it

// What must stay free behind a file: a machine filled to the brim would not get as far as saying
// so.
#define MEMORY_RESERVE (32 * MIB)

// EFI_FILE_INFO ends with the file's name, of any length up to what FAT allows.
#define FILE_INFO_SIZE (sizeof(EFI_FILE_INFO) + 256 * sizeof(CHAR16))

EFI_STATUS volume_open(EFI_HANDLE image, EFI_FILE_HANDLE *root)
{
    EFI_LOADED_IMAGE *loaded;
    EFI_FILE_IO_INTERFACE *filesystem;
    EFI_STATUS status = BS->HandleProtocol(image, &LoadedImageProtocol, (void **)&loaded);
    if (EFI_ERROR(status))
        return status;
    status = BS->HandleProtocol(loaded->DeviceHandle, &FileSystemProtocol, (void **)&filesystem);
    if (EFI_ERROR(status))
        return status;
    return filesystem->OpenVolume(filesystem, root);
}

const char *volume_status_text(uint32_t status)
{
    static const char *const texts[] = {
        [BOOT_FILE_OK] = "is there",
        [BOOT_FILE_MISSING] = "is not on the volume",
        [BOOT_FILE_UNREADABLE] = "cannot be read",
        [BOOT_FILE_NO_MEMORY] = "does not fit into memory",
    };
    return texts[status];
}

static uint32_t open_file(EFI_FILE_HANDLE root, const char *name, EFI_FILE_HANDLE *handle)
{
    CHAR16 wide[BOOT_NAME_MAX];
    unsigned i = 0;
    for (; name[i]; i++)
        wide[i] = (unsigned char)name[i];
    wide[i] = 0;
    EFI_STATUS status = root->Open(root, handle, wide, EFI_FILE_MODE_READ, 0);
    if (status == EFI_SUCCESS)
        return BOOT_FILE_OK;
    // Drivers differ in what they say of a name that cannot be one.
    bool missing = status == EFI_NOT_FOUND || status == EFI_INVALID_PARAMETER;
    return missing ? BOOT_FILE_MISSING : BOOT_FILE_UNREADABLE;
}

static uint32_t find_size(EFI_FILE_HANDLE handle, uint64_t *size)
{
    _Alignas(EFI_FILE_INFO) char buffer[FILE_INFO_SIZE];
    UINTN length = sizeof(buffer);
    EFI_FILE_INFO *info = (void *)buffer;
    if (handle->GetInfo(handle, &GenericFileInfo, &length, info) != EFI_SUCCESS)
        return BOOT_FILE_UNREADABLE;
    if (info->Attribute & EFI_FILE_DIRECTORY)
        return BOOT_FILE_UNREADABLE;
    *size = info->FileSize;
    return BOOT_FILE_OK;
}

static void show_progress(const struct boot_file *file, uint64_t done)
{
    if (file->size >= PROGRESS_MINIMUM)
        Print(L"\r  %a  %ld of %ld MiB, %ld%%", file->name, done / MIB, file->size / MIB,
              done * 100 / file->size);
}

// In pieces: some firmware refuses large reads, and a slow stick should show that it goes on.
static uint32_t read_content(EFI_FILE_HANDLE handle, const struct boot_file *file)
{
    for (uint64_t done = 0; done < file->size;) {
        UINTN length = file->size - done < CHUNK_SIZE ? file->size - done : CHUNK_SIZE;
        EFI_STATUS status = handle->Read(handle, &length, (void *)(file->base + done));
        if (EFI_ERROR(status) || length == 0)
            return BOOT_FILE_UNREADABLE;
        done += length;
        show_progress(file, done);
    }
    return BOOT_FILE_OK;
}

static uint64_t allocate_content(uint64_t size)
{
    uint64_t pages = (size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1ull);
    if (pages < size || pages > UINT64_MAX - MEMORY_RESERVE)
        return 0;
    if (!pages)
        pages = PAGE_SIZE;
    uint64_t base = memory_allocate(pages + MEMORY_RESERVE, MEMORY_ANYWHERE);
    if (!base)
        return 0;
    // Firmware allocates from the top down: so what is free stays in one piece.
    memory_free(base, MEMORY_RESERVE);
    return base + MEMORY_RESERVE;
}

static uint32_t read_open_file(EFI_FILE_HANDLE handle, struct boot_file *file)
{
    uint32_t status = find_size(handle, &file->size);
    if (status != BOOT_FILE_OK)
        return status;
    file->base = allocate_content(file->size);
    if (!file->base)
        return BOOT_FILE_NO_MEMORY;
    status = read_content(handle, file);
    uint64_t tail = -file->size % PAGE_SIZE;
    __builtin_memset((char *)file->base + file->size, 0, tail);
    if (status != BOOT_FILE_OK)
        memory_free(file->base, file->size);
    return status;
}

void volume_read(EFI_FILE_HANDLE root, struct boot_file *file)
{
    EFI_FILE_HANDLE handle;
    file->status = open_file(root, file->name, &handle);
    if (file->status == BOOT_FILE_OK) {
        file->status = read_open_file(handle, file);
        handle->Close(handle);
    }
    if (file->status == BOOT_FILE_OK) {
        Print(L"\r  %a  %ld bytes          \r\n", file->name, file->size);
        return;
    }
    file->base = file->size = 0;
    Print(L"\r  %a  %a\r\n", file->name, volume_status_text(file->status));
}
