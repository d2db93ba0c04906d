# SPDX-License-Identifier: GPL-2.0-only
"""Exits that end a run: a signal, a guest that stopped, an error in KVM or the CPU."""

from dataclasses import dataclass
from typing import Self

from pyvmm.kvm.exits.base import Exit
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native_arch import kvm_run


@dataclass(frozen=True)
class Interrupted(Exit):
    """``KVM_RUN`` failed with EINTR: a signal or `Vcpu.stop`. The guest can be run again."""

    reason = uapi.KVM_EXIT_INTR


@dataclass(frozen=True)
class Halt(Exit):
    """The guest executed ``hlt`` on a VM without an in-kernel interrupt controller."""

    reason = uapi.KVM_EXIT_HLT


@dataclass(frozen=True)
class Shutdown(Exit):
    """A triple fault (x86)."""

    reason = uapi.KVM_EXIT_SHUTDOWN


@dataclass(frozen=True)
class SystemEvent(Exit):
    """A guest request for power-off, reset or suspend; `type` is a ``KVM_SYSTEM_EVENT_*``."""

    reason = uapi.KVM_EXIT_SYSTEM_EVENT
    payload = "system_event"
    type: int
    data: tuple[int, ...]

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        """Copy `type` and the ``ndata`` valid words of `data`."""
        event = run.system_event
        return cls(event.type, tuple(event.data[: min(event.ndata, len(event.data))]))


@dataclass(frozen=True)
class FailEntry(Exit):
    """The CPU failed to enter the guest."""

    reason = uapi.KVM_EXIT_FAIL_ENTRY
    payload = "fail_entry"
    hardware_entry_failure_reason: int
    cpu: int


@dataclass(frozen=True)
class InternalError(Exit):
    """An error inside KVM.

    Attributes:
        suberror: a ``KVM_INTERNAL_ERROR_*``.
        data: the ``ndata`` words that KVM reports with it.
        instruction: the bytes of the instruction that KVM failed to emulate, if it reports them.
    """

    reason = uapi.KVM_EXIT_INTERNAL_ERROR
    payload = "internal"
    suberror: int
    data: tuple[int, ...]
    instruction: bytes

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        """Copy the error, and the instruction bytes from ``kvm_run.emulation_failure``."""
        error = run.internal
        data = tuple(error.data[: min(error.ndata, len(error.data))])
        failure = run.emulation_failure
        has_bytes = (
            error.suberror == uapi.KVM_INTERNAL_ERROR_EMULATION
            and error.ndata >= 3  # flags, and two words of instruction
            and failure.flags & uapi.KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES
        )
        size = min(failure.insn_size, len(failure.insn_bytes)) if has_bytes else 0
        return cls(error.suberror, data, bytes(failure.insn_bytes[:size]))
