# SPDX-License-Identifier: MIT
"""Conformance: guests that check from inside that their CPU and chips are as the manual says, one boot a CPU model."""

from emulator import Machine
from scenario import Image, scenario, vm

GUESTS = ("sensitive", "exceptions", "traps", "cpu", "paging", "access", "edges", "apic", "delivery")
SMP_GUEST = "smp"  # wants a host CPU for each of its two: see docs/testing.md, NMIs on Bochs
HARDWARE_GUESTS = ("exceptions", "traps", "cpu", "apic", "delivery")  # once more where the hardware is a part of the local APIC
STATE_GUESTS = ("xstate-a", "xstate-b", "xstate-c")  # more than the host has CPUs
STATE_SECONDS = 240
MEMORY = "16M"


def section(name, kernel, **more):
    return vm(name, kernel="\\guests\\" + kernel, memory=MEMORY, **more)


INI = "".join(section(name, name, apic="soft") for name in GUESTS) + \
    "".join(section(name + "-hardware", name, apic="hardware") for name in HARDWARE_GUESTS) + \
    section(SMP_GUEST, SMP_GUEST, cpus=2, devices="testdev", apic="soft") + \
    section(SMP_GUEST + "-hardware", SMP_GUEST, cpus=2, devices="testdev", apic="hardware") + \
    "".join(section(name, "xstate", cmdline=name[-1], autostart="yes") for name in STATE_GUESTS)
IMAGE = Image(INI, {f"guests/{name}": f"build/guests/{name}.bin" for name in (*GUESTS, SMP_GUEST, "xstate")})


def check_isolation(run):
    """Several since the boot, each with its own pattern in all registers, taking turns on the CPUs."""
    for name in STATE_GUESTS:
        text = run.wait_for("log " + name, "guest: ", STATE_SECONDS)
        run.check(f"{name}: registers are its own", "guest: ok" in text, text)


def conformance(run):
    run.boot()
    check_isolation(run)
    for name in GUESTS + tuple(name + "-hardware" for name in HARDWARE_GUESTS):
        run.test_guest(name)


@scenario("conformance-tigerlake-2cpus", Machine("", emulator="bochs", model="tigerlake", cpus=2), IMAGE)
def conformance_tigerlake(run):
    conformance(run)
    run.test_guest(SMP_GUEST)
    run.test_guest(SMP_GUEST + "-hardware")


@scenario("conformance-haswell", Machine("", emulator="bochs", model="corei7_haswell_4770"), IMAGE)
def conformance_haswell(run):
    conformance(run)


@scenario("isolation-skylake", Machine("", emulator="bochs", model="corei7_skylake_x"), IMAGE)
def isolation_skylake(run):
    run.boot()
    check_isolation(run)
    text = run.command("log " + STATE_GUESTS[0])
    run.check("AVX-512 took part", "with AVX-512" in text, text)
