# SPDX-License-Identifier: GPL-2.0-only
"""Why a vCPU came back to user space: every ``KVM_EXIT_*`` as a typed value.

Most classes name the member of ``struct kvm_run`` that holds their payload and repeat its C
fields; `Exit.decode` copies them. An exit that only headers loaded at run time know gets a class
made of what they say. One that no header knows becomes `Unknown`, with its number and the raw
bytes of the union, so a newer kernel never stops an older pyvmm.
"""

import errno as errnos
from collections.abc import Callable

from pyvmm.errno_names import EHWPOISON
from pyvmm.kvm.exits import foreign
from pyvmm.kvm.exits.base import Exit, unpacker
from pyvmm.kvm.exits.end_of_run import (
    FailEntry,
    Halt,
    InternalError,
    Interrupted,
    Shutdown,
    SystemEvent,
    Unknown,
)
from pyvmm.kvm.exits.generic import exit_of
from pyvmm.kvm.exits.memory_fault import ArmSea, MemoryFault, RunFailure
from pyvmm.kvm.exits.mmio import ArmLdst64b, ArmNisv, Io, Mmio
from pyvmm.kvm.exits.opt_in import (
    ApResetHold,
    Debug,
    DirtyRingFull,
    GuestException,
    Hypercall,
    Hyperv,
    IoapicEoi,
    IrqWindowOpen,
    Nmi,
    Notify,
    SetTpr,
    SnpReqCerts,
    Tdx,
    TprAccess,
    Watchdog,
    X86BusLock,
    X86Rdmsr,
    X86Wrmsr,
    Xen,
)
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native_arch import kvm_run

__all__ = [
    "EXITS",
    "ApResetHold",
    "ArmLdst64b",
    "ArmNisv",
    "ArmSea",
    "Debug",
    "DirtyRingFull",
    "Exit",
    "FailEntry",
    "GuestException",
    "Halt",
    "Hypercall",
    "Hyperv",
    "InternalError",
    "Interrupted",
    "Io",
    "IoapicEoi",
    "IrqWindowOpen",
    "MemoryFault",
    "Mmio",
    "Nmi",
    "Notify",
    "RunFailure",
    "SetTpr",
    "Shutdown",
    "SnpReqCerts",
    "SystemEvent",
    "Tdx",
    "TprAccess",
    "Unknown",
    "Watchdog",
    "X86BusLock",
    "X86Rdmsr",
    "X86Wrmsr",
    "Xen",
    "decode",
    "decode_failure",
    "foreign",
]

EXITS: dict[int, type[Exit]] = {exit.reason: exit for exit in Exit.__subclasses__()}

_decoders = {reason: exit.decode for reason, exit in EXITS.items()}
_read_reason = unpacker("", kvm_run, "exit_reason")


def decode(shared: memoryview) -> Exit:
    """The exit after a ``KVM_RUN`` that returned 0.

    `shared` is what a vCPU's fd maps: ``struct kvm_run``, and the page of port I/O data.
    """
    [reason] = _read_reason(shared)
    return (_decoders.get(reason) or _learn(reason))(shared)


def _learn(reason: int) -> Callable[[memoryview], Exit]:
    """How to decode an exit that has no class of its own here."""
    named = exit_of(reason)
    if named is not Unknown:
        EXITS[reason], _decoders[reason] = named, named.decode
    return named.decode


def decode_failure(shared: memoryview, errno: int) -> Exit:
    """The exit after a ``KVM_RUN`` that failed with `errno`.

    `exit_reason` is stale after any other error than these two, says the KVM API document
    (KVM_EXIT_MEMORY_FAULT in Documentation/virt/kvm/api.rst).
    """
    if errno in (errnos.EINTR, errnos.EAGAIN):
        return Interrupted()
    if errno in (errnos.EFAULT, EHWPOISON):
        run = kvm_run.from_buffer_copy(shared)
        if run.exit_reason == uapi.KVM_EXIT_MEMORY_FAULT:
            return MemoryFault.of(run, errno)
    return RunFailure(errno)
