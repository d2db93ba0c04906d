# SPDX-License-Identifier: GPL-2.0-only
"""Accesses that KVM could not resolve, with a syndrome or without."""

from dataclasses import dataclass
from typing import Self

from pyvmm.kvm.exits.base import Exit
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native_arch import kvm_run


@dataclass(frozen=True)
class MemoryFault(Exit):
    """KVM could not resolve an access and says where: `gpa` and `size` in bytes.

    ``KVM_RUN`` itself failed with `errno`, EFAULT or EHWPOISON (0: it returned 0).
    """

    reason = uapi.KVM_EXIT_MEMORY_FAULT
    payload = "memory_fault"
    flags: int
    gpa: int
    size: int
    errno: int = 0

    @classmethod
    def of(cls, run: kvm_run, errno: int = 0) -> Self:
        fault = run.memory_fault
        return cls(fault.flags, fault.gpa, fault.size, errno)


@dataclass(frozen=True)
class RunFailure(Exit):
    """``KVM_RUN`` failed and the kernel says nothing but `errno`: the bare EFAULT, and its kin."""

    reason = -1
    kind = "run_failure"
    errno: int


@dataclass(frozen=True)
class ArmSea(Exit):
    """A synchronous external abort that the host could not handle (``KVM_EXIT_ARM_SEA``)."""

    reason = uapi.KVM_EXIT_ARM_SEA
    payload = "arm_sea"
    flags: int
    esr: int
    gva: int
    gpa: int
