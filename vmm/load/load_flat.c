// SPDX-License-Identifier: MIT
// See the header. The image may be anywhere in low or main memory, but not over the tables that its
// mode needs.
#include "vmm/load/load_flat.h"
#include "vmm/lib/error.h"

static bool in_memory(const struct guest_image *in, u64 base, u64 end)
{
    return in->load >= base && in->load < end && in->kernel_size <= end - in->load;
}

static int check(const struct guest_image *in)
{
    bool low = in_memory(in, 0, LAYOUT_EBDA);
    bool high = in_memory(in, LAYOUT_HIGH, layout_below_4g(in->memory));
    if (in->load_mode == GUEST_MODE_REAL && !low)
        return guest_image_refuse(
            in, ERR_RANGE, "%llu bytes at 0x%llx: in real mode there is memory below 0x%llx",
            (unsigned long long)in->kernel_size, (unsigned long long)in->load, LAYOUT_EBDA);
    if (!low && !high)
        return guest_image_refuse(
            in, ERR_RANGE,
            "%llu bytes at 0x%llx: there is memory below 0x%llx and from 0x%llx to "
            "0x%llx",
            (unsigned long long)in->kernel_size, (unsigned long long)in->load, LAYOUT_EBDA,
            LAYOUT_HIGH, (unsigned long long)layout_below_4g(in->memory));
    if (in->load_mode != GUEST_MODE_REAL && in->load < BOOT_TABLES_END &&
        in->load + in->kernel_size > BOOT_GDT)
        return guest_image_refuse(in, ERR_RANGE,
                                  "at 0x%llx it lies over the entry's tables, 0x%llx to 0x%llx",
                                  (unsigned long long)in->load, BOOT_GDT, BOOT_TABLES_END);
    return OK;
}

int load_flat(struct guest_memory *gm, const struct guest_image *in, struct guest_entry *out)
{
    int error = check(in);
    if (error != OK)
        return error;
    error = guest_image_copy(gm, in->load, in->kernel, in->kernel_size);
    if (error == OK)
        error = boot_tables_write(gm, in->load_mode);
    *out = (struct guest_entry){.mode = in->load_mode, .rip = in->load, .rsp = BOOT_STACK_TOP};
    return guest_image_loaded(in, error);
}
