# SPDX-License-Identifier: MIT
"""Debian's firmware in a VM, unmodified. UEFI with two CPUs comes to its shell, which starts an application and GRUB
from a disk and keeps a variable in its flash; legacy firmware starts GRUB from a CD, and Isolinux, which starts others;
both start Linux from a CD with GRUB; U-Boot comes to its prompt."""

from linux import warnings_inside
from scenario import GUEST_PROMPT, Image, Machine, scenario

FIRMWARE_SECONDS = 400
ISOLINUX_PROMPT = r"boot: "
DOWN = "\x1b[B"
MIB = 1 << 20
UBOOT_PROMPT = r"=> $"
VARIABLE = "setvar PlinthTest -guid a1b2c3d4-93ca-11d2-aa0d-00e098032b8c"
SHELL = r"Shell> "

INI = """\
[vm uefi]
cpus = 2
memory = 128M
firmware = \\guests\\OVMF_CODE.fd
nvram = \\guests\\OVMF_VARS.fd
disk = \\guests\\efi.img
[vm bios]
memory = 32M
firmware = \\guests\\bios.bin
cdrom = \\guests\\grub.iso
[vm again]
memory = 16M
firmware = \\guests\\bios.bin
disk = \\guests\\again.img
devices = debug-exit
triple-fault = reset
[vm chain]
memory = 32M
firmware = \\guests\\bios.bin
cdrom = \\guests\\isolinux.iso
[vm network]
kernel = \\guests\\ipxe.lkrn
[vm uboot]
memory = 128M
firmware = \\guests\\u-boot.rom
[vm uboot32]
memory = 128M
firmware = \\guests\\u-boot32.rom
"""

CD_INI = """\
[vm linux-bios]
memory = 256M
firmware = \\guests\\bios.bin
cdrom = \\guests\\linux-bios.iso
[vm linux-efi]
memory = 256M
firmware = \\guests\\OVMF_CODE.fd
nvram = \\guests\\OVMF_VARS.fd
cdrom = \\guests\\linux-efi.iso
"""

# mov ax, -1; mov ds, ax; mov ax, [16]; cmp ax, 0x4b4f; je 1f; mov word [16], 0x4b4f; lidt [cs:0x7c1d]; int3;
# 1: out 0xf4, al; hlt; an empty IDTR: with a word at 1 MiB unset a triple fault, and the second time an end.
AGAIN_CODE = bytes((0xb8, 255, 255, 0x8e, 0xd8, 0xa1, 16, 0, 0x3d, 0x4f, 0x4b, 0x74, 0x0d, 0xc7, 0x06, 16, 0, 0x4f, 0x4b,
                    0x2e, 0x0f, 0x01, 0x1e, 0x1d, 0x7c, 0xcc, 0xe6, 0xf4, 0xf4)) + bytes(6)
AGAIN_EXIT = 0x4f << 1 | 1

UEFI_FILES = {"guests/OVMF_CODE.fd": "/usr/share/OVMF/OVMF_CODE_4M.fd",
              "guests/OVMF_VARS.fd": "/usr/share/OVMF/OVMF_VARS_4M.fd", "guests/efi.img": "build/guests/efi.img"}
BIOS_FILES = {"guests/bios.bin": "/usr/share/seabios/bios-256k.bin", "guests/grub.iso": "build/guests/grub.iso",
              "guests/again.img": lambda: AGAIN_CODE.ljust(510, b"\0") + b"\x55\xaa" + bytes(MIB - 512)}
CD_FILES = {f"guests/{name}": f"build/guests/{name}" for name in ("linux-bios.iso", "linux-efi.iso")}
CHAIN_FILES = {"guests/bios.bin": "/usr/share/seabios/bios-256k.bin", "guests/isolinux.iso": "build/guests/isolinux.iso",
               "guests/ipxe.lkrn": "build/guests/ipxe.lkrn"}
UBOOT_FILES = {"guests/u-boot.rom": "build/guests/u-boot.rom", "guests/u-boot32.rom": "build/guests/u-boot32.rom"}


