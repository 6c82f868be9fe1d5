# SPDX-License-Identifier: MIT
"""vCPUs that wake each other, and guests beside others that never give a CPU away."""

import exit_costs
from emulator import Machine
from scenario import PROMPT, Image, scenario

GUEST_SECONDS = 300


def two_vcpus(name, pin, more=""):
    return f"[vm {name}]\ncpus = 2\npin = {pin}\nmemory = 16M\nkernel = \\guests\\ipi\n{more}\n"


def spinner(name):
    return f"[vm {name}]\nmemory = 16M\nkernel = \\guests\\hostile\ncmdline = spin\n"


def clocks(name, word):
    return f"[vm {name}]\nmemory = 16M\nkernel = \\guests\\time\ncmdline = {word}\ndevices = hpet\n"


def run_guest(run, name):
    """Starts a test guest, checks its verdict, and returns what it printed."""
    start = len(run.emulator.transcript)
    run.type(f"start {name} -c\r")
    verdict = run.expect(r"guest: (ok|FAIL [^\r\n]*)|does not run", GUEST_SECONDS)
    text = bytes(run.emulator.transcript[start:]).decode("latin-1")
    run.check(f"{name}: the guest says ok", verdict.group(1) == b"ok", text)
    run.expect(PROMPT)
    return text


IPI_MACHINE = Machine("", emulator="bochs", model="corei7_skylake_x", cpus=2)
IPI_IMAGE = Image(two_vcpus("apart", "0, 1") + two_vcpus("together", "0") +
                  two_vcpus("cost", "0, 1", "cmdline = bench"), {"guests/ipi": "build/guests/ipi.bin"})


@scenario("ipi-wake-ups", IPI_MACHINE, IPI_IMAGE)
def ipi_wake_ups(run):
    """None lost, none twice, in 131000 IPIs between vCPUs that halt, on two host CPUs and on one."""
    run.boot()
    run_guest(run, "apart")
    run_guest(run, "together")
    exit_costs.check_limits(run, exit_costs.measure(run, "cost"), exit_costs.IPI_LIMITS)


@scenario("time-under-load", Machine("", emulator="bochs", model="corei7_haswell_4770"),
          Image(clocks("late", "late") + clocks("clocks", "all") + spinner("spin-a") + spinner("spin-b"),
                {"guests/time": "build/guests/time.bin", "guests/hostile": "build/guests/hostile.bin"}))
def time_under_load(run):
    """On one CPU with guests that spin with interrupts off: a timer is late by two slices at most, clocks agree."""
    run.boot()
    run.command("start spin-a")
    run_guest(run, "late")
    run.command("start spin-b")
    run_guest(run, "clocks")
