# SPDX-License-Identifier: MIT
"""Random guests: random instructions in every mode. One VM, started again and again, each time with the next seed. It
may die of what its guest does, but of nothing else; the host stays whole and gets its memory back, and a VM beside it,
which looks after its own memory, notices nothing and still runs at the end. To see one seed again, or others for longer:

    FUZZ_SEED=37 FUZZ_COUNT=1 tests/run.py fuzz-guest-haswell
    FUZZ_SEED=1000 FUZZ_COUNT=2000000 tests/run.py fuzz-guest-haswell
"""

import collections
import os
import re

from emulator import EmulatorError, Machine
from scenario import BUILD, PROMPT, Image, clean, scenario, vm

SEED = int(os.environ.get("FUZZ_SEED", "1"))
COUNT = int(os.environ.get("FUZZ_COUNT", "500000"))  # on each model
SEEDS = max(COUNT // 1000, 1)  # at most
VM_COUNT = 50000
QUIET_SECONDS = 120
MEMORY_SLACK_KIB = 256  # what the heap keeps for the next time
# A VM that ends in one of these ways ended by a bug of Plinth's.
BUGS = ("refused to enter", "unknown exit", "out of memory")

SECTOR = 512


def ini(apic):
    return vm("witness", kernel="\\guests\\witness", memory="16M") + vm(
        "fuzz", kernel="\\guests\\fuzz", memory="16M", cpus=2, disk="\\guests\\witness.img", apic=apic,
        devices="hpet, testdev, fwcfg, debugcon, debug-exit", cmdline=f"count={VM_COUNT}")


def disk_image():
    with open(os.path.join(BUILD, "guests/witness.bin"), "rb") as file:
        data = file.read()
    return data + bytes(-len(data) % SECTOR)


def image(apic):
    return Image(ini(apic), {"guests/fuzz": "build/guests/fuzz.bin", "guests/witness": "build/guests/witness.bin",
                             "guests/witness.img": disk_image})


def run_vm(run, seed):
    """Starts the VM and waits for its end, as long as it says that it goes on. Returns how many it executed, its end."""
    start = len(run.emulator.transcript)
    run.type("start fuzz -c\r")
    end = ""
    try:
        run.expect(r"seed\? ", QUIET_SECONDS)
        run.type(f"{seed}\r")
        while run.expect(r"fuzz: \d+ executed|\[fuzz does not run\]", QUIET_SECONDS).group(0)[:1] != b"[":
            pass
        run.expect(PROMPT)
    except EmulatorError as error:
        run.check(f"seed {seed}: goes on or ends", False, error)
        run.leave_guest()
        run.command("stop fuzz")
        end = "hung"
    text = clean(bytes(run.emulator.transcript[start:]))
    count = max((int(n) for n in re.findall(r"fuzz: (\d+) executed", text)), default=0)
    found = re.findall(r"VM fuzz: (?:crashed|stopped)[^\n]*", text)
    return count, end or (found[-1] if found else "finished")


def free_kib(run):
    return int(re.search(r"^ *free +(\d+) KiB", run.command("mem"), re.MULTILINE).group(1))


def witness_rounds(run):
    text = run.command("log witness")
    run.check("the witness saw nothing", "FAIL" not in text, text)
    return max((int(n) for n in re.findall(r"rounds (\d+)", text)), default=0)


def witness_goes_on(run):
    before = witness_rounds(run)
    run.settle()
    for _ in range(20):
        if witness_rounds(run) > before > 0:
            return True
        run.settle()
    return False


def fuzz(run):
    run.boot()
    free = free_kib(run)
    run.command("start witness")
    total, ends, seed = 0, collections.Counter(), SEED
    while total < COUNT and seed < SEED + SEEDS and not run.failed:
        count, end = run_vm(run, seed)
        print(f"     {run.name}: seed {seed}, {count} executed, {end}", flush=True)
        run.check(f"seed {seed}: did not end by a bug", not any(bug in end for bug in BUGS), end)
        ends[end] += 1
        total += count
        seed += 1
    print(f"     {run.name}: {total} executed by {seed - SEED} VMs", flush=True)
    run.check(f"{COUNT} instructions were executed", total >= COUNT, total)
    run.check("the witness goes on", witness_goes_on(run))
    run.command("stop witness")
    run.check("the memory came back", abs(free_kib(run) - free) <= MEMORY_SLACK_KIB, (free, run.command("mem")))


@scenario("fuzz-guest-tigerlake", Machine("", emulator="bochs", model="tigerlake"), image("hardware"))
def fuzz_tigerlake(run):
    fuzz(run)


@scenario("fuzz-guest-haswell", Machine("", emulator="bochs", model="corei7_haswell_4770"), image("soft"))
def fuzz_haswell(run):
    fuzz(run)
