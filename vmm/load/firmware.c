// SPDX-License-Identifier: MIT
// Where the parts of an image lie and who keeps them. The flash chip's array is kept here, and its
// copy in guest memory, which is what the guest reads, follows it. PAM (Intel "3 Series Express
// Chipset Family" data sheet, "PAM0" to "PAM6") is half there: writes are let through or not, while
// reads always come from RAM, which holds what the ROM has until the guest writes to it.
#include "vmm/load/firmware.h"
#include "io/flash.h"
#include "mm/heap.h"
#include "vmm/load/boot_files.h"
#include "vmm/layout.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "vmm/lib/string.h"
#include "vmm/vm.h"

#define IMAGE_END   LAYOUT_ABOVE_4G
#define IMAGE_MIN   (64 * KIB)
#define IMAGE_MAX   (8 * MIB) // with the variables: what lies lower is other chips'
#define LEGACY_SIZE (128 * KIB)
#define LEGACY_END  LAYOUT_HIGH

struct firmware {
    const u8 *rom;
    u64 rom_size;
    u64 flash_size; // 0: none
    u8 *variables;  // the flash chip's array
    struct flash flash;
};

static gpa_t rom_base(const struct firmware *f)
{
    return IMAGE_END - f->rom_size;
}

static gpa_t flash_base(const struct firmware *f)
{
    return rom_base(f) - f->flash_size;
}

// --- shadow RAM ---

// PAM0 has one segment, in its upper half; each other has two.
#define SEGMENT_SIZE     (16 * KIB)
#define SEGMENT_LAST     0xf0000ull // 64 KiB
#define SEGMENTS         13
#define PAM_WRITE_ENABLE 0x2u
#define PAM_UPPER_HALF   4

static gpa_t segment_base(unsigned segment)
{
    return LAYOUT_ROMS + segment * SEGMENT_SIZE;
}

static bool segment_writable(const u8 pam[FIRMWARE_PAM_SIZE], unsigned segment)
{
    bool last = segment == SEGMENTS - 1;
    unsigned shift = last || segment % 2 ? PAM_UPPER_HALF : 0;
    return pam[last ? 0 : 1 + segment / 2] >> shift & PAM_WRITE_ENABLE;
}

static void flush(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_request(&vm->vcpus[i], VCPU_REQUEST_FLUSH);
}

void firmware_shadow(struct vm *vm, const u8 pam[FIRMWARE_PAM_SIZE])
{
    bool changed = false;
    for (unsigned i = 0; i < SEGMENTS; i++)
        changed |=
            guest_memory_set_kind(&vm->memory, segment_base(i),
                                  segment_writable(pam, i) ? GUEST_SLOT_RAM : GUEST_SLOT_ROM);
    if (changed)
        flush(vm);
}

// --- the flash chip ---

static void array_mode(void *context, bool on)
{
    struct vm *vm = context;
    if (guest_memory_set_kind(&vm->memory, flash_base(vm->firmware),
                              on ? GUEST_SLOT_ROM : GUEST_SLOT_DEVICE))
        flush(vm);
}

static void array_changed(void *context, u32 offset, u32 size)
{
    struct vm *vm = context;
    const struct firmware *f = vm->firmware;
    int error =
        guest_memory_write(&vm->memory, flash_base(f) + offset, f->variables + offset, size);
    assert(error == OK); // all of it has had its backing since power-on
}

// --- files ---

// A firmware volume whose file system is that of variables (UEFI Platform Initialization
// Specification volume 3, "Firmware Volume Format"; its name is EFI_SYSTEM_NV_DATA_FV_GUID).
struct volume_header {
    u8 zero[16], file_system[16];
    u64 length;
    u8 signature[4];
} PACKED;

static u64 variables_size(const u8 *image, u64 size)
{
    static const u8 nv_data[] = {0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c,
                                 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50};
    struct volume_header header;
    memcpy(&header, image, sizeof(header));
    bool found = memcmp(header.signature, "_FVH", sizeof(header.signature)) == 0 &&
                 memcmp(header.file_system, nv_data, sizeof(nv_data)) == 0;
    return found && IS_ALIGNED(header.length, FLASH_BLOCK_SIZE) && header.length < size
               ? header.length
               : 0;
}

