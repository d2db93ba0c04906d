# SPDX-License-Identifier: GPL-2.0-only
"""One access to guest memory: where, how much, and what for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from pyvmm.arch.arm64.bits import DOUBLEWORD, align_down

INSTRUCTION_SIZE = 4  # bytes


class Kind(StrEnum):
    """What an access does to memory."""

    READ = "read"
    WRITE = "write"
    FETCH = "fetch"
    MAINTENANCE = "cache maintenance"


@dataclass(frozen=True)
class Access:
    """`size` bytes at guest virtual address `va`."""

    va: int
    size: int
    kind: Kind
    unprivileged: bool = False
    """Checked with EL0's permissions even at EL1 (LDTR, STTR)."""
    unit: int | None = 1
    """What Device memory wants `va` to be a multiple of; None where it takes no such access."""

    @property
    def unaligned_for_device(self) -> str | None:
        """Why the access is an alignment fault on Device memory, whatever it is on Normal; or None.

        DDI 0487: "Alignment of data accesses", and "DC ZVA" in its list of instructions.
        """
        if self.unit is None:
            return "zeroes a block, which Device memory never takes"
        return f"is not aligned to {self.unit} bytes" if self.va % self.unit else None

    def pages(self, page_size: int) -> Iterator["Access"]:
        """The parts of this access that lie within one page each, lowest address first.

        Addresses wrap around at 2**64, as the CPU's do.
        """
        va, left = self.va, self.size
        while left:
            size = min(left, align_down(va, page_size) + page_size - va)
            yield replace(self, va=va, size=size)
            va, left = (va + size) & DOUBLEWORD, left - size


def fetch(pc: int) -> Access:
    """The access that reads the instruction at `pc` itself."""
    return Access(pc, INSTRUCTION_SIZE, Kind.FETCH)
