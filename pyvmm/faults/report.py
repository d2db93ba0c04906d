# SPDX-License-Identifier: GPL-2.0-only
"""What the guest accessed when KVM could not go on: one report, whoever told it.

Where the kernel gives a syndrome, it is the one to believe, and the vCPU adds what the kernel
leaves out. Where it gives none (a bare EFAULT), all is rebuilt from the vCPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pyvmm.arch.faulting import AccessKind, Reconstruction, Touch
from pyvmm.faults.board import Board, gpa_of
from pyvmm.faults.evidence import Evidence
from pyvmm.faults.poison import Poisoned
from pyvmm.ioctl import errno_name
from pyvmm.kvm.exits import ArmLdst64b, ArmNisv, ArmSea, Exit, MemoryFault, Mmio, RunFailure
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import KVM_EXIT_ARM_SEA_FLAG_GPA_VALID

Source = Literal["kernel", "reconstructed"]


@dataclass(frozen=True, kw_only=True)
class FaultReport:
    """An access that was not resolved.

    Attributes:
        gpa: where, None if it could not be told; `size` in bytes. From the kernel that is the
            page, else the bytes that were accessed within one page.
        access: None where it could not be told.
        errno: what ``KVM_RUN`` failed with, None where it did not fail.
        source: who told `gpa`.
        exit: why ``KVM_RUN`` came back.
        pc, va: GVAs of the instruction, and of what it accessed.
        instruction: printing it gives what an assembler would write.
        memory_type: what the guest's stage 1 makes of the memory.
        table: the guest's own page table was accessed, to translate `va`.
        untold: what could not be told, in one sentence.
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
    untold: str | None = None


def report_of(exit: Exit | Poisoned, board: Board) -> FaultReport:
    """The report on an exit that no one answered. Raises `TypeError` for one of another kind."""
    match exit:
        case MemoryFault(gpa=gpa, size=size, errno=errno):
            return _told(exit, board, gpa, size, errno=errno)
        case Mmio(gpa=gpa, size=size, write=write):
            return _told(exit, board, gpa, size, access="write" if write else "read")
        case ArmNisv(fault_ipa=gpa) | ArmLdst64b(fault_ipa=gpa):
            return _told(exit, board, gpa, 0)
        case ArmSea(flags=flags, gpa=gpa):
            valid = flags & KVM_EXIT_ARM_SEA_FLAG_GPA_VALID
            return _told(exit, board, gpa, PAGE_SIZE) if valid else _rebuilt(exit, board, 0)
        case Poisoned(hva=hva, size=size):
            return _told(exit, board, gpa_of(board.vm.memslots, hva), size)
        case RunFailure(errno=errno):
            return _rebuilt(exit, board, errno)
    raise TypeError(f"{exit} is no fault")


def _told(
    exit: Exit | Poisoned,
    board: Board,
    gpa: int | None,
    size: int,
    *,
    access: AccessKind | None = None,
    errno: int = 0,
) -> FaultReport:
    """The kernel says where; what it was is in the instruction."""
    rebuilt = board.arch.reconstruct(board.vcpu, board.peek)
    report = FaultReport(
        gpa=gpa,
        size=size,
        access=access,
        errno=errno_name(errno) if errno else None,
        source="kernel",
        exit=exit,
    )
    if gpa is None:
        return _described(report, rebuilt, None)
    within = range(gpa, gpa + max(size, 1))
    touch = next((t for t in rebuilt.touches if _meet(t, within)), None)
    return _described(report, rebuilt, touch)


def _meet(touch: Touch, within: range) -> bool:
    return touch.gpa < within.stop and within.start < touch.gpa + touch.size


def _rebuilt(exit: Exit | Poisoned, board: Board, errno: int) -> FaultReport:
    """The kernel says nothing: the first page of the instruction's that fails is the one."""
    rebuilt = board.arch.reconstruct(board.vcpu, board.peek)
    touch = _failing(rebuilt.touches, board)
    report = FaultReport(
        gpa=touch.gpa if touch else None,
        size=touch.size if touch else 0,
        access=None,
        errno=errno_name(errno) if errno else None,
        source="reconstructed",
        exit=exit,
    )
    report = _described(report, rebuilt, touch)
    if touch is None and report.untold is None:
        nothing = "nothing is wrong, now, with any page that the instruction touches"
        return replace(report, untold=nothing)
    return report


def _failing(touches: Sequence[Touch], board: Board) -> Touch | None:
    unseen = [touch for touch in touches if not touch.seen]
    found = [(touch, Evidence(board, touch.gpa, touch.access)) for touch in unseen]
    broken = (touch for touch, evidence in found if evidence.broken)
    replaced = (touch for touch, evidence in found if evidence.replaced)
    return next(broken, None) or next(replaced, None)


def _described(report: FaultReport, rebuilt: Reconstruction, touch: Touch | None) -> FaultReport:
    """Add what the instruction tells."""
    report = replace(report, pc=rebuilt.pc, instruction=rebuilt.instruction)
    if touch is None:
        return replace(report, untold=rebuilt.untold)
    return replace(
        report,
        size=report.size or touch.size,
        access=report.access or touch.access,
        va=touch.va,
        memory_type=touch.memory_type,
        table=touch.is_table,
    )
