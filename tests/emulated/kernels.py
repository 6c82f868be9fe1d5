# SPDX-License-Identifier: MIT
"""Kernels that nobody here wrote, as Debian ships them: memtest86+ by the Linux boot protocol in 64-bit and 32-bit mode,
and Xen by multiboot 2 with a Linux under it."""

import re

from emulator import Machine
from scenario import LINUX_FILES, Image, clean, scenario

MEMTEST_INI = """
[vm memtest]
memory  = 5M
kernel  = \\guests\\memtest
cmdline = console=ttyS0,115200 nosmp nobench nosm keyboard=legacy
[vm memtest32]
memory  = 5M
kernel  = \\guests\\memtest32
cmdline = console=ttyS0,115200 nosmp nobench nosm keyboard=legacy nopause
"""
MEMTEST_FILES = {"guests/memtest": "build/guests/memtest", "guests/memtest32": "build/guests/memtest32"}
PASS_SECONDS = 300


def choose_short_tests(run):
    """By the menus of memtest86+, over the serial line. The later tests take minutes."""
    for wanted, keys in (("<F1> Configuration", "1"), ("Test selection", "1"), ("Clear selection", "1"),
                         ("Exit menu", "4"), ("first test #", "0\r"), ("last test #", "5\r"), ("Exit menu", "0"),
                         ("Exit menu", "0")):
        run.expect(wanted)
        run.type(keys)


@scenario("memtest", Machine("", emulator="bochs", model="corei7_skylake_x"), Image(MEMTEST_INI, MEMTEST_FILES))
def memtest(run):
    """It cannot do with less than 4 MiB and itself."""
    run.boot()
    run.type("start memtest32 -c\r")
    run.expect(r"Time: +0:00:0[2-9]", PASS_SECONDS)
    run.leave_guest()
    run.command("stop memtest32")
    run.type("start memtest -c\r")
    choose_short_tests(run)
    seen = clean(run.expect(r"(?s:.*?)Pass: +1\b", PASS_SECONDS).group(0))
    run.check("its tests ran", all(part in seen for part in ("#0 ", "#4 ", "#5 ", "of 4.62MB")), seen[-2000:])
    run.check("no errors", not re.search(r"Errors: +[1-9]", seen), seen[-2000:])


XEN_INI = """
[vm xen]
memory  = 256M
kernel  = \\guests\\xen
module  = \\guests\\vmlinuz console=hvc0 earlyprintk=xen
module  = \\guests\\initrd.gz
cmdline = console=com1 com1=115200,8n1 loglvl=all dom0_mem=160M noreboot
"""
XEN_SECONDS = 600


@scenario("xen", Machine("", emulator="bochs", model="corei7_skylake_x"),
          Image(XEN_INI, {"guests/xen": "build/guests/xen", **LINUX_FILES}))
def xen(run):
    run.boot()
    run.type("start xen -c\r")
    banner = clean(run.expect(r"(?s:.*)\*\*\* Building a PV Dom0 \*\*\*", XEN_SECONDS).group(0))
    for text in ("Bootloader: Plinth", "ACPI: RSDP 000E0000", "Using ACPI (MADT) for SMP", "Brought up 1 CPUs"):
        run.check(f"Xen says {text}", text in banner, banner)
    run.check("the Linux under it sees Xen", run.expect("Hypervisor detected: Xen PV", XEN_SECONDS))
    run.check("its page tables are Xen's", run.expect("Booting kernel on Xen", XEN_SECONDS))
