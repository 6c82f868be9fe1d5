# SPDX-License-Identifier: MIT
"""Guests that are not Linux: a multiboot kernel that uses the devices of test programs, and flat images in each mode."""

import re

from emulator import Machine
from scenario import PROMPT, Image, scenario

INI = """
[vm devices]
kernel  = \\guests\\devices
initrd  = \\guests\\module
cmdline = devices-test
memory  = 16M
boot    = multiboot
devices = debug-exit, debugcon, testdev, fwcfg
[vm elf]
kernel  = \\guests\\elf
memory  = 16M
devices = debug-exit
[vm notmb]
kernel  = \\guests\\module
boot    = multiboot
[vm real]
kernel  = \\guests\\flat
memory  = 4M
boot    = flat
devices = debug-exit
[vm protected]
kernel  = \\guests\\flat
memory  = 4M
boot    = flat
mode    = protected
load    = 0x100000
devices = debug-exit
[vm long]
kernel  = \\guests\\flat
memory  = 4M
boot    = flat
mode    = long
load    = 0x200000
devices = debug-exit
[vm high]
kernel  = \\guests\\flat
memory  = 4M
boot    = flat
load    = 0x100000
"""

# mov eax, cs; out 0xf4, al; hlt: the same in every mode. The exit code is the code segment's selector << 1 | 1.
FLAT = bytes((0x8c, 0xc8, 0xe6, 0xf4, 0xf4))
MODES = (("real", 0), ("protected", 16), ("long", 16))


def elf_kernel():
    """An ELF file linked at 3 GiB, loaded at 2 MiB: mov al, 0x2a; out 0xf4, al; hlt behind a multiboot header."""
    def words(*values):
        return b"".join((v & 0xffffffff).to_bytes(4, "little") for v in values)
    code = words(0x1badb002, 0, -0x1badb002) + bytes((0xb0, 0x2a, 0xe6, 0xf4, 0xf4))
    header = b"\x7fELF" + bytes((1, 1, 1)) + bytes(9) + words(2 | 3 << 16, 1, 0xc020000c, 52, 0, 0)
    header += words(52 | 32 << 16, 1, 0)
    return header + words(1, 84, 0xc0200000, 0x200000, len(code), 0x2000, 5, 4) + code


FILES = {"guests/devices": "build/guests/devices.bin", "guests/module": lambda: b"module content",
         "guests/flat": lambda: FLAT, "guests/elf": elf_kernel}


def check_exit(run, name, code):
    run.type(f"start {name} -c\r")
    run.expect(r"does not run")
    run.expect(PROMPT)
    listing = run.command("list")
    run.check(f"{name}: list shows exit code {code}",
              re.search(rf"{name}\s+stopped .*debug exit, code {code}\b", listing), listing)


@scenario("boot-ways", Machine("", emulator="bochs", model="tigerlake"), Image(INI, FILES))
def boot_ways(run):
    run.boot()
    run.type("start devices -c\r")
    verdict = run.expect(r"guest: (ok|FAIL [^\r\n]*)")
    run.check("a multiboot kernel's devices", verdict.group(1) == b"ok", verdict.group(0))
    run.check("the debug console is the console", b"debugcon: hello" in bytes(run.emulator.transcript))
    run.expect(PROMPT)
    info = run.command("info devices")
    run.check("info shows the exit code", "debug exit, code 43" in info, info)
    check_exit(run, "elf", 0x2a << 1 | 1)
    for name, selector in MODES:
        check_exit(run, name, selector << 1 | 1)
    text = run.command("start notmb")
    run.check("a file without a header is refused", "not a multiboot kernel" in text, text)
    text = run.command("start high")
    run.check("real mode ends below 1 MiB", "in real mode there is memory below 0x9fc00" in text, text)
