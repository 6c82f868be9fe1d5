# SPDX-License-Identifier: MIT
"""What KVM and Xen cost, measured on the same emulator as `make bench` uses: data, with its conditions.

KVM of Linux 6.1.192-2 (Debian's cloud kernel, kvm_intel) and Xen 4.17.7 (Debian, PVH guest) inside Bochs 2.7, model
corei7_haswell_4770, one CPU, ips=50000000, clock sync=none, legacy BIOS and GRUB. The guest runs 1000 times
{ rdtsc; operation; rdtsc } in 64-bit mode with identity paging; the figure is the median raw difference. An empty pair
gives 2. "off" is a host with mitigations=off, "default" one without that parameter.
"""

# operation: (KVM off, KVM default, Xen off); None: not measured.
EXITS = {
    "cpuid": (989, 1085, 895),
    "hypercall": (1027, 1123, 852),
    "rdmsr-trapped": (1102, 1198, 853),
    "rdmsr-x2apic-id": (1215, 1311, 4),  # Xen: APICv, no exit
    "wrmsr-x2apic-eoi": (None, None, None),
    "wrmsr-tsc-deadline": (655, 749, 836),
    "xsetbv": (974, 1070, None),
    "cr8-write": (None, None, None),
    "cr8-read": (None, None, None),
    "port-write": (1292, 1394, 1271),
    "port-read": (3126, 7421, None),  # KVM: the device is in user space
    "mmio-write": (5470, 9791, 14563),  # KVM: in user space
    "mmio-read": (None, None, None),
    "fault-backed": (2887, 3020, None),
    "fault-first-touch": (6228, 6361, None),
    "rep-movs-write": (None, None, None),
    "rep-movs-read": (None, None, None),
    "switch": (None, None, None),
    "ipi-halted-send": (None, None, None),
    "ipi-halted-handler": (None, None, None),
    "ipi-running-send": (None, None, None),
    "ipi-running-handler": (None, None, None),
    "self-ipi-hlt": (6787, 7124, 1352),  # Xen: APICv
    "timer-late-hlt": (6548, 10822, 7004),
    "timer-late-spin": (2190, 2297, 2775),
}

# Linux from its 64-bit entry to the first instruction of /init, and a loop of 5 million iterations, against bare.
LINUX_RATIOS = {"boot": (1.40, 1.64, 1.02), "loop": (1.14, 1.20, 1.22)}
