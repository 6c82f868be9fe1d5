# SPDX-License-Identifier: MIT
"""What exits cost on Bochs, where a TSC tick is one executed instruction: paths may not get longer than LIMITS."""

import re

from emulator import Machine
from scenario import LINUX_FILES, LINUX_SECONDS, PROMPT, Image, scenario

MODEL = "corei7_haswell_4770"
GUESTS = ("bench", "switch")
BENCH_SECONDS = 300

# At 9600 baud, which is the kernel's default, the bare machine would mostly wait for its UART.
BENCH_CMDLINE = "console=ttyS0,115200"

INI = f"""
[vm bench]
kernel = \\guests\\bench
initrd = \\guests\\benchdata
memory = 128M
pages  = 4K
devices = testdev
apic   = soft
[vm switch]
kernel = \\guests\\ipi
cmdline = switch
cpus   = 2
memory = 16M
[vm benchapic]
kernel = \\guests\\bench
initrd = \\guests\\benchdata
memory = 128M
pages  = 4K
devices = testdev
apic   = hardware
[vm linuxbench]
kernel = \\guests\\vmlinuz
initrd = \\guests\\initrd-bench.gz
cmdline = {BENCH_CMDLINE}
memory = 256M
"""

# Memory that has backing before the guest touches it: an initrd of 1100 pages.
FILES = dict(LINUX_FILES)
FILES.update({"guests/bench": "build/guests/bench.bin", "guests/ipi": "build/guests/ipi.bin",
              "guests/benchdata": lambda: bytes(1100 * 4096),
              "guests/initrd-bench.gz": "build/guests/initrd-bench.gz"})
IMAGE = Image(INI, FILES)

# Instructions, median of 1001, as the guest sees them.
LIMITS = {
    "cpuid": 250,
    "rdmsr-trapped": 300,
    "hypercall": 250,
    "cr8-write": 10,
    "cr8-read": 10,
    "port-write": 400,
    "port-read": 400,
    "mmio-write": 900,
    "mmio-read": 900,
    "fault-backed": 800,
    "fault-first-touch": 1500,
    "self-ipi-hlt": 1500,
    "timer-late-hlt": 2500,
    "rep-movs-write": 750,
    "rep-movs-read": 750,
    "switch": 1500,
}
# Between two host CPUs, where the TSC moves in steps of a few instructions.
IPI_LIMITS = {
    "ipi-halted-send": 750,
    "ipi-halted-handler": 1500,
    "ipi-running-send": 600,
    "ipi-running-handler": 1200,
}
# The same where the hardware is a part of the local APIC.
HARDWARE_LIMITS = {"cpuid": 250, "rdmsr-x2apic-id": 10, "wrmsr-x2apic-eoi": 10, "cr8-write": 10, "port-read": 400,
                   "mmio-read": 900, "self-ipi-hlt": 900, "timer-late-hlt": 2500}
EMPTY = 2  # rdtsc; mov; rdtsc: shows that the emulator counts as it should


def machine():
    return Machine("", emulator="bochs", model=MODEL, memory=1024)


def measure(run, *guests):
    """Runs guests that measure; returns {operation: (median, least, most)}."""
    begin = len(run.emulator.transcript)
    for guest in guests:
        run.test_guest(guest, BENCH_SECONDS)
    found = re.findall(rb"bench: ([\w-]+) (\d+) (\d+) (\d+)", bytes(run.emulator.transcript[begin:]))
    return {name.decode(): tuple(int(n) for n in figures) for name, *figures in found}


def check_limits(run, figures, limits):
    for name, limit in limits.items():
        median = figures.get(name, (None,))[0]
        run.check(f"{name} costs at most {limit}", median is not None and median <= limit, median)


def measure_linux(run):
    """Boots Linux with guestbench as /init; returns {figure: ticks}."""
    run.type("start linuxbench -c\r")
    run.expect(PROMPT, LINUX_SECONDS)
    return linux_figures(bytes(run.emulator.transcript))


def linux_figures(transcript):
    return {name.decode(): int(ticks)
            for name, ticks in re.findall(rb"bench: ([\w-]+) (\d+)\r?\n", transcript)}


@scenario("bench-exits", machine(), IMAGE)
def bench_exits(run):
    run.boot()
    figures = measure(run, *GUESTS)
    run.check("an empty measurement costs 2", figures.get("empty", (0,))[0] == EMPTY, figures)
    check_limits(run, figures, LIMITS)
    check_limits(run, measure(run, "benchapic"), HARDWARE_LIMITS)
