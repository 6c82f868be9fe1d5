# SPDX-License-Identifier: MIT
"""The frame of the emulated tests: a scenario is one image, one machine, and a function that talks to its console.

    @scenario("linux-boot", Machine(image="", model="tigerlake"), Image("guests/plinth.ini"))
    def linux_boot(run):
        run.boot()
        run.check("list shows the VM", "linux" in run.command("list"))

Every check counts. A scenario that stops early (what it waited for did not come) counts one failure, so that
silence is an error; a scenario in which no check ran has failed too.
"""

import dataclasses
import os
import re
import subprocess
import time
import traceback

from emulator import Emulator, EmulatorError, Machine

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build")
# A log line that comes meanwhile makes the console draw its prompt anew.
PROMPT = r"plinth> (?:\x1b\[K)?$"
GUEST_PROMPT = r"/ # (?:\x1b\[6n)?$"  # busybox asks the terminal where its cursor is
BOOT_SECONDS = 240
COMMAND_SECONDS = 60
LINUX_SECONDS = 400
QUIET_SECONDS = 1.5
CTRL_RIGHT_BRACKET = "\x1d"

SCENARIOS = []


@dataclasses.dataclass
class Image:
    ini: str  # a path, or the text itself if it has more than one line
    files: dict = dataclasses.field(default_factory=dict)  # name on the volume: path, or a function that gives bytes
    core: object = None  # a function that turns the core's bytes into damaged ones


# Debian's kernel spends half of its start on trying its ciphers, with every vector extension of the CPU. A few scenarios
# let it, those of tests/emulated/linux.py that look at its whole log.
LINUX_CMDLINE = "console=ttyS0 cryptomgr.notests"
LINUX_FILES = {"guests/vmlinuz": "build/guests/vmlinuz", "guests/initrd.gz": "build/guests/initrd.gz"}


@dataclasses.dataclass
class Scenario:
    name: str
    machine: Machine
    image: Image
    body: object
    quick: bool = False


def scenario(name, machine, image, quick=False):
    def register(body):
        SCENARIOS.append(Scenario(name, machine, image, body, quick))
        return body
    return register


def _write(path, data):
    with open(path, "wb") as file:
        file.write(data)
    return path


def build_image(name, image):
    """Makes build/tests/NAME.img and returns its path."""
    folder = os.path.join(BUILD, "tests", name)
    os.makedirs(folder, exist_ok=True)
    ini = os.path.join(ROOT, image.ini) if "\n" not in image.ini else \
        _write(os.path.join(folder, "plinth.ini"), image.ini.encode())
    core = os.path.join(BUILD, "core.elf")
    if image.core:
        with open(core, "rb") as file:
            core = _write(os.path.join(folder, "core.elf"), image.core(file.read()))
    pairs = []
    for number, (target, source) in enumerate(image.files.items()):
        path = _write(os.path.join(folder, f"file{number}"), source()) if callable(source) \
            else os.path.join(ROOT, source)
        pairs.append(f"{target}={path}")
    output = os.path.join(BUILD, "tests", name + ".img")
    subprocess.run([os.path.join(ROOT, "boot/mkimage"), output, os.path.join(BUILD, "BOOTX64.EFI"),
                    core, ini, *pairs], check=True)
    return output


