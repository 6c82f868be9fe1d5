// SPDX-License-Identifier: MIT
// Behind an item's end, and where there is no item, zeros are read. A DMA transfer names its bytes
// and its place in the guest's own memory: it is refused if there is no memory, and bounded, since
// the VM's lock is held meanwhile.
#include "io/fw_cfg.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/string.h"

#define DATA_OFFSET    1
#define SELECTOR_SIZE  2
#define DMA_LOW_OFFSET 4
#define DMA_SIGNATURE  0x47464320554d4551ull // "QEMU CFG" as it lies in memory
#define DMA_LENGTH_MAX 0x10000u
#define DMA_ERROR      0x01u
#define DMA_READ       0x02u
#define DMA_SKIP       0x04u
#define DMA_SELECT     0x08u
#define DMA_WRITE      0x10u
#define DMA_KEY_SHIFT  16
#define ZEROS_SIZE     256u

#define SIGNATURE 0x554d4551u // "QEMU"
#define ID        3           // the ports, and DMA

struct dma_request { // big-endian
    u32 control, length;
    u64 address;
} PACKED;

static const u32 signature = SIGNATURE, id = ID;

static const struct fw_cfg_item *selected(const struct fw_cfg *f)
{
    for (unsigned i = 0; i < f->item_count; i++)
        if (f->items[i].key == f->selector)
            return &f->items[i];
    return NULL;
}

static void select_item(struct fw_cfg *f, u16 key)
{
    f->selector = key;
    f->offset = 0;
}

// What is left of the selected item; null: nothing.
static const u8 *rest(const struct fw_cfg *f, u32 *size)
{
    const struct fw_cfg_item *item = selected(f);
    *size = item && f->offset < item->size ? item->size - f->offset : 0;
    return *size ? (const u8 *)item->bytes + f->offset : NULL;
}

static u32 advance(struct fw_cfg *f, u32 size)
{
    u32 room = ~0u - f->offset;
    return f->offset += MIN(size, room);
}

// --- the ports ---

static u64 fw_cfg_read(struct io_device *device, u64 offset, unsigned size)
{
    struct fw_cfg *f = container_of(device, struct fw_cfg, ports);
    u32 left;
    if (offset != DATA_OFFSET || size != 1)
        return 0;
    const u8 *bytes = rest(f, &left);
    advance(f, 1);
    return bytes ? *bytes : 0;
}

static void fw_cfg_write(struct io_device *device, u64 offset UNUSED, unsigned size, u64 value)
{
    struct fw_cfg *f = container_of(device, struct fw_cfg, ports);
    if (size == SELECTOR_SIZE) // the data is read-only
        select_item(f, (u16)value);
}

// --- DMA ---

static bool write_zeros(const struct io_dma *memory, u64 gpa, u32 size)
{
    static const u8 zeros[ZEROS_SIZE];
    for (u32 done = 0, piece; done < size; done += piece) {
        piece = MIN(size - done, ZEROS_SIZE);
        if (!dma_write(memory, gpa + done, zeros, piece))
            return false;
    }
    return true;
}

static bool transfer(struct fw_cfg *f, u64 gpa, u32 length)
{
    u32 left;
    const u8 *bytes = rest(f, &left);
    u32 real = MIN(length, left);
    return length <= DMA_LENGTH_MAX && gpa + length >= gpa &&
           dma_write(&f->memory, gpa, bytes, real) &&
           write_zeros(&f->memory, gpa + real, length - real);
}

static bool run(struct fw_cfg *f, u32 control, u32 length, u64 gpa)
{
    if (control & DMA_SELECT)
        select_item(f, (u16)(control >> DMA_KEY_SHIFT));
    if (control & DMA_READ && !transfer(f, gpa, length))
        return false;
    if (control & DMA_WRITE && !(control & DMA_READ) && length)
        return false;
    if (control & (DMA_READ | DMA_SKIP))
        advance(f, length);
    return true;
}

// The request is read once: what the guest changes in it meanwhile does not count.
static void request_run(struct fw_cfg *f, u64 gpa)
{
    struct dma_request request;
    if (!dma_read(&f->memory, gpa, &request, sizeof(request)))
        return;
    bool good = run(f, __builtin_bswap32(request.control), __builtin_bswap32(request.length),
                    __builtin_bswap64(request.address));
    request.control = __builtin_bswap32(good ? 0 : DMA_ERROR);
    // Where it came from there may be ROM: then nobody is told.
    bool told UNUSED = dma_write(&f->memory, gpa, &request.control, sizeof(request.control));
}

static u64 dma_ports_read(struct io_device *device UNUSED, u64 offset, unsigned size)
{
    return DMA_SIGNATURE >> 8 * offset & bytes_mask(size);
}

static void dma_ports_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct fw_cfg *f = container_of(device, struct fw_cfg, dma_ports);
    u32 half = __builtin_bswap32((u32)value);
    if (size != sizeof(half))
        return;
    if (offset == 0)
        f->dma_high = half;
    if (offset != DMA_LOW_OFFSET)
        return;
    u64 gpa = (u64)f->dma_high << 32 | half;
    f->dma_high = 0;
    request_run(f, gpa);
}

static const struct io_device_ops fw_cfg_ops = {"fw-cfg", fw_cfg_read, fw_cfg_write};
static const struct io_device_ops dma_ops = {"fw-cfg-dma", dma_ports_read, dma_ports_write};

// --- contents ---

void fw_cfg_add(struct fw_cfg *f, u16 key, const void *bytes, u32 size)
{
    assert(f->item_count < FW_CFG_ITEMS_MAX);
    f->items[f->item_count++] = (struct fw_cfg_item){key, size, bytes};
}

void fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *bytes, u32 size)
{
    u32 count = __builtin_bswap32(f->directory.count);
    assert(count < FW_CFG_FILES_MAX && strlen(name) < FW_CFG_NAME_SIZE);
    u16 key = (u16)(FW_CFG_FILE_FIRST + count);
    struct fw_cfg_file *file = &f->directory.files[count];
    *file = (struct fw_cfg_file){.size = __builtin_bswap32(size), .select = __builtin_bswap16(key)};
    memcpy(file->name, name, strlen(name));
    f->directory.count = __builtin_bswap32(count + 1);
    fw_cfg_add(f, key, bytes, size);
}

void fw_cfg_init(struct fw_cfg *f, const struct io_dma *memory)
{
    *f = (struct fw_cfg){.ports = {&fw_cfg_ops}, .dma_ports = {&dma_ops}, .memory = *memory};
    fw_cfg_add(f, FW_CFG_SIGNATURE, &signature, sizeof(signature));
    fw_cfg_add(f, FW_CFG_ID, &id, sizeof(id));
    fw_cfg_add(f, FW_CFG_FILE_DIR, &f->directory, sizeof(f->directory));
}

void fw_cfg_reset(struct fw_cfg *f)
{
    select_item(f, FW_CFG_SIGNATURE);
    f->dma_high = 0;
}
