#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the tests: lint, unit tests, fuzzers, emulated machines. The exit status is the verdict; the last line counts.

    tests/run.py            everything
    tests/run.py --quick    lint, unit tests, fuzzers, one boot
    tests/run.py --list     the names of the emulated scenarios
    tests/run.py NAME...    only these scenarios

Everything it runs has been built before by make. Two of them run side by side.
"""

import argparse
import concurrent.futures
import dataclasses
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

AT_ONCE = 2
FUZZ_RUNS = 8000  # of each fuzzer, always the same ones: a few seconds


@dataclasses.dataclass
class Result:
    kind: str
    name: str
    passed: int
    failed: int
    shown: str = ""  # what to print if it failed
    seconds: float = 0


def timed(function, *arguments):
    started = time.monotonic()
    result = function(*arguments)
    result.seconds = time.monotonic() - started
    return result


def run_program(command, seconds=300):
    """Its exit status, and all that it printed; status 1 if it could not be run or did not end."""
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
                              check=False)
        return done.returncode, done.stdout.decode("utf-8", "replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)


def run_lint():
    status, output = run_program([sys.executable, "tests/lint.py"])
    return Result("lint", "tree", int(status == 0), int(status != 0), output)


def run_unit(name):
    status, output = run_program([os.path.join(ROOT, "build/unit", name)])
    counts = re.search(r"(\d+) passed, (\d+) failed\s*$", output)
    passed, failed = (int(counts.group(1)), int(counts.group(2))) if counts else (0, 1)
    return Result("unit", name, passed, failed or int(status != 0), output)


def run_fuzzer(name):
    """The kept corpus and some thousand inputs made from it, with a fixed seed. What it finds is left in build/fuzz."""
    prefix = os.path.join(ROOT, "build/fuzz", name)
    with tempfile.TemporaryDirectory() as found:
        status, output = run_program([prefix, f"-runs={FUZZ_RUNS}", "-seed=1", "-timeout=20", "-print_final_stats=1",
                                      f"-artifact_prefix={prefix}-", found,
                                      os.path.join(ROOT, "tests/fuzz/corpus", name)])
    runs = re.search(r"number_of_executed_units: (\d+)", output)
    good = status == 0 and runs is not None and int(runs.group(1)) >= FUZZ_RUNS
    return Result("fuzz", name, int(good), int(not good), output[-4000:])


def run_machine(item):
    return Result("machine", *scenario.execute(item))


def sources(pattern):
    """Names of the programs that belong to these sources; none at all is an error of the tree."""
    names = sorted(os.path.splitext(os.path.basename(path))[0] for path in glob.glob(os.path.join(ROOT, pattern)))
    if not names:
        sys.exit(f"run.py: there is no {pattern}")
    return names


def programs():
    return [(run_lint,), *((run_unit, name) for name in sources("tests/unit/test_*.c")),
            *((run_fuzzer, name) for name in sources("tests/fuzz/*.c"))]


def run_all(work):
    """Runs them, in this order, some at a time; prints a line for each when it is done. Returns (passed, failed)."""
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for future in concurrent.futures.as_completed([pool.submit(timed, *one) for one in work]):
            result = future.result()
            verdict = "ok" if result.failed == 0 and result.passed > 0 else "FAIL"
            if verdict == "FAIL" and result.shown:
                print(result.shown)
            print(f"{verdict:4} {result.kind} {result.name}: {result.passed} passed, {result.failed} failed "
                  f"({result.seconds:.0f} s)", flush=True)
            passed += result.passed
            failed += result.failed or int(result.passed == 0)
    return passed, failed


def select(options):
    items = scenario.SCENARIOS
    if options.quick:
        return [i for i in items if i.quick]
    unknown = set(options.names) - {i.name for i in items}
    if unknown:
        sys.exit(f"run.py: no such scenario: {', '.join(sorted(unknown))}; see --list")
    return [i for i in items if not options.names or i.name in options.names]


def built(items):
    """These scenarios, if all that they put into their images is there: it is known before the first of them runs."""
    files = {path for item in items for path in item.image.files.values() if not callable(path)}
    missing = sorted(path for path in files if not os.path.exists(os.path.join(ROOT, path)))
    if missing:
        sys.exit(f"run.py: not built: {', '.join(missing)}; `make test` builds all that the tests need")
    return items


def work_of(options):
    machines = [(run_machine, item) for item in built(select(options))]
    if options.names:
        return machines
    # The short machines first: beside them there is enough to do on the other CPU.
    return [m for m in machines if m[1].quick] + programs() + [m for m in machines if not m[1].quick]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    return parser.parse_args()


def main():
    options = arguments()
    if options.list:
        print("\n".join(i.name for i in scenario.SCENARIOS))
        return 0
    passed, failed = run_all(work_of(options))
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
