# SPDX-License-Identifier: MIT
"""Conformance: guests that check from inside that their CPU and chips are as the manual says, one boot a CPU model."""

from emulator import Machine
from scenario import PROMPT, Image, scenario

GUESTS = ("sensitive", "exceptions", "cpu", "paging", "apic")
SMP_GUEST = "smp"  # wants a host CPU for each of its two: see docs/testing.md, NMIs on Bochs
HARDWARE_GUESTS = ("exceptions", "cpu", "apic")  # once more where the hardware is a part of the local APIC
STATE_GUESTS = ("xstate-a", "xstate-b", "xstate-c")  # more than the host has CPUs
STATE_LOOKS = 120  # at its log, until it is through
MEMORY = "16M"
VERDICT = r"guest: (ok|FAIL [^\r\n]*)|does not run"


def section(name, kernel, more=""):
    return f"[vm {name}]\nkernel = \\guests\\{kernel}\nmemory = {MEMORY}\n{more}"


INI = "\n" + "".join(section(name, name, "apic = soft\n") for name in GUESTS) + \
    section(SMP_GUEST, SMP_GUEST, "cpus = 2\ndevices = testdev\napic = soft\n") + \
    section(SMP_GUEST + "-hardware", SMP_GUEST, "cpus = 2\ndevices = testdev\napic = hardware\n") + \
    "".join(section(name + "-hardware", name, "apic = hardware\n") for name in HARDWARE_GUESTS) + \
    "".join(section(name, "xstate", f"cmdline = {name[-1]}\nautostart = yes\n") for name in STATE_GUESTS)
IMAGE = Image(INI, {f"guests/{name}": f"build/guests/{name}.bin" for name in (*GUESTS, SMP_GUEST, "xstate")})


def check_guest(run, name):
    run.type(f"start {name} -c\r")
    start = len(run.emulator.transcript)
    verdict = run.expect(VERDICT)
    text = bytes(run.emulator.transcript[start:]).decode("latin-1")
    run.check(f"{name}: as on hardware", verdict.group(1) == b"ok", text)
    run.expect(PROMPT)


def check_isolation(run):
    """Several since the boot, each with its own pattern in all registers, taking turns on the CPUs."""
    for name in STATE_GUESTS:
        for _ in range(STATE_LOOKS):
            text = run.command("log " + name)
            if "guest: " in text:
                break
        run.check(f"{name}: registers are its own", "guest: ok" in text, text)


def conformance(run):
    run.boot()
    check_isolation(run)
    for name in GUESTS + tuple(name + "-hardware" for name in HARDWARE_GUESTS):
        check_guest(run, name)


@scenario("conformance-tigerlake-2cpus", Machine("", emulator="bochs", model="tigerlake", cpus=2), IMAGE)
def conformance_tigerlake(run):
    conformance(run)
    check_guest(run, SMP_GUEST)
    check_guest(run, SMP_GUEST + "-hardware")


@scenario("conformance-haswell", Machine("", emulator="bochs", model="corei7_haswell_4770"), IMAGE)
def conformance_haswell(run):
    conformance(run)


@scenario("isolation-skylake", Machine("", emulator="bochs", model="corei7_skylake_x"), IMAGE)
def isolation_skylake(run):
    run.boot()
    check_isolation(run)
    text = run.command("log " + STATE_GUESTS[0])
    run.check("AVX-512 took part", "with AVX-512" in text, text)
