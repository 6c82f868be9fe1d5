// SPDX-License-Identifier: MIT
// What the machine is: from ACPI where there is any, else from the firmware's MP services; and the
// framebuffer. UEFI 2.9: 12.9 "Graphics Output Protocol"; Platform Initialization 1.7, volume
// 2: 13.4 "MP Services Protocol".

#include <cpuid.h>
#include "boot/acpi.h"
#include "boot/loader.h"

#define SERIAL_DEFAULT 0x3f8

#define CPUID_FEATURES          1u
#define CPUID_APIC_ID_SHIFT     24
#define CPUID_EXTENDED_TOPOLOGY 0xbu

#define MP_SERVICES_GUID                                                                           \
    {                                                                                              \
        0x3fdda605, 0xa76e, 0x4f46,                                                                \
        {                                                                                          \
            0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08                                         \
        }                                                                                          \
    }
#define MP_PROCESSOR_ENABLED (1u << 1)
#define MP_PROCESSOR_HEALTHY (1u << 2)

// Later versions of the protocol append to the record; the space keeps them from writing past it.
struct mp_processor {
    UINT64 processor_id; // the APIC id
    UINT32 status, package, core, thread;
    UINT32 appended[32];
};

// The first two services of the protocol; GNU-EFI does not know it.
struct mp_services {
    EFI_STATUS(EFIAPI *get_number)(struct mp_services *self, UINTN *count, UINTN *enabled);
    EFI_STATUS(EFIAPI *get_info)(struct mp_services *self, UINTN index, struct mp_processor *);
};

static uint32_t own_apic_id(void)
{
    uint32_t a, b, c, d;
    if (__get_cpuid_count(CPUID_EXTENDED_TOPOLOGY, 0, &a, &b, &c, &d) && b != 0)
        return d;
    __get_cpuid(CPUID_FEATURES, &a, &b, &c, &d);
    return b >> CPUID_APIC_ID_SHIFT;
}

static void collect_mp_services(struct boot_info *info)
{
    static EFI_GUID guid = MP_SERVICES_GUID;
    struct mp_services *services;
    UINTN count, enabled;
    if (BS->LocateProtocol(&guid, NULL, (void **)&services) != EFI_SUCCESS ||
        services->get_number(services, &count, &enabled) != EFI_SUCCESS)
        return;
    for (UINTN i = 0; i < count; i++) {
        const uint32_t usable = MP_PROCESSOR_ENABLED | MP_PROCESSOR_HEALTHY;
        struct mp_processor processor = {0};
        if (services->get_info(services, i, &processor) == EFI_SUCCESS &&
            (processor.status & usable) == usable)
            boot_cpu_add(info, (uint32_t)processor.processor_id);
    }
}

static const void *find_rsdp(void)
{
    static EFI_GUID guids[] = {ACPI_20_TABLE_GUID, ACPI_TABLE_GUID};
    for (unsigned g = 0; g < sizeof(guids) / sizeof(guids[0]); g++) {
        void *rsdp;
        if (LibGetSystemConfigurationTable(&guids[g], &rsdp) == EFI_SUCCESS &&
            acpi_root_valid(rsdp))
            return rsdp;
    }
    return NULL;
}

static void collect_processors(struct boot_info *info)
{
    const char *source = "ACPI";
    if (info->cpu_count == 0) {
        collect_mp_services(info);
        source = "MP services";
    }
    uint32_t own = own_apic_id();
    if (info->cpu_count == 0) {
        boot_cpu_add(info, own);
        source = "CPUID only";
    }
    for (uint32_t i = 0; i < info->cpu_count; i++)
        if (info->cpus[i].apic_id == own)
            info->cpus[i].flags |= BOOT_CPU_BSP;
    Print(L"  processors: %d (%a)\r\n", info->cpu_total, source);
}

// False: what it shows is not reached through memory, or not by whole 32-bit pixels.
static bool take_output(const EFI_GRAPHICS_OUTPUT_PROTOCOL *output,
                        struct boot_framebuffer *framebuffer)
{
    if (!output->Mode || !output->Mode->Info || !output->Mode->FrameBufferBase)
        return false;
    const EFI_GRAPHICS_OUTPUT_MODE_INFORMATION *mode = output->Mode->Info;
    if (mode->PixelFormat == PixelRedGreenBlueReserved8BitPerColor)
        framebuffer->format = BOOT_PIXEL_RGBX;
    else if (mode->PixelFormat == PixelBlueGreenRedReserved8BitPerColor)
        framebuffer->format = BOOT_PIXEL_BGRX;
    else
        return false;
    framebuffer->base = output->Mode->FrameBufferBase;
    framebuffer->size = output->Mode->FrameBufferSize;
    framebuffer->width = mode->HorizontalResolution;
    framebuffer->height = mode->VerticalResolution;
    framebuffer->pitch = mode->PixelsPerScanLine * (uint32_t)sizeof(EFI_GRAPHICS_OUTPUT_BLT_PIXEL);
    return true;
}

static bool on_console(EFI_HANDLE handle)
{
    void *text;
    return BS->HandleProtocol(handle, &TextOutProtocol, &text) == EFI_SUCCESS;
}

// With several screens the firmware's first output may be the one that stands for all of them and
// has no memory. Of the others, one that shows the firmware's console is looked at by somebody.
static bool find_output(struct boot_framebuffer *framebuffer)
{
    EFI_HANDLE *handles;
    UINTN count;
    bool found = false;
    if (BS->LocateHandleBuffer(ByProtocol, &GraphicsOutputProtocol, NULL, &count, &handles) !=
        EFI_SUCCESS)
        return false;
    for (UINTN i = 0; i < count; i++) {
        EFI_GRAPHICS_OUTPUT_PROTOCOL *output;
        bool seen = on_console(handles[i]);
        if ((!found || seen) &&
            BS->HandleProtocol(handles[i], &GraphicsOutputProtocol, (void **)&output) ==
                EFI_SUCCESS &&
            take_output(output, framebuffer)) {
            found = true;
            if (seen)
                break;
        }
    }
    BS->FreePool(handles);
    return found;
}

static void collect_framebuffer(struct boot_framebuffer *framebuffer)
{
    if (find_output(framebuffer))
        Print(L"  framebuffer: %dx%d\r\n", framebuffer->width, framebuffer->height);
    else
        Print(L"  framebuffer: none; the console is the serial port alone\r\n");
}

static void name_firmware(char *text, unsigned size)
{
    CHAR16 wide[64];
    UnicodeSPrint(wide, sizeof(wide), L"%s %d.%d", ST->FirmwareVendor, ST->FirmwareRevision >> 16,
                  ST->FirmwareRevision & UINT16_MAX);
    unsigned i = 0;
    for (; i < size - 1 && wide[i]; i++)
        text[i] = wide[i] >= ' ' && wide[i] <= '~' ? (char)wide[i] : '?';
    text[i] = '\0';
}

void platform_collect(struct boot_info *info)
{
    info->serial_base = SERIAL_DEFAULT;
    info->has_i8042 = 1;
    for (uint32_t i = 0; i < BOOT_IRQ_ISA; i++)
        info->isa_irqs[i].gsi = i;
    info->runtime_services = (uint64_t)RT;
    name_firmware(info->firmware, sizeof(info->firmware));
    Print(L"  firmware: %a\r\n", info->firmware);

    const void *rsdp = find_rsdp();
    info->rsdp = (uint64_t)rsdp;
    if (rsdp)
        acpi_collect(rsdp, info);
    else
        Print(L"  this firmware has no ACPI tables\r\n");
    collect_processors(info);
    collect_framebuffer(&info->framebuffer);
}
