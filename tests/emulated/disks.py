# SPDX-License-Identifier: MIT
"""A VM's disks and CD-ROM: a guest that drives their adapter as its specification says, images that cannot be used."""

import re
import struct

from emulator import Machine
from scenario import PROMPT, Image, scenario

DISK_BYTES = 2 << 20
DISC_BYTES = 64 * 2048
PATTERN = 2654435761  # as guests/ahci has it

INI = """
[vm ahci]
kernel = \\guests\\ahci
memory = 16M
disk = \\disks\\disk.img
cdrom = \\disks\\disc.iso

[vm twin]
kernel = \\guests\\ahci
memory = 16M
disk = \\disks\\disk.img
cdrom = \\disks\\disc.iso

[vm odd]
kernel = \\guests\\ahci
disk = \\disks\\odd.img

[vm missing]
kernel = \\guests\\ahci
cdrom = \\disks\\nothere.iso
"""


def pattern(size):
    return struct.pack(f"<{size // 4}I", *(word * PATTERN & 0xffffffff for word in range(size // 4)))


FILES = {"guests/ahci": "build/guests/ahci.bin", "disks/disk.img": lambda: pattern(DISK_BYTES),
         "disks/disc.iso": lambda: pattern(DISC_BYTES), "disks/odd.img": lambda: bytes(1000)}


def check_guest(run, name):
    run.type(f"start {name} -c\r")
    start = len(run.emulator.transcript)
    verdict = run.expect(r"guest: (ok|FAIL [^\r\n]*)|died: [^\r\n]*")
    text = bytes(run.emulator.transcript[start:]).decode("latin-1")
    run.check(f"{name}: as the specification says", verdict.group(1) == b"ok", text)
    run.expect(PROMPT)
    run.settle()


@scenario("disks", Machine("", emulator="bochs", model="corei7_skylake_x"), Image(INI, FILES))
def disks(run):
    run.boot()
    text = run.command("start odd")
    run.check("an odd size is refused with its line", re.search(r"plinth\.ini:\d+: disk .* has 1000 bytes", text), text)
    text = run.command("start missing")
    run.check("a missing image is named", re.search(r"plinth\.ini:\d+: cdrom .* is not on the boot volume", text), text)
    check_guest(run, "ahci")
    text = run.command("info ahci")
    run.check("info shows what was written", re.search(r"disk\.img: 2 MiB, 4 KiB written", text), text)
    check_guest(run, "twin")  # has the same image, and nothing of what the other one wrote
