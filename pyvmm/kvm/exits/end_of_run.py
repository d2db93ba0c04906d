# SPDX-License-Identifier: GPL-2.0-only
"""Exits after which the guest does not go on, or not by itself."""

from dataclasses import dataclass
from typing import Self

from pyvmm.kvm.exits.base import Exit
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native_arch import kvm_run


@dataclass(frozen=True)
class Interrupted(Exit):
    """A signal or `Vcpu.stop` ended ``KVM_RUN`` (EINTR); the guest can go on."""

    reason = uapi.KVM_EXIT_INTR


@dataclass(frozen=True)
class Halt(Exit):
    """The guest executed ``hlt`` with no interrupt controller in the kernel."""

    reason = uapi.KVM_EXIT_HLT


@dataclass(frozen=True)
class Shutdown(Exit):
    """A triple fault, on x86."""

    reason = uapi.KVM_EXIT_SHUTDOWN


@dataclass(frozen=True)
class SystemEvent(Exit):
    """The guest asked for power-off, reset, suspend… (`type` is a ``KVM_SYSTEM_EVENT_*``)."""

    reason = uapi.KVM_EXIT_SYSTEM_EVENT
    payload = "system_event"
    type: int
    data: tuple[int, ...]

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        event = run.system_event
        return cls(event.type, tuple(event.data[: min(event.ndata, len(event.data))]))


@dataclass(frozen=True)
class FailEntry(Exit):
    """The CPU refused to enter the guest."""

    reason = uapi.KVM_EXIT_FAIL_ENTRY
    payload = "fail_entry"
    hardware_entry_failure_reason: int
    cpu: int


@dataclass(frozen=True)
class InternalError(Exit):
    """KVM gave up; `suberror` is a ``KVM_INTERNAL_ERROR_*``, `data` its evidence.

    For an instruction that KVM cannot emulate, `instruction` holds its bytes where known.
    """

    reason = uapi.KVM_EXIT_INTERNAL_ERROR
    payload = "internal"
    suberror: int
    data: tuple[int, ...]
    instruction: bytes

    @classmethod
    def of(cls, run: kvm_run) -> Self:
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


@dataclass(frozen=True)
class Unknown(Exit):
    """``KVM_EXIT_UNKNOWN``, or a number that these headers do not name, with the union's bytes."""

    reason = uapi.KVM_EXIT_UNKNOWN
    number: int
    raw: bytes

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        return cls(run.exit_reason, bytes(run.padding))