def shell_command(run, text):
    """Types a command at the UEFI shell's prompt; what it printed."""
    run.type(text + "\r")
    return run.expect(r"\n(?s:(.*?))" + SHELL, FIRMWARE_SECONDS).group(1).decode("latin-1")


def expect_shell(run):
    run.expect(r"EFI Interactive Shell", FIRMWARE_SECONDS)
    run.expect(r"in 5 seconds", FIRMWARE_SECONDS)
    run.type("\r")
    run.expect(SHELL, FIRMWARE_SECONDS)


@scenario("firmware-uefi", Machine("", emulator="bochs", model="corei7_skylake_x"), Image(INI, UEFI_FILES))
def firmware_uefi(run):
    run.boot()
    run.type("start uefi -c\r")
    expect_shell(run)
    text = shell_command(run, "ver")
    run.check("the shell answers", "UEFI v2.70" in text, text)
    text = shell_command(run, "fs0:hello.efi")
    run.check("an application runs from a disk", "started by EDK II" in text and "hello: ok" in text, text)
    text = shell_command(run, "smbiosview -t 1")
    run.check("the machine has a name", "Plinth PC" in text, text)
    shell_command(run, VARIABLE + " -bs -nv =0x42")
    text = shell_command(run, VARIABLE)
    run.check("a variable is kept in flash", "0001 Bytes" in text and "42" in text, text)
    run.type("fs0:grubx64.efi\r")
    run.expect(r"grub> ", FIRMWARE_SECONDS)
    run.type("echo $grub_platform-$grub_cpu\r")
    run.check("GRUB takes commands", bool(run.expect(r"efi-x86_64", FIRMWARE_SECONDS)))
    run.type("reboot\r")
    expect_shell(run)
    text = shell_command(run, VARIABLE)
    run.check("the variable outlives a reset", "0001 Bytes" in text and "42" in text, text)
    run.leave_guest()
    text = run.command("stats uefi")
    run.check("the firmware started the second CPU", "vCPU 1: " in text and "vCPU 1: 0 exits" not in text, text)
    run.command("stop uefi")


@scenario("firmware-bios", Machine("", emulator="bochs", model="tigerlake"), Image(INI, BIOS_FILES))
def firmware_bios(run):
    run.boot()
    run.type("start bios -c\r")
    run.expect(r"grub> ", FIRMWARE_SECONDS)
    run.type("lsmmap\r")
    text = run.expect(r"(?s:(base_addr.*?))grub> ", FIRMWARE_SECONDS).group(1).decode("latin-1")
    run.check("GRUB has the memory map", "base_addr = 0x100000, length = 0x1efe000, available RAM" in text, text)
    run.check("PCI's memory is reserved in it", "base_addr = 0xb0000000, length = 0x10000000, reserved" in text, text)
    run.type("smbios --type 1 --get-string 5 --set product\recho $product.\r")
    run.check("the machine has a name", bool(run.expect(r"Plinth PC\.", FIRMWARE_SECONDS)))
    run.type("halt\r")
    run.expect("VM bios: powered off", FIRMWARE_SECONDS)
    run.check("GRUB's halt powers the machine off", True)
    run.type("start again\r")
    run.expect(rf"VM again: debug exit, code {AGAIN_EXIT}", FIRMWARE_SECONDS)
    run.settle()
    log = run.command("dmesg")
    run.check("a triple fault resets the machine, and leaves its memory", log.count("VM again: triple fault on vCPU 0") == 1
              and log.count("VM again: reset") == 1, log[-600:])


def linux_from_cd(run, name, kernel, expected_warnings):
    run.type(f"start {name} -c\r")
    run.expect(GUEST_PROMPT, FIRMWARE_SECONDS)
    system = run.guest_command("uname -r")
    run.check(f"{name}: the kernel of the CD runs", system.split()[-1].endswith(kernel), system)
    left = warnings_inside(run, expected_warnings)
    run.check(f"{name}: its log has no warning", not left, "\n".join(left))
    efi = run.guest_command("ls /sys/firmware")
    run.check(f"{name}: it knows its firmware", ("efi" in efi.split()) == (name == "linux-efi"), efi)
    run.power_off_linux()


