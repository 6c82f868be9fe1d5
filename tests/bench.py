#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints one table: what an exit costs in Plinth, beside KVM and Xen on the same emulator, and Linux and UEFI firmware
against bare.

Everything is counted in instructions (a TSC tick of Bochs). The bare runs are the same kernel and initramfs, started by
GRUB from a legacy BIOS, and the same firmware, on the same CPU model with the same memory. The exit status is 1 if a
limit is missed.
"""

import concurrent.futures
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
sys.path.insert(0, os.path.join(ROOT, "tests", "emulated"))

import exit_costs  # noqa: E402
import peers  # noqa: E402
import scenario  # noqa: E402
import scheduling  # noqa: E402
from emulator import Emulator  # noqa: E402

BARE_SECONDS = 600
BARE_MEMORY = 256  # MiB, as the guest has
# The 64-bit entry: GRUB puts the kernel to its preferred address, 16 MiB.
ENTRY_ADDRESS = 0x1000200
# Bochs reads MSR 1A0h as 0, on which this kernel picks a string routine that the CPU does not have.
BARE_CMDLINE = exit_costs.BENCH_CMDLINE + " clearcpuid=580"
LIMITS = {**exit_costs.LIMITS, **exit_costs.IPI_LIMITS}
BOOT_LIMIT = 1.05
LOOP_LIMIT = 1.02

FIRMWARE = "/usr/share/ovmf/OVMF.fd"
FIRMWARE_DISK = os.path.join(ROOT, "build/guests/efi-bench.img")
FIRMWARE_MEMORY = 128  # MiB
FIRMWARE_TICK = rb"hello: tsc (\d+)\r"
FIRMWARE_LIMIT = 1.10
FIRMWARE_INI = f"""\
[vm uefi]
memory = {FIRMWARE_MEMORY}M
firmware = \\guests\\OVMF.fd
disk = \\guests\\disk
"""

GRUB_CONFIG = """set timeout=0
menuentry bare {
    linux /vmlinuz %s
    initrd /initrd.gz
}
"""


def make_iso(folder):
    tree = os.path.join(folder, "tree")
    os.makedirs(os.path.join(tree, "boot/grub"))
    for name, source in (("vmlinuz", "vmlinuz"), ("initrd.gz", "initrd-bench.gz")):
        os.link(os.path.join(ROOT, "build/guests", source), os.path.join(tree, name))
    with open(os.path.join(tree, "boot/grub/grub.cfg"), "w", encoding="ascii") as file:
        file.write(GRUB_CONFIG % BARE_CMDLINE)
    iso = os.path.join(folder, "bare.iso")
    subprocess.run(["grub-mkrescue", "-o", iso, tree], check=True, capture_output=True)
    return iso


def bare_configuration(folder, memory, rom, drive, boot):
    return "\n".join([
        "plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1, gameport=0",
        "config_interface: textconfig",
        'display_library: rfb, options="timeout=0"',
        f"memory: guest={memory}, host={memory}",
        f"romimage: file={rom}",
        "vgaromimage: file=/usr/share/vgabios/vgabios.bin",
        f"cpu: model={exit_costs.MODEL}, count=1, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1",
        "pci: enabled=1, chipset=i440fx",
        "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
        f"ata0-master: {drive}",
        f"boot: {boot}",
        f"com1: enabled=1, mode=file, dev={folder}/serial",
        f"log: {folder}/bochs.log",
        "panic: action=fatal", "error: action=ignore", "info: action=ignore", "debug: action=ignore",
        "clock: sync=none", ""])


def bochs_start(folder, configuration, commands):
    with open(folder + "/bochsrc", "w", encoding="ascii") as file:
        file.write(configuration)
    with open(folder + "/commands", "w", encoding="ascii") as file:
        file.write(commands)
    return subprocess.Popen(
        ["timeout", str(BARE_SECONDS), "bochs-bin", "-q", "-f", folder + "/bochsrc", "-rc", folder + "/commands"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def run_bare():
    """{figure: ticks} of the kernel on the emulator itself; "entry" is the tick of its 64-bit entry."""
    with tempfile.TemporaryDirectory(prefix="plinth-bare-", dir=os.path.join(ROOT, "build")) as folder:
        drive = f"type=cdrom, path={make_iso(folder)}, status=inserted"
        configuration = bare_configuration(folder, BARE_MEMORY, "/usr/share/bochs/BIOS-bochs-latest", drive, "cdrom")
        # The debugger stops at the entry, says the time, and goes on.
        result = bochs_start(folder, configuration, f"pb 0x{ENTRY_ADDRESS:x}\nc\nd 1\nc\n").communicate()
        with open(folder + "/serial", "rb") as file:
            figures = exit_costs.linux_figures(file.read())
    entry = re.search(rb"Breakpoint.*?\n.*?t=(\d+)", result[0], re.S)
    if not entry or "init-entry-tsc" not in figures:
        sys.exit(f"bench: the bare run gave no figures: {result[0][-500:]!r} {figures}")
    figures["entry"] = int(entry.group(1))
    return figures


def run_bare_firmware():
    """The tick at which the firmware's shell has started the application, on the emulator itself."""
    with tempfile.TemporaryDirectory(prefix="plinth-bare-", dir=os.path.join(ROOT, "build")) as folder:
        shutil.copy(FIRMWARE, folder + "/rom")  # Bochs wants to lock it
        shutil.copy(FIRMWARE_DISK, folder + "/disk")
        drive = f"type=disk, path={folder}/disk, mode=flat"
        bochs = bochs_start(folder, bare_configuration(folder, FIRMWARE_MEMORY, folder + "/rom", drive, "disk"), "c\n")
        tick = None
        while not tick and bochs.poll() is None:
            time.sleep(1)
            if os.path.exists(folder + "/serial"):
                with open(folder + "/serial", "rb") as file:
                    tick = re.search(FIRMWARE_TICK, file.read())
        bochs.terminate()  # the time-out, which ends Bochs with it
        output = bochs.communicate()[0]
    if not tick:
        sys.exit(f"bench: the bare firmware started no application: {output[-500:]!r}")
    return int(tick.group(1))


