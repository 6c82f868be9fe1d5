# SPDX-License-Identifier: MIT
"""A VM's disks and CD-ROM: a guest that drives their adapter as its specification says, images that cannot be used."""

import re
import struct

from emulator import Machine
from scenario import Image, scenario, vm

DISK_BYTES = 2 << 20
DISC_BYTES = 64 * 2048
PATTERN = 2654435761  # as guests/ahci has it

KERNEL = r"\guests\ahci"
INI = "".join(vm(name, kernel=KERNEL, memory="16M", disk=r"\disks\disk.img", cdrom=r"\disks\disc.iso")
              for name in ("ahci", "twin")) + \
    vm("odd", kernel=KERNEL, disk=r"\disks\odd.img") + vm("missing", kernel=KERNEL, cdrom=r"\disks\nothere.iso")


def pattern(size):
    return struct.pack(f"<{size // 4}I", *(word * PATTERN & 0xffffffff for word in range(size // 4)))


FILES = {"guests/ahci": "build/guests/ahci.bin", "disks/disk.img": lambda: pattern(DISK_BYTES),
         "disks/disc.iso": lambda: pattern(DISC_BYTES), "disks/odd.img": lambda: bytes(1000)}


@scenario("disks", Machine("", emulator="bochs", model="corei7_skylake_x"), Image(INI, FILES))
def disks(run):
    run.boot()
    text = run.command("start odd")
    run.check("an odd size is refused with its line", re.search(r"plinth\.ini:\d+: disk .* has 1000 bytes", text), text)
    text = run.command("start missing")
    run.check("a missing image is named", re.search(r"plinth\.ini:\d+: cdrom .* is not on the boot volume", text), text)
    run.test_guest("ahci")
    run.settle()
    text = run.command("info ahci")
    run.check("info shows what was written", re.search(r"disk\.img: 2 MiB, 4 KiB written", text), text)
    run.test_guest("twin")  # has the same image, and nothing of what the other one wrote
