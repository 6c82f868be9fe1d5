// SPDX-License-Identifier: MIT
// See the header. First everything is checked and placed (struct plan), then memory is written: the
// kernel low, the initrd as high as it may be, and in low memory the tables of the entry. Linux'
// Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"; zero-page.rst.

#include "vmm/load/load_linux.h"
#include "vmm/config.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/error.h"
#include "vmm/lib/string.h"

// --- the file's header and the zero page, with the manual's names ---

#define HEADER_OFFSET 0x1f1 // of setup_header, in the file and in the zero page

struct setup_header {
    u8 setup_sects;
    u16 root_flags;
    u32 syssize; // of what follows the setup sectors, in units of 16 bytes
    u16 ram_size, vid_mode, root_dev, boot_flag;
    u8 jump, jump_offset; // the header ends jump_offset bytes after these two
    u32 header;
    u16 version;
    u32 realmode_swtch;
    u16 start_sys_seg, kernel_version;
    u8 type_of_loader, loadflags;
    u16 setup_move_size;
    u32 code32_start, ramdisk_image, ramdisk_size, bootsect_kludge;
    u16 heap_end_ptr;
    u8 ext_loader_ver, ext_loader_type;
    u32 cmd_line_ptr, initrd_addr_max, kernel_alignment;
    u8 relocatable_kernel, min_alignment;
    u16 xloadflags;
    u32 cmdline_size, hardware_subarch;
    u64 hardware_subarch_data;
    u32 payload_offset, payload_length;
    u64 setup_data, pref_address;
    u32 init_size, handover_offset, kernel_info_offset;
} PACKED;
assert_static(offsetof(struct setup_header, header) == 0x202 - HEADER_OFFSET);
assert_static(offsetof(struct setup_header, pref_address) == 0x258 - HEADER_OFFSET);
assert_static(sizeof(struct setup_header) == 0x26c - HEADER_OFFSET);

#define E820_TABLE_MAX 128

struct boot_params {
    u8 screen_info[0x70];
    u64 acpi_rsdp_addr;
    u8 skipped[0x170];
    u8 e820_entries;
    u8 padding[8];
    struct setup_header hdr;
    u8 edd[0x2d0 - 0x26c];
    struct e820_entry e820_table[E820_TABLE_MAX];
    u8 rest[PAGE_SIZE - 0x2d0 - E820_TABLE_MAX * sizeof(struct e820_entry)];
} PACKED;
assert_static(offsetof(struct boot_params, e820_entries) == 0x1e8);
assert_static(offsetof(struct boot_params, hdr) == HEADER_OFFSET);
assert_static(offsetof(struct boot_params, e820_table) == 0x2d0);
assert_static(sizeof(struct boot_params) == PAGE_SIZE);

#define BOOT_FLAG        0xaa55
#define HEADER_MAGIC     0x53726448u // "HdrS"
#define HEADER_JUMP_END  0x202       // what jump_offset counts from
#define VERSION_MIN      0x20a       // 2.10, the first with pref_address and init_size
#define VERSION_XLF      0x20c       // 2.12, the first with xloadflags
#define LOADED_HIGH      0x01        // loadflags
#define XLF_KERNEL_64    0x01        // xloadflags
#define LOADER_UNDEFINED 0xff        // type_of_loader
#define VID_MODE_NORMAL  0xffff
#define SECTOR           512ull
#define SETUP_SECTS_IF_0 4
#define SYSSIZE_UNIT     16ull
#define ENTRY_32         0 // of the code, from where the kernel is loaded
#define ENTRY_64         0x200
#define ALIGNMENT_MAX    GIB

struct plan {
    const struct guest_image *in;
    struct setup_header header;
    u64 entry;                    // ENTRY_32 or ENTRY_64
    u64 setup_bytes, image_bytes; // of the file: what is not loaded, then what is
    u64 ram_end;                  // of main memory below 4 GiB
    gpa_t kernel, kernel_end;     // with the room that it wants while it unpacks itself
    gpa_t initrd;
};

static unsigned long long mib_up(u64 bytes)
{
    return bytes / MIB + (bytes % MIB != 0);
}

// --- checks and places ---

