# SPDX-License-Identifier: GPL-2.0-only
"""One event of each kind, for tests that need no traced program."""

from pyvmm.trace.events import Event, Ioctl, Mapping, Process, Run

SLOT = Ioctl(
    *(0, 1, 1, 4, "vm1", "vm", "KVM_SET_USER_MEMORY_REGION", 0, 0),
    argument={"guest_phys_addr": 0x1000, "memory_size": 0x2000, "userspace_addr": 0x7F0000},
)
CAP = Ioctl(0, 1, 1, 3, "kvm", "system", "KVM_CHECK_EXTENSION", 1, 0)
MMIO = Run(0, 1, 1, 5, "vm1/vcpu0", "mmio", 0, payload={"gpa": 0x2FF8, "size": 8})
HLT = Run(0, 1, 1, 6, "vm1/vcpu1", "hlt", 0)
FLIP = Mapping(
    *(0, 1, 1, "munmap", 0x7F1000, 0x1000, "nothing"),
    slots=[{"vm": "vm1", "slot": 0, "gpa": 0x2000, "size": 0x1000}],
)
END = Process(0, 1, 1, "end", "status 0")
ALL: list[Event] = [SLOT, CAP, MMIO, HLT, FLIP, END]
