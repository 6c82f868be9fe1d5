# SPDX-License-Identifier: MIT
"""Machines that cannot run a guest: they boot to the console, name what is missing, and refuse in a line."""

import re

from emulator import Machine
from scenario import LINUX_FILES, Image, scenario

IMAGE = Image("guests/plinth.ini", LINUX_FILES)


def check_help(run):
    """Each command that help lists is explained."""
    names = re.findall(r"^  (\w+) ", run.command("help"), re.MULTILINE)
    run.check("help lists the commands", {"list", "start", "poweroff"} <= set(names), names)
    for name in names:
        text = run.command("help " + name)
        run.check(f"help {name} explains it", re.search(rf"^{name}: \S.*\nusage: {name}( \S+)*$", text.rstrip("\n")), text)


@scenario("qemu-no-vtx-4cpus", Machine("", emulator="qemu", cpus=4), IMAGE, quick=True)
def no_vtx(run):
    run.boot()
    cpus = run.command("cpus")
    run.check("all four CPUs are up", cpus.count("online") == 4, cpus)
    log = run.command("dmesg")
    run.check("the log names VT-x as missing", "VT-x" in log, log)
    refused = run.command("start linux")
    run.check("start is refused with the reason", "VT-x" in refused and refused.count("\n") <= 1, refused)
    run.check("the console still answers", "linux" in run.command("list"))
    check_help(run)
    run.type("poweroff\r")
    run.check("poweroff ends the machine", run.emulator.wait(60) == 0)


@scenario("bochs-no-ept", Machine("", emulator="bochs", model="core2_penryn_t9600"), IMAGE)
def no_ept(run):
    run.boot()
    refused = run.command("start linux")
    run.check("start is refused, EPT is named", "EPT" in refused, refused)
    run.check("the console still answers", "linux" in run.command("list"))


BAD_CONFIGURATIONS = (
    ("unknown-key", "[vm a]\nkernel = \\k\nmemroy = 1M\n", "plinth.ini:3", "memory"),
    ("bad-number", "[vm a]\nkernel = \\k\nmemory = lots\n", "plinth.ini:3", "memory"),
    ("duplicate", "[vm a]\nkernel = \\k\nmemory = 64M\n[vm a]\nkernel = \\k\n", "plinth.ini:4", "a"),
)


def bad_configuration(text, place, word):
    def body(run):
        run.boot()
        log = run.command("dmesg")
        lines = [line for line in log.split("\n") if place in line]
        run.check("one line names file and line", len(lines) == 1 and word in lines[0], log)
        run.check("no VM is defined, the console answers", "a" not in run.command("list").split())
    return body


for name, text, place, word in BAD_CONFIGURATIONS:
    scenario("ini-" + name, Machine("", emulator="qemu"), Image(text))(
        bad_configuration(text, place, word))
