# SPDX-License-Identifier: GPL-2.0-only
"""One access to guest memory by virtual address."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from pyvmm.arch.arm64.bits import DOUBLEWORD, align_down

INSTRUCTION_SIZE = 4  # bytes


class Kind(StrEnum):
    """The kind of an access."""

    READ = "read"
    WRITE = "write"
    FETCH = "fetch"
    MAINTENANCE = "cache maintenance"


@dataclass(frozen=True)
class Access:
    """An access to `size` bytes at the GVA `va`.

    Attributes:
        va: GVA of the first byte.
        size: bytes.
        kind: the kind of access.
        unit: the alignment of `va` that Device memory requires, in bytes; None if Device memory
            rejects the access at any address.
        atomic: True for an atomic or an exclusive, which Device and Normal non-cacheable memory
            need not support.
    """

    va: int
    size: int
    kind: Kind
    unit: int | None = 1
    atomic: bool = False

    @property
    def unaligned_for_device(self) -> str | None:
        """Return why the access is an alignment fault on Device memory, or None.

        DDI 0487: "Alignment of data accesses", and "DC ZVA" in the list of instructions.
        """
        if self.unit is None:
            return "zeroes a block, which Device memory never takes"
        return f"is not aligned to {self.unit} bytes" if self.va % self.unit else None

    def pages(self, page_size: int) -> Iterator["Access"]:
        """Split the access at page boundaries, lowest address first.

        Addresses wrap around at 2**64, as on the CPU.
        """
        va, left = self.va, self.size
        while left:
            size = min(left, align_down(va, page_size) + page_size - va)
            yield replace(self, va=va, size=size)
            va, left = (va + size) & DOUBLEWORD, left - size


def fetch(pc: int) -> Access:
    """Return the access that fetches the instruction at `pc`."""
    return Access(pc, INSTRUCTION_SIZE, Kind.FETCH)
