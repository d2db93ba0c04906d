# SPDX-License-Identifier: GPL-2.0-only
"""The report of a guest access that KVM did not resolve."""

from dataclasses import dataclass
from typing import Literal

from pyvmm.faults.poison import Poisoned
from pyvmm.kvm.exits import Exit
from pyvmm.why.facts import AccessKind

Source = Literal["kernel", "reconstructed"]


@dataclass(frozen=True, kw_only=True)
class FaultReport:
    """A guest access that KVM did not resolve.

    Attributes:
        gpa: the GPA accessed, or None if it is not known.
        size: bytes: the page if the kernel reported it, else those accessed within one page.
        access: the kind of access, or None if it is not known.
        errno: the errno of ``KVM_RUN`` by name, or None if it did not fail.
        source: "kernel" if the exit has the GPA, "reconstructed" if the vCPU's state gave it.
        exit: the exit.
        pc: GVA of the instruction.
        va: GVA that it accessed.
        instruction: an object that prints as assembly.
        memory_type: the type that the guest's stage 1 gives the memory.
        table: the access is the stage-1 walk that translates `va`.
        unaligned_for_device: why Device memory in stage 2 would not take the access, as a
            predicate, or None.
        atomic: the access is an atomic or an exclusive.
        incomplete: what could not be rebuilt, and why; None if nothing is missing.
    """

    gpa: int | None
    size: int
    access: AccessKind | None
    errno: str | None
    source: Source
    exit: Exit | Poisoned
    pc: int | None = None
    va: int | None = None
    instruction: object = None
    memory_type: str | None = None
    table: bool = False
    unaligned_for_device: str | None = None
    atomic: bool = False
    incomplete: str | None = None
