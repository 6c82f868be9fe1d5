# SPDX-License-Identifier: MIT
"""Guests that are not Linux: a multiboot kernel that uses the devices of test programs, the smallest kernels of the
other kinds, and flat images in each mode."""

import re

from emulator import Machine
from scenario import PROMPT, Image, scenario, vm

FLAT = {"kernel": r"\guests\flat", "boot": "flat", "memory": "4M"}
EXIT = {"devices": "debug-exit"}
INI = vm("devices", kernel=r"\guests\devices", initrd=r"\guests\module", cmdline="devices-test", memory="16M",
         boot="multiboot", devices="debug-exit, debugcon, testdev, fwcfg") + \
    vm("elf", kernel=r"\guests\elf", memory="16M", **EXIT) + \
    vm("low", kernel=r"\guests\low", memory="16M", **EXIT) + \
    vm("mb2", kernel=r"\guests\mb2", memory="16M", **EXIT) + \
    vm("off", **FLAT | {"kernel": r"\guests\off"}) + \
    vm("pvh", kernel=r"\guests\pvh", memory="16M", **EXIT) + \
    "module = \\guests\\flat first\nmodule = \\guests\\module second one\n" + \
    vm("notmb", kernel=r"\guests\module", boot="multiboot") + \
    vm("real", **FLAT, **EXIT) + \
    vm("protected", **FLAT, **EXIT, mode="protected", load="0x100000") + \
    vm("long", **FLAT, **EXIT, mode="long", load="0x200000") + \
    vm("high", **FLAT, **EXIT, load="0x100000")

# mov eax, cs; out 0xf4, al; hlt: the same in every mode. The exit code is the code segment's selector << 1 | 1.
FLAT_CODE = bytes((0x8c, 0xc8, 0xe6, 0xf4, 0xf4))
# mov dx, 0x604; mov ax, 0x2000; out dx, ax; hlt: how programs for QEMU power its machines off.
OFF_CODE = bytes((0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4))
MODES = (("real", 0), ("protected", 16), ("long", 16))


def words(*values):
    return b"".join((v & 0xffffffff).to_bytes(4, "little") for v in values)


def elf_file(entry, code, note=b"", linked=0xc0200000, loaded=0x200000):
    """An ELF file linked at 3 GiB, loaded at 2 MiB; its second segment is the note."""
    start = 52 + 2 * 32
    header = b"\x7fELF" + bytes((1, 1, 1)) + bytes(9) + words(2 | 3 << 16, 1, entry, 52, 0, 0)
    header += words(52 | 32 << 16, 2, 0)
    header += words(1, start, linked, loaded, len(code), 0x2000, 5, 4)
    return header + words(4, start + len(code), 0, 0, len(note), len(note), 4, 4) + code + note


def elf_kernel():
    """mov al, 0x2a; out 0xf4, al; hlt behind a multiboot header."""
    return elf_file(0xc020000c, words(0x1badb002, 0, -0x1badb002) + bytes((0xb0, 0x2a, 0xe6, 0xf4, 0xf4)))


def low_kernel():
    """A kernel at 0x8000: lgdt [0x802f]; jmp 8:0x801a; to real mode; mov ax, cs; add al, 0x55; out 0xf4, al; hlt."""
    code = bytes((0x0f, 0x01, 0x15)) + words(0x802f) + b"\xea" + words(0x801a) + bytes((8, 0))
    code += bytes((0x0f, 0x20, 0xc0, 0x24, 0xfe, 0x0f, 0x22, 0xc0, 0xea, 0x27, 0x80, 0, 0))
    code += bytes((0x8c, 0xc8, 0x04, 0x55, 0xe6, 0xf4, 0xf4, 0x90))
    code += bytes((15, 0)) + words(0x8035) + bytes(8) + words(0x0000ffff, 0x00009b00)  # GDTR, GDT: 16-bit code
    return elf_file(0x800c, words(0x1badb002, 0, -0x1badb002) + code, linked=0x8000, loaded=0x8000)


def multiboot2_kernel():
    """All of the file at 2 MiB; an end tag; out 0xf4, al; hlt: the code is the magic number's lowest byte."""
    header = words(0xe85250d6, 0, 64, -0xe85250d6 - 64)
    header += words(2, 24, 0x200000, -1, 0, 0) + words(3, 12, 0x200040, 0) + words(0, 8)
    return header + bytes((0xe6, 0xf4, 0xf4))


def pvh_kernel():
    """mov eax, [ebx + 16]; mov eax, [eax + 32]; mov al, [eax]; out 0xf4, al; hlt: the second module's first byte."""
    code = bytes((0x8b, 0x43, 0x10, 0x8b, 0x40, 0x20, 0x8a, 0x00, 0xe6, 0xf4, 0xf4, 0x90))
    return elf_file(0xc0200000, code, words(4, 4, 18) + b"Xen\0" + words(0x200000))


FILES = {"guests/devices": "build/guests/devices.bin", "guests/module": lambda: b"module content",
         "guests/flat": lambda: FLAT_CODE, "guests/elf": elf_kernel, "guests/low": low_kernel, "guests/off": lambda: OFF_CODE,
         "guests/mb2": multiboot2_kernel, "guests/pvh": pvh_kernel}


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
    text = run.test_guest("devices")
    run.check("the debug console is the console", "debugcon: hello" in text, text)
    info = run.command("info devices")
    run.check("info shows the exit code", "debug exit, code 43" in info, info)
    check_exit(run, "elf", 0x2a << 1 | 1)
    check_exit(run, "low", 0x55 << 1 | 1)
    check_exit(run, "mb2", 0x89 << 1 | 1)
    check_exit(run, "pvh", ord("m") << 1 | 1)
    for name, selector in MODES:
        check_exit(run, name, selector << 1 | 1)
    run.type("start off\r")
    run.check("sleep type 0 powers off", run.expect("VM off: powered off"))
    run.type("\r")
    run.expect(PROMPT)
    text = run.command("start notmb")
    run.check("a file without a header is refused", "not a multiboot kernel" in text, text)
    text = run.command("start high")
    run.check("real mode ends below 1 MiB", "in real mode there is memory below 0x9fc00" in text, text)
