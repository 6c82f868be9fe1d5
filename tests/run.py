#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the tests: lint, unit tests, fuzzers, emulated machines. The exit status is the verdict; the last line counts.

    tests/run.py            everything
    tests/run.py --quick    lint, unit tests, fuzzers, one boot
    tests/run.py --list     the names of the emulated scenarios
    tests/run.py NAME...    only these scenarios

Everything it runs has been built before by make. Two machines run side by side.
"""

import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
sys.path.insert(0, os.path.join(ROOT, "tests", "emulated"))

import scenario  # noqa: E402
import scenarios  # noqa: E402,F401  registers them

MACHINES_AT_ONCE = 2
FUZZ_RUNS = 8000  # of each fuzzer, always the same ones: a few seconds


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, kind, name, passed, failed, seconds):
        self.passed += passed
        self.failed += failed
        verdict = "ok" if failed == 0 and passed > 0 else "FAIL"
        print(f"{verdict:4} {kind} {name}: {passed} passed, {failed} failed ({seconds:.0f} s)", flush=True)


def run_lint(tally):
    started = time.monotonic()
    result = subprocess.run([sys.executable, os.path.join(ROOT, "tests/lint.py")], cwd=ROOT,
                            stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        print(result.stdout)
    tally.add("lint", "tree", int(result.returncode == 0), int(result.returncode != 0),
              time.monotonic() - started)


def run_unit(tally):
    sources = glob.glob(os.path.join(ROOT, "tests/unit/test_*.c"))
    if not sources:
        tally.add("unit", "none found", 0, 1, 0)
    for source in sorted(sources):
        name = os.path.basename(source)[:-2]
        run_unit_program(tally, name, os.path.join(ROOT, "build/unit", name))


def run_unit_program(tally, name, program):
    started = time.monotonic()
    try:
        result = subprocess.run([program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                timeout=300, check=False)
        output, status = result.stdout.decode("utf-8", "replace"), result.returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        output, status = str(error), 1
    counts = re.search(r"(\d+) passed, (\d+) failed\s*$", output)
    passed, failed = (int(counts.group(1)), int(counts.group(2))) if counts else (0, 1)
    if status != 0 and failed == 0:
        failed = 1
    if failed:
        print(output)
    tally.add("unit", name, passed, failed, time.monotonic() - started)


def run_fuzz(tally):
    sources = glob.glob(os.path.join(ROOT, "tests/fuzz/*.c"))
    if not sources:
        tally.add("fuzz", "none found", 0, 1, 0)
    for source in sorted(sources):
        run_fuzzer(tally, os.path.basename(source)[:-2])


def run_fuzzer(tally, name):
    """The kept corpus and some thousand inputs made from it, with a fixed seed. What it finds is left in build/fuzz."""
    started = time.monotonic()
    prefix = os.path.join(ROOT, "build/fuzz", name)
    with tempfile.TemporaryDirectory() as found:
        command = [prefix, f"-runs={FUZZ_RUNS}", "-seed=1", "-timeout=20", "-print_final_stats=1",
                   f"-artifact_prefix={prefix}-", found, os.path.join(ROOT, "tests/fuzz/corpus", name)]
        try:
            result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                    timeout=300, check=False)
            output, status = result.stdout.decode("utf-8", "replace"), result.returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            output, status = str(error), 1
    runs = re.search(r"number_of_executed_units: (\d+)", output)
    good = status == 0 and runs is not None and int(runs.group(1)) >= FUZZ_RUNS
    if not good:
        print(output[-4000:])
    tally.add("fuzz", name, int(good), int(not good), time.monotonic() - started)


def run_emulated(tally, items):
    with concurrent.futures.ThreadPoolExecutor(MACHINES_AT_ONCE) as pool:
        for future in concurrent.futures.as_completed([pool.submit(scenario.execute, i) for i in items]):
            tally.add("machine", *future.result())


def select(arguments):
    items = scenario.SCENARIOS
    if "--quick" in arguments:
        return [i for i in items if i.quick]
    names = [a for a in arguments if not a.startswith("--")]
    unknown = set(names) - {i.name for i in items}
    if unknown:
        sys.exit(f"run.py: no such scenario: {', '.join(sorted(unknown))}; see --list")
    return [i for i in items if not names or i.name in names]


def main():
    arguments = sys.argv[1:]
    if "--list" in arguments:
        print("\n".join(i.name for i in scenario.SCENARIOS))
        return 0
    items = select(arguments)
    tally = Tally()
    if not [a for a in arguments if not a.startswith("--")]:
        run_lint(tally)
        run_unit(tally)
        run_fuzz(tally)
    run_emulated(tally, items)
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(main())
