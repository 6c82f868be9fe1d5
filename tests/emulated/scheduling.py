# SPDX-License-Identifier: MIT
"""vCPUs that wake each other, and guests beside others that never give a CPU away."""

import exit_costs
from emulator import Machine
from many import spinner
from scenario import Image, scenario, vm

GUEST_SECONDS = 300


def two_vcpus(name, pin, **more):
    return vm(name, cpus=2, pin=pin, memory="16M", kernel=r"\guests\ipi", **more)


def clocks(name, word):
    return vm(name, memory="16M", kernel=r"\guests\time", cmdline=word, devices="hpet")


IPI_MACHINE = Machine("", emulator="bochs", model="corei7_skylake_x", cpus=2)
IPI_IMAGE = Image(two_vcpus("apart", "0, 1") + two_vcpus("together", "0") +
                  two_vcpus("cost", "0, 1", cmdline="bench", apic="soft") +
                  two_vcpus("cost-hardware", "0, 1", cmdline="bench", apic="hardware"),
                  {"guests/ipi": "build/guests/ipi.bin"})


@scenario("ipi-wake-ups", IPI_MACHINE, IPI_IMAGE)
def ipi_wake_ups(run):
    """None lost, none twice, in 131000 IPIs between vCPUs that halt, on two host CPUs and on one."""
    run.boot()
    run.test_guest("apart", GUEST_SECONDS)
    run.test_guest("together", GUEST_SECONDS)
    for guest in ("cost", "cost-hardware"):
        exit_costs.check_limits(run, exit_costs.measure(run, guest), exit_costs.IPI_LIMITS)


@scenario("time-under-load", Machine("", emulator="bochs", model="corei7_haswell_4770"),
          Image(clocks("late", "late") + clocks("clocks", "all") + spinner("spin-a") + spinner("spin-b"),
                {"guests/time": "build/guests/time.bin", "guests/hostile": "build/guests/hostile.bin"}))
def time_under_load(run):
    """On one CPU with guests that spin with interrupts off: a timer is late by two slices at most, clocks agree."""
    run.boot()
    run.command("start spin-a")
    run.test_guest("late", GUEST_SECONDS)
    run.command("start spin-b")
    run.test_guest("clocks", GUEST_SECONDS)
