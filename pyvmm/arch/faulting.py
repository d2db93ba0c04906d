# SPDX-License-Identifier: GPL-2.0-only
"""What an architecture can tell of the instruction that a vCPU stands on after a fault."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

AccessKind = Literal["read", "write", "exec"]

Peek: TypeAlias = Callable[[int, int], bytes | None]
"""``peek(gpa, size)``: bytes of guest memory, or None where there is none that can be read."""


@dataclass(frozen=True, kw_only=True)
class Touch:
    """Guest physical memory that the instruction touches, within one page of 4 KiB.

    Attributes:
        gpa, size: in bytes.
        access: what it does there; cache maintenance counts as a write, as in a syndrome.
        va: the GVA that the instruction named, whether it leads here or through here.
        memory_type: what the guest's stage 1 says of it; None for a table's own descriptor.
        seen: it was read just now, to rebuild the access: the host can read it.
        misfit: why it would be an alignment fault if stage 2 said Device, where for stage 1 it is
            none; continues "the access".
    """

    gpa: int
    size: int
    access: AccessKind
    va: int
    memory_type: str | None = None
    seen: bool = False
    misfit: str | None = None

    @property
    def is_table(self) -> bool:
        """A descriptor that the CPU reads on the way to an address."""
        return self.memory_type is None


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """An access, rebuilt from the vCPU's registers, the instruction and the guest's tables.

    Attributes:
        pc: GVA of the instruction; it has not been carried out.
        instruction: printing it gives what an assembler would write.
        touches: all that it touches, in the order in which the CPU does.
        untold: what could not be told, in one sentence; None where nothing is missing.
    """

    pc: int
    instruction: object = None
    touches: tuple[Touch, ...] = ()
    untold: str | None = None


class PhysicalMemory(Protocol):
    """Guest physical memory, devices included; sizes are 1, 2, 4 or 8 bytes."""

    def read(self, gpa: int, size: int) -> bytes | None:
        """`size` bytes, or None where nobody is there."""

    def write(self, gpa: int, data: bytes) -> bool:
        """Store `data`; False where nobody is there."""

    def peek(self, gpa: int, size: int) -> bytes | None:
        """`size` bytes of memory alone, of any length, without touching a device."""
