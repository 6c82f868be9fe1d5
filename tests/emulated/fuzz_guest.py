# SPDX-License-Identifier: MIT
"""Random guests: random instructions in every mode, one VM after the other, each with a seed of its own. A VM may die
of what its guest does, but of nothing else; the host stays whole and gets its memory back, and a VM beside them, which
looks after its own memory, notices nothing. With other seeds, for longer:

    FUZZ_SEED=1000 FUZZ_COUNT=80000 tests/run.py fuzz-guest-haswell
"""

import os
import re

from emulator import EmulatorError, Machine
from scenario import PROMPT, Image, clean, scenario

SEED = int(os.environ.get("FUZZ_SEED", "1"))
COUNT = int(os.environ.get("FUZZ_COUNT", "50000"))  # on each model
VMS = 30
VM_COUNT = max(COUNT // 4, 1)
QUIET_SECONDS = 60
MEMORY_SLACK_KIB = 256  # what the heap keeps for the next time
# A VM that ends in one of these ways ended by a bug of Plinth's.
BUGS = ("refused to enter", "unknown exit", "out of memory")

INI = "\n[vm witness]\nkernel = \\guests\\witness\nmemory = 16M\n" + "".join(
    f"[vm fuzz{n}]\nkernel = \\guests\\fuzz\nmemory = 16M\ncpus = 2\ndevices = testdev, fwcfg, debugcon, debug-exit\n"
    f"cmdline = seed={SEED + n} count={VM_COUNT}\n" for n in range(VMS))
IMAGE = Image(INI, {f"guests/{name}": f"build/guests/{name}.bin" for name in ("fuzz", "witness")})


def last_count(text):
    return max((int(n) for n in re.findall(r"fuzz: (\d+) executed", text)), default=0)


def run_vm(run, name):
    """Starts a VM and waits for its end, as long as it says that it goes on; returns all that it said."""
    start = len(run.emulator.transcript)
    run.type(f"start {name} -c\r")
    try:
        while run.expect(r"fuzz: \d+ executed|\[" + name + r" does not run\]", QUIET_SECONDS).group(0)[:1] != b"[":
            pass
        run.expect(PROMPT)
    except EmulatorError as error:
        run.check(f"{name}: goes on or ends", False, error)
        run.leave_guest()
        run.command("stop " + name)
    return clean(bytes(run.emulator.transcript[start:]))


def free_kib(run):
    return int(re.search(r"^ *free +(\d+) KiB", run.command("mem"), re.MULTILINE).group(1))


def witness_rounds(run):
    text = run.command("log witness")
    run.check("the witness saw nothing", "FAIL" not in text, text)
    return max((int(n) for n in re.findall(r"rounds (\d+)", text)), default=0)


def fuzz(run):
    run.boot()
    free = free_kib(run)
    run.command("start witness")
    total, ends = 0, []
    for name in (f"fuzz{n}" for n in range(VMS)):
        text = run_vm(run, name)
        total += last_count(text)
        ends += re.findall(name + r": (?:crashed|stopped)[^\n]*", text)
        if total >= COUNT:
            break
    print(f"     {run.name}: seed {SEED}, {total} executed; " + "; ".join(ends), flush=True)
    run.check(f"{COUNT} instructions were executed", total >= COUNT, total)
    run.check("no VM ended by a bug", not [e for e in ends if any(b in e for b in BUGS)], ends)
    run.check("the witness ran meanwhile", witness_rounds(run) > 0)
    run.command("stop witness")
    run.check("the memory came back", abs(free_kib(run) - free) <= MEMORY_SLACK_KIB, (free, run.command("mem")))


@scenario("fuzz-guest-tigerlake", Machine("", emulator="bochs", model="tigerlake"), IMAGE)
def fuzz_tigerlake(run):
    fuzz(run)


@scenario("fuzz-guest-haswell", Machine("", emulator="bochs", model="corei7_haswell_4770"), IMAGE)
def fuzz_haswell(run):
    fuzz(run)