def run_firmware():
    """The same in a VM."""
    path = scenario.build_image("bench-firmware", scenario.Image(FIRMWARE_INI, {
        "guests/OVMF.fd": FIRMWARE, "guests/disk": FIRMWARE_DISK}))
    with Emulator(dataclasses.replace(exit_costs.machine(), image=path)) as emulator:
        run = scenario.Run("bench-firmware", emulator)
        run.boot()
        run.type("start uefi -c\r")
        return int(run.expect(FIRMWARE_TICK.decode(), BARE_SECONDS).group(1))


def run_plinth():
    """(exits, exits where the hardware is a part of the local APIC, Linux figures)"""
    path = scenario.build_image("bench", exit_costs.IMAGE)
    machine = exit_costs.machine()
    machine.image = path
    with Emulator(machine) as emulator:
        run = scenario.Run("bench", emulator)
        run.boot()
        return (exit_costs.measure(run, *exit_costs.GUESTS), exit_costs.measure(run, "benchapic"),
                exit_costs.measure_linux(run))


def run_two_cpus():
    """What IPIs between two host CPUs cost: (software APICs, hardware)"""
    path = scenario.build_image("bench-ipi", scheduling.IPI_IMAGE)
    with Emulator(dataclasses.replace(scheduling.IPI_MACHINE, image=path)) as emulator:
        run = scenario.Run("bench-ipi", emulator)
        run.boot()
        return exit_costs.measure(run, "cost"), exit_costs.measure(run, "cost-hardware")


def cell(value):
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def row(name, value, limit, others):
    missed = limit is not None and (value is None or value > limit)
    mark = "missed" if missed else ""
    columns = [cell(value), cell(limit)] + [cell(o) for o in others]
    print(f"{name:32}" + "".join(f"{c:>12}" for c in columns) + f"  {mark}")
    return not missed


def exit_rows(exits):
    for name, others in peers.EXITS.items():
        median = exits.get(name, (None,))[0]
        yield row(name, median, LIMITS.get(name), others)


def hardware_rows(exits):
    for name, limit in {**exit_costs.HARDWARE_LIMITS, **exit_costs.IPI_LIMITS}.items():
        yield row(f"{name}, hardware", exits.get(name, (None,))[0], limit, peers.EXITS.get(name, (None, None, None)))


def linux_rows(ours, bare):
    boot = ours["init-entry-tsc"] / (bare["init-entry-tsc"] - bare["entry"])
    yield row("Linux: entry to /init, ratio", boot, BOOT_LIMIT, peers.LINUX_RATIOS["boot"])
    yield row("Linux: pure loop, ratio", ours["loop-5m"] / bare["loop-5m"], LOOP_LIMIT,
              peers.LINUX_RATIOS["loop"])
    for name in sorted(set(ours) & set(bare) - {"init-entry-tsc", "loop-5m"}):
        yield row(f"Linux: {name}, ratio", ours[name] / bare[name], None, (None, None, None))
    print(f"\nLinux, instructions: bare {bare['init-entry-tsc'] - bare['entry']}, "
          f"in Plinth {ours['init-entry-tsc']}")


def main():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        bare_future, our_future = pool.submit(run_bare), pool.submit(run_plinth)
        bare, (exits, hardware, ours) = bare_future.result(), our_future.result()
        bare_future, our_future = pool.submit(run_bare_firmware), pool.submit(run_firmware)
        firmware = our_future.result() / bare_future.result()
    for figures, more in zip((exits, hardware), run_two_cpus()):
        figures.update(more)
    print(f"Instructions, median of 1001, on Bochs {exit_costs.MODEL} with one CPU; ipi-*: "
          f"{scheduling.IPI_MACHINE.model} with two; hardware: it is a part of the local APIC\n")
    print(f"{'operation':32}" + "".join(
        f"{h:>12}" for h in ("Plinth", "limit", "KVM off", "KVM default", "Xen")))
    verdicts = list(exit_rows(exits)) + list(hardware_rows(hardware))
    verdicts.append(row("OVMF: to its shell, ratio", firmware, FIRMWARE_LIMIT, (None, None, None)))
    verdicts += linux_rows(ours, bare)
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
