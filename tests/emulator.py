# SPDX-License-Identifier: MIT
"""A machine to run Plinth in: Bochs or QEMU, with its serial line as a socket.

    with Emulator(Machine(image="build/plinth.img", cpus=2)) as machine:
        machine.expect("plinth>", timeout=120)
        machine.send("list\\n")

Everything a run leaves lies in a temporary folder of its own; the image itself is never written. The emulator is
ended by its process id. Bochs' serial line is its 16550 on a socket, so it is as slow as the emulated machine.
"""

import ctypes
import dataclasses
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

OVMF = "/usr/share/ovmf/OVMF.fd"
VGA_BIOS = "/usr/share/vgabios/vgabios.bin"
BOCHS_MODEL = "corei7_skylake_x"
CONNECT_SECONDS = 30
STOP_SECONDS = 5
DEBUG_EXIT_PORT = 0xF4

# <linux/kvm.h>
KVM_CREATE_VM = 0xAE01
KVM_GET_SUPPORTED_CPUID = 0xC008AE05
KVM_CPUID_ENTRIES = 256
KVM_CPUID_HEADER = struct.Struct("=II")
KVM_CPUID_ENTRY = struct.Struct("=10I")  # function, index, flags, eax, ebx, ecx, edx, padding
CPUID_FEATURES = 1
CPUID_ECX_VMX = 1 << 5