class Run:
    """One scenario on its machine: the console, and the checks made so far."""

    def __init__(self, name, emulator):
        self.name = name
        self.emulator = emulator
        self.passed = []
        self.failed = []

    def check(self, what, condition, shown=""):
        (self.passed if condition else self.failed).append(what)
        if not condition:
            print(f"FAIL {self.name}: {what}\n     {str(shown).strip()}", flush=True)
        return condition

    def expect(self, pattern, timeout=COMMAND_SECONDS):
        return self.emulator.expect(pattern, timeout)

    def type(self, text):
        """As a person types: the line is a UART with a 16-byte FIFO."""
        for start in range(0, len(text), 8):
            self.emulator.send(text[start:start + 8])
            time.sleep(0.02)

    def boot(self):
        self.expect(PROMPT, BOOT_SECONDS)

    def settle(self):
        """Waits until log lines that come by themselves have ended, and takes a prompt as new."""
        while self.emulator.read(QUIET_SECONDS):
            pass
        self.type("\r")
        self.expect(PROMPT)

    def command(self, text, timeout=COMMAND_SECONDS):
        """Types a command at Plinth's prompt and returns what it printed, as lines in one string."""
        self.type(text + "\r")
        # From the line as it stood when Enter was typed: log lines may have drawn prompts before.
        echo = "".join(re.escape(c) + r"(?:\x1b\[K)?" for c in text)
        match = self.expect(echo + r"\r?\n(?s:(.*?))" + PROMPT, timeout)
        return clean(match.group(1))

    def wait_for(self, text, pattern, timeout=COMMAND_SECONDS):
        """Types a command again and again until what it prints has the pattern; returns what it printed last."""
        deadline = time.monotonic() + timeout
        while True:
            printed = self.command(text, timeout)
            if re.search(pattern, printed) or time.monotonic() > deadline:
                return printed

    def wait_for_log(self, name, pattern, limit):
        """Until a VM that nobody is attached to has written something, within some seconds of its own time: however
        busy the machine is on which the emulator runs."""
        while not re.search(pattern, self.command(f"log {name} 60", LINUX_SECONDS)):
            listing = self.command("list", LINUX_SECONDS)
            row = re.search(rf"^{name} .* (\d+) s\b", listing, re.MULTILINE)
            if not row or int(row.group(1)) > limit:
                raise EmulatorError(f"VM {name} did not write '{pattern}' in {limit} s:\n{listing}")
            time.sleep(QUIET_SECONDS)

    def test_guest(self, name, timeout=COMMAND_SECONDS):
        """Starts a test guest with its console, checks its verdict, and returns what it printed."""
        start = len(self.emulator.transcript)
        self.type(f"start {name} -c\r")
        verdict = self.expect(r"guest: (ok|FAIL [^\r\n]*)|died: [^\r\n]*|does not run", timeout)
        text = clean(bytes(self.emulator.transcript[start:]))
        self.check(f"{name}: the guest says ok", verdict.group(1) == b"ok", text)
        self.expect(PROMPT)
        return text

    def start_linux(self, name, timeout=LINUX_SECONDS):
        """Starts a Linux VM with its console, up to its shell's prompt."""
        self.type(f"start {name} -c\r")
        self.expect(r"plinth-guest: init reached", timeout)
        self.expect(GUEST_PROMPT, timeout)

    def guest_command(self, text, timeout=COMMAND_SECONDS):
        """As command(), at the shell of a Linux guest."""
        self.type(text + "\r")
        return clean(self.expect(r"\r?\n(?s:(.*?))" + GUEST_PROMPT, timeout).group(1))

    def power_off_linux(self, timeout=LINUX_SECONDS):
        """From the shell of a Linux guest back to Plinth's prompt, when all of the guest is gone."""
        self.type("poweroff\r")
        self.expect(r"VM \S+: powered off", timeout)
        self.expect(PROMPT)

    def leave_guest(self):
        self.type(CTRL_RIGHT_BRACKET)
        self.expect(PROMPT)


def vm(name, **keys):
    """A VM's section of plinth.ini."""
    return f"[vm {name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


def clean(data):
    text = data.decode("latin-1").replace("\r", "")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def execute(item):
    """Runs one scenario. Returns (name, passed, failed)."""
    run = Run(item.name, None)
    try:
        path = build_image(item.name, item.image)
        with Emulator(dataclasses.replace(item.machine, image=path)) as emulator:
            run.emulator = emulator
            try:
                item.body(run)
            finally:
                _write(os.path.join(BUILD, "tests", item.name + ".log"), bytes(emulator.transcript))
    except (EmulatorError, subprocess.CalledProcessError, OSError) as error:
        run.check(f"stopped early: {error}", False)
    except Exception:  # pylint: disable=broad-except; the scenario's own mistake: the other scenarios go on
        run.check("the scenario is right", False, traceback.format_exc())
    if not run.passed and not run.failed:
        run.check("made a check", False)
    return item.name, len(run.passed), len(run.failed)