@scenario("firmware-linux", Machine("", emulator="bochs", model="corei7_skylake_x"),
          Image(CD_INI, BIOS_FILES | UEFI_FILES | CD_FILES))
def firmware_linux(run):
    """By legacy firmware the kernel is entered at its 16-bit entry, and asks the firmware for all that it wants."""
    run.boot()
    linux_from_cd(run, "linux-bios", "-686", ("RETBleed", "L1TF: Kernel not compiled for PAE"))
    linux_from_cd(run, "linux-efi", "-cloud-amd64", ("RETBleed",))


def isolinux_label(run, label, *steps):
    """From Isolinux' prompt: what a label has started prints each pattern, and is answered."""
    run.expect(ISOLINUX_PROMPT, FIRMWARE_SECONDS)
    run.type(label + "\r")
    for pattern, answer in steps:
        seen = run.expect(pattern, FIRMWARE_SECONDS)
        run.emulator.send(answer)  # at once: the bytes of a key are told by their distance
    return seen


@scenario("firmware-chain", Machine("", emulator="bochs", model="tigerlake"), Image(INI, CHAIN_FILES))
def firmware_chain(run):
    """iPXE and a floppy's boot sector give up, each in its way, and the BIOS starts the CD again."""
    run.boot()
    text = run.command("start network")
    run.check("a kernel for a BIOS is refused", "boot protocol 2.07 is too old" in text, text)
    run.type("start chain -c\r")
    summary = isolinux_label(run, "detect", (r"hdt> ", "show summary\r"), (r"(?s:(.*?))hdt> ", "exit\r"))
    text = summary.group(1).decode("latin-1")
    run.check("HDT sees the machine", "Plinth PC" in text and "32 MB" in text, text)
    isolinux_label(run, "menu", ("First entry", ""), ("Second entry", ""), (r"\[Tab\]", DOWN), ("Second entry", "\r"))
    run.check("its menu leads on and back", True)
    isolinux_label(run, "floppy", ("MEMDISK", ""), ("Disk is fd0, 1440 K, C/H/S = 80/2/18", ""), ("booting", ""))
    run.check("memdisk starts an image of a floppy", True)
    isolinux_label(run, "network", (r"iPXE 1\.", ""), ("No more network devices", ""))
    run.check("iPXE looks for network cards", True)
    run.leave_guest()
    run.command("stop chain")


def uboot_command(run, text):
    """Types a command at U-Boot's prompt; what it printed."""
    run.type(text + "\r")
    return run.expect(r"\n(?s:(.*?))" + UBOOT_PROMPT, FIRMWARE_SECONDS).group(1).decode("latin-1")


def uboot(run, name):
    run.type(f"start {name} -c\r")
    run.expect(r"Hit any key to stop autoboot", FIRMWARE_SECONDS)
    run.type("\r")
    run.expect(UBOOT_PROMPT, FIRMWARE_SECONDS)
    text = uboot_command(run, "version")
    run.check(f"{name}: U-Boot answers", "U-Boot 20" in text, text)
    text = uboot_command(run, "bdinfo")
    run.check(f"{name}: it has the memory", "-> size     = 0x" in text and "08000000" in text, text)
    text = uboot_command(run, "pci")
    run.check(f"{name}: it lists the devices", "0x8086" in text, text)
    text = uboot_command(run, "sleep 0.1")
    run.check(f"{name}: it waits", "rror" not in text, text)
    run.leave_guest()
    run.command(f"stop {name}")


@scenario("firmware-uboot", Machine("", emulator="bochs", model="corei7_haswell_4770"), Image(INI, UBOOT_FILES))
def firmware_uboot(run):
    """Its 64-bit form has its descriptor table in flash."""
    run.boot()
    uboot(run, "uboot")
    uboot(run, "uboot32")
