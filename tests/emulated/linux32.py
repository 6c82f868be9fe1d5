# SPDX-License-Identifier: MIT
"""Debian's 32-bit kernels as guests: with PAE on two CPUs, and without."""

from emulator import Machine
from linux import warnings_inside
from scenario import LINUX_CMDLINE, Image, scenario, vm

# The kernel's package, its CPUs, and what the kernel warns of when it can use no more of the CPU than this.
KERNELS = (("686-pae", 2, ("RETBleed", "32-bit PTI on a 64-bit", "Your performance will", "switch to a 64-bit", "**")),
           ("686", 1, ("RETBleed", "L1TF: Kernel not compiled for PAE")))
INI = "".join(vm(name, kernel=rf"\guests\vmlinuz-{name}", initrd=r"\guests\initrd-i386.gz", memory="256M",
                 cmdline=LINUX_CMDLINE, cpus=cpus) for name, cpus, _ in KERNELS)
FILES = {f"guests/{name}": f"build/guests/{name}" for name in
         (*(f"vmlinuz-{name}" for name, _, _ in KERNELS), "initrd-i386.gz")}


@scenario("linux-32bit", Machine("", emulator="bochs", model="corei7_skylake_x"), Image(INI, FILES))
def linux_32bit(run):
    run.boot()
    for name, cpus, expected in KERNELS:
        run.start_linux(name)
        system = run.guest_command("uname -rm")
        run.check(f"{name} runs", system.split()[-2].endswith(f"-{name}") and system.split()[-1] == "i686", system)
        running = run.guest_command("nproc")
        run.check(f"{name}: all CPUs run", running.split()[-1] == str(cpus), running)
        left = warnings_inside(run, expected)
        run.check(f"{name}: its log has no warning", not left, "\n".join(left))
        run.power_off_linux()
