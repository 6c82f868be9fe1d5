// SPDX-License-Identifier: MIT
// Leaving the machine. The firmware knows its own way to reset or power off and is asked first; a
// reset then has the PC's old ways. A machine that was told to power off and cannot is halted: it
// shall not come up again by itself.
#include "boot/boot_info.h"
#include "arch/x86_64/cpu.h"
#include "mm/host_map.h"
#include "vmm/lib/log.h"

// UEFI 2.10, "EFI Runtime Services Table": a header of 24 bytes, then pointers; ResetSystem is the
// eleventh.
#define EFI_RESET_SYSTEM_OFFSET (24 + 10 * 8)
#define EFI_RESET_SHUTDOWN      2

#define RESET_CONTROL        0xcf9 // "Reset Control Register" of the PCI host bridges
#define RESET_CONTROL_SYSTEM 0x02
#define RESET_CONTROL_CPU    0x06 // with the bit above: the change 0 to 1 of bit 2 resets
#define I8042_COMMAND        0x64
#define I8042_INPUT_FULL     0x02
#define I8042_PULSE_RESET    0xfe
#define RESET_WAIT_US        100000
#define I8042_POLLS          100000

typedef void __attribute__((ms_abi)) (*efi_reset_system)(u32 type, u64 status, u64 data_size,
                                                         const void *data);

// Physical mode: the firmware's own addresses, one to one. The core's half of the address space is
// the same in those tables, so stack, descriptors and this code stay where they are.
static void firmware_ask(u64 runtime_services, unsigned type)
{
    u64 cr3 = host_map_firmware_cr3();
    if (!runtime_services || !cr3)
        return;
    write_cr3(cr3);
    efi_reset_system reset =
        *(const efi_reset_system *)(runtime_services + EFI_RESET_SYSTEM_OFFSET);
    reset(type, 0, 0, NULL);
    write_cr3(host_map_cr3());
}

static void reset_control_pulse(void)
{
    out8(RESET_CONTROL, RESET_CONTROL_SYSTEM);
    out8(RESET_CONTROL, RESET_CONTROL_CPU);
    delay_us(RESET_WAIT_US);
}

static void i8042_pulse(void)
{
    for (unsigned i = 0; i < I8042_POLLS && in8(I8042_COMMAND) & I8042_INPUT_FULL; i++)
        cpu_pause();
    out8(I8042_COMMAND, I8042_PULSE_RESET);
    delay_us(RESET_WAIT_US);
}

static void triple_fault(void)
{
    static const struct PACKED {
        u16 limit;
        u64 base;
    } no_idt;
    __asm__ volatile("lidt %0; int3" : : "m"(no_idt));
}

void firmware_reset(const struct boot_info *boot, unsigned type)
{
    bool has_i8042 = boot->has_i8042;
    interrupts_disable();
    firmware_ask(boot->runtime_services, type);
    if (type == EFI_RESET_SHUTDOWN) {
        log_error("the firmware does not power off: switch the machine off");
        halt_forever();
    }
    reset_control_pulse();
    if (has_i8042)
        i8042_pulse();
    triple_fault();
    halt_forever();
}
