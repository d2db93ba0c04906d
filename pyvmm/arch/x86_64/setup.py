# SPDX-License-Identifier: GPL-2.0-only
"""x86-64 as `pyvmm.arch.architecture.Architecture` wants it; guests start in long mode."""

from collections.abc import Hashable, Mapping

from pyvmm.arch.guest_access import Peek, PhysicalMemory, RebuiltAccess
from pyvmm.arch.page_tables import MemoryType
from pyvmm.arch.x86_64.cpu_modes import enter_long as enter
from pyvmm.arch.x86_64.paging import translation as translate
from pyvmm.arch.x86_64.registers import get_regs, read, write
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
    "emulate",
    "enter",
    "features",
    "fingerprint",
    "inject_abort",
    "prepare",
    "read",
    "reconstruct",
    "translate",
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


def features(vcpu: Vcpu) -> None:
    """None: here a PFNMAP memslot registers whatever its memory type."""


def reconstruct(vcpu: Vcpu, peek: Peek) -> RebuiltAccess:
    """Only the PC: here the kernel tells of its faults itself, and x86 code is not decoded."""
    incomplete = "x86 instructions are not decoded: what the kernel did not tell cannot be rebuilt"
    return RebuiltAccess(pc=read(vcpu, "rip"), incomplete=incomplete)


def emulate(vcpu: Vcpu, memory: PhysicalMemory) -> str | None:
    """KVM emulates x86 instructions itself; there is nothing that it leaves to user space."""
    return "x86 instructions are not carried out on the guest's behalf"


def inject_abort(vcpu: Vcpu) -> None:
    """There is no abort to inject: `ABORT_CAPABILITY` says so."""
    raise NotImplementedError


def fingerprint(vcpu: Vcpu) -> Hashable:
    """``struct kvm_regs``, which an instruction that completes in a loop changes."""
    return bytes(get_regs(vcpu))
