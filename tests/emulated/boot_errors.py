# SPDX-License-Identifier: MIT
"""What the loader says when the volume is not as it should be: one line, on the firmware's console."""

from emulator import Machine
from scenario import Image, scenario

INI = "[vm a]\nkernel = \\k\n"
LOADER_SECONDS = 120


def loader_says(pattern):
    def body(run):
        run.expect(r"Plinth loader", LOADER_SECONDS)
        line = run.expect(pattern + r"[^\r\n]*").group(0)
        run.check("one line names the file and what is wrong", line)
    return body


def damaged(core):
    return core[:4] + bytes(60) + core[64:]


scenario("core-truncated", Machine("", emulator="qemu"), Image(INI, core=lambda core: core[:5000]))(
    loader_says(r"\\plinth\\core\.elf[^\r\n]*(truncated|short|end)"))
scenario("core-malformed", Machine("", emulator="qemu"), Image(INI, core=damaged))(
    loader_says(r"\\plinth\\core\.elf[^\r\n]*(ELF|64)"))
