# SPDX-License-Identifier: GPL-2.0-only
"""What the guest accessed when KVM could not go on: one report, whoever told it.

Where the kernel gives a syndrome, it is the one to believe, and the vCPU adds what the kernel
leaves out. Where it gives none (a bare EFAULT), all is rebuilt from the vCPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pyvmm.arch.guest_access import AccessKind, PageAccess, RebuiltAccess
from pyvmm.errno_names import errno_name
from pyvmm.faults.board import Board, gpa_of
from pyvmm.faults.evidence import Evidence
from pyvmm.faults.poison import Poisoned
from pyvmm.kvm.exits import ArmLdst64b, ArmNisv, ArmSea, Exit, MemoryFault, Mmio, RunFailure
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import KVM_EXIT_ARM_SEA_FLAG_GPA_VALID

Source = Literal["kernel", "reconstructed"]


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What the vCPU adds to a report.

    Attributes:
        pc, va: GVAs of the instruction, and of what it accessed.
        instruction: printing it gives what an assembler would write.
        size: bytes that it accessed within one page.
        access: what it did there; None where it could not be told.
        memory_type: what the guest's stage 1 makes of the memory.
        table: the guest's own page table was accessed, to translate `va`.
        misfit: why Device memory in stage 2 would not take the access, where stage 1 does.
        untold: what could not be told, in one sentence.
    """

    pc: int | None = None
    va: int | None = None
    instruction: object = None
    size: int = 0
    access: AccessKind | None = None
    memory_type: str | None = None
    table: bool = False
    misfit: str | None = None
    untold: str | None = None


class FaultReport:
    """An access that was not resolved.

    Attributes:
        gpa: where; None if it could not be told.
        errno: what ``KVM_RUN`` failed with, None where it did not fail.
        source: who told `gpa`.
        exit: why ``KVM_RUN`` came back.
    """

    def __init__(
        self,
        *,
        gpa: int | None,
        size: int,
        errno: str | None,
        source: Source,
        exit: Exit | Poisoned,
        access: AccessKind | None = None,
        tell: Callable[[], Detail] = Detail,
    ) -> None:
        """`tell` asks the vCPU, which must not have run by then."""
        self.gpa = gpa
        self.errno = errno
        self.source = source
        self.exit = exit
        self._size = size
        self._access = access
        self._tell = tell

    @cached_property
    def detail(self) -> Detail:
        """What the vCPU adds. It costs many ioctls, so it is asked when it is wanted."""
        return self._tell()

    @property
    def size(self) -> int:
        """In bytes: from the kernel that is the page, else what was accessed within one page."""
        return self._size or self.detail.size

    @property
    def access(self) -> AccessKind | None:
        """None where it could not be told."""
        return self._access or self.detail.access


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

    def tell() -> Detail:
        rebuilt = board.arch.reconstruct(board.vcpu, board.peek)
        touch = None
        if gpa is not None:
            end = gpa + max(size, 1)
            touch = next((t for t in rebuilt.pages if t.gpa < end and gpa < t.gpa + t.size), None)
        return _detail(rebuilt, touch, rebuilt.incomplete)

    return FaultReport(
        gpa=gpa,
        size=size,
        access=access,
        errno=errno_name(errno) if errno else None,
        source="kernel",
        exit=exit,
        tell=tell,
    )


def _rebuilt(exit: Exit | Poisoned, board: Board, errno: int) -> FaultReport:
    """The kernel says nothing: the first page of the instruction's that fails is the one."""
    rebuilt = board.arch.reconstruct(board.vcpu, board.peek)
    touch = _failing(rebuilt.pages, board)
    nothing = "nothing is wrong, now, with any page that the instruction touches"
    detail = _detail(rebuilt, touch, rebuilt.incomplete or nothing)
    return FaultReport(
        gpa=touch.gpa if touch else None,
        size=detail.size,
        access=detail.access,
        errno=errno_name(errno) if errno else None,
        source="reconstructed",
        exit=exit,
        tell=lambda: detail,
    )


def _failing(touches: Sequence[PageAccess], board: Board) -> PageAccess | None:
    unseen = [touch for touch in touches if not touch.already_read]
    found = [(touch, Evidence(board, touch.gpa, touch.access)) for touch in unseen]
    broken = (touch for touch, evidence in found if evidence.broken)
    replaced = (touch for touch, evidence in found if evidence.replaced)
    return next(broken, None) or next(replaced, None)


def _detail(rebuilt: RebuiltAccess, touch: PageAccess | None, untold: str | None) -> Detail:
    if touch is None:
        return Detail(pc=rebuilt.pc, instruction=rebuilt.instruction, untold=untold)
    return Detail(
        pc=rebuilt.pc,
        va=touch.va,
        instruction=rebuilt.instruction,
        size=touch.size,
        access=touch.access,
        memory_type=touch.memory_type,
        table=touch.is_table,
        misfit=touch.unaligned_for_device,
    )
