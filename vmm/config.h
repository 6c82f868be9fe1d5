// SPDX-License-Identifier: MIT
// plinth.ini, checked whole before anything starts. Pure text to struct; the unit tests run it on
// the host.
#pragma once

#include "vmm/lib/types.h"
#include "boot/boot_info.h"
#include "mm/guest_memory.h"
#include "vmm/load/guest_image.h"

#define CONFIG_VM_MAX               32
#define CONFIG_NAME_MAX             32
#define CONFIG_CMDLINE_MAX          1024
#define CONFIG_ERROR_MAX            256
#define CONFIG_CPUS_MAX             64
#define CONFIG_MODULES_MAX          (GUEST_MODULES_MAX - 1) // and the initrd
#define CONFIG_MODULE_ARGUMENTS_MAX 256
#define CONFIG_DISKS_MAX            2

// auto: by what is in the kernel's file, tried in this order.
enum guest_boot_kind {
    GUEST_BOOT_AUTO,
    GUEST_BOOT_LINUX,
    GUEST_BOOT_MULTIBOOT2,
    GUEST_BOOT_MULTIBOOT,
    GUEST_BOOT_PVH,
    GUEST_BOOT_FLAT,
};

// Who is the guests' local APIC: auto: the hardware if it can.
enum config_apic { CONFIG_APIC_AUTO, CONFIG_APIC_HARDWARE, CONFIG_APIC_SOFT };

// Devices that are there only if listed.
enum config_device {
    CONFIG_DEBUG_EXIT = 1,
    CONFIG_DEBUGCON = 2,
    CONFIG_TESTDEV = 4,
    CONFIG_FW_CFG = 8,
    CONFIG_HPET = 16,
};

// May a GDB attach from the start, and is it waited for?
enum config_gdb { CONFIG_GDB_NO, CONFIG_GDB_YES, CONFIG_GDB_WAIT };

// What a triple fault does to the VM.
enum config_triple_fault { CONFIG_TRIPLE_FAULT_STOP, CONFIG_TRIPLE_FAULT_RESET };

struct config_module {
    char name[BOOT_NAME_MAX];
    char arguments[CONFIG_MODULE_ARGUMENTS_MAX];
    unsigned line;
};

struct config_file {
    char name[BOOT_NAME_MAX]; // empty: none
    unsigned line;
};

struct config_vm {
    char name[CONFIG_NAME_MAX];
    unsigned line;  // of its section header
    char engine[8]; // "auto" unless given
    char mmu[8];    // "auto", "ept", ...
    unsigned cpus;
    unsigned weight; // of each vCPU, against all other threads' weights
    // The host CPU of each vCPU, the list repeated if there are more; none: any.
    unsigned pin_count, pin_line;
    u8 pin[CONFIG_CPUS_MAX];
    u64 memory; // bytes
    enum guest_pages pages;
    char kernel[BOOT_NAME_MAX];
    unsigned kernel_line;
    char firmware[BOOT_NAME_MAX]; // instead of a kernel
    unsigned firmware_line;
    char nvram[BOOT_NAME_MAX]; // the firmware's variables; empty: none, or in its image
    unsigned nvram_line;
    char initrd[BOOT_NAME_MAX]; // empty: none
    unsigned initrd_line;
    struct config_module modules[CONFIG_MODULES_MAX];
    unsigned module_count;
    struct config_file disk[CONFIG_DISKS_MAX], cdrom;
    char cmdline[CONFIG_CMDLINE_MAX];
    enum guest_boot_kind boot;
    u64 load;             // of a flat image: its address,
    enum guest_mode mode; // and the mode that it is entered in
    u32 devices;          // enum config_device
    bool autostart;
    enum config_gdb gdb;
    enum config_apic apic;
    unsigned apic_line;
    enum config_triple_fault triple_fault;
};

struct config {
    struct config_vm *vms;
    unsigned vm_count;
    // [plinth]
    bool debug_exit; // leave an emulator with a failing code on panic
    unsigned log_level;
};

const char *config_apic_name(enum config_apic apic);

// text: not terminated, may hold anything. On error returns false with `error` = "plinth.ini:LINE:
// what; what to do". `storage` has room for CONFIG_VM_MAX VMs.
MUST_CHECK bool config_parse(const char *text, u64 size, struct config_vm *storage,
                             struct config *config, char error[CONFIG_ERROR_MAX]);
