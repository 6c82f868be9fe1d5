# SPDX-License-Identifier: MIT
"""Two Linux guests, entered as the PVH kernels that Debian's kernel is as well, beside a guest that never gives a CPU
away of itself: three that want a CPU on two CPUs, from their start to their end."""

import re

from emulator import Machine
from many import FILES, attach_shell, spinner, top
from scenario import GUEST_PROMPT, LINUX_CMDLINE, LINUX_SECONDS, PROMPT, Image, scenario, vm

BOOT_LIMIT = 180  # seconds of the VM's time
PVH_LOADER = "176"  # /proc/sys/kernel/bootloader_type: the kernel's PVH code says that it was loaded by type Bh
GUESTS = {"one": 2, "two": 1}  # CPUs


def linux(name, cpus):
    return vm(name, cpus=cpus, memory="192M", kernel=r"\guests\vmlinux", initrd=r"\guests\initrd.gz",
              cmdline=LINUX_CMDLINE)


IMAGE = Image("".join(linux(*guest) for guest in GUESTS.items()) + spinner("spin"),
              {**FILES, "guests/vmlinux": "build/guests/vmlinux"})


def check_inside(run, name, cpus):
    """Leaves it busy on one CPU."""
    attach_shell(run, name)
    loader = run.guest_command("cat /proc/sys/kernel/bootloader_type")
    run.check(f"{name}: its kernel was entered by PVH", PVH_LOADER in loader.split(), loader)
    count = run.guest_command("nproc")
    run.check(f"{name}: it has {cpus} CPUs", str(cpus) in count.split(), count)
    tables = run.guest_command("dmesg | grep -c 'ACPI: .*PLINTH'")
    run.check(f"{name}: it found the ACPI tables", re.search(r"^[1-9]", tables, re.MULTILINE), tables)
    run.guest_command("while :; do :; done &")
    run.leave_guest()


def check_end(run, name):
    attach_shell(run, name)
    text = run.guest_command("echo $((6 * 7))")
    run.check(f"{name}: its shell answers while it is busy", "42" in text, text)
    run.type("kill %1; poweroff\r")
    run.check(f"{name}: it powers off", run.expect(f"VM {name}: powered off", LINUX_SECONDS))
    run.expect(PROMPT)


@scenario("linux-two-and-spinner", Machine("", emulator="bochs", model="corei7_skylake_x", cpus=2), IMAGE)
def linux_two_and_spinner(run):
    run.boot()
    for name in GUESTS:
        run.command("start " + name)
    for name in GUESTS:
        run.wait_for_log(name, GUEST_PROMPT, BOOT_LIMIT)
    run.command("start spin")
    for name, cpus in GUESTS.items():
        check_inside(run, name, cpus)
    text, used = top(run, 3)
    for name in ("spin", *GUESTS):
        run.check(f"{name} has a third of both CPUs", 31 <= used[name][1] <= 36, text)
    for name in GUESTS:
        check_end(run, name)
    text, used = top(run)
    run.check("the spinning guest has a CPU to itself", used["spin"][0] >= 95, text)
    run.command("stop spin")
    run.check("nothing runs", "running" not in run.command("list"))
