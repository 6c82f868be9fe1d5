# SPDX-License-Identifier: MIT
"""Debian's legacy firmware in a VM, unmodified, starts GRUB from a CD."""

from scenario import Image, Machine, scenario

FIRMWARE_SECONDS = 400

INI = """\
[vm bios]
memory = 32M
firmware = \\guests\\bios.bin
cdrom = \\guests\\grub.iso
"""

FILES = {"guests/bios.bin": "/usr/share/seabios/bios-256k.bin", "guests/grub.iso": "build/guests/grub.iso"}


@scenario("firmware-bios", Machine("", emulator="bochs", model="tigerlake"), Image(INI, FILES))
def firmware_bios(run):
    run.boot()
    run.type("start bios -c\r")
    run.expect(r"grub> ", FIRMWARE_SECONDS)
    run.type("lsmmap\r")
    text = run.expect(r"(?s:(base_addr.*?))grub> ", FIRMWARE_SECONDS).group(1).decode("latin-1")
    run.check("GRUB has the memory map", "base_addr = 0x100000, length = 0x1efe000, available RAM" in text, text)
    run.check("PCI's memory is reserved in it", "base_addr = 0xb0000000, length = 0x10000000, reserved" in text, text)
    run.leave_guest()
    run.command("stop bios")
