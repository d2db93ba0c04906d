# SPDX-License-Identifier: GPL-2.0-only
"""The x86-64 implementation of `pyvmm.arch.architecture.Architecture`: guests in long mode."""

from collections.abc import Hashable, Mapping

from pyvmm.arch.guest_access import Peek, PhysicalMemory, RebuiltAccess
from pyvmm.arch.page_tables import MemoryType
from pyvmm.arch.x86_64.long_mode import enter
from pyvmm.arch.x86_64.paging import build_page_tables
from pyvmm.arch.x86_64.registers import get_regs, read, write
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.system import System
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.kvm_x86_64 import (
    KVM_GET_CPUID2,
    KVM_GET_SUPPORTED_CPUID,
    KVM_SET_CPUID2,
    kvm_cpuid2,
)

__all__ = [
    "ABORT_CAPABILITY",
    "CONSOLE",
    "CONSOLE_IS_PORT",
    "MEMORY_TYPES",
    "NAME",
    "PC",
    "build_page_tables",
    "emulate",
    "enter",
    "features",
    "fingerprint",
    "inject_abort",
    "prepare",
    "read",
    "reconstruct",
    "write",
]

NAME = "x86_64"
PC = "rip"
ABORT_CAPABILITY: int | None = None
CONSOLE = 0x3F8  # the first serial port of a PC
CONSOLE_IS_PORT = True
MEMORY_TYPES: Mapping[MemoryType, str] = {
    MemoryType.DEVICE: "uc",
    MemoryType.NON_CACHEABLE: "wc",
    MemoryType.WRITE_BACK: "wb",
}

_MAX_ENTRIES = 256  # KVM_MAX_CPUID_ENTRIES in the kernel


def prepare(system: System, vm: Vm, vcpu: Vcpu, index: int = 0) -> None:
    """Give the vCPU every CPUID feature of ``KVM_GET_SUPPORTED_CPUID``.

    Without CPUID a vCPU has 36 bits of physical address, and KVM treats the higher bits of a page
    table entry as reserved. A vCPU that has CPUID keeps it: ``KVM_SET_CPUID2`` rejects a change
    after the first ``KVM_RUN``. Secondary vCPUs wait for an INIT, which needs an in-kernel APIC.
    """
    cpuid = kvm_cpuid2.with_room(_MAX_ENTRIES)(nent=_MAX_ENTRIES)
    vcpu.ioctl(KVM_GET_CPUID2, cpuid)
    if cpuid.nent:
        return
    cpuid.nent = _MAX_ENTRIES
    system.ioctl(KVM_GET_SUPPORTED_CPUID, cpuid)
    vcpu.ioctl(KVM_SET_CPUID2, cpuid)


def features(vcpu: Vcpu) -> None:
    """Return None: on x86-64 KVM registers a PFNMAP memslot of any memory type."""


def reconstruct(vcpu: Vcpu, peek: Peek) -> RebuiltAccess:
    """Return the PC only. KVM reports x86 faults itself, and x86 code is not decoded."""
    incomplete = "x86 instructions are not decoded, so only KVM can report the address"
    try:
        pc = read(vcpu, "rip")
    except IoctlError as error:  # the VM is dead, or the descriptor is not a vCPU's
        return RebuiltAccess(pc=None, incomplete=f"rip cannot be read: {error.strerror}")
    return RebuiltAccess(pc=pc, incomplete=incomplete)


def emulate(vcpu: Vcpu, memory: PhysicalMemory) -> str | None:
    """Return why not: KVM emulates x86 instructions itself."""
    return "pyvmm does not emulate x86 instructions"


def inject_abort(vcpu: Vcpu) -> None:
    """Raise `NotImplementedError`: x86 has no external abort (`ABORT_CAPABILITY` is None)."""
    raise NotImplementedError


def fingerprint(vcpu: Vcpu) -> Hashable:
    """Return ``struct kvm_regs``, which changes when an instruction in a loop completes."""
    return bytes(get_regs(vcpu))
