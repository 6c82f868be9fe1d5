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
"""

FILES = {"guests/tasks": "build/guests/tasks.bin", "guests/forms": "build/guests/forms.bin"}
GUESTS = ("tasks", "forms")


@scenario("tasks", Machine("", emulator="bochs", model="tigerlake"), Image(INI, FILES))
def tasks(run):
    run.boot()
    for name in GUESTS:
        run.type(f"start {name} -c\r")
        verdict = run.expect(r"guest: (ok|FAIL [^\r\n]*)|died: [^\r\n]*")
        run.check(f"{name}: as on hardware", verdict.group(1) == b"ok", verdict.group(0))
        run.expect(PROMPT)