static int check_header(struct plan *p)
{
    struct setup_header *h = &p->header;
    if (p->in->kernel_size < HEADER_OFFSET + sizeof(*h))
        return guest_image_refuse(p->in, ERR_FORMAT,
                                  "%llu bytes are too few for a Linux kernel (bzImage)",
                                  (unsigned long long)p->in->kernel_size);
    memcpy(h, (const u8 *)p->in->kernel + HEADER_OFFSET, sizeof(*h));
    if (h->boot_flag != BOOT_FLAG || h->header != HEADER_MAGIC)
        return guest_image_refuse(
            p->in, ERR_FORMAT,
            "not a Linux kernel (bzImage): boot flag 0x%x, magic 0x%x instead of 0x%x, 0x%x",
            h->boot_flag, h->header, BOOT_FLAG, HEADER_MAGIC);
    if (h->version < VERSION_MIN)
        return guest_image_refuse(p->in, ERR_UNSUPPORTED,
                                  "boot protocol %u.%02u is too old: 2.10 (Linux 2.6.31) is the "
                                  "first",
                                  h->version >> 8, h->version & 0xffu);
    if (!(h->loadflags & LOADED_HIGH))
        return guest_image_refuse(p->in, ERR_UNSUPPORTED, "not for protected mode (loadflags 0x%x)",
                                  h->loadflags);
    bool has_64 = h->version >= VERSION_XLF && h->xloadflags & XLF_KERNEL_64;
    p->entry = has_64 ? ENTRY_64 : ENTRY_32;
    return OK;
}

static int check_size(struct plan *p)
{
    const struct setup_header *h = &p->header;
    u64 setup_sects = h->setup_sects ? h->setup_sects : SETUP_SECTS_IF_0;
    p->setup_bytes = (setup_sects + 1) * SECTOR; // and the boot sector
    p->image_bytes = h->syssize * SYSSIZE_UNIT;
    u64 wanted = p->setup_bytes + p->image_bytes;
    // A file may end within its last unit.
    if (p->in->kernel_size + SYSSIZE_UNIT <= wanted || p->in->kernel_size < p->setup_bytes)
        return guest_image_refuse(
            p->in, ERR_FORMAT, "truncated: the header says %llu bytes, the file has %llu",
            (unsigned long long)wanted, (unsigned long long)p->in->kernel_size);
    p->image_bytes = MIN(p->image_bytes, p->in->kernel_size - p->setup_bytes);
    if (p->image_bytes <= p->entry)
        return guest_image_refuse(p->in, ERR_FORMAT,
                                  "malformed: the header says %llu bytes of code",
                                  (unsigned long long)p->image_bytes);
    return OK;
}

static int check_cmdline(const struct plan *p)
{
    u64 length = strlen(p->in->cmdline), limit = MIN(p->header.cmdline_size, LINUX_CMDLINE_MAX - 1);
    if (length > limit)
        return guest_image_refuse(p->in, ERR_RANGE,
                                  "the command line has %llu characters, this kernel takes %llu",
                                  (unsigned long long)length, (unsigned long long)limit);
    return OK;
}

static bool kernel_fits(const struct plan *p, gpa_t at, u64 room)
{
    return at >= LAYOUT_HIGH && at < p->ram_end && room <= p->ram_end - at;
}

// At its preferred address; if that does not fit and the kernel can be anywhere, as low as can be.
static int place_kernel(struct plan *p)
{
    const struct setup_header *h = &p->header;
    u64 room = MAX((u64)h->init_size, p->image_bytes), align = h->kernel_alignment;
    p->kernel = h->pref_address;
    if (h->relocatable_kernel) {
        if (!align || (align & (align - 1)) || align > ALIGNMENT_MAX)
            return guest_image_refuse(p->in, ERR_FORMAT, "malformed: kernel_alignment is 0x%llx",
                                      (unsigned long long)align);
        if (!IS_ALIGNED(p->kernel, align) || !kernel_fits(p, p->kernel, room))
            p->kernel = ALIGN_UP(LAYOUT_HIGH, align);
    }
    if (!kernel_fits(p, p->kernel, room))
        return guest_image_refuse(
            p->in, ERR_RANGE,
            "needs %llu MiB of memory at 0x%llx, the VM has %llu MiB: raise 'memory'", mib_up(room),
            (unsigned long long)p->kernel, mib_up(p->in->memory));
    p->kernel_end = p->kernel + room;
    return OK;
}

// Its size is 0 if there is none.
static const struct guest_module *ramdisk(const struct plan *p)
{
    return &p->in->modules[0];
}

