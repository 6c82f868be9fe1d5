// SPDX-License-Identifier: MIT
// A multiboot guest for the devices that test programs expect: each is used as kvm-unit-tests use
// it. Ends through the debug exit port.
#include "guests/lib/guest.h"

#define LOADER_MAGIC      0x2badb002u
#define INFO_MEM_UPPER    8 // offsets in the multiboot information
#define INFO_MODS_COUNT   20
#define INFO_MODS_ADDRESS 24

#define DEBUG_EXIT      0xf4
#define EXIT_OK         0x15
#define EXIT_FAIL       0x01
#define DEBUGCON        0xe9
#define DEBUGCON_OTHER  0x402
#define LATCH           0xe0
#define FLUSH           0xe4
#define LINES           0x2000
#define WINDOW          0xff000000ull
#define WINDOW_SIZE     0x10000
#define FW_CFG_SELECTOR 0x510
#define FW_CFG_DATA     0x511
#define FW_CFG_RAM_SIZE 0x03
#define FW_CFG_CPUS     0x05
#define FW_CFG_FILES    0x19

#define PIC_MASTER     0x20
#define PIC_SLAVE      0xa0
#define PIC_EOI        0x20
#define VECTOR_FIRST   0x20
#define LINE           5
#define MEMORY         (16 * MIB) // as the test configures it
#define MODULE_CONTENT "module content"

static volatile unsigned interrupts;

void guest_interrupt(u64 vector, u64 error, u64 rip, u64 *return_rip)
{
    (void)error;
    (void)rip;
    (void)return_rip;
    if (vector == VECTOR_FIRST + LINE)
        interrupts++;
    out8(PIC_MASTER, PIC_EOI);
}

static void expect(bool condition, const char *what)
{
    if (condition)
        return;
    guest_print("guest: FAIL ");
    guest_print(what);
    guest_print("\n");
    out32(DEBUG_EXIT, EXIT_FAIL);
}

static u32 info(unsigned offset)
{
    return *(const u32 *)((u64)guest_multiboot_info + offset);
}

static void test_information(void)
{
    expect(guest_multiboot_magic == LOADER_MAGIC, "magic in EAX");
    expect(info(INFO_MEM_UPPER) == (MEMORY - MIB) / KIB, "mem_upper");
    expect(info(INFO_MODS_COUNT) == 1, "a module");
    const u32 *module = (const u32 *)(u64)info(INFO_MODS_ADDRESS);
    const char *content = (const char *)(u64)module[0];
    expect(module[1] - module[0] == sizeof(MODULE_CONTENT) - 1, "the module's size");
    for (unsigned i = 0; i < sizeof(MODULE_CONTENT) - 1; i++)
        expect(content[i] == MODULE_CONTENT[i], "the module's content");
}

static void test_latch(void)
{
    out32(LATCH, 0x12345678);
    expect(in32(LATCH) == 0x12345678 && in8(LATCH + 2) == 0x34, "the latch");
    out16(LATCH + 1, 0xabcd);
    expect(in32(LATCH) == 0x12abcd78, "two bytes of the latch");
}

static void test_window(void)
{
    volatile u32 *window = (volatile u32 *)WINDOW;
    window[0] = 0x11223344;
    window[WINDOW_SIZE / sizeof(*window) - 1] = 0x55667788;
    out32(FLUSH, (u32)WINDOW);
    expect(window[0] == 0x11223344 && window[WINDOW_SIZE / sizeof(*window) - 1] == 0x55667788,
           "memory that is a device");
    expect(*(volatile u16 *)(WINDOW + 1) == 0x2233, "two bytes of it");
}

static void pic_start(u16 port, u8 vector, u8 cascade)
{
    out8(port, 0x11); // ICW1: cascaded, ICW4 comes
    out8(port + 1, vector);
    out8(port + 1, cascade);
    out8(port + 1, 1);                  // ICW4: 8086
    out8(port + 1, (u8) ~(1u << LINE)); // the slave's line 5 has no source
}

static void test_line(void)
{
    pic_start(PIC_MASTER, VECTOR_FIRST, 1 << 2);
    pic_start(PIC_SLAVE, VECTOR_FIRST + 8, 2);
    guest_idt_load();
    __asm__ volatile("sti");
    expect(interrupts == 0, "no interrupt yet");
    for (unsigned i = 1; i <= 3; i++) {
        out8(LINES + LINE, 1);
        out8(LINES + LINE, 0);
        expect(interrupts == i, "an interrupt for each edge");
    }
    __asm__ volatile("cli");
}

static u64 fw_cfg(u16 key, unsigned size)
{
    u64 value = 0;
    out16(FW_CFG_SELECTOR, key);
    for (unsigned i = 0; i < size; i++)
        value |= (u64)in8(FW_CFG_DATA) << 8 * i;
    return value;
}

static void test_fw_cfg(void)
{
    expect(fw_cfg(0, 4) == 0x554d4551, "fw_cfg's signature");
    expect(fw_cfg(FW_CFG_RAM_SIZE, 8) == MEMORY, "fw_cfg's memory");
    expect(fw_cfg(FW_CFG_CPUS, 2) == 1, "fw_cfg's CPUs");
    expect(fw_cfg(FW_CFG_FILES, 4) != 0, "fw_cfg's files");
}

static void test_debugcon(void)
{
    expect(in8(DEBUGCON) == DEBUGCON && in8(DEBUGCON_OTHER) == DEBUGCON, "the debug console");
    for (const char *c = "debugcon: "; *c; c++)
        out8(DEBUGCON, (u8)*c);
    for (const char *c = "hello\r\n"; *c; c++)
        out8(DEBUGCON_OTHER, (u8)*c);
}

void guest_main(const u8 *boot_params)
{
    expect(guest_has_word(boot_params, "devices-test"), "the command line");
    test_information();
    test_latch();
    test_window();
    test_line();
    test_fw_cfg();
    test_debugcon();
    guest_print("guest: ok\n");
    out32(DEBUG_EXIT, EXIT_OK);
}
