# SPDX-License-Identifier: MIT
"""Guests under the real GDB, which talks to Plinth over the machine's second serial line."""

import os
import re
import select
import signal
import socket
import subprocess
import threading
import time

from emulator import EmulatorError, Machine
from scenario import BUILD, GUEST_PROMPT, LINUX_CMDLINE, LINUX_FILES, LINUX_SECONDS, Image, scenario, vm

GDB_SECONDS = 120
INTERRUPT_SECONDS = 5
GUEST_OK = r"guest: ok"


class Line:
    """Carries bytes between the machine's line and one GDB after the other."""

    def __init__(self, line):
        self.line = line
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        self.server.settimeout(0.2)
        while not self.done.is_set():
            try:
                connection, _ = self.server.accept()
            except TimeoutError:
                continue
            with connection:
                self._carry(connection)

    def _carry(self, connection):
        ends = {connection: self.line, self.line: connection}
        while not self.done.is_set():
            for source in select.select(list(ends), [], [], 0.2)[0]:
                try:
                    data = source.recv(4096)
                    ends[source].sendall(data)
                except OSError:
                    data = b""
                if not data:
                    return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.server.close()


def gdb(line, commands, program=None, interrupt=None):
    """Runs GDB with these commands once it is connected; returns what it printed. interrupt: a function that returns
    when Ctrl-C is to be typed."""
    script = ["set confirm off", "set pagination off", "set remotetimeout 30", "set width 0",
              f"target remote 127.0.0.1:{line.port}", *commands]
    command = ["gdb", "-nx", "-batch"] + [word for c in script for word in ("-ex", c)]
    if program:
        command.append(os.path.join(BUILD, program))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        text = b""
        try:
            if interrupt:
                text = run.stdout.readline()  # it is connected
                interrupt()
                run.send_signal(signal.SIGINT)
            text += run.communicate(timeout=GDB_SECONDS)[0]
        except subprocess.TimeoutExpired as error:
            run.kill()
            raise EmulatorError(f"gdb did not end within {GDB_SECONDS} s: {error.stdout}") from error
    return text.decode("latin-1")


def symbols(program):
    """Addresses by name."""
    text = subprocess.run(["nm", os.path.join(BUILD, program)], stdout=subprocess.PIPE, check=True).stdout.decode()
    return {name: int(address, 16) for address, _, name in re.findall(r"^(\w+) (\w) (\S+)$", text, re.MULTILINE)}


GUESTS = ("debug", "exceptions")
INI = "".join(vm(name, kernel=rf"\guests\{name}", memory="16M") for name in GUESTS) + "gdb = wait\n" + \
    vm("spin", kernel=r"\guests\hostile", memory="16M", cmdline="spin") + \
    vm("real", kernel=r"\guests\real", memory="16M", boot="flat")
# MOV AX, 1234h; PUSHF; POP BX; JMP 0700h:0C10h, where CPUID and JMP to itself are.
REAL = bytes.fromhex("b83412 9c 5b ea100c0007").ljust(16, b"\x90") + bytes.fromhex("0fa2 ebfe")
REAL_STEPS = (0x7c00, 0x7c03, 0x7c04, 0x7c05, 0x7c10, 0x7c12, 0x7c12)
FILES = {f"guests/{name}": f"build/guests/{name}.bin" for name in (*GUESTS, "hostile")} | {"guests/real": lambda: REAL}
# Where single steps from the label step_cpuid must lead, whatever the instructions do to the trap flag.
STEPS = ("step_cpuid", "step_in", None, "step_popf", "step_int3", "stub_3")


def places(text):
    """What `output $pc` lines of the script printed."""
    return [int(address, 16) for address in re.findall(r"^pc (0x[0-9a-f]+)$", text, re.MULTILINE)]


PRINT_PC = r'printf "pc %#lx\n", $pc'


def check_steps(run, line, at):
    text = gdb(line, ["break step_cpuid", "continue", PRINT_PC, *["stepi", PRINT_PC] * (len(STEPS) - 1),
                      "delete", "break step_int", "continue", "stepi", PRINT_PC, "delete",
                      "hbreak step_rep", "continue", "stepi", PRINT_PC, r'printf "rcx %ld\n", $rcx', "detach"],
               "guests/debug.elf")
    seen = places(text)
    run.check("single steps go over exits, POPF and the guest's INT3",
              len(seen) == len(STEPS) + 2 and all(at[name] == pc for name, pc in zip(STEPS, seen) if name), text)
    run.check("a step over INT n ends in its handler", len(seen) > 1 and seen[-2] == at["stub_64"], text)
    run.check("a step over REP does one round", seen and seen[-1] == at["step_rep"] and "rcx 2\n" in text, text)


def check_data(run, line):
    """Watchpoints, memory, registers; GDB comes and goes with the guest stopped in between."""
    text = gdb(line, ["break called", "continue", "print value", "watch watched", "continue", "print watched",
                      "set var quiet = 77", "print quiet", "x/2xb called", "detach"], "guests/debug.elf")
    run.check("a breakpoint shows the argument", re.search(r"Breakpoint 1, called \(value=.*=?1\)", text), text)
    run.check("a watchpoint shows old and new value", "Old value = 0\nNew value = 2\n" in text, text)
    run.check("memory can be written", "= 77" in text, text)
    run.check("a breakpoint does not show in memory", "0xcc" not in text, text)