static const u8 *file_find(const char *what, const char *name, unsigned line, u64 *size, char *why)
{
    const u8 *bytes = boot_file_bytes(what, name, line, size, why);
    if (!bytes || (*size >= IMAGE_MIN && *size <= IMAGE_MAX && IS_ALIGNED(*size, PAGE_SIZE)))
        return bytes;
    format_text(why, CONFIG_ERROR_MAX,
                "plinth.ini:%u: %s %s has %llu bytes: an image has whole pages of 4 KiB, 64 KiB to "
                "8 MiB",
                line, what, name, (unsigned long long)*size);
    return NULL;
}

static int files_find(struct firmware *f, const struct config_vm *c, const u8 **variables,
                      char *why)
{
    u64 size;
    const u8 *image = file_find("firmware", c->firmware, c->firmware_line, &size, why);
    if (!image)
        return ERR_NOT_FOUND;
    u64 head = variables_size(image, size);
    *variables = image;
    f->flash_size = head;
    if (c->nvram[0]) {
        *variables = file_find("nvram", c->nvram, c->nvram_line, &f->flash_size, why);
        head = 0;
    }
    f->rom = image + head;
    f->rom_size = size - head;
    if (!*variables)
        return ERR_NOT_FOUND;
    if (size - head + f->flash_size <= IMAGE_MAX)
        return OK;
    format_text(why, CONFIG_ERROR_MAX, "plinth.ini:%u: firmware and nvram together exceed 8 MiB",
                c->nvram_line);
    return ERR_RANGE;
}

static int variables_copy(struct firmware *f, const u8 *variables)
{
    if (!f->flash_size)
        return OK;
    f->variables = heap_alloc(f->flash_size);
    if (!f->variables)
        return ERR_NO_MEMORY;
    memcpy(f->variables, variables, f->flash_size);
    flash_init(&f->flash, f->variables, (u32)f->flash_size);
    return OK;
}

int firmware_prepare(struct vm *vm, char *why)
{
    const u8 *variables;
    if (!vm->config.firmware[0] || vm->firmware)
        return OK;
    format_text(why, CONFIG_ERROR_MAX, "VM %s: the host is out of memory", vm->config.name);
    struct firmware *f = heap_alloc(sizeof(*f));
    if (!f)
        return ERR_NO_MEMORY;
    vm->firmware = f;
    int error = files_find(f, &vm->config, &variables, why);
    if (error == OK)
        error = variables_copy(f, variables);
    if (error != OK) {
        firmware_destroy(vm);
        return error;
    }
    f->flash.array_mode = array_mode;
    f->flash.changed = array_changed;
    f->flash.context = vm;
    return OK;
}

void firmware_destroy(struct vm *vm)
{
    if (vm->firmware)
        heap_free(vm->firmware->variables);
    heap_free(vm->firmware);
    vm->firmware = NULL;
}

// --- the machine ---

int firmware_memory_add(struct vm *vm)
{
    const struct firmware *f = vm->firmware;
    struct guest_memory *gm = &vm->memory;
    int error = guest_memory_add(gm, rom_base(f), f->rom_size, GUEST_SLOT_ROM);
    if (error == OK && f->flash_size)
        error = guest_memory_add(gm, flash_base(f), f->flash_size, GUEST_SLOT_ROM);
    for (unsigned i = 0; error == OK && i < SEGMENTS; i++)
        error = guest_memory_add(gm, segment_base(i),
                                 i == SEGMENTS - 1 ? LEGACY_END - SEGMENT_LAST : SEGMENT_SIZE,
                                 GUEST_SLOT_RAM);
    return error;
}

int firmware_map(struct vm *vm)
{
    struct firmware *f = vm->firmware;
    if (!f || !f->flash_size)
        return OK;
    return io_bus_add(&vm->mmio, flash_base(f), f->flash_size, &f->flash.memory);
}

void firmware_power_on(struct vm *vm)
{
    if (vm->firmware && vm->firmware->flash_size)
        flash_reset(&vm->firmware->flash);
}

int firmware_load(struct vm *vm)
{
    const struct firmware *f = vm->firmware;
    struct guest_memory *gm = &vm->memory;
    u64 legacy = MIN(f->rom_size, LEGACY_SIZE);
    // What a guest copied there before a reset is no ROM that firmware would start.
    int error = guest_memory_fill(gm, LAYOUT_ROMS, 0, LEGACY_END - legacy - LAYOUT_ROMS);
    if (error == OK)
        error = guest_memory_write(gm, rom_base(f), f->rom, f->rom_size);
    if (error == OK)
        error = guest_memory_write(gm, LEGACY_END - legacy, f->rom + f->rom_size - legacy, legacy);
    if (error == OK && f->flash_size)
        error = guest_memory_write(gm, flash_base(f), f->variables, f->flash_size);
    return error;
}
