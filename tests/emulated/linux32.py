# SPDX-License-Identifier: MIT
"""Debian's 32-bit kernel with PAE as a guest, on two CPUs. That without PAE comes from a CD: see firmware.py."""

from emulator import Machine
from linux import warnings_inside
from scenario import LINUX_CMDLINE, Image, scenario, vm

# What the kernel warns of on any CPU like this one.
EXPECTED_WARNINGS = ("RETBleed", "**")
FILES = {f"guests/{name}": f"build/guests/{name}" for name in ("vmlinuz-686-pae", "initrd-i386.gz")}


@scenario("linux-32bit", Machine("", emulator="bochs", model="corei7_skylake_x"),
          Image(vm("pae", kernel=r"\guests\vmlinuz-686-pae", initrd=r"\guests\initrd-i386.gz", memory="256M", cpus=2,
                   cmdline=LINUX_CMDLINE), FILES))
def linux_32bit(run):
    run.boot()
    run.start_linux("pae")
    system = run.guest_command("uname -rm")
    run.check("it is the kernel for PAE", system.split()[-2].endswith("-686-pae"), system)
    run.check("it is a 32-bit one", system.split()[-1] == "i686", system)
    running = run.guest_command("nproc")
    run.check("both CPUs run", running.split()[-1] == "2", running)
    left = warnings_inside(run, EXPECTED_WARNINGS)
    run.check("its log has no warning", not left, "\n".join(left))
    run.power_off_linux()
