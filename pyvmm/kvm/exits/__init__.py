# SPDX-License-Identifier: GPL-2.0-only
"""Exits of a vCPU to user space: every ``KVM_EXIT_*`` as a typed value.

Most classes name the member of ``struct kvm_run`` that holds their payload and list its C fields;
`Exit.decode` copies them. An exit that arm64 and x86 do not make, or that only headers loaded at
run time name, gets a class generated from the headers. An exit that no header names becomes
`Unknown`, with its number and the raw bytes of the union.
"""

import errno as errnos
from collections.abc import Callable

from pyvmm.errno_names import EHWPOISON
from pyvmm.kvm.exits.base import Exit, unpacker
from pyvmm.kvm.exits.end_of_run import (
    FailEntry,
    Halt,
    InternalError,
    Interrupted,
    Shutdown,
    SystemEvent,
)
from pyvmm.kvm.exits.generic import Unknown, exit_of
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
    Notify,
    SetTpr,
    SnpReqCerts,
    Tdx,
    TprAccess,
    X86BusLock,
    X86Rdmsr,
    X86Wrmsr,
    Xen,
)
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native_arch import kvm_run

__all__ = [
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
    "Notify",
    "RunFailure",
    "SetTpr",
    "Shutdown",
    "SnpReqCerts",
    "SystemEvent",
    "Tdx",
    "TprAccess",
    "Unknown",
    "X86BusLock",
    "X86Rdmsr",
    "X86Wrmsr",
    "Xen",
    "decode",
    "decode_failure",
]

_decoders = {exit.reason: exit.decode for exit in Exit.__subclasses__()}
_read_reason = unpacker("", kvm_run, "exit_reason")


def decode(shared: memoryview) -> Exit:
    """Decode the exit after a ``KVM_RUN`` that returned 0.

    `shared` is the mapping of a vCPU fd: ``struct kvm_run``, then the page of port I/O data.
    """
    [reason] = _read_reason(shared)
    return (_decoders.get(reason) or _generate(reason))(shared)


def _generate(reason: int) -> Callable[[memoryview], Exit]:
    """Return a decoder for an exit without a class of its own."""
    exit = exit_of(reason)
    if exit is not Unknown:
        _decoders[reason] = exit.decode
    return exit.decode


def decode_failure(shared: memoryview, errno: int) -> Exit:
    """Decode the exit after a ``KVM_RUN`` that failed with `errno`.

    ``exit_reason`` is valid for EFAULT and EHWPOISON only, and stale after any other error
    (KVM_EXIT_MEMORY_FAULT in Documentation/virt/kvm/api.rst).
    """
    if errno in (errnos.EINTR, errnos.EAGAIN):
        return Interrupted()
    if errno in (errnos.EFAULT, EHWPOISON):
        run = kvm_run.from_buffer_copy(shared)
        if run.exit_reason == uapi.KVM_EXIT_MEMORY_FAULT:
            return MemoryFault.of(run, errno)
    return RunFailure(errno)
