# SPDX-License-Identifier: MIT
"""Debian's kernel with its AHCI driver on two CPUs reads and writes the disks of its VM, and mounts the CD-ROM."""

import hashlib
import random
import re
import struct

from emulator import Machine
from scenario import LINUX_CMDLINE, Image, scenario, vm

LINUX_SECONDS = 900  # the general kernel
DISK_MIB = 4
DISK_SEED = 1
CD_BLOCK = 2048
CD_FILE = b"what is on the disc\n" * 5000
INI = vm("disks", kernel=r"\guests\vmlinuz", initrd=r"\guests\initrd.gz", memory="256M", cpus=2,
         cmdline=LINUX_CMDLINE + " quiet", disk=r"\disks\one.img", disk2=r"\disks\two.img", cdrom=r"\disks\cd.iso")


def disk(seed):
    return random.Random(seed).randbytes(DISK_MIB << 20)


def both(form, value):
    """A number as ISO 9660 has it: little endian, then big endian."""
    return struct.pack("<" + form, value) + struct.pack(">" + form, value)


def directory_record(name, block, size, flags):
    body = both("I", block) + both("I", size) + bytes(7) + bytes([flags, 0, 0]) + both("H", 1) + bytes([len(name)]) + name
    body += bytes((len(body)) % 2)
    return bytes([len(body) + 2, 0]) + body


def iso(name, content):
    """A disc with one file (ECMA-119): 16 empty blocks, volume descriptors, path tables, root directory, file."""
    path_le, path_be, root, data = 18, 19, 20, 21
    root_record = directory_record(b"\0", root, CD_BLOCK, 2)
    total = data + -(-len(content) // CD_BLOCK)
    primary = (b"\1CD001\1\0" + b" " * 32 + b"PLINTH".ljust(32) + bytes(8) + both("I", total) + bytes(32)
               + both("H", 1) + both("H", 1) + both("H", CD_BLOCK) + both("I", 10) + struct.pack("<II", path_le, 0)
               + struct.pack(">II", path_be, 0) + root_record).ljust(881, b" ") + b"\1"
    listing = root_record + directory_record(b"\1", root, CD_BLOCK, 2) \
        + directory_record(name, data, len(content), 0)
    blocks = [primary, b"\xffCD001\1", struct.pack("<BBIHBx", 1, 0, root, 1, 0), struct.pack(">BBIHBx", 1, 0, root, 1, 0),
              listing, content]
    return bytes(16 * CD_BLOCK) + b"".join(block + bytes(-len(block) % CD_BLOCK) for block in blocks)


def md5(data):
    return hashlib.md5(data).hexdigest()


def check_reading(run):
    sums = run.guest_command("md5sum /dev/sda /dev/sdb", timeout=LINUX_SECONDS)
    run.check("the first disk reads as its image", md5(disk(DISK_SEED)) in sums, sums)
    run.check("the second disk reads as its image", md5(disk(DISK_SEED + 1)) in sums, sums)
    run.guest_command("mount -t iso9660 -o ro /dev/sr0 /mnt")
    text = run.guest_command("ls -l /mnt; md5sum /mnt/hello.txt")
    run.check("the file on the CD-ROM reads as its image", md5(CD_FILE) in text, text)
    text = run.guest_command("dd if=/dev/zero of=/dev/sr0 bs=2k count=1 2>&1; echo")
    run.check("the CD-ROM cannot be written", "error" in text or "rror" in text or "Read-only" in text, text)


def check_writing(run):
    run.guest_command("dd if=/dev/sdb of=/dev/sda bs=64k seek=16 count=32 conv=fsync,notrunc 2>&1")
    run.guest_command("echo 3 > /proc/sys/vm/drop_caches")
    one, two = disk(DISK_SEED), disk(DISK_SEED + 1)
    wanted = md5(one[:1 << 20] + two[:2 << 20] + one[3 << 20:])
    text = run.guest_command("md5sum /dev/sda", timeout=LINUX_SECONDS)
    run.check("what was written reads back, and its surroundings as before", wanted in text, text)
    return wanted


def check_load(run, content):
    """Four writers at once, on two CPUs, each with a part of the disk, while the CD-ROM is read."""
    run.guest_command("echo 3 > /proc/sys/vm/drop_caches")
    text = run.guest_command(
        "for i in 0 1 2 3; do dd if=/dev/sda of=/dev/sdb bs=16k skip=$((i*64)) seek=$((i*64)) count=64 conv=fsync,notrunc "
        "2>&1 & done; cat /mnt/hello.txt | md5sum; wait; echo CPUs $(grep -c ^processor /proc/cpuinfo)", timeout=LINUX_SECONDS)
    run.check("the disc reads well under load", md5(CD_FILE) in text, text)
    run.check("with two CPUs", "CPUs 2" in text, text)
    run.guest_command("echo 3 > /proc/sys/vm/drop_caches")
    text = run.guest_command("md5sum /dev/sda /dev/sdb", timeout=LINUX_SECONDS)
    run.check("what was written side by side reads back", text.count(content) == 2, text)


def insert_modules(run):
    run.guest_command("depmod; modprobe ahci; modprobe sd_mod; modprobe sr_mod; modprobe isofs", timeout=LINUX_SECONDS)
    run.guest_command("for i in 1 2 3 4 5 6 7 8 9; do [ -b /dev/sdb -a -b /dev/sr0 ] || sleep 1; done",
                      timeout=LINUX_SECONDS)


def check_log(run):
    log = run.guest_command("dmesg | grep -iE 'ata[0-9]|ahci|sr0|sda'")
    run.check("the link is up on three ports", log.count("SATA link up") == 3, log)
    run.check("commands are queued", "NCQ (depth 32)" in log, log)
    run.check("no command failed", not re.search(r"failed command|exception|error|timeout", log), log)
    interrupts = run.guest_command("grep ahci /proc/interrupts")
    run.check("interrupts are messages", "MSI" in interrupts, interrupts)


@scenario("disks-linux", Machine("", emulator="bochs", model="corei7_skylake_x"),
          Image(INI, {"guests/vmlinuz": "build/guests/vmlinuz-disks", "guests/initrd.gz": "build/guests/initrd-disks.gz",
                      "disks/one.img": lambda: disk(DISK_SEED), "disks/two.img": lambda: disk(DISK_SEED + 1),
                      "disks/cd.iso": lambda: iso(b"HELLO.TXT;1", CD_FILE)}))
def disks_linux(run):
    run.boot()
    run.start_linux("disks", LINUX_SECONDS)
    insert_modules(run)
    check_reading(run)
    check_load(run, check_writing(run))
    check_log(run)
    run.power_off_linux(LINUX_SECONDS)
