# SPDX-License-Identifier: MIT
"""Debian's kernel as a guest, from the console to its shell and back, on the CPUs and boot media that Bochs offers."""

import json
import re

import trace2json
from emulator import Machine
from scenario import GUEST_PROMPT, LINUX_CMDLINE, LINUX_FILES, LINUX_SECONDS, PROMPT, Image, scenario, vm

RESTARTS = 5
IMAGE = Image("guests/plinth.ini", LINUX_FILES)
# Lines of the guest's kernel log at level "warning" or worse that come on bare PCs as well.
EXPECTED_WARNINGS = (
    # The emulated Skylake has no microcode with speculation control, and says so on bare metal too.
    "RETBleed: WARNING",
)


def short(**more):
    """For what a boot is only the beginning of."""
    return Image(vm("linux", kernel=r"\guests\vmlinuz", initrd=r"\guests\initrd.gz", memory="256M",
                    cmdline=LINUX_CMDLINE, **more), LINUX_FILES)


def free_memory(run):
    """Bytes free, as `mem` says."""
    text = run.command("mem")
    found = re.search(r"free\s+(\d+) KiB", text)
    run.check("mem shows free memory", found, text)
    return int(found.group(1)) if found else 0


def warnings_inside(run, expected):
    """The warnings in the guest kernel's log that have none of the expected words."""
    lines = run.guest_command("dmesg -r | grep '^<[0-4]>.*] .'; echo end").split("\n")
    return [line for line in lines if line.startswith("<") and not any(e in line for e in expected)]


def check_inside(run):
    run.check("uname names Debian's kernel", "cloud-amd64" in run.guest_command("uname -r"))
    run.check("arithmetic", "42" in run.guest_command("echo $((6 * 7))"))
    run.check("the machine has a name", "Plinth PC" in run.guest_command("cat /sys/class/dmi/id/product_name"))
    cpuinfo = run.guest_command("cat /proc/cpuinfo")
    run.check("the hypervisor bit shows", "hypervisor" in cpuinfo, cpuinfo)
    clock = run.guest_command("cat /sys/devices/system/clocksource/clocksource0/current_clocksource")
    run.check("the clock is paravirtual or the TSC", "kvm-clock" in clock or "tsc" in clock, clock)
    memory = run.guest_command("head -1 /proc/meminfo")
    run.check("memory is near 256 MiB", re.search(r"MemTotal:\s+2[0-9]{5} kB", memory), memory)
    types = run.guest_command("dmesg | grep x86/PAT")
    run.check("write-combining is to be had", "WC" in types, types)
    left = warnings_inside(run, EXPECTED_WARNINGS)
    run.check("the guest's log has no warning", not left, "\n".join(left))


def check_console(run):
    listing = run.command("list")
    run.check("list shows the VM running", re.search(r"linux\s+running", listing), listing)
    stats = run.command("stats linux")
    run.check("stats counts port accesses", re.search(r"\bio\s+\d+", stats), stats)
    trace = run.command("trace linux 5")
    run.check("trace shows exits with RIP", len(re.findall(r"[0-9a-f]{16}", trace)) >= 5, trace)
    log = run.command("log linux 5")
    run.check("log shows what the guest wrote", "dmesg" in log or "/ #" in log, log)
    info = run.command("info linux")
    run.check("info names the engine", "vmx" in info, info)


def check_trace(run):
    text = run.command("trace linux 50 kind=io")
    lines = re.findall(r"^ +\d+ (\S+) +0x\w{16} 0x\w{16} +\d+$", text, re.MULTILINE)
    run.check("trace shows exits of one kind", lines and set(lines) == {"io"}, text)
    text = run.command("trace linux 9 detail=0x3f8 rip=0xf000000000000000-0xffffffffffffffff")
    lines = re.findall(r" (0x\w{16}) (0x\w{16}) ", text)
    run.check("trace shows accesses of one port from the kernel's code",
              lines and all(int(rip, 16) >> 60 == 0xf and int(port, 16) == 0x3f8 for rip, port in lines), text)
    text = run.command("trace linux 9 port=0x3f8-0x3ff")
    ports = re.findall(r" io +0x\w{16} (0x\w{16}) ", text)
    run.check("trace shows accesses of a range of ports", ports and all(0x3f8 <= int(p, 16) <= 0x3ff for p in ports), text)
    text = run.command("trace linux kind=oi")
    run.check("a mistyped kind of exit gets a suggestion", "did you mean 'io'?" in text, text)
    text = run.command("trace linux json 100")
    printed = re.search(r"^(\{\"traceEvents\".*\})\n--- end", text, re.MULTILINE | re.DOTALL)
    run.check("trace prints JSON", printed and len(json.loads(printed.group(1))["traceEvents"]) == 101, text)
    exits = [event for event in trace2json.trace_events(text) or [] if event["ph"] == "X"]
    starts = [event["ts"] for event in exits]
    run.check("its events are in order and last less than a second",
              len(exits) == 100 and starts == sorted(starts) and all(event["dur"] < 1e6 for event in exits), text)
    hot = run.command("stats linux hot")
    run.check("stats shows hot spots", re.search(r"\bio +0x[0-9a-f]{16} +\d+ +\d+ +\d+", hot), hot)


