# SPDX-License-Identifier: GPL-2.0-only
"""x86-64 as `pyvmm.arch.protocols.Architecture` wants it; guests start in long mode."""

from collections.abc import Mapping

from pyvmm.arch.protocols import Fd
from pyvmm.arch.translation import MemoryType
from pyvmm.arch.x86_64.modes import enter_long as enter
from pyvmm.arch.x86_64.paging import translation as translate
from pyvmm.arch.x86_64.registers import read, write
from pyvmm.uapi.kvm_x86_64 import (
    KVM_GET_CPUID2,
    KVM_GET_SUPPORTED_CPUID,
    KVM_SET_CPUID2,
    kvm_cpuid2,
)

__all__ = [
    "CONSOLE",
    "CONSOLE_IS_PORT",
    "MEMORY_TYPES",
    "NAME",
    "enter",
    "features",
    "prepare",
    "read",
    "translate",
    "write",
]

NAME = "x86_64"
CONSOLE = 0x3F8  # the first serial port of a PC
CONSOLE_IS_PORT = True
MEMORY_TYPES: Mapping[MemoryType, str] = {
    MemoryType.DEVICE: "uc",
    MemoryType.NON_CACHEABLE: "wc",
    MemoryType.WRITE_BACK: "wb",
}

_MAX_ENTRIES = 256  # KVM_MAX_CPUID_ENTRIES in the kernel


def prepare(system: Fd, vm: Fd, vcpu: Fd, index: int = 0) -> None:
    """Give the vCPU every CPUID feature that KVM can offer.

    Without CPUID a vCPU has 36 bits of physical address, and KVM takes the rest of a page table
    entry for reserved. Secondary vCPUs wait for an INIT that only an in-kernel APIC can send.
    A vCPU that has CPUID keeps it: one that has run may not be given any other.
    """
    cpuid = kvm_cpuid2.with_room(_MAX_ENTRIES)(nent=_MAX_ENTRIES)
    vcpu.ioctl(KVM_GET_CPUID2, cpuid)
    if cpuid.nent:
        return
    cpuid.nent = _MAX_ENTRIES
    system.ioctl(KVM_GET_SUPPORTED_CPUID, cpuid)
    vcpu.ioctl(KVM_SET_CPUID2, cpuid)


def features(vcpu: Fd) -> None:
    """None: here a PFNMAP memslot registers whatever its memory type."""
