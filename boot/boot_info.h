// SPDX-License-Identifier: MIT
// The hand-over from the loader to the core: the only header that the two share.
//
// The loader leaves boot services and jumps to the core's ELF entry with RDI = physical address of
// struct boot_info, interrupts off, 64-bit mode, a stack of at least 16 KiB, and page tables
// (loader's memory) that map all RAM and the framebuffer one to one, and the core's segments at
// their link addresses. Every pointer here is a host physical address. All of it lies in memory
// that the map marks BOOT_MEMORY_LOADER; the core may reuse that memory once it has copied what it
// wants, except the files and the core itself (BOOT_MEMORY_FILE, BOOT_MEMORY_CORE).
#pragma once

#include <stdint.h>

#define BOOT_INFO_MAGIC   0x31746e696c706f48ull
#define BOOT_INFO_VERSION 1
#define BOOT_NAME_MAX     128
#define BOOT_CPU_MAX      256
#define BOOT_IOAPIC_MAX   16
#define BOOT_IRQ_ISA      16

enum boot_memory_type {
    BOOT_MEMORY_FREE = 1, // RAM that nobody uses any more
    BOOT_MEMORY_LOADER,   // RAM with this structure, the loader's page tables and stack
    BOOT_MEMORY_CORE,     // RAM with the core's image
    BOOT_MEMORY_FILE,     // RAM with a file read from the volume
    BOOT_MEMORY_FIRMWARE, // RAM with the firmware's runtime code and data: keep, map for its
                          // services
    BOOT_MEMORY_ACPI,     // RAM with ACPI tables or NVS: keep
    BOOT_MEMORY_RESERVED, // anything else: do not touch
};

struct boot_memory_range {
    uint64_t base, size; // bytes, 4 KiB granular; sorted by base, not overlapping
    uint32_t type;       // enum boot_memory_type
    uint32_t attributes; // the firmware's low attribute bits, for reading only
};

enum boot_file_status {
    BOOT_FILE_OK = 0,
    BOOT_FILE_MISSING,    // not on the volume
    BOOT_FILE_UNREADABLE, // the firmware gave an error or a short read
    BOOT_FILE_NO_MEMORY,  // does not fit into this machine's memory
};

// A file that the configuration names, or the configuration itself (always the first).
struct boot_file {
    char name[BOOT_NAME_MAX]; // as written in the configuration: \guests\vmlinuz
    uint64_t base, size;      // contiguous, page-aligned; 0 if status is not OK
    uint32_t status;          // enum boot_file_status
    uint32_t reserved;
};

struct boot_cpu {
    uint32_t apic_id;
    uint32_t flags; // BOOT_CPU_*
};
#define BOOT_CPU_BSP 1u // the CPU that runs the loader

struct boot_ioapic {
    uint32_t id, gsi_base;
    uint64_t base;
};

// Where an ISA interrupt arrives, from the MADT's overrides; else identity, edge, active high.
struct boot_irq {
    uint32_t gsi;
    uint8_t active_low, level;
    uint8_t reserved[2];
};

enum boot_pixel_format { BOOT_PIXEL_NONE = 0, BOOT_PIXEL_RGBX, BOOT_PIXEL_BGRX };

struct boot_framebuffer {
    uint64_t base, size;
    uint32_t width, height, pitch; // pixels, pixels, bytes per line
    uint32_t format;               // enum boot_pixel_format; NONE: no usable framebuffer
};

struct boot_info {
    uint64_t magic;
    uint32_t version;
    uint32_t size; // of this structure

    struct boot_memory_range *memory;
    uint32_t memory_count;
    uint32_t file_count;
    struct boot_file *files;

    uint64_t core_base, core_size; // physical, contiguous: the core's loaded image, bss included
    uint64_t core_link_base;       // the virtual address that core_base is mapped to

    uint64_t rsdp;             // 0: this firmware has no ACPI tables
    uint64_t runtime_services; // EFI_RUNTIME_SERVICES *, physical mode
    uint64_t trampoline;    // one free 4 KiB page below 1 MiB for starting CPUs; BOOT_MEMORY_LOADER
    uint64_t serial_base;   // I/O port of the console UART (SPCR, else 0x3f8); 0: none
    uint64_t pm_timer_port; // I/O port of the ACPI PM timer (FADT); 0: none
    uint32_t pm_timer_32bit; // non-zero: 32 bits wide, else 24

    uint32_t cpu_count, cpu_total; // entries in cpus; processors found (may be more)
    struct boot_cpu cpus[BOOT_CPU_MAX];
    uint32_t ioapic_count; // 0: none told; the usual one is at 0xfec00000
    uint32_t has_i8042;    // FADT says so, or no FADT
    struct boot_ioapic ioapics[BOOT_IOAPIC_MAX];
    struct boot_irq isa_irqs[BOOT_IRQ_ISA];

    struct boot_framebuffer framebuffer;
    char firmware[64]; // vendor and revision, for `version`
};