# <sys/prctl.h>
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def _end_with_parent():
    """In the child: no emulator outlives whoever started it, however that ended."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class EmulatorError(Exception):
    """What was waited for did not come; the message says what did."""


@dataclasses.dataclass
class Machine:
    image: str
    emulator: str = "auto"  # auto, kvm, bochs, qemu
    cpus: int = 1
    memory: int = 1024  # MiB
    model: str = ""  # empty: the emulator's default
    usb: bool = False  # the image is a USB stick, not a disk
    debug_exit: bool = False  # QEMU: the exit port that ends the run with a code
    ips: int = 50_000_000  # Bochs: instructions a second of emulated time
    second_serial: bool = False  # a socket, too: Emulator.second
    extra: tuple = ()  # QEMU: arguments; Bochs: configuration lines


def _kvm_supports_vmx(kvm):
    """Whether CPUID of a virtual machine here would show VMX."""
    buffer = bytearray(KVM_CPUID_HEADER.size + KVM_CPUID_ENTRIES * KVM_CPUID_ENTRY.size)
    KVM_CPUID_HEADER.pack_into(buffer, 0, KVM_CPUID_ENTRIES, 0)
    fcntl.ioctl(kvm, KVM_GET_SUPPORTED_CPUID, buffer)
    count, _ = KVM_CPUID_HEADER.unpack_from(buffer)
    entries = (KVM_CPUID_ENTRY.unpack_from(buffer, KVM_CPUID_HEADER.size + i * KVM_CPUID_ENTRY.size)
               for i in range(count))
    return any(entry[0] == CPUID_FEATURES and entry[5] & CPUID_ECX_VMX for entry in entries)


def kvm_offers_vmx():
    """True if QEMU with KVM can give its machine VT-x here."""
    try:
        with open("/sys/module/kvm_intel/parameters/nested", encoding="ascii") as file:
            if file.read().strip() not in ("Y", "1"):
                return False
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.close(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
            return _kvm_supports_vmx(kvm)
        finally:
            os.close(kvm)
    except OSError:
        return False


def choose(emulator):
    if emulator == "auto":
        return "kvm" if kvm_offers_vmx() else "bochs"
    if emulator not in ("kvm", "bochs", "qemu"):
        raise EmulatorError(f"no emulator is called '{emulator}': auto, kvm, bochs or qemu")
    return emulator


def _qemu_command(machine, kind, port, second):
    drive = "if=none,id=stick,format=raw,snapshot=on,file=" + machine.image.replace(",", ",,")
    accelerator = "kvm" if kind == "kvm" else "tcg"
    model = machine.model or ("host" if kind == "kvm" else "max")
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", accelerator, "-cpu", model,
               "-smp", str(machine.cpus), "-m", str(machine.memory), "-bios", OVMF,
               "-nodefaults", "-display", "none", "-vga", "std", "-monitor", "none",
               "-serial", f"tcp:127.0.0.1:{port}", "-drive", drive]
    if second:
        command += ["-serial", f"tcp:127.0.0.1:{second}"]
    if machine.usb:
        command += ["-device", "qemu-xhci", "-device", "usb-storage,drive=stick,bootindex=0"]
    else:
        command += ["-device", "ide-hd,drive=stick,bootindex=0"]
    if machine.debug_exit:
        command += ["-device", f"isa-debug-exit,iobase={DEBUG_EXIT_PORT},iosize=4"]
    return command + list(machine.extra)


def _bochs_configuration(machine, folder, port, second):
    """Lines of a bochsrc. The image is a copy: Bochs writes to it, and locks it."""
    image = os.path.join(folder, "disk.img")
    shutil.copyfile(machine.image, image)
    shutil.copyfile(OVMF, os.path.join(folder, "OVMF.fd"))
    if machine.usb:
        disk = ["pci: enabled=1, chipset=i440fx, slot1=usb_ehci",
                f"usb_ehci: enabled=1, port1=disk:{image}"]
    else:
        disk = ["pci: enabled=1, chipset=i440fx",
                "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
                f"ata0-master: type=disk, path={image}, mode=flat"]
    return disk + [
        "plugin_ctrl: unmapped=1, biosdev=0, speaker=0, extfpuirq=1, parallel=0, serial=1, gameport=0",
        "config_interface: textconfig",
        'display_library: rfb, options="timeout=0"',
        f"memory: guest={machine.memory}, host={machine.memory}",
        f"romimage: file={folder}/OVMF.fd",
        f"vgaromimage: file={VGA_BIOS}",
        f"cpu: model={machine.model or BOCHS_MODEL}, count={machine.cpus}, ips={machine.ips}, "
        "reset_on_triple_fault=0, ignore_bad_msrs=1",
        "boot: disk",
        f"com1: enabled=1, mode=socket-client, dev=localhost:{port}",
        f"log: {folder}/bochs.log",
        "panic: action=fatal",
        "error: action=ignore",
        "info: action=ignore",
        "debug: action=ignore",
        "port_e9_hack: enabled=1",
        "clock: sync=none",
        *([f"com2: enabled=1, mode=socket-client, dev=localhost:{second}"] if second else []),
        *machine.extra,
    ]


def _write_lines(path, lines):
    with open(path, "w", encoding="ascii") as file:
        file.write("".join(line + "\n" for line in lines))


def _bochs_command(machine, folder, port, second):
    _write_lines(folder + "/bochsrc", _bochs_configuration(machine, folder, port, second))
    # Debian's Bochs starts at its debugger's prompt.
    _write_lines(folder + "/commands", ["c"])
    return ["bochs-bin", "-q", "-f", folder + "/bochsrc", "-rc", folder + "/commands"]


class Emulator:
    """One running machine. `transcript` holds every byte that came from its serial line."""

    def __init__(self, machine):
        self.machine = machine
        self.kind = choose(machine.emulator)
        self.folder = tempfile.mkdtemp(prefix="plinth-")
        self.transcript = bytearray()
        self.serial = None
        self.second = None
        self.process = None
        self._seen = 0  # what expect() has consumed

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def description(self):
        names = {"kvm": "QEMU with KVM", "qemu": "QEMU without VT-x",
                 "bochs": f"Bochs ({self.machine.model or BOCHS_MODEL})"}
        return names[self.kind]

    def start(self):
        # The emulator connects to us: no port has to be guessed free for it.
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
            port = server.getsockname()[1]
            second = other.getsockname()[1] if self.machine.second_serial else None
            if self.kind == "bochs":
                command = _bochs_command(self.machine, self.folder, port, second)
            else:
                command = _qemu_command(self.machine, self.kind, port, second)
            with open(self.folder + "/output", "wb") as output:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                                stderr=output, start_new_session=True,
                                                preexec_fn=_end_with_parent)
            self.serial = self._accept(server)
            if second:
                self.second = self._accept(other)

    def _accept(self, server):
        server.settimeout(0.2)
        deadline = time.monotonic() + CONNECT_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                connection, _ = server.accept()
                connection.setblocking(True)
                return connection
            except TimeoutError:
                pass
        raise EmulatorError(f"{self.description} did not start:\n{self.complaint()}")

    def complaint(self, lines=8):
        """The last that the emulator itself said."""
        text = ""
        for name in ("output", "bochs.log"):
            try:
                with open(f"{self.folder}/{name}", encoding="latin-1") as file:
                    text += "".join(file.readlines()[-lines:])
            except FileNotFoundError:
                pass
        return text

    def read(self, timeout):
        """Some bytes from the serial line; None if none came in time; b"" at its end."""
        self.serial.settimeout(timeout)
        try:
            data = self.serial.recv(65536)
        except TimeoutError:
            return None
        except ConnectionError:
            data = b""
        self.transcript += data
        return data

    def send(self, text):
        self.serial.settimeout(None)
        self.serial.sendall(text.encode() if isinstance(text, str) else text)

    def expect(self, pattern, timeout):
        """Waits until the regular expression appears after the last match; returns the match."""
        expression = re.compile(pattern.encode() if isinstance(pattern, str) else pattern)
        deadline = time.monotonic() + timeout
        while True:
            match = expression.search(self.transcript, self._seen)
            if match:
                self._seen = match.end()
                return match
            left = deadline - time.monotonic()
            if left <= 0:
                raise EmulatorError(f"no '{pattern}' within {timeout} s; last: {self.tail()}")
            if self.read(left) == b"":
                raise EmulatorError(f"the emulator ended before '{pattern}'; last: {self.tail()}")

    def tail(self, size=400):
        return self.transcript[-size:].decode("latin-1").strip()

    def wait(self, timeout):
        """The emulator's exit status once it ended by itself, reading on meanwhile."""
        deadline = time.monotonic() + timeout
        open_line = True
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise EmulatorError(f"the emulator did not end within {timeout} s")
            if open_line:
                open_line = self.read(0.2) != b""
            else:
                time.sleep(0.1)
        while open_line and self.read(0.2):
            pass
        return self.process.returncode

    def stop(self):
        """Ends the emulator, if it still runs, and removes its folder."""
        if self.process and self.process.poll() is None:
            self._end_process()
        for line in (self.serial, self.second):
            if line:
                line.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_process(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
