# SPDX-License-Identifier: MIT
"""What a guest may do that the CPU leaves to Plinth's software: hardware task switches, instructions on devices."""

from emulator import Machine
from scenario import Image, scenario, vm

GUESTS = ("tasks", "forms", "mmio")
INI = vm("tasks", kernel=r"\guests\tasks", memory="16M") + vm("forms", kernel=r"\guests\forms", memory="16M") + \
    vm("mmio", kernel=r"\guests\mmio", memory="16M", devices="testdev")
FILES = {f"guests/{name}": f"build/guests/{name}.bin" for name in GUESTS}


@scenario("tasks", Machine("", emulator="bochs", model="tigerlake"), Image(INI, FILES))
def tasks(run):
    run.boot()
    for name in GUESTS:
        run.test_guest(name)