def check_commands(run):
    for name in ("help", "cpus", "version", "dmesg", "mem"):
        text = run.command(name)
        run.check(f"{name} prints something", len(text.strip()) > 20, text)
    unknown = run.command("strat linux")
    run.check("an unknown command gets a suggestion", "did you mean 'start'?" in unknown, unknown)
    missing = run.command("start nobody")
    run.check("an unknown VM is named", "nobody" in missing, missing)
    run.type("sta\t")
    run.expect(r"start +stats")
    run.type("\x15")
    run.type("\x1b[A")
    run.expect(r"start nobody")
    run.type("\x15\r")
    run.expect(PROMPT)


def check_sizes(run):
    text = run.command("mem")
    image = re.search(r"image: these three\s+(\d+) KiB", text)
    core = re.search(r"\bcore\s+(\d+) KiB", text)
    run.check("the core's image is under 512 KiB", image and int(image.group(1)) < 512, text)
    run.check("the core's memory is under 8 MiB", core and int(core.group(1)) < 8192, text)


def linux_full(run):
    run.boot()
    check_commands(run)
    check_sizes(run)
    run.start_linux("linux")
    check_inside(run)
    run.leave_guest()
    check_console(run)
    check_trace(run)
    run.type("console linux\r")
    run.expect(GUEST_PROMPT)
    run.power_off_linux()
    run.check("list shows that the VM powered off", re.search(r"linux\s+stopped.* powered off", run.command("list")))


def linux_restarts(run):
    """Start and stop again and again: everything is given back."""
    run.boot()
    before = None
    for _ in range(RESTARTS):
        run.start_linux("linux")
        run.power_off_linux()
        free = free_memory(run)
        before = free if before is None else before
        run.check("as much memory is free as after the first run", free == before, f"{before} {free}")
    run.start_linux("linux")
    run.type("reboot\r")
    run.expect(r"plinth-guest: init reached", LINUX_SECONDS)
    run.check("reboot inside restarts the guest", True)
    run.leave_guest()
    run.command("stop linux")
    run.check("stop stops it", re.search(r"linux\s+stopped(?!.*powered off)", run.command("list")))
    run.check("nothing is lost by a stop", free_memory(run) == before)


def linux_short(run):
    """With autostart: the guest runs without a word."""
    run.boot()
    listing = run.wait_for("list", r"linux\s+running")
    run.check("autostart starts it", re.search(r"linux\s+running", listing), listing)
    run.type("console linux\r")
    run.expect(GUEST_PROMPT, LINUX_SECONDS)
    run.check("a command inside answers", "42" in run.guest_command("echo $((6 * 7))"))
    run.power_off_linux()
    run.check("list shows that the VM powered off", re.search(r"linux\s+stopped.* powered off", run.command("list")))
    run.type("poweroff\r")
    run.emulator.wait(60)
    run.check("poweroff ends the machine", True)


@scenario("linux-tigerlake-disk", Machine("", emulator="bochs", model="tigerlake"), IMAGE)
def linux_tigerlake(run):
    linux_full(run)


@scenario("linux-skylake-usb-2cpus",
          Machine("", emulator="bochs", model="corei7_skylake_x", cpus=2, usb=True), IMAGE)
def linux_skylake_usb(run):
    linux_full(run)


@scenario("linux-restarts", Machine("", emulator="bochs", model="corei7_skylake_x"), short())
def linux_again(run):
    linux_restarts(run)


@scenario("linux-tigerlake-2cpus", Machine("", emulator="bochs", model="tigerlake", cpus=2), short(autostart="yes"))
def linux_tigerlake_smp(run):
    linux_short(run)
