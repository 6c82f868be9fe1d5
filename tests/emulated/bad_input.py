# SPDX-License-Identifier: MIT
"""Images that are wrong and guests that misbehave: each gives one clear line, and the console goes on."""

import os
import re

from emulator import Machine
from scenario import ROOT, Image, scenario, vm

WORDS = {"triple": "triple", "spin": "spin", "holes": "holes", "ports": "ports", "msrs": "msrs", "runhole": "run-hole",
         "resets": "resets", "storm": "storm"}
INI = vm("missing", kernel=r"\guests\nothere", memory="64M") + \
    vm("truncated", kernel=r"\guests\short", memory="64M") + \
    vm("notbz", kernel=r"\plinth.ini", memory="64M") + \
    vm("bigrd", kernel=r"\guests\hostile", initrd=r"\guests\bigrd", memory="8M") + \
    vm("bigmem", kernel=r"\guests\hostile", memory="900G") + \
    "".join(vm(name, kernel=r"\guests\hostile", cmdline=word, memory="16M") for name, word in WORDS.items())


def short_kernel():
    """A test guest whose end is cut off: its header promises more."""
    with open(os.path.join(ROOT, "build/guests/hostile.bin"), "rb") as file:
        return file.read(2048)


FILES = {"guests/hostile": "build/guests/hostile.bin", "guests/short": short_kernel,
         "guests/bigrd": lambda: bytes(16 << 20)}

REFUSED = (
    ("missing", r"nothere.*not on the boot volume"),
    ("truncated", r"short.*truncated"),
    ("notbz", r"plinth\.ini.*not a"),
    ("bigrd", r"bigrd.*do(es)? not fit"),
    ("bigmem", r"900|921600"),
)

GUEST_SECONDS = 120
RESETS_LOGGED = 17  # 16, and one that says that there are more
FINISHED = ("holes", "ports", "msrs")


def one_line(text):
    return len([line for line in text.strip().split("\n") if line]) == 1


def check_refused(run):
    for name, pattern in REFUSED:
        text = run.command("start " + name)
        run.check(f"{name}: refused in one clear line", one_line(text) and re.search(pattern, text), text)


def check_finished(run):
    """Guests that do odd things get what hardware would give, and a line in the log."""
    for name in FINISHED:
        run.test_guest(name)
        log = run.command("dmesg")
        run.check(f"{name}: a line in the log", re.search(rf"VM {name}: .*(nothing|not) there", log), log[-600:])


def check_died(run, name, words):
    run.type(f"start {name}\r")
    run.expect(rf"VM {name}: crashed")
    run.settle()
    listing = run.command("list")
    run.check(f"{name}: shown as crashed", re.search(rf"{name}\s+crashed", listing), listing)
    log = run.command("dmesg")
    for word in words:
        run.check(f"{name}: the report has {word}", re.search(word, log), log[-1500:])


def check_spin(run, name):
    """A guest that keeps its CPU, and its timers the host, as busy as they can: others run, and it can be stopped."""
    run.command("start " + name)
    run.check(f"{name}: the console answers meanwhile", re.search(rf"{name}\s+running", run.command("list")))
    run.test_guest("ports")
    run.command("stop " + name)
    run.check(f"{name}: it can be stopped", re.search(rf"{name}\s+stopped", run.command("list")))


def check_resets(run):
    """A guest that does nothing but reset itself: others run, the log is not full of it, and it can be stopped."""
    run.type("start resets\r")
    run.expect("VM resets: reset; more of them are not logged", GUEST_SECONDS)
    run.settle()
    run.test_guest("holes")
    run.check("resets: it does so all the time", re.search(r"resets\s+running", run.command("list")))
    run.command("stop resets")
    run.check("resets: it can be stopped", re.search(r"resets\s+stopped", run.command("list")))
    lines = re.findall(r"VM resets: reset", run.command("dmesg"))
    run.check("resets: the first ones are in the log", len(lines) == RESETS_LOGGED, len(lines))


def bad_input(run):
    run.boot()
    check_refused(run)
    check_finished(run)
    check_died(run, "triple", ["triple fault", "rip", "code at rip", "last exits"])
    check_died(run, "runhole", ["VM runhole died", "rip"])
    check_spin(run, "spin")
    check_spin(run, "storm")
    check_resets(run)


@scenario("bad-input", Machine("", emulator="bochs", model="tigerlake"), Image(INI, FILES))
def bad_input_one_cpu(run):
    bad_input(run)


@scenario("bad-input-2cpus", Machine("", emulator="bochs", cpus=2), Image(INI, FILES))
def bad_input_two_cpus(run):
    bad_input(run)
