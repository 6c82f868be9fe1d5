// SPDX-License-Identifier: MIT
// GDB's packets that look at the guest and change it: registers, memory, breakpoints. The VM is
// held.
#include "vmm/debug/gdb.h"
#include "vmm/debug/debug.h"
#include "vmm/debug/gdb_commands.h"
#include "vmm/debug/gdb_registers.h"
#include "vmm/lib/error.h"

#define MEMORY_MAX (GDB_PACKET_MAX / 2) // two digits a byte

static struct vcpu *general_vcpu(void)
{
    return &gdb.vm->vcpus[gdb.general];
}

// --- registers ---

bool gdb_command_registers_read(struct gdb_scan *scan)
{
    (void)scan;
    u8 value[GDB_REGISTER_MAX];
    for (unsigned i = 0; i < gdb_general_count; i++)
        gdb_reply_hex(&gdb.reply, value, gdb_register_read(general_vcpu(), i, value));
    return true;
}

bool gdb_command_registers_write(struct gdb_scan *scan)
{
    u8 value[GDB_REGISTER_MAX] = {0};
    unsigned i = 0;
    for (; i < gdb_general_count && gdb_scan_hex(scan, value, gdb_register_size(i)); i++)
        (void)gdb_register_write(general_vcpu(), i, value); // those that can be
    gdb_reply_status(&gdb.reply, i == gdb_general_count);
    return true;
}

bool gdb_command_register_read(struct gdb_scan *scan)
{
    u8 value[GDB_REGISTER_MAX];
    u64 number;
    unsigned size = 0;
    if (gdb_scan_number(scan, &number) && number < gdb_register_count)
        size = gdb_register_read(general_vcpu(), (unsigned)number, value);
    if (size)
        gdb_reply_hex(&gdb.reply, value, size);
    else
        gdb_reply_status(&gdb.reply, false);
    return true;
}

bool gdb_command_register_write(struct gdb_scan *scan)
{
    u8 value[GDB_REGISTER_MAX] = {0};
    u64 number;
    gdb_reply_status(&gdb.reply,
                     gdb_scan_number(scan, &number) && number < gdb_register_count &&
                         gdb_scan_char(scan, '=') &&
                         gdb_scan_hex(scan, value, gdb_register_size((unsigned)number)) &&
                         gdb_register_write(general_vcpu(), (unsigned)number, value));
    return true;
}

// --- memory ---

bool gdb_command_memory_read(struct gdb_scan *scan)
{
    u8 bytes[MEMORY_MAX];
    u64 gva, length;
    unsigned count = 0;
    if (gdb_scan_range(scan, &gva, &length))
        count = debug_read(general_vcpu(), gva, bytes, (unsigned)MIN(length, sizeof(bytes)));
    gdb_reply_hex(&gdb.reply, bytes, count);
    if (!count)
        gdb_reply_status(&gdb.reply, false);
    return true;
}

static void memory_write(struct gdb_scan *scan,
                         bool (*scan_bytes)(struct gdb_scan *, u8 *, unsigned))
{
    u8 bytes[GDB_PACKET_MAX];
    u64 gva, length;
    bool good = gdb_scan_range(scan, &gva, &length) && gdb_scan_char(scan, ':') &&
                length <= sizeof(bytes) && scan_bytes(scan, bytes, (unsigned)length);
    gdb_reply_status(&gdb.reply,
                     good && debug_write(general_vcpu(), gva, bytes, (unsigned)length) == length);
}

bool gdb_command_memory_write(struct gdb_scan *scan)
{
    memory_write(scan, gdb_scan_hex);
    return true;
}

bool gdb_command_memory_write_binary(struct gdb_scan *scan)
{
    memory_write(scan, gdb_scan_binary);
    return true;
}

// --- breakpoints ---

static void change_breakpoint(struct gdb_scan *scan, bool set)
{
    // By the number that GDB gives the type.
    static const u8 kinds[] = {DEBUG_BREAKPOINT, DEBUG_EXECUTE, DEBUG_WRITE, DEBUG_READ,
                               DEBUG_ACCESS};
    u64 type, gva, size;
    int error = ERR_INVALID;
    bool good = gdb_scan_number(scan, &type) && type < ARRAY_SIZE(kinds) &&
                gdb_scan_char(scan, ',') && gdb_scan_range(scan, &gva, &size);
    if (good && type == 0)
        error = set ? debug_breakpoint_set(general_vcpu(), gva)
                    : debug_breakpoint_clear(general_vcpu(), gva);
    else if (good)
        error = set ? debug_slot_set((enum debug_kind)kinds[type], gva, size)
                    : debug_slot_clear((enum debug_kind)kinds[type], gva, size);
    gdb_reply_status(&gdb.reply, error == OK);
}

bool gdb_command_breakpoint_set(struct gdb_scan *scan)
{
    change_breakpoint(scan, true);
    return true;
}

bool gdb_command_breakpoint_clear(struct gdb_scan *scan)
{
    change_breakpoint(scan, false);
    return true;
}
