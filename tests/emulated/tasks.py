# SPDX-License-Identifier: MIT
"""What a guest may do that the CPU leaves to Plinth's software: hardware task switches, instructions on devices."""

from emulator import Machine
from scenario import PROMPT, Image, scenario

INI = """
[vm tasks]
kernel = \\guests\\tasks
memory = 16M
[vm forms]
kernel = \\guests\\forms
memory = 16M
[vm mmio]
kernel = \\guests\\mmio
memory = 16M
devices = testdev
"""

GUESTS = ("tasks", "forms", "mmio")
FILES = {f"guests/{name}": f"build/guests/{name}.bin" for name in GUESTS}


@scenario("tasks", Machine("", emulator="bochs", model="tigerlake"), Image(INI, FILES))
def tasks(run):
    run.boot()
    for name in GUESTS:
        run.type(f"start {name} -c\r")
        start = len(run.emulator.transcript)
        verdict = run.expect(r"guest: (ok|FAIL [^\r\n]*)|died: [^\r\n]*")
        text = bytes(run.emulator.transcript[start:]).decode("latin-1")
        run.check(f"{name}: as on hardware", verdict.group(1) == b"ok", text)
        run.expect(PROMPT)