// As high as the kernel can reach it, above the kernel.
static int place_initrd(struct plan *p)
{
    u64 size = ramdisk(p)->size;
    u64 end = MIN(p->ram_end, (u64)p->header.initrd_addr_max + 1);
    if (!size)
        return OK;
    u64 room = end > p->kernel_end ? end - p->kernel_end : 0;
    p->initrd = size <= room ? ALIGN_DOWN(end - size, PAGE_SIZE) : 0;
    if (p->initrd < p->kernel_end)
        return guest_image_refuse(
            p->in, ERR_RANGE,
            "initrd %s: %llu MiB do not fit between 0x%llx and 0x%llx: raise 'memory'",
            ramdisk(p)->name, mib_up(size), (unsigned long long)p->kernel_end,
            (unsigned long long)end);
    return OK;
}

static int plan_make(struct plan *p)
{
    int error = check_header(p);
    if (error == OK)
        error = check_size(p);
    if (error == OK)
        error = check_cmdline(p);
    if (error == OK && p->in->module_count > 1)
        error = guest_image_refuse(p->in, ERR_UNSUPPORTED,
                                   "a Linux kernel takes one initrd, and no modules");
    if (error == OK && p->in->e820_count > E820_TABLE_MAX)
        error = guest_image_refuse(p->in, ERR_RANGE, "%u e820 entries, %u fit", p->in->e820_count,
                                   E820_TABLE_MAX);
    if (error == OK)
        error = place_kernel(p);
    if (error == OK)
        error = place_initrd(p);
    return error;
}

// --- writing it ---

// The header as the file has it, as far as it goes, and the fields that a loader fills in.
static void header_write(struct setup_header *to, const struct plan *p)
{
    u64 length = HEADER_JUMP_END - HEADER_OFFSET + p->header.jump_offset;
    memcpy(to, &p->header, MIN(length, sizeof(*to)));
    to->vid_mode = VID_MODE_NORMAL;
    to->type_of_loader = LOADER_UNDEFINED;
    to->code32_start = (u32)p->kernel;
    to->cmd_line_ptr = (u32)LINUX_CMDLINE;
    to->ramdisk_image = (u32)p->initrd;
    to->ramdisk_size = (u32)ramdisk(p)->size;
    to->setup_data = 0;
}

static int boot_params_write(struct guest_memory *gm, const struct plan *p)
{
    u64 length = PAGE_SIZE;
    struct boot_params *params = guest_memory_hva(gm, LINUX_BOOT_PARAMS, &length);
    if (!params || length < PAGE_SIZE)
        return ERR_NO_MEMORY;
    memset(params, 0, sizeof(*params));
    params->acpi_rsdp_addr = p->in->rsdp;
    params->e820_entries = (u8)p->in->e820_count;
    memcpy(params->e820_table, p->in->e820, p->in->e820_count * sizeof(*p->in->e820));
    header_write(&params->hdr, p);
    return OK;
}

static enum guest_mode entry_mode(const struct plan *p)
{
    return p->entry == ENTRY_64 ? GUEST_MODE_LONG : GUEST_MODE_PROTECTED;
}

static int tables_write(struct guest_memory *gm, const struct plan *p)
{
    int error = boot_tables_write(gm, entry_mode(p));
    if (error == OK)
        error = boot_params_write(gm, p);
    if (error == OK)
        error = guest_memory_write(gm, LINUX_CMDLINE, p->in->cmdline, strlen(p->in->cmdline) + 1);
    return error;
}

bool load_linux_recognises(const struct guest_image *in)
{
    struct setup_header h;
    if (in->kernel_size < HEADER_OFFSET + sizeof(h))
        return false;
    memcpy(&h, (const u8 *)in->kernel + HEADER_OFFSET, sizeof(h));
    return h.boot_flag == BOOT_FLAG && h.header == HEADER_MAGIC;
}

int load_linux(struct guest_memory *gm, const struct guest_image *in, struct guest_entry *out)
{
    struct plan plan = {.in = in, .ram_end = layout_below_4g(in->memory)};
    int error = plan_make(&plan);
    if (error)
        return error;
    error = guest_image_copy(gm, plan.kernel, (const u8 *)in->kernel + plan.setup_bytes,
                             plan.image_bytes);
    if (error == OK && ramdisk(&plan)->size)
        error = guest_image_copy(gm, plan.initrd, ramdisk(&plan)->bytes, ramdisk(&plan)->size);
    if (error == OK)
        error = tables_write(gm, &plan);
    *out = (struct guest_entry){.mode = entry_mode(&plan),
                                .rip = plan.kernel + plan.entry,
                                .rsp = BOOT_STACK_TOP,
                                .rsi = LINUX_BOOT_PARAMS};
    return guest_image_loaded(in, error);
}
