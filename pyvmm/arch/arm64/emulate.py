# SPDX-License-Identifier: GPL-2.0-only
"""Carry out the instruction that a vCPU stands on, on the guest's behalf, and step past it."""

from collections.abc import Iterator

from pyvmm.arch.architecture import Vcpu
from pyvmm.arch.arm64.a64.access import Access, Kind
from pyvmm.arch.arm64.a64.decode import decode
from pyvmm.arch.arm64.a64.execute import ByteOrder, complete
from pyvmm.arch.arm64.a64.operation import NoAccess, Undecodable
from pyvmm.arch.arm64.registers import write
from pyvmm.arch.arm64.vcpu_state import Registers, Suspended, Untold
from pyvmm.arch.arm64.walk import WalkFailure
from pyvmm.arch.faulting import PhysicalMemory

_PAGE = 4096
_WIDEST = 8  # bytes that a device takes at once


def finish(vcpu: Vcpu, memory: PhysicalMemory) -> str | None:
    """Do what the instruction at PC does, against `memory`. Returns why it can't be, or None.

    Stores that came before what can't be done stay done, as they do on a CPU. Devices see
    accesses of 1, 2, 4 or 8 bytes, aligned where the guest's is.
    """
    try:
        write(vcpu, carry_out(Suspended(Registers(vcpu), memory.peek), memory))
    except Untold as reason:
        return str(reason)
    return None


def carry_out(at: Suspended, memory: PhysicalMemory) -> dict[str, int]:
    """Do it, and return the registers that change. Raises `Untold` where it can't be done."""
    if at.aarch32:
        raise Untold("the guest runs AArch32 code, which is not decoded")
    here = at.translate(at.pc, fetch=True)
    word = None if isinstance(here, WalkFailure) else at.word(here.ipa)
    if word is None:
        raise Untold("the instruction cannot be read from guest memory")
    match decode(word):
        case NoAccess(why):
            raise Untold(f"the instruction accesses no memory ({why})")
        case Undecodable() as undecodable:
            raise Untold(str(undecodable))
        case operation:
            order: ByteOrder = "big" if at.big_endian else "little"
            return complete(operation, at.registers, _Virtual(at, memory), order=order)


class _Virtual:
    """Guest memory by virtual address, as `complete` wants it."""

    def __init__(self, at: Suspended, memory: PhysicalMemory) -> None:
        self._at = at
        self._memory = memory

    def read(self, va: int, size: int) -> bytes:
        data = b""
        for gpa, part in self._parts(va, size, Kind.READ):
            answer = self._memory.read(gpa, part)
            if answer is None:
                raise Untold(f"nothing is at GPA {gpa:#x}")
            data += answer
        return data

    def write(self, va: int, data: bytes) -> None:
        done = 0
        for gpa, part in self._parts(va, len(data), Kind.WRITE):
            if not self._memory.write(gpa, data[done : done + part]):
                raise Untold(f"nothing is at GPA {gpa:#x}")
            done += part

    def _parts(self, va: int, size: int, kind: Kind) -> Iterator[tuple[int, int]]:
        """GPA and size of what a device takes at once, in order."""
        for page in Access(va, size, kind).pages(_PAGE):
            found = self._at.translate(page.va)
            if isinstance(found, WalkFailure):
                raise Untold(f"stage 1: {found}")
            gpa, left = found.ipa, page.size
            while left:
                part = min(1 << left.bit_length() - 1, _WIDEST)
                yield gpa, part
                gpa, left = gpa + part, left - part
