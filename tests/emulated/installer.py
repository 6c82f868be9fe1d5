# SPDX-License-Identifier: MIT
"""Debian's installer, kernel and initial RAM disk as its package has them, asks on the serial line for the language. It
wants 780 MiB to ask that at all. It takes 270 seconds of the VM's time, of 50 million instructions each: 110 to unpack
the kernel, 45 for the 137 MB of the RAM disk."""

from emulator import Machine
from scenario import LINUX_CMDLINE, Image, scenario, vm

START_LIMIT = 400  # seconds of the VM's time
SCREEN_LIMIT = 1200
INI = vm("installer", memory="896M", kernel=r"\guests\vmlinuz", initrd=r"\guests\initrd.gz", cmdline=LINUX_CMDLINE)
FILES = {"guests/vmlinuz": "build/guests/vmlinuz-installer", "guests/initrd.gz": "build/guests/initrd-installer.gz"}


@scenario("installer", Machine("", emulator="bochs", model="corei7_skylake_x", memory=1280), Image(INI, FILES))
def installer(run):
    run.boot()
    run.command("start installer", START_LIMIT)
    run.wait_for_log("installer", r"Starting system log daemon", START_LIMIT)
    run.wait_for_log("installer", r"Select a language(?s:.*)English(?s:.*)activates buttons", SCREEN_LIMIT)
    run.check("it asks for the language", True)
    log = run.command("log installer 200")
    run.check("none of its programs crashed", "segfault" not in log, log)
    run.command("stop installer")
    run.check("it is stopped", "running" not in run.command("list"))
