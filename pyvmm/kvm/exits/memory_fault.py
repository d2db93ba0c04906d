# SPDX-License-Identifier: GPL-2.0-only
"""Accesses that KVM failed to resolve, with or without an address."""

from dataclasses import dataclass
from typing import Self

from pyvmm.kvm.exits.base import Exit
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native_arch import kvm_run


@dataclass(frozen=True)
class MemoryFault(Exit):
    """KVM failed to resolve an access to `size` bytes at `gpa` (``KVM_EXIT_MEMORY_FAULT``).

    `errno` is the error of ``KVM_RUN``: EFAULT, EHWPOISON, or 0 if ``KVM_RUN`` returned 0.
    """

    reason = uapi.KVM_EXIT_MEMORY_FAULT
    payload = "memory_fault"
    flags: int
    gpa: int
    size: int
    errno: int = 0

    @classmethod
    def of(cls, run: kvm_run, errno: int = 0) -> Self:
        """Copy the fault, and add the error of ``KVM_RUN``."""
        fault = run.memory_fault
        return cls(fault.flags, fault.gpa, fault.size, errno)


@dataclass(frozen=True)
class RunFailure(Exit):
    """``KVM_RUN`` failed with `errno` and reported no exit: the bare EFAULT and others."""

    reason = -1
    kind = "run_failure"
    errno: int


@dataclass(frozen=True)
class ArmSea(Exit):
    """A synchronous external abort that the host did not handle (``KVM_EXIT_ARM_SEA``)."""

    reason = uapi.KVM_EXIT_ARM_SEA
    payload = "arm_sea"
    flags: int
    esr: int
    gva: int
    gpa: int