def check_end(run, line, name):
    text = gdb(line, ["hbreak guest_finish", "continue", "backtrace 1", "delete", "continue"], f"guests/{name}.elf")
    run.check(f"GDB sees {name}'s end", "exited normally" in text, text)
    log = run.command("log " + name)
    run.check(f"{name} saw nothing of the debugger", GUEST_OK in log, log)


def check_real_mode(run, line):
    text = gdb(line, [PRINT_PC, *["stepi", PRINT_PC] * (len(REAL_STEPS) - 1), r'printf "bx %#x\n", $rbx & 0x100',
                      "kill"])
    run.check("in real mode the PC is linear, and steps go over a far jump and CPUID",
              places(text) == list(REAL_STEPS), text)
    run.check("PUSHF shows no trap flag in real mode", "bx 0\n" in text, text)


def check_interrupt(run, line):
    """A guest that never exits by itself, and has its interrupts off."""
    text = gdb(line, ["continue", PRINT_PC, "detach"], interrupt=lambda: time.sleep(INTERRUPT_SECONDS))
    run.check("Ctrl-C stops a spinning guest", "SIGINT" in text and len(places(text)) == 1, text)


@scenario("gdb", Machine("", emulator="bochs", model="tigerlake", cpus=2, second_serial=True), Image(INI, FILES))
def gdb_guests(run):
    at = symbols("guests/debug.elf")
    run.boot()
    with Line(run.emulator.second) as line:
        run.check("gdb says that it is on", "VM exceptions, port 2F8h" in run.command("gdb"))
        run.command("gdb debug")
        run.command("start debug")
        run.check("the VM waits for GDB", re.search(r"debug\s+paused", run.wait_for("list", r"debug\s+paused")))
        check_steps(run, line, at)
        # The VM went on by then: what comes too late for it is seen at the next start.
        run.settle()
        run.command("start debug")
        run.settle()
        check_data(run, line)
        run.settle()
        run.command("gdb exceptions")
        run.command("start exceptions")
        run.settle()
        check_end(run, line, "exceptions")
        run.settle()
        run.command("gdb real")
        run.command("start real")
        check_real_mode(run, line)
        run.settle()
        run.check("kill ends the VM", re.search(r"real\s+stopped", run.command("list")))
        run.command("start spin")
        run.command("gdb spin")
        check_interrupt(run, line)
        run.check("a VM goes on after detach", re.search(r"spin\s+running", run.command("list")))
        run.command("gdb exceptions")
        run.check("a VM under GDB cannot be destroyed", "gdb off first" in run.command("destroy exceptions"))
        run.check("gdb off ends it", "gdb: off" in run.command("gdb off"))


LINUX = vm("linux", cpus=2, memory="192M", kernel=r"\guests\vmlinuz", initrd=r"\guests\initrd.gz",
           cmdline=LINUX_CMDLINE + " quiet", gdb="wait")
# From the IDT's entry of the local APIC timer's vector, as Linux numbers it: where its code is.
TIMER_HANDLER = ["set $gate = $idt_base + 16 * 0xec",
                 "set $handler = *(unsigned short *)$gate + ((long)*(unsigned short *)($gate + 6) << 16) + "
                 "((long)*(unsigned int *)($gate + 8) << 32)"]


@scenario("gdb-linux", Machine("", emulator="bochs", model="corei7_skylake_x", cpus=2, second_serial=True),
          Image(LINUX, LINUX_FILES))
def gdb_linux(run):
    """Under GDB from its first instruction on, with all its CPUs' start-up."""
    def boot_linux():
        run.expect(r"plinth-guest: init reached", LINUX_SECONDS)
        run.expect(GUEST_PROMPT, LINUX_SECONDS)

    run.boot()
    run.type("start linux -c\r")
    with Line(run.emulator.second) as line:
        text = gdb(line, ["stepi", "continue", "info threads", *TIMER_HANDLER, "hbreak *$handler", "continue", PRINT_PC,
                          r'printf "handler %#lx\n", $handler', "stepi", "stepi", PRINT_PC, "delete",
                          "break *$handler", "continue", PRINT_PC, "detach"], interrupt=boot_linux)
    handler = re.search(r"^handler (0x[0-9a-f]+)$", text, re.MULTILINE)
    seen = places(text)
    run.check("Ctrl-C stops Linux", "SIGINT" in text, text)
    run.check("each vCPU is a thread", len(re.findall(r"Thread \d+ \(vCPU", text)) >= 2, text)
    run.check("hardware and software breakpoints stop the kernel's timer interrupt",
              handler and len(seen) == 3 and seen[0] == seen[2] == int(handler.group(1), 16), text)
    run.check("steps lead on from there", len(seen) == 3 and seen[1] != seen[0], text)
    run.check("Linux goes on as if nothing had been", "42" in run.guest_command("echo $((6 * 7))"))
    run.power_off_linux()
