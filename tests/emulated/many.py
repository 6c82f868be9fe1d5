# SPDX-License-Identifier: MIT
"""Several vCPUs and several VMs at once: they run, they share the CPUs as their weights say, and the console answers."""

import itertools
import re

from emulator import Machine
from scenario import GUEST_PROMPT, LINUX_CMDLINE, LINUX_FILES, PROMPT, Image, clean, scenario, vm

HOSTILE = {"guests/hostile": "build/guests/hostile.bin"}
FILES = {**LINUX_FILES, **HOSTILE}


def linux(name, cpus, **more):
    return vm(name, cpus=cpus, memory="192M", kernel=r"\guests\vmlinuz", initrd=r"\guests\initrd.gz",
              cmdline=LINUX_CMDLINE + " quiet", **more)


def spinner(name, **more):
    """A guest that never gives a CPU away of itself."""
    return vm(name, memory="16M", kernel=r"\guests\hostile", cmdline="spin", **more)


MARKS = itertools.count(1000)


def attach_shell(run, name):
    run.type(f"console {name}\r")
    run.expect(re.escape(f"[console of {name}; "))
    mark = next(MARKS)  # what comes first is the end of what was shown before
    run.type(f"\recho at$((2 * {mark}))\r")
    run.expect(rf"at{2 * mark}\r?\n")
    run.expect(GUEST_PROMPT)


def top(run, frames=2):
    """What top shows as the last of some frames: text, and the shares of the VMs (of a CPU, of all) by name."""
    run.type("top\r")
    for _ in range(frames):
        text = clean(run.expect(r"CPU +busy(?s:(.*?))any key ends").group(1))
    run.type("q")
    run.expect(PROMPT)
    rows = re.findall(r"^(\S+) +\w+ +\d+ +([\d.]+) % +([\d.]+) %", text, re.MULTILINE)
    return text, {name: (float(of_one), float(of_all)) for name, of_one, of_all in rows}


def seconds_up(run, name):
    """As the host sees it, and as the guest does."""
    host = re.search(rf"^{name} .* (\d+) s\b", run.command("list"), re.MULTILINE)
    attach_shell(run, name)
    guest = re.search(r"([\d.]+) ", run.guest_command("cat /proc/uptime"))
    run.leave_guest()
    return int(host.group(1)), float(guest.group(1))


def check_pause(run, name):
    host_before, guest_before = seconds_up(run, name)
    run.command("pause " + name)
    run.check("list shows the VM paused", re.search(rf"{name}\s+paused", run.command("list")))
    text, shares = top(run, 8)  # seconds: well more than what rounding can hide below
    run.check("a paused VM uses no CPU", shares[name] == (0, 0), text)
    run.command("resume " + name)
    host_after, guest_after = seconds_up(run, name)
    stood = (host_after - host_before) - (guest_after - guest_before)
    run.check("its time stood still", stood >= 3, f"{stood} s")


def check_cpus(run, count):
    cpuinfo = run.guest_command("grep -c ^processor /proc/cpuinfo; nproc")
    run.check(f"the guest has {count} CPUs", re.findall(r"\d+", cpuinfo) == [str(count)] * 2, cpuinfo)
    sums = run.guest_command(" ".join(f"(i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; echo done{n}) &"
                                      for n in range(count)) + " wait; echo all")
    run.check("work on all of them ends", all(f"done{n}" in sums for n in range(count)), sums)


@scenario("linux-2-vcpus", Machine("", emulator="bochs", model="corei7_skylake_x", cpus=2),
          Image(linux("linux", 2, devices="hpet") + spinner("spin"), FILES))
def linux_two_vcpus(run):
    """Beside a guest that never gives a CPU away of itself."""
    run.boot()
    run.start_linux("linux")
    clocks = run.guest_command("cat /sys/devices/system/clocksource/clocksource0/available_clocksource")
    run.check("the kernel has found its HPET", "hpet" in clocks, clocks)
    run.leave_guest()
    run.command("start spin")
    attach_shell(run, "linux")
    check_cpus(run, 2)
    run.leave_guest()
    listing = run.command("list")
    run.check("both run", re.search(r"linux\s+running", listing) and re.search(r"spin\s+running", listing), listing)
    run.type("console spin\r")
    run.expect("guest: spin")
    run.leave_guest()
    run.command("stop spin")
    check_pause(run, "linux")
    attach_shell(run, "linux")
    run.power_off_linux()
    run.check("nothing runs", "running" not in run.command("list"))


@scenario("linux-4-vcpus-on-2", Machine("", emulator="bochs", model="corei7_skylake_x", cpus=2),
          Image(linux("linux", 4), FILES))
def linux_four_vcpus(run):
    run.boot()
    run.start_linux("linux")
    check_cpus(run, 4)
    run.power_off_linux()
    run.check("list shows the VM stopped", re.search(r"linux\s+stopped", run.command("list")))


EQUAL = ("a", "b", "c", "d")
WEIGHTS = {"light": 100, "middle": 200, "heavy": 300}


@scenario("shares", Machine("", emulator="bochs", model="corei7_skylake_x", cpus=2),
          Image("".join(spinner(name) for name in EQUAL) +
                "".join(spinner(name, weight=weight, pin=1) for name, weight in WEIGHTS.items()) +
                spinner("nowhere", pin=7), HOSTILE))
def shares(run):
    """Guests that never give a CPU away of themselves."""
    run.boot()
    run.check("a pin to no CPU is refused", "no CPU 7" in run.command("start nowhere"))
    for name in EQUAL:
        run.command("start " + name)
    text, used = top(run)
    for name in EQUAL:
        run.check(f"{name} has a quarter of both CPUs", 23 <= used[name][1] <= 27, text)
    run.command("pause a")
    text, used = top(run, 4)
    for name in EQUAL[1:]:
        run.check(f"{name} has a third of both CPUs", 31 <= used[name][1] <= 36, text)
    run.command("pause b")
    text, used = top(run)
    run.check("what the paused leave the others use", sum(used[n][1] for n in ("c", "d")) >= 96, text)
    for name in EQUAL:
        run.command("stop " + name)
    for name in WEIGHTS:
        run.command("start " + name)
    text, used = top(run, 3)
    for name, weight in WEIGHTS.items():
        share = 100 * weight / sum(WEIGHTS.values())
        run.check(f"{name} has its {share:.0f} % of the CPU", abs(used[name][0] - share) <= 3, text)
